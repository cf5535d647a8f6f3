"""RoIAlign on CPUs where XLA compiles: one box after the other, each from a window of its map.

Shapes are static, so there are windows of a few shapes, and a box takes the first that it fits in.
The boxes are sorted by that, and for each shape there is a loop, as long as there are boxes. The
few that fit nowhere take all there is. Such loops have no gradient on JAX; it is written out, and
is a loop over the same windows.
"""

import keras
from keras import ops

from keras_convnext.detection.pooling.bins import axis_weights, reach

# Heights and widths in cells, from small to large. A square box takes 14 to 28 cells of its map,
# unless it is small or on the last map.
WINDOWS = ((16, 16), (32, 32), (16, 64), (64, 16), (64, 64))
# The columns of a table of boxes; what has two is of y and x.
IMAGE, ORIGIN, EXTENT, START, LENGTH = 0, slice(1, 3), slice(3, 5), slice(5, 7), slice(7, 9)
_functions = {}


def pool(maps, placed, size):
    """Returns the features of boxes, as `pooling.pool`. The maps' sizes are known."""
    canvas, origins = _canvas(maps)
    image, flat = placed.flat()
    image = ops.cast(image, "float32")[:, None]
    origin = ops.take(ops.convert_to_tensor(origins, "float32"), flat.level, axis=0)
    table = ops.concatenate([image, origin, flat.extent, flat.start, flat.length], axis=1)
    pooled = _function(size)(canvas, table)
    return ops.reshape(pooled, (*ops.shape(placed.level), *pooled.shape[1:]))


def _canvas(maps):
    """Returns all maps as one, the others side by side below the first; and the corner of each."""
    top, *others = maps
    corners, left = [(0, 0)], 0
    for one in others:
        corners.append((top.shape[1], left))
        left += one.shape[2]
    width, below = max(top.shape[2], left), max([one.shape[1] for one in others], default=0)
    parts = [_padded(top, top.shape[1], width)]
    if others:
        row = [_padded(one, below, one.shape[2]) for one in others]
        parts.append(_padded(ops.concatenate(row, axis=2), below, width))
    return ops.concatenate(parts, axis=1), corners


def _padded(x, height, width):
    missing = (height - x.shape[1], width - x.shape[2])
    return ops.pad(x, [[0, 0], [0, missing[0]], [0, missing[1]], [0, 0]]) if any(missing) else x


def _function(size):
    """Returns the function of canvas and table; on JAX it is compiled once for all eager calls."""
    if size not in _functions:
        function = ops.custom_gradient(lambda canvas, table: _pool(canvas, table, size))
        if keras.backend.backend() == "jax":
            import jax

            function = jax.jit(function)
        _functions[size] = function
    return _functions[size]


def _pool(canvas, table, size):
    plan = _Plan(canvas.shape, table, size)

    def gradient(*args, upstream=None):
        upstream = args[0] if upstream is None else upstream
        total = _backward(ops.zeros_like(canvas, dtype="float32"), upstream, plan)
        return ops.cast(total, canvas.dtype), ops.zeros_like(table)

    return _forward(canvas, plan), gradient


