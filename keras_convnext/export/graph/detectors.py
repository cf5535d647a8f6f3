"""The rules of detectors: pyramid, region proposals, and the heads that look at boxes.

What is known only with the image is computed in the graph: anchors, and how many boxes there are.
The heads see the boxes that exist, and no others.
"""

import numpy as np

from keras_convnext.detection import heads
from keras_convnext.detection.heads import BOX_SIDE, MASK_SIDE
from keras_convnext.detection.proposals import NOTHING
from keras_convnext.detection.rcnn import DetectionModel
from keras_convnext.detection.settings import SHAPE, STRIDES
from keras_convnext.export.graph import boxes as boxes_of
from keras_convnext.export.graph.boxes import best, decode, pooled, put_back, suppressed
from keras_convnext.export.graph.builder import Tensor
from keras_convnext.export.graph.rules import numbers, rule, write
from keras_convnext.export.graph.stock_layers import product
from keras_convnext.export.graph.values import FLOAT, INT32, Value, joined
from keras_convnext.models.dense_prediction import LEVELS

THRESHOLD = "score_threshold"  # an input that may be left out, as SHAPE
UNLIMITED = 2.0**24  # pixels of a side


@rule(DetectionModel)
def _detector(graph, model, image):
    """Writes a detector; returns `{"boxes", "scores", "labels", "masks"}`, each a `Tensor`."""
    settings = model.settings
    batch = Value(graph, image.name).size(0)
    limits = _limits(graph, image, options_of(settings))
    maps = write(graph, model.pyramid, image)
    maps = write(graph, model.neck, [maps[level] for level in LEVELS])
    regions = [write(graph, model.rpn_head, x) for x in maps]
    planes = [Value(graph, x.planes) for x in maps]
    with graph.inside("proposals"):
        grids = map(boxes_of.anchors, planes, STRIDES)
        boxes, valid = _propose(settings, regions, grids, limits)
    planes = planes[: len(STRIDES) - 1]
    scores, boxes = _classified(graph, model, planes, boxes, valid, limits, batch)
    with graph.inside("detections"):
        found = _detections(graph, settings, model.classes, boxes, scores, valid)
    if model.mask_heads:
        found["masks"] = _masks(graph, model, planes, found, batch)
    found["labels"] = found["labels"].cast(INT32)
    return {name: Tensor(graph, 2, value.name) for name, value in found.items()}


def options_of(settings):
    """Returns what holds for the inputs that may be left out, `{name: list}`."""
    return {SHAPE: [[UNLIMITED] * 2], THRESHOLD: [settings.score_threshold]}


def _limits(graph, image, options):
    """Returns width, height, width, height of each image without its padding, `(batch, 1, 4)`."""
    given = Value(graph, graph.option(SHAPE, options[SHAPE]))
    sides = Value(graph, image.name).then("Shape", start=1, end=3).cast(FLOAT)
    shape = sides.then("Min", given)
    batch = Value(graph, image.name).size(0)
    shape = shape.then("Expand", batch.then("Concat", np.int64([1]), axis=0))
    return shape.taken(np.int64([1, 0, 1, 0]), axis=1).expanded(1)


def _propose(settings, regions, grids, limits):
    """Returns the boxes that may hold an object `(batch, k, 4)`, and which exist `(batch, k)`."""
    found = [
        _of_a_level(settings, logits, deltas, grid, limits)
        for (logits, deltas), grid in zip(regions, grids, strict=True)
    ]
    boxes, scores = (joined(parts, 1) for parts in zip(*found, strict=True))
    have = len(found) * settings.test_candidates
    scores, index = best(scores, settings.test_proposals, have)
    valid = scores > NOTHING
    return valid.expanded(-1).where(boxes.rows(index), 0.0), valid


def _of_a_level(settings, logits, deltas, grid, limits):
    count = settings.test_candidates
    scores, index = best(logits.then("Sigmoid"), count)
    boxes = decode(grid.taken(index), deltas.rows(index), (1.0,) * 4, limits)
    sides = boxes.slice(-1, 2, 4) - boxes.slice(-1, 0, 2)
    shortest = sides.then("ReduceMin", np.int64([-1]), keepdims=0)
    scores = (shortest > 0.0).where(scores, NOTHING)
    return boxes, suppressed(boxes, scores, settings.region_overlap, count)


def _classified(graph, model, planes, boxes, valid, limits, batch):
    """Returns the scores of proposals `(batch, k, classes)`, and a box for each of them `(batch, k,
    classes, 4)`."""
    count, votes = model.settings.test_proposals, []
    stages = list(zip(model.box_heads, model.settings.stages, strict=True))
    for number, (head, stage) in enumerate(stages):
        with graph.inside(f"stage{number}"):
            features, rows = pooled(planes, boxes, valid, BOX_SIDE, STRIDES[:-1])
        made = write(graph, head, Tensor(graph, 4, planes=features.name))
        logits, deltas = (put_back(Value(graph, x.name), rows, batch, count) for x in made)
        logits = logits.reshaped(-1, count, head.classes + 1)
        deltas = deltas.reshaped(-1, count, head.classes, 4)
        votes.append(logits)
        if number < len(stages) - 1:
            likely = logits.slice(-1, 0, head.classes).then("ArgMax", axis=-1)  # (batch, k, 1)
            deltas = deltas.then("GatherND", likely, batch_dims=2)
            boxes = decode(boxes, deltas, stage.stds, limits)
    votes = votes[0].then("Sum", *votes[1:]) / float(len(votes))
    scores = votes.then("Softmax", axis=-1).slice(-1, 0, model.classes)
    return scores, decode(boxes.expanded(2), deltas, stage.stds, limits.expanded(1))


