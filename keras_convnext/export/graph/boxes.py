"""Boxes in a graph: anchors, decoding, the best of them, suppression, and their features.

Each function writes what the one of that name in `keras_convnext.detection` computes, in its order
of operations; sizes of maps are those of the image at hand.
"""

import math

import numpy as np

from keras_convnext.detection.anchor_boxes import RATIOS, SCALE
from keras_convnext.detection.boxes import MOST_SCALED
from keras_convnext.detection.proposals import NOTHING
from keras_convnext.export.graph.values import FLOAT, INT64, counting, filled, joined

BETWEEN = -0.5  # the score that tells what is not there from all that is
FINEST, FAR = 56, 1e-6  # of `pyramid_roi_align`: from twice this side on it is the next map's


def anchors(planes, stride):
    """Returns the anchors of a map, float32 `(height * width * 3, 4)`.

    Args:
        planes: a map `(batch, channels, height, width)`.
        stride: pixels per cell.
    """
    y, x = (
        counting(planes.graph, planes.size(axis)).cast(FLOAT) * float(stride) for axis in (2, 3)
    )
    heights = [stride * SCALE * math.sqrt(ratio) for ratio in RATIOS]
    widths = [stride * SCALE / math.sqrt(ratio) for ratio in RATIOS]
    base = [[-w / 2, -h / 2, w / 2, h / 2] for h, w in zip(heights, widths, strict=True)]
    y, x = y.reshaped(-1, 1, 1), x.reshaped(1, -1, 1)
    shape = planes.size(2).then("Concat", planes.size(3), np.int64([1]), axis=0)
    x, y = x.then("Expand", shape), y.then("Expand", shape)
    centres = joined([x, y, x, y], -1).expanded(2)
    return (centres + np.float32(base)).reshaped(-1, 4)


def decode(boxes, deltas, stds, limits):
    """Returns the boxes that deltas lead to, within the image.

    Args:
        boxes: `(..., 4)`.
        deltas: `(..., 4)`, which broadcast against the boxes.
        stds: four numbers that the deltas are multiplied with.
        limits: `(batch, ..., 4)`: width, height, width, height of the image.
    """
    left, top, right, bottom = boxes.parts("Split", 4, axis=-1, num_outputs=4)
    x, y, width, height = (left + right) * 0.5, (top + bottom) * 0.5, right - left, bottom - top
    if set(stds) != {1.0}:
        deltas = deltas * np.float32(stds)
    dx, dy, dw, dh = deltas.parts("Split", 4, axis=-1, num_outputs=4)
    x, y = x + dx * width, y + dy * height
    half_width, half_height = (
        side * delta.then("Clip", -MOST_SCALED, MOST_SCALED).then("Exp") * 0.5
        for side, delta in ((width, dw), (height, dh))
    )
    sides = [x - half_width, y - half_height, x + half_width, y + half_height]
    return joined(sides, -1).then("Max", 0.0).then("Min", limits)


def best(scores, count, have=None):
    """Returns the highest scores `(batch, count)` and where they are, int64.

    Args:
        scores: `(batch, n)`, `NOTHING` for what is not there.
        count: how many; where there are fewer, `NOTHING` at the index 0 stands for the others.
        have: n where it is known.
    """
    missing = count if have is None else count - have
    if missing > 0:
        scores = scores.then("Pad", np.int64([0, 0, 0, missing]), NOTHING)
    scores, index = scores.parts("TopK", 2, np.int64([count]), axis=-1)
    return scores, (scores > NOTHING).where(index, np.int64(0))


def suppressed(boxes, scores, overlap, count, labels=None, classes=1):
    """Returns the scores of boxes, `NOTHING` for those that a better one overlaps.

    Args:
        boxes: `(batch, n, 4)`.
        scores: `(batch, n)`; of equal ones the first comes first.
        overlap: IoU above which a box is suppressed.
        count: n.
        labels: int64 `(batch, n)`: only boxes of equal labels suppress each other; or `None`.
        classes: how many labels there are.
    """
    graph = boxes.graph
    by_class = scores.expanded(1)
    if labels is not None:
        of_class = labels.expanded(1).equals(np.arange(classes, dtype="int64")[:, None])
        by_class = of_class.where(by_class, NOTHING)
    kept = boxes.then("NonMaxSuppression", by_class, np.int64(count), float(overlap), BETWEEN)
    place = kept.taken(np.int64([0, 2]), axis=1)  # of the three numbers: image, class, box
    empty = filled(graph, [scores.size(0), count], NOTHING)
    return empty.put(place, scores.then("GatherND", place))


def pooled(maps, boxes, there, size, strides):
    """Returns the features of boxes of a batch, each from the map that fits its size.

    Args:
        maps: `(batch, channels, height, width)` for each level.
        boxes: `(batch, k, 4)`.
        there: bool `(batch, k)`, which boxes features are wanted of.
        size: number of bins in each direction.
        strides: pixels per cell of each map.

    Returns:
        features `(m, channels, size, size)` in any order, and which of the `batch * k` boxes these
        are, int64 `(m,)`.
    """
    graph = boxes.graph
    image = counting(graph, boxes.size(0)).expanded(1)
    image = image.then("Expand", there.then("Shape")).reshaped(-1)
    boxes, there = boxes.reshaped(-1, 4), there.reshaped(-1)
    level = _levels(boxes, len(maps))
    found, rows = [], []
    for number, (planes, stride) in enumerate(zip(maps, strides, strict=True)):
        here = (level.equals(np.int64(number)) & there).then("NonZero").reshaped(-1)
        found.append(
            planes.then(
                "RoiAlign",
                boxes.taken(here),
                image.taken(here),
                output_height=size,
                output_width=size,
                sampling_ratio=0,
                spatial_scale=1 / stride,
                coordinate_transformation_mode="half_pixel",
            )
        )
        rows.append(here)
    return joined(found, 0), joined(rows, 0)


def _levels(boxes, count):
    """Returns the map of each box `(n, 4)`, int64 `(n,)`."""
    sides = boxes.slice(-1, 2, 4) - boxes.slice(-1, 0, 2)
    width, height = sides.parts("Split", 2, axis=-1, num_outputs=2)
    scale = (width * height).then("Max", 0.0).then("Sqrt") / float(FINEST) + FAR
    steps = np.float32([2.0**step for step in range(1, count)])
    return (scale >= steps).cast(INT64).then("ReduceSum", np.int64([1]), keepdims=0)


def put_back(values, rows, batch, count):
    """Returns what was computed of some of the boxes of a batch, with 0 for the others.

    Args:
        values: `(m, n)`.
        rows: int64 `(m,)`, which of the `batch * count` boxes they are of.
        batch: int64 `(1,)`.
        count: boxes of an image.
    """
    n = values.size(1)
    return filled(values.graph, [batch * np.int64(count), n], 0.0).put(rows.expanded(-1), values)