class _Plan:
    """Which boxes take windows of which shape, where these are, and what is in them.

    Attributes:
        canvas: the shape of all maps together.
        table: of the boxes.
        size: number of bins.
        shapes: of the windows, the last of which is the canvas itself.
        corner: of the window of each box on the canvas, float32 `(n, 2)`.
        weights: of the rows and columns of each window, `(n, size, cells)`; not of the last shape.
        order: the boxes, sorted by the shape of their window.
        bounds: for each shape where its boxes begin and end in the order.
    """

    def __init__(self, canvas, table, size):
        self.canvas, self.table, self.size = canvas, table, size
        height, width = canvas[1:3]
        fitting = [(min(h, height), min(w, width)) for h, w in WINDOWS]
        self.shapes = list(dict.fromkeys([*fitting, (height, width)]))
        first, cells = reach(table[:, START], table[:, LENGTH], table[:, EXTENT], size)
        last = len(self.shapes) - 1
        kind = ops.full_like(table[:, 0], last, dtype="int32")
        for number, (h, w) in reversed(list(enumerate(self.shapes[:-1]))):
            fits = ops.logical_and(cells[:, 0] <= h, cells[:, 1] <= w)
            kind = ops.where(fits, number, kind)
        free = [[float(height - h), float(width - w)] for h, w in self.shapes]
        free = ops.take(ops.convert_to_tensor(free, "float32"), kind, axis=0)
        self.corner = ops.minimum(table[:, ORIGIN] + first, free)
        most = [max([shape[k] for shape in self.shapes[:-1]], default=1) for k in (0, 1)]
        self.weights = [self._weights(table, self.corner, k, most[k]) for k in (0, 1)]
        empty = ops.any(table[:, LENGTH] <= 0, axis=1)
        kind = ops.where(empty, -1, kind)  # their features are 0
        self.order = ops.cast(ops.argsort(kind), "int32")
        ends = [ops.sum(ops.cast(kind < k, "int32")) for k in range(len(self.shapes) + 1)]
        self.bounds = list(zip(ends[:-1], ends[1:], strict=True))

    def _weights(self, table, corner, axis, cells):
        start, length, extent, origin = (
            table[:, columns][:, axis] for columns in (START, LENGTH, EXTENT, ORIGIN)
        )
        return axis_weights(start, length, corner[:, axis] - origin, extent, cells, self.size)

    def window(self, place, shape):
        """Returns what a loop needs of the box at a place of the order.

        Returns:
            its number, the corner of its window on the canvas, four scalars, and the weights of
            the rows `(size, height)` and columns `(size, width)`.
        """
        box = ops.take(self.order, place, axis=0)
        row, corner = (ops.take(x, box, axis=0) for x in (self.table, self.corner))
        if shape == self.shapes[-1]:
            weights = [self._weights(row[None], corner[None], k, shape[k])[0] for k in (0, 1)]
        else:
            weights = [ops.take(self.weights[k], box, axis=0)[:, : shape[k]] for k in (0, 1)]
        image, y, x = (ops.cast(v, "int32") for v in (row[IMAGE], corner[0], corner[1]))
        return box, (image, y, x, ops.zeros_like(box)), weights


def _forward(canvas, plan):
    size, channels = plan.size, plan.canvas[3]
    count = ops.shape(plan.table)[0]
    pooled = ops.zeros((count, size, size, channels), dtype=canvas.dtype)

    def loop(shape, begin, end, pooled):
        def step(place, pooled):
            box, corner, (rows, columns) = plan.window(place, shape)
            x = ops.cast(ops.slice(canvas, corner, (1, *shape, channels)), "float32")
            x = ops.matmul(rows, ops.reshape(x, (shape[0], -1)))
            x = ops.reshape(x, (size, shape[1], channels))
            x = ops.matmul(ops.broadcast_to(columns, (size, *columns.shape)), x)
            zero = ops.zeros_like(box)
            return ops.slice_update(
                pooled, (box, zero, zero, zero), ops.cast(x[None], pooled.dtype)
            )

        return ops.fori_loop(begin, end, step, pooled)

    for shape, (begin, end) in zip(plan.shapes, plan.bounds, strict=True):
        pooled = loop(shape, begin, end, pooled)
    return pooled


def _backward(total, upstream, plan):
    size, channels = plan.size, plan.canvas[3]

    def loop(shape, begin, end, total):
        def step(place, total):
            box, corner, (rows, columns) = plan.window(place, shape)
            x = ops.cast(ops.take(upstream, box, axis=0), "float32")
            columns = ops.transpose(columns)
            x = ops.matmul(ops.broadcast_to(columns, (size, *columns.shape)), x)
            x = ops.matmul(ops.transpose(rows), ops.reshape(x, (size, -1)))
            x = ops.reshape(x, (1, *shape, channels))
            x = x + ops.slice(total, corner, x.shape)
            return ops.slice_update(total, corner, x)

        return ops.fori_loop(begin, end, step, total)

    for shape, (begin, end) in zip(plan.shapes, plan.bounds, strict=True):
        total = loop(shape, begin, end, total)
    return total
