"""RoIAlign as products of every box with every map, whose weights are 0 where the box is not.

For accelerators, where arithmetic costs little, and for what is exported.
"""

from keras import ops

from keras_convnext.detection.pooling.bins import axis_weights

BOXES_AT_ONCE = 64  # bounds the memory: 2.4 MB each on a map of 200 x 336 cells with 256 channels


def pool(maps, placed, size):
    """Returns the features of boxes, as `pooling.pool`. Boxes per image are a known number."""
    count = placed.level.shape[1]
    parts = []
    for first in range(0, max(count, 1), BOXES_AT_ONCE):
        some = type(placed)(*(x[:, first : first + BOXES_AT_ONCE] for x in placed))
        levels = [_of_a_level(x, number, some, size) for number, x in enumerate(maps)]
        parts.append(ops.cast(sum(levels[1:], levels[0]), maps[0].dtype))
    return ops.concatenate(parts, axis=1)


def _of_a_level(features, level, placed, size):
    batch, height, width, channels = ops.shape(features)
    count = placed.level.shape[1]
    rows, columns = (
        axis_weights(placed.start[..., k], placed.length[..., k], 0, extent, extent, size)
        for k, extent in enumerate((height, width))
    )
    here = ops.cast(ops.equal(placed.level, level), "float32")
    columns = columns * ops.reshape(here, (-1, 1, 1))
    x = ops.reshape(ops.cast(features, "float32"), (batch, height, width * channels))
    x = ops.matmul(ops.reshape(rows, (batch, count * size, height)), x)
    x = ops.reshape(x, (batch, count, size, width, channels))
    return ops.matmul(ops.reshape(columns, (batch, count, 1, size, width)), x)