def _detections(graph, settings, classes, boxes, scores, valid):
    """Returns the best detections after suppression within each class, without masks."""
    pairs = settings.test_proposals * classes
    threshold = Value(graph, graph.option(THRESHOLD, options_of(settings)[THRESHOLD]))
    enough = (scores > threshold) & valid.expanded(-1)
    flat = enough.where(scores, NOTHING).reshaped(-1, pairs)
    count = settings.detection_candidates
    scores, index = best(flat, count, pairs)
    boxes = boxes.reshaped(-1, pairs, 4).rows(index)
    labels = index.then("Mod", np.int64(classes))
    scores = suppressed(boxes, scores, settings.detection_overlap, count, labels, classes)
    scores, index = best(scores, settings.detections, count)
    there = scores > NOTHING
    return {
        "boxes": there.expanded(-1).where(boxes.rows(index), 0.0),
        "scores": there.where(scores, 0.0),
        "labels": there.where(labels.then("GatherElements", index, axis=1), np.int64(-1)),
    }


def _masks(graph, model, planes, found, batch):
    """Returns the masks of detections, `(batch, k, side, side)`, 0 where there is none."""
    count, side = model.settings.detections, 2 * MASK_SIDE
    there = found["scores"] > 0.0
    with graph.inside("masks"):
        features, rows = pooled(planes, found["boxes"], there, MASK_SIDE, STRIDES[:-1])
        labels = found["labels"].reshaped(-1).taken(rows)
    x = Tensor(graph, 4, planes=features.name)
    masks = [_mask(graph, head, x, labels) for head in model.mask_heads]
    mean = masks[0].then("Sum", *masks[1:]) / float(len(masks))
    with graph.inside("masks"):
        return put_back(mean, rows, batch, count).reshaped(-1, count, side, side)


def _mask(graph, head, x, labels):
    """Returns the probabilities of the masks of one class for each box, `(m, side * side)`."""
    with graph.inside(head.name):
        features = Value(graph, _mask_features(graph, head, x).planes)
        kernel, bias = numbers(head.classifier.kernel), numbers(head.classifier.bias)
        kernel = Value(graph, graph.constant(kernel[0, 0].T[:, None], "kernel")).taken(labels)
        bias = Value(graph, graph.constant(bias[:, None], "bias")).taken(labels)
        features = features.reshaped(-1, head.channels, (2 * MASK_SIDE) ** 2)
        logits = kernel.then("MatMul", features).then("Squeeze", np.int64([1]))
        return (logits + bias).then("Sigmoid")


def _mask_features(graph, head, x):
    for layer in head.convolutions:
        x = graph.each("Relu", write(graph, layer, x))
    return graph.each("Relu", write(graph, head.upsample, x))


# ---------------------------------------------------------------- layers


@rule(heads.FeaturePyramid)
def _pyramid(graph, neck, maps):
    maps = [write(graph, layer, x) for layer, x in zip(neck.laterals, maps, strict=True)]
    for level in reversed(range(len(maps) - 1)):
        maps[level] = graph.each("Add", maps[level], _twice_as_large(graph, maps[level + 1]))
    maps = [write(graph, layer, x) for layer, x in zip(neck.outputs, maps, strict=True)]
    every_second = {"kernel_shape": [1, 1], "strides": [2, 2]}
    return [*maps, graph.each("MaxPool", maps[-1], **every_second)]


def _twice_as_large(graph, x):
    how = {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    scales = graph.constant(np.float32([1, 1, 2, 2]), "scales")
    return Tensor(
        graph, 4, planes=graph.node("Resize", x.planes, "", scales, mode="nearest", **how)
    )


@rule(heads.RegionProposalHead)
def _regions(graph, head, x):
    """Returns logits `(batch, n)` and deltas `(batch, n, 4)`, each a `Value`."""
    x = graph.each("Relu", write(graph, head.conv, x))
    logits, deltas = (
        Value(graph, write(graph, layer, x).name) for layer in (head.classifier, head.regressor)
    )
    return logits.reshaped(0, -1), deltas.reshaped(0, -1, 4)


@rule(heads.BoxHead)
def _box_head(graph, head, x):
    """Returns logits `(boxes, classes + 1)` and deltas `(boxes, classes * 4)`, each a `Tensor`."""
    for layer in head.convolutions:
        x = write(graph, layer, x)
    first, *others = head.dense
    flat = Value(graph, x.planes).then("Flatten", axis=1)
    with graph.inside(first.name):
        x = product(graph, Tensor(graph, 2, flat.name), _of_planes(first), numbers(first.bias))
    x = graph.each("Relu", x)
    for layer in others:
        x = graph.each("Relu", write(graph, layer, x))
    return write(graph, head.classifier, x), write(graph, head.regressor, x)


def _of_planes(layer):
    """Returns the kernel of the first dense layer for maps whose channels come first."""
    kernel = numbers(layer.kernel)
    channels = kernel.shape[0] // BOX_SIDE**2
    kernel = kernel.reshape(BOX_SIDE, BOX_SIDE, channels, layer.units)
    return kernel.transpose(2, 0, 1, 3).reshape(-1, layer.units)
