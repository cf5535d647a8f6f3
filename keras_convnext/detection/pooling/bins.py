"""Where boxes are on a map, and the weights of its cells in their bins.

Samples lie on a grid, so that weights are products of one of the row and one of the column.
"""

from typing import NamedTuple

from keras import ops

SAMPLES_OF_A_CELL = 5  # most samples of a bin in the two cells around a place: they are 0.5 apart


class Placed(NamedTuple):
    """Where the boxes of a batch are.

    Attributes:
        level: int32 `(batch, k)`, the index of the map.
        extent: float32 `(batch, k, 2)`, height and width of that map in cells.
        start: float32 `(batch, k, 2)`, y and x of the corner in cells; 0 is the centre of the first
            cell.
        length: float32 `(batch, k, 2)`, height and width in cells.
    """

    level: object
    extent: object
    start: object
    length: object

    def flat(self):
        """Returns the same with `(batch * k)` in the place of `(batch, k)`, and before it the index
        of the image of each box, int32 `(batch * k,)`."""
        batch, count = ops.shape(self.level)
        image = ops.repeat(ops.arange(batch, dtype="int32"), count)
        pairs = [ops.reshape(x, (-1, 2)) for x in (self.extent, self.start, self.length)]
        return image, Placed(ops.reshape(self.level, (-1,)), *pairs)


def reach(start, length, extent, size):
    """Returns the first cell that samples take from, and the number of cells, along each axis.

    Args:
        start, length, extent: float32, of a shape.
        size: number of bins.

    Returns:
        two float32 arrays of that shape. The first cell is one of the map, there is at least one.
    """
    samples = ops.maximum(_samples(length, size), 1.0) * size
    margin = 0.5 * length / samples
    first = ops.floor(start + margin)
    last = ops.floor(start + length - margin) + 1
    first, last = (ops.minimum(ops.maximum(x, 0.0), extent - 1) for x in (first, last))
    return first, ops.maximum(last - first, 0.0) + 1


def axis_weights(start, length, first, extent, cells, size):
    """Returns the weights of cells in the bins of boxes, along one axis.

    Args:
        start, length: of the boxes in cells, float32 `(n,)`; 0 is the centre of the first cell of
            the map.
        first: the first of the cells that weights are wanted for, a number or float32 `(n,)`. What
            is no cell of the map has weight 0.
        extent: cells of the map, a number or `(n,)`.
        cells: how many cells weights are wanted for.
        size: bins.

    Returns:
        float32 `(n, size, cells)`.
    """
    start, length, first, extent = (
        ops.reshape(ops.cast(x, "float32"), (-1, 1, 1)) for x in (start, length, first, extent)
    )
    a_bin = length / size
    count = _samples(length, size)
    spacing = a_bin / ops.maximum(count, 1.0)
    bins = ops.cast(ops.arange(size, dtype="int32")[:, None], "float32")
    sample = start + bins * a_bin + 0.5 * spacing  # the first of each bin
    spacing = ops.where(count > 1, spacing, 1.0)  # a single sample: there is no next one
    cell = first + ops.cast(ops.arange(cells, dtype="int32"), "float32")
    nearest = ops.floor((cell - 1 - sample) / spacing)
    total = ops.zeros_like(nearest)
    for step in range(SAMPLES_OF_A_CELL):
        index = nearest + step
        place = sample + index * spacing
        inside = ops.logical_and(place >= -1, place <= extent)
        exists = ops.logical_and(index >= 0, index < count)
        place = ops.minimum(ops.maximum(place, 0.0), extent - 1)
        weight = ops.maximum(1.0 - ops.abs(place - cell), 0.0)
        total = total + ops.where(ops.logical_and(exists, inside), weight, 0.0)
    return total / ops.maximum(count, 1.0)


def _samples(length, size):
    """Returns the number of samples in a bin, ceil(length / size) without a rounding error.

    Compilers multiply with the reciprocal of `size`, so that 700 / 7 may be more than 100.
    """
    count = ops.ceil(length / size)
    count = ops.where((count - 1) * size >= length, count - 1, count)
    return ops.where(count * size < length, count + 1, count)
