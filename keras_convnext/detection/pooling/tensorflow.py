"""RoIAlign on CPUs with TensorFlow, without XLA: each box from a window of its map.

Boxes whose windows have the same shape are a group, of as many as there are; sizes of maps need not
be known. A window is gathered row by row from a table of all cells of all maps.
"""

import tensorflow as tf
from keras import ops

from keras_convnext.detection.pooling.bins import axis_weights, reach
from keras_convnext.detection.pooling.loops import WINDOWS

CELLS_AT_ONCE = 2**16  # of gradients, which bounds the memory; each addition copies the whole table


def pool(maps, placed, size):
    """Returns the features of boxes, as `pooling.pool`."""
    channels, shape = maps[0].shape[3], ops.shape(placed.level)
    image, placed = placed.flat()
    cells = tf.concat([tf.reshape(x, (-1, channels)) for x in maps], axis=0)
    counts = tf.stack([tf.reduce_prod(tf.shape(x)[:3]) for x in maps])
    offsets = tf.gather(tf.cumsum(counts, exclusive=True), placed.level)
    extent = tf.cast(placed.extent, tf.int32)
    offsets += image * extent[:, 0] * extent[:, 1]

    @tf.custom_gradient
    def pooled(cells):
        groups = [*_groups(placed, offsets, size)]

        def gradient(upstream):
            total = tf.zeros(tf.shape(cells), tf.float32)
            for group in groups:
                total = _add_gradient(total, upstream, group, size)
            return tf.cast(total, cells.dtype)

        boxes = tf.concat([group[0] for group in groups], axis=0)
        parts = tf.concat([_forward(cells, group, size) for group in groups], axis=0)
        return tf.gather(parts, tf.argsort(boxes)), gradient

    return ops.reshape(pooled(cells), (*shape, size, size, channels))


def _groups(placed, offsets, size):
    """Yields boxes, their windows' cells and their weights, for each shape of windows.

    Yields:
        the numbers of the boxes, int32 `(n,)`; where the cells are in the table, int32 `(n, height,
        width)`; and the weights of rows `(n, size, height)` and columns `(n, size, width)`.
    """
    first, cells = reach(placed.start, placed.length, placed.extent, size)
    left = tf.ones(tf.shape(offsets), tf.bool)
    rest = tf.reduce_max(tf.concat([tf.cast(placed.extent, tf.int32), [[1, 1]]], axis=0), axis=0)
    for shape in (*WINDOWS, tf.unstack(rest)):
        fits = tf.reduce_all(cells <= tf.cast(tf.stack(shape), tf.float32), axis=1)
        boxes = tf.cast(tf.where(left & fits)[:, 0], tf.int32)
        left &= ~fits
        start, length, extent, corner = (
            tf.gather(x, boxes) for x in (placed.start, placed.length, placed.extent, first)
        )
        weights = [
            axis_weights(start[:, k], length[:, k], corner[:, k], extent[:, k], shape[k], size)
            for k in (0, 1)
        ]
        y, x = (
            tf.minimum(tf.cast(corner[:, k : k + 1], tf.int32) + tf.range(shape[k]), last)
            for k, last in enumerate(tf.split(tf.cast(extent, tf.int32) - 1, 2, axis=1))
        )
        width = tf.cast(extent[:, 1:], tf.int32)[:, :, None]
        index = tf.gather(offsets, boxes)[:, None, None] + y[:, :, None] * width + x[:, None]
        yield boxes, index, *weights


def _forward(cells, group, size):
    def one(parts):
        index, rows, columns = parts
        x = tf.cast(tf.gather(cells, index), tf.float32)
        channels = x.shape[2]
        x = tf.matmul(rows, tf.reshape(x, (tf.shape(x)[0], -1)))
        x = tf.reshape(x, (size, -1, channels))
        return tf.cast(
            tf.matmul(tf.broadcast_to(columns, (size, *tf.unstack(tf.shape(columns)))), x),
            cells.dtype,
        )

    spec = tf.TensorSpec((size, size, cells.shape[1]), cells.dtype)
    return tf.map_fn(one, group[1:], fn_output_signature=spec)


def _add_gradient(total, upstream, group, size):
    boxes, index, rows, columns = group
    channels = upstream.shape[3]
    cells = tf.maximum(tf.reduce_prod(tf.shape(index)[1:]), 1)
    some = tf.maximum(CELLS_AT_ONCE // cells, 1)

    def step(first, total):
        chunk = slice(first, first + some)
        x = tf.cast(tf.gather(upstream, boxes[chunk]), tf.float32)
        x = tf.matmul(columns[chunk, None], x, transpose_a=True)
        x = tf.matmul(rows[chunk], tf.reshape(x, (tf.shape(x)[0], size, -1)), transpose_a=True)
        places = tf.reshape(index[chunk], (-1, 1))
        return first + some, tf.tensor_scatter_nd_add(total, places, tf.reshape(x, (-1, channels)))

    _, total = tf.while_loop(lambda first, _: first < tf.size(boxes), step, (0, total))
    return total
