"""Arithmetic of boxes: overlaps, and the deltas that lead from one box to another.

A box is float32 `x1, y1, x2, y2` in pixels: its corners, where the width is `x2 - x1`. Whatever the
dtype of the arguments, everything is computed and returned in float32. All functions are pure, work
on any backend, compiled or not, and have finite gradients.
"""

import math

from keras import ops

EPSILON = 1e-6
MOST_SCALED = abs(math.log(16 / 1000))  # so that exp() of a wild delta makes no infinite box


def iou(a, b):
    """Returns the intersection over union of each box of `a` with each box of `b`.

    Args:
        a: boxes `(..., n, 4)`.
        b: boxes `(..., m, 4)`; leading axes are equal or broadcast.

    Returns:
        float32 `(..., n, m)` in [0, 1]. A union smaller than 1e-6 counts as 1e-6, so that boxes
        without area have IoU 0, also with themselves.

    Example:
        import numpy as np
        from keras_convnext.detection import iou
        iou(np.float32([[0, 0, 2, 2]]), np.float32([[0, 0, 2, 4], [4, 4, 6, 6]]))  # [[0.5, 0]]
    """
    shared, union = intersection_and_union(_sides(a, -1), _sides(b, -2))
    return shared / ops.maximum(union, EPSILON)


def giou(a, b):
    """Returns the generalised intersection over union of pairs of boxes.

    Args:
        a, b: boxes `(..., 4)`.

    Returns:
        float32 `(...)` in [-1, 1]: the IoU minus the share of the smallest box around both that
        neither covers. Differentiable with respect to both. Areas smaller than 1e-6 count as 1e-6.

    Source: arXiv 1902.09630, algorithm 2.

    Example:
        import numpy as np
        from keras_convnext.detection import giou
        giou(np.float32([[0, 0, 2, 2]]), np.float32([[2, 0, 4, 4]]))  # [-0.25]
    """
    a, b = _sides(a), _sides(b)
    shared, union = intersection_and_union(a, b)
    union = ops.maximum(union, EPSILON)
    (left, top, right, bottom), (left_b, top_b, right_b, bottom_b) = a, b
    width = ops.maximum(right, right_b) - ops.minimum(left, left_b)
    height = ops.maximum(bottom, bottom_b) - ops.minimum(top, top_b)
    around = ops.maximum(ops.maximum(width, 0.0) * ops.maximum(height, 0.0), EPSILON)
    return shared / union - (around - union) / around


def encode(boxes, targets, stds=(1.0, 1.0, 1.0, 1.0)):
    """Returns the deltas that lead from boxes to targets; `decode` takes them back.

    Args:
        boxes: `(..., 4)`.
        targets: boxes `(..., 4)`.
        stds: four numbers that the deltas are divided by.

    Returns:
        float32 `(..., 4)`: the distance of the centres in x and y, in widths and heights of the
        box, and the logarithms of the ratios of width and height. Sides shorter than 1e-6 count as
        1e-6, so that boxes without area have finite deltas.

    Source: arXiv 1311.2524, appendix C.

    Example:
        import numpy as np
        from keras_convnext.detection import encode
        encode(np.float32([[0, 0, 4, 4]]), np.float32([[2, 0, 6, 4]]))  # [[0.5, 0, 0, 0]]
    """
    x, y, width, height = _centred(boxes)
    x_goal, y_goal, width_goal, height_goal = _centred(targets)
    width, height = ops.maximum(width, EPSILON), ops.maximum(height, EPSILON)
    deltas = [
        (x_goal - x) / width,
        (y_goal - y) / height,
        ops.log(ops.maximum(width_goal, EPSILON) / width),
        ops.log(ops.maximum(height_goal, EPSILON) / height),
    ]
    return ops.stack([d / std for d, std in zip(deltas, stds, strict=True)], axis=-1)


def decode(boxes, deltas, stds=(1.0, 1.0, 1.0, 1.0), image_shape=None):
    """Returns the boxes that deltas lead to.

    Args:
        boxes: `(..., 4)`, which broadcast against the deltas: for deltas of each class `(...,
            classes, 4)` give `boxes[..., None, :]`.
        deltas: `(..., 4)`, as of `encode`. Widths and heights change by a factor of 1000 / 16 at
            most.
        stds: four numbers that the deltas are multiplied with.
        image_shape: `None`, or height and width that the boxes are clipped to, as in `clip`.

    Returns:
        float32 `(..., 4)`, differentiable with respect to both.

    Source: arXiv 1311.2524, appendix C.

    Example:
        import numpy as np
        from keras_convnext.detection import decode
        boxes, deltas = np.float32([[0, 0, 4, 4]]), np.float32([[0.5, 0, 0, 0]])
        decode(boxes, deltas)  # [[2, 0, 6, 4]]
    """
    x, y, width, height = _centred(boxes)
    dx, dy, dw, dh = (d * std for d, std in zip(_sides(deltas), stds, strict=True))
    x, y = x + dx * width, y + dy * height
    width = width * ops.exp(ops.clip(dw, -MOST_SCALED, MOST_SCALED)) * 0.5
    height = height * ops.exp(ops.clip(dh, -MOST_SCALED, MOST_SCALED)) * 0.5
    decoded = ops.stack([x - width, y - height, x + width, y + height], axis=-1)
    return decoded if image_shape is None else clip(decoded, image_shape)


def clip(boxes, image_shape):
    """Returns the parts of boxes that are within the image.

    Args:
        boxes: `(..., 4)`. What lies outside becomes a box without area on the border.
        image_shape: `(2,)`, height and width in pixels, or `(..., 2)`, whose leading axes are the
            first ones of `boxes`: `(batch, 2)` for boxes `(batch, n, 4)`.

    Returns:
        float32, of the shape of `boxes`.

    Example:
        import numpy as np
        from keras_convnext.detection import clip
        clip(np.float32([[-2, 3, 70, 20]]), np.float32([48, 64]))  # [[0, 3, 64, 20]]
    """
    boxes = ops.cast(boxes, "float32")
    shape = ops.cast(image_shape, "float32")
    for _ in range(len(boxes.shape) - len(shape.shape)):
        shape = ops.expand_dims(shape, -2)
    most = ops.concatenate([shape[..., 1:], shape[..., :1]] * 2, axis=-1)
    return ops.minimum(ops.maximum(boxes, 0.0), most)


def intersection_and_union(a, b):
    """Returns the areas that boxes share and cover together.

    Args:
        a, b: the sides of boxes, four arrays x1, y1, x2, y2 that broadcast.
    """
    left, top = ops.maximum(a[0], b[0]), ops.maximum(a[1], b[1])
    right, bottom = ops.minimum(a[2], b[2]), ops.minimum(a[3], b[3])
    shared = ops.maximum(right - left, 0.0) * ops.maximum(bottom - top, 0.0)
    areas = [(x2 - x1) * (y2 - y1) for x1, y1, x2, y2 in (a, b)]
    return shared, areas[0] + areas[1] - shared


def _sides(boxes, new_axis=None):
    """Returns the last axis as four arrays, each with a new axis if there is one to be."""
    boxes = ops.cast(boxes, "float32")
    sides = [boxes[..., k] for k in range(4)]
    return sides if new_axis is None else [ops.expand_dims(side, new_axis) for side in sides]


def _centred(boxes):
    """Returns centre x and y, width and height."""
    left, top, right, bottom = _sides(boxes)
    return (left + right) * 0.5, (top + bottom) * 0.5, right - left, bottom - top
