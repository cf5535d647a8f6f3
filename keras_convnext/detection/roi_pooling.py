"""RoIAlign: the features within boxes, each resampled to a square of the same size.

Exactly the adaptive form, which published detectors were trained with: a bin is the mean of as many
bilinear samples as it has cells, rounded up, in each direction. Since samples lie on a grid, they
separate into rows and columns: a box is two products with small matrices of weights.
"""

from keras import ops

from keras_convnext.detection import pooling
from keras_convnext.detection.pooling.bins import Placed


def roi_align(features, boxes, size, stride):
    """Returns the features within boxes, resampled to `size` x `size`.

    Args:
        features: `(batch, height, width, channels)`, any float dtype; the cell of row y and column
            x has its centre at `((x + 0.5) * stride, (y + 0.5) * stride)`.
        boxes: `(batch, k, 4)`, x1, y1, x2, y2 in pixels. They may reach beyond the map: samples up
            to a cell away from the centres at its border repeat these, those farther away are 0.
            Boxes of zero area, and those that are not finite, give 0.
        size: number of bins in each direction, an int.
        stride: pixels per cell.

    Returns:
        `(batch, k, size, size, channels)`, of the dtype of `features`. Computed in float32;
        differentiable with respect to `features`, not to `boxes`.

    Source: arXiv 1703.06870, section 3; the number of samples is `ceil(side / size)`, coordinates
    are continuous ("aligned").

    Example:
        import keras, numpy as np
        from keras_convnext.detection import roi_align
        boxes = np.float32([[[4, 4, 30, 20]]])
        roi_align(keras.ops.ones((1, 16, 16, 8)), boxes, 7, stride=4).shape  # (1, 1, 7, 7, 8)
    """
    return pyramid_roi_align([features], boxes, size, strides=(stride,))


def pyramid_roi_align(maps, boxes, size, strides=(4, 8, 16, 32), finest=56):
    """Returns the features within boxes, each from the map of a pyramid that fits its size.

    Args:
        maps: features of each level, `(batch, height, width, channels)`, from fine to coarse.
        boxes: `(batch, k, 4)`, as of `roi_align`.
        size: number of bins in each direction, an int.
        strides: pixels per cell of each map.
        finest: boxes whose square root of the area is less than twice this, in pixels, are of the
            first map; with each doubling they are of the next one.

    Returns:
        `(batch, k, size, size, channels)`, as of `roi_align`.

    Source: arXiv 1612.03144, section 4.2 (levels); 1703.06870, section 3.

    Example:
        import keras, numpy as np
        from keras_convnext.detection import pyramid_roi_align
        maps = [keras.ops.ones((1, 16, 16, 8)), keras.ops.ones((1, 8, 8, 8))]
        boxes = np.float32([[[0, 0, 20, 30], [0, 0, 64, 64]]])
        pyramid_roi_align(maps, boxes, 7, strides=(4, 8)).shape  # (1, 2, 7, 7, 8)
    """
    maps = [ops.convert_to_tensor(features) for features in maps]
    if boxes.shape[1] == 0:
        shape = (ops.shape(maps[0])[0], 0, size, size, maps[0].shape[3])
        return ops.zeros(shape, dtype=maps[0].dtype)
    boxes = ops.stop_gradient(ops.cast(boxes, "float32"))
    boxes = ops.where(ops.all(ops.isfinite(boxes), axis=-1, keepdims=True), boxes, 0.0)
    return pooling.pool(maps, _place(maps, boxes, strides, finest), size)


def _place(maps, boxes, strides, finest):
    """Returns on which map boxes are, and where there, a `Placed`."""
    level = _levels(boxes, len(maps), finest)
    stride, extent = ops.ones_like(boxes[..., :1]), ops.ones_like(boxes[..., :2])
    for number, (features, step) in enumerate(zip(maps, strides, strict=True)):
        here = ops.equal(level, number)[..., None]
        height, width = (ops.cast(side, "float32") for side in ops.shape(features)[1:3])
        stride = ops.where(here, float(step), stride)
        extent = ops.where(here, ops.stack([height, width]), extent)
    left, top, right, bottom = (boxes[..., k : k + 1] / stride - 0.5 for k in range(4))
    start = ops.concatenate([top, left], axis=-1)
    return Placed(level, extent, start, ops.concatenate([bottom, right], axis=-1) - start)


def _levels(boxes, count, finest):
    """Returns the map of each box, int32 (batch, k)."""
    sides = boxes[..., 2:] - boxes[..., :2]
    scale = ops.sqrt(ops.maximum(sides[..., 0] * sides[..., 1], 0.0)) / finest + 1e-6
    level = ops.zeros_like(scale, dtype="int32")
    for step in range(1, count):
        level = level + ops.cast(scale >= 2.0**step, "int32")
    return level
