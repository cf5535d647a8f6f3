"""The rules of UperNet, and of what resizes and pools maps."""

import numpy as np

from keras_convnext.export.graph.builder import Tensor
from keras_convnext.export.graph.rules import rule, through_graph, write
from keras_convnext.export.graph.stock_layers import concatenated
from keras_convnext.segmentation import heads, resampling
from keras_convnext.segmentation.models import SegmentationModel

rule(heads.ChannelDropout)(lambda graph, layer, x: x)


@rule(SegmentationModel)
def _segmentation(graph, model, x):
    return through_graph(graph, model, x)["logits"]


@rule(heads.UperNetHead)
def _upernet(graph, head, maps):
    *fine, coarse = maps
    levels = [write(graph, layer, x) for layer, x in zip(head.laterals, fine, strict=True)]
    levels.append(_pyramid_pooling(graph, head, coarse))
    for number in reversed(range(len(fine))):
        above = _resized_like(graph, levels[number + 1], levels[number])
        levels[number] = graph.each("Add", levels[number], above)
    levels[:-1] = [write(graph, layer, x) for layer, x in zip(head.fpn, levels[:-1], strict=True)]
    levels = [levels[0], *(_resized_like(graph, x, levels[0]) for x in levels[1:])]
    x = write(graph, head.fpn_bottleneck, concatenated(graph, levels))
    return write(graph, head.classifier, x)


def _pyramid_pooling(graph, head, x):
    pooled = [_pooled(graph, pool, x) for pool in head.pools]
    parts = [write(graph, part, y) for part, y in zip(head.psp, pooled, strict=True)]
    maps = [x, *(_resized_like(graph, part, x) for part in parts)]
    return write(graph, head.bottleneck, concatenated(graph, maps))


def _pooled(graph, pool, x):
    with graph.inside(f"pool{pool.size}"):  # the layer's own name depends on how many were made
        return _adaptive_pooling(graph, pool, x)


@rule(heads.AuxiliaryHead)
def _auxiliary(graph, head, x):
    return write(graph, head.classifier, write(graph, head.conv0, x))


# ---------------------------------------------------------------- sizes that the graph computes


@rule(resampling.ResizeTo)
def _resize_to(graph, layer, tensors):
    x, reference = tensors
    return _resized(graph, x, reference.name, layer.spatial_axes)


def _resized_like(graph, x, reference):
    return _resized(graph, x, reference.planes, (2, 3))


def _resized(graph, x, reference, axes):
    """Returns a map with the height and width of another, which has them as the given axes."""
    wanted = graph.node(
        "Gather", graph.node("Shape", reference), graph.constant(np.int64(axes), "axes")
    )
    own = graph.node("Shape", x.planes, start=0, end=2)
    sizes = graph.node("Concat", own, wanted, axis=0)
    how = {"mode": "linear", "coordinate_transformation_mode": "half_pixel"}
    return Tensor(graph, 4, planes=graph.node("Resize", x.planes, "", "", sizes, **how))


@rule(resampling.AdaptiveAveragePooling)
def _adaptive_pooling(graph, layer, x):
    if layer.size == 1:
        return graph.reduced("ReduceMean", x, (1, 2), True)
    rows, columns = (_means(graph, x.planes, axis, layer.size) for axis in (2, 3))
    y = graph.node("MatMul", rows, x.planes)
    y = graph.node("MatMul", y, graph.node("Transpose", columns, perm=(1, 0)))
    return Tensor(graph, 4, planes=y)


def _means(graph, name, axis, size):
    """Returns the name of the matrix `(size, length of the axis)` whose product takes the means.

    Region i goes from floor(i * length / size) up to, without, ceil((i + 1) * length / size).
    """
    zero, one = (graph.constant(np.int64(number)) for number in (0, 1))
    length = graph.node("Squeeze", graph.node("Shape", name, start=axis, end=axis + 1))
    regions, sides = np.arange(size, dtype="int64")[:, None], graph.constant(np.int64(size))
    begin, end = (graph.constant(regions + shift, "regions") for shift in (0, 1))
    begin = graph.node("Div", graph.node("Mul", begin, length), sides)
    end = graph.node("Add", graph.node("Mul", end, length), graph.constant(np.int64(size - 1)))
    end = graph.node("Div", end, sides)
    place = graph.node("Range", zero, length, one)
    after, before = graph.node("GreaterOrEqual", place, begin), graph.node("Less", place, end)
    inside = graph.node("Cast", graph.node("And", after, before), to=1)
    count = graph.node("Cast", graph.node("Sub", end, begin), to=1)
    return graph.node("Div", inside, count)
