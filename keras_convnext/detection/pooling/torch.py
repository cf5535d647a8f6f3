"""RoIAlign on CPUs with PyTorch: two products for each box, straight from its part of its map.

What PyTorch multiplies need not be contiguous, so nothing is gathered. The gradient of a part of
the map is a product, too, added in place.
"""

import torch

from keras_convnext.detection.one_thread import one_thread
from keras_convnext.detection.pooling.bins import axis_weights, reach


def pool(maps, placed, size):
    """Returns the features of boxes, as `pooling.pool`."""
    return _Pool.apply(placed, size, *maps).unflatten(0, placed.level.shape)


class _Pool(torch.autograd.Function):
    @staticmethod
    @one_thread()
    def forward(ctx, placed, size, *maps):
        ctx.parts, ctx.maps = _parts(*placed.flat(), size), [(x.shape, x.dtype) for x in maps]
        channels = maps[0].shape[3]
        tables = [_rows(x.float().contiguous()) for x in maps]
        pooled = torch.zeros(placed.level.numel(), size, size, channels, device=maps[0].device)
        for box, level, top, left, rows, columns in ctx.parts:
            width = columns.shape[1]
            part = _part(tables[level], top, rows.shape[1], left * channels, width * channels)
            x = torch.mm(rows, part).view(size, width, channels)
            torch.bmm(columns.expand(size, size, width), x, out=pooled[box])
        return pooled.to(maps[0].dtype)

    @staticmethod
    @torch.autograd.function.once_differentiable
    @one_thread()
    def backward(ctx, upstream):
        channels, size = upstream.shape[3], upstream.shape[1]
        upstream = upstream.float()
        totals = [torch.zeros(shape, device=upstream.device) for shape, _ in ctx.maps]
        tables = [_rows(total) for total in totals]
        for box, level, top, left, rows, columns in ctx.parts:
            width = columns.shape[1]
            part = _part(tables[level], top, rows.shape[1], left * channels, width * channels)
            x = torch.bmm(columns.t().expand(size, width, size), upstream[box])
            part.addmm_(rows.t(), x.view(size, width * channels))
        totals = (total.to(dtype) for total, (_, dtype) in zip(totals, ctx.maps, strict=True))
        return None, None, *totals


def _rows(x):
    """Returns a map as a matrix: a row for each row of each image."""
    return x.view(x.shape[0] * x.shape[1], x.shape[2] * x.shape[3])


def _part(table, top, height, left, width):
    return table[top : top + height, left : left + width]


def _parts(image, placed, size):
    """Returns number, level, first row, first column and the weights of rows and columns of each
    box that has an area."""
    first, cells = reach(placed.start, placed.length, placed.extent, size)
    top = image * placed.extent[:, 0] + first[:, 0]
    places = torch.stack([placed.level, top, first[:, 1], cells[:, 0], cells[:, 1]], 1).int()
    longest = cells.amax(1)
    longest[(placed.length <= 0).any(1)] = 0
    most_cells = longest.max().item() if len(longest) else 0
    parts, least, most = [], 0, 16
    while least < most_cells:
        some = torch.nonzero((longest > least) & (longest <= most))[:, 0]
        parts += _of_similar_length(some, places, placed, first, most, size)
        least, most = most, most * 2
    return parts


def _of_similar_length(boxes, places, placed, first, cells, size):
    if not len(boxes):
        return []
    weights = [
        axis_weights(
            placed.start[boxes, k],
            placed.length[boxes, k],
            first[boxes, k],
            placed.extent[boxes, k],
            cells,
            size,
        ).unbind(0)
        for k in (0, 1)
    ]
    return [
        (box, level, top, left, rows[:, :height], columns[:, :width])
        for box, (level, top, left, height, width), rows, columns in zip(
            boxes.tolist(), places[boxes].tolist(), *weights, strict=True
        )
    ]
