"""Anchors: the boxes from which the region proposals start, at each place of each map."""

import math

from keras import ops

from keras_convnext.detection.settings import MULTIPLE, STRIDES

SCALE = 8
RATIOS = (0.5, 1.0, 2.0)


def anchors(sizes, strides=STRIDES, scale=SCALE, ratios=RATIOS):
    """Returns the anchors of each map of a pyramid.

    Args:
        sizes: height and width of each map; ints, or scalar tensors where a graph of TensorFlow
            does not know them.
        strides: pixels per cell of each map.
        scale: side of a square anchor in cells.
        ratios: heights divided by widths, of equal areas.

    Returns:
        a list of float32 `(height * width * len(ratios), 4)` for each map, in the order of rows,
        columns, ratios. Anchors are centred on the corner `(x * stride, y * stride)` of a cell,
        their sides are not rounded, and they may reach beyond the image.

    Source: arXiv 1506.01497, section 3.1.1; of pyramids: arXiv 1612.03144, section 4.1.

    Example:
        from keras_convnext.detection import anchors
        (boxes,) = anchors([(2, 3)], strides=(16,), ratios=(1.0,))
        boxes.shape  # (6, 4)
        boxes[0]  # [-64, -64, 64, 64]
    """
    return [
        _of_a_map(size, stride, scale, ratios) for size, stride in zip(sizes, strides, strict=True)
    ]


def usable(sizes, strides, image_shape, border=None, scale=SCALE, ratios=RATIOS):
    """Returns which anchors may be trained: those on the image, not on what pads a batch.

    Args:
        sizes, strides, scale, ratios: as of `anchors`.
        image_shape: `(batch, 2)`, height and width of each image in pixels, without padding.
        border: `None`: all anchors count whose cell is on the image, padded to a multiple of 32. A
            number: of these, those that reach beyond the image by less than so many pixels.

    Returns:
        a list of bool `(batch, height * width * len(ratios))` for each map, in the order of
        `anchors`.

    Example:
        import numpy as np
        from keras_convnext.detection import usable
        (found,) = usable([(2, 3)], (16,), np.array([[32, 32]]), ratios=(1.0,))
        found  # [[True, True, False, True, True, False]]
    """
    shape = ops.cast(image_shape, "float32")
    found = [
        _on_the_image(size, stride, shape, len(ratios))
        for size, stride in zip(sizes, strides, strict=True)
    ]
    if border is None:
        return found
    boxes = anchors(sizes, strides, scale, ratios)
    return [
        ops.logical_and(cells, _within(level, shape, border))
        for cells, level in zip(found, boxes, strict=True)
    ]


def _of_a_map(size, stride, scale, ratios):
    y, x = (ops.cast(ops.arange(side, dtype="int32"), "float32") * stride for side in size)
    base = []
    for ratio in ratios:
        height, width = stride * scale * math.sqrt(ratio), stride * scale / math.sqrt(ratio)
        base.append([-width / 2, -height / 2, width / 2, height / 2])
    y, x = ops.reshape(y, (-1, 1, 1)), ops.reshape(x, (1, -1, 1))
    x, y = x + ops.zeros_like(y), y + ops.zeros_like(x)
    centres = ops.concatenate([x, y, x, y], axis=-1)[:, :, None]
    return ops.reshape(centres + ops.convert_to_tensor(base, "float32"), (-1, 4))


def _on_the_image(size, stride, shape, count):
    padded = ops.ceil(shape / MULTIPLE) * MULTIPLE
    cells = ops.ceil(padded / stride)
    y, x = (ops.cast(ops.arange(side, dtype="int32"), "float32") for side in size)
    rows, columns = y < cells[:, :1], x < cells[:, 1:]
    inside = ops.logical_and(rows[:, :, None], columns[:, None])
    inside = ops.repeat(inside[..., None], count, axis=-1)
    return ops.reshape(inside, (-1, size[0] * size[1] * count))


def _within(boxes, shape, border):
    height, width = shape[:, :1], shape[:, 1:]
    start = ops.all(boxes[:, :2] >= -border, axis=-1)
    end = ops.logical_and(boxes[:, 2] < width + border, boxes[:, 3] < height + border)
    return ops.logical_and(start, end)
