"""From scores and deltas of anchors to the boxes that may hold an object, and on to detections.

Every function returns arrays of a fixed size: what there is comes first, `valid` says where it
ends. Sources: arXiv 1506.01497, section 3; 1703.06870, section 3.1; 1906.09756, section 4.
"""

import keras
from keras import ops

from keras_convnext.detection.boxes import decode
from keras_convnext.detection.heads import BOX_SIDE, MASK_SIDE
from keras_convnext.detection.roi_pooling import pyramid_roi_align
from keras_convnext.detection.suppression import batched_nms, nms

NOTHING = -1.0  # the score of what is not there


def propose(logits, deltas, anchors, image_shape, candidates, count, overlap):
    """Returns the boxes of an image that may hold an object.

    Args:
        logits: one array `(batch, n)` for each level.
        deltas: one array `(batch, n, 4)` for each level.
        anchors: one array `(n, 4)` for each level.
        image_shape: `(batch, 2)`, height and width that the boxes are clipped to.
        candidates: number of anchors of a level that are looked at, those with the best scores.
        count: number of boxes that are returned.
        overlap: IoU above which a box is suppressed by a better one of its level.

    Returns:
        boxes `(batch, count, 4)`, from the best to the worst, and `valid` `(batch, count)`.
    """
    found = [
        _of_a_level(*level, image_shape, candidates, overlap)
        for level in zip(logits, deltas, anchors, strict=True)
    ]
    boxes, scores = (ops.concatenate(parts, axis=1) for parts in zip(*found, strict=True))
    scores, index = best(scores, count)
    valid = scores > NOTHING
    return ops.where(valid[..., None], rows(boxes, index), 0.0), valid


def _of_a_level(logits, deltas, anchors, image_shape, candidates, overlap):
    scores, index = best(ops.sigmoid(ops.cast(logits, "float32")), candidates)
    chosen = ops.take(anchors, index, axis=0)
    boxes = decode(chosen, rows(deltas, index), image_shape=image_shape[:, None])
    sides = boxes[..., 2:] - boxes[..., :2]
    valid = ops.logical_and(scores > NOTHING, ops.all(sides > 0, axis=-1))
    kept = nms(boxes, scores, overlap, valid)
    return boxes, ops.where(kept, scores, NOTHING)


def best(scores, count):
    """Returns the highest scores and where they are, from the highest to the lowest.

    Args:
        scores: `(batch, n)`, float32, greater than `NOTHING`, or equal for what is not there.
        count: how many; where there are fewer, `NOTHING` at the index 0 stands for the others.

    Returns:
        two arrays `(batch, count)`: the scores, and indices, int32.
    """
    have = scores.shape[1]
    if have is None or have < count:
        missing = count if have is None else count - have
        scores = ops.pad(scores, [[0, 0], [0, missing]], constant_values=NOTHING)
    scores, index = ops.top_k(scores, count)
    return scores, ops.cast(ops.where(scores > NOTHING, index, 0), "int32")


def rows(array, index):
    """Returns the rows `index` `(batch, k)` of `(batch, n, ...)`, as `(batch, k, ...)`."""
    index = ops.reshape(index, (*ops.shape(index), *(1 for _ in array.shape[2:])))
    return ops.take_along_axis(array, index, axis=1)


def of_class(array, labels):
    """Returns the entries of one class: of `(..., classes, 4)` and `(...)` those `(..., 4)`."""
    return ops.take_along_axis(array, labels[..., None, None], axis=-2)[..., 0, :]


def box_outputs(head, maps, boxes, training=False, used=None):
    """Returns what a `BoxHead` says of boxes.

    Args:
        head: a `BoxHead`.
        maps: of the levels P2 to P5.
        boxes: `(batch, k, 4)`.
        training, used: as of `BoxHead`, `used` of shape `(batch, k)`.

    Returns:
        logits `(batch, k, classes + 1)` and deltas `(batch, k, classes, 4)`, float32.
    """
    x = _flat(pyramid_roi_align(maps, boxes, BOX_SIDE))
    used = None if used is None else ops.reshape(used, (-1,))
    logits, deltas = head(x, training=training, used=used)
    count = boxes.shape[1]
    logits = ops.reshape(ops.cast(logits, "float32"), (-1, count, head.classes + 1))
    return logits, ops.reshape(ops.cast(deltas, "float32"), (-1, count, head.classes, 4))


def mask_logits(head, maps, boxes, labels):
    """Returns the logits of the masks of some classes in some boxes.

    Args:
        head: a `MaskHead`.
        maps: of the levels P2 to P5.
        boxes: `(batch, k, 4)`.
        labels: `(batch, k)`, the classes.

    Returns:
        `(batch, k, side, side)`, float32.
    """
    x = ops.cast(head(_flat(pyramid_roi_align(maps, boxes, MASK_SIDE))), "float32")
    labels = ops.reshape(labels, (-1, 1, 1, 1))
    x = ops.take_along_axis(x, labels, axis=-1)[..., 0]
    return ops.reshape(x, (-1, boxes.shape[1], *x.shape[1:]))


def _flat(x):
    return ops.reshape(x, (-1, *x.shape[2:]))


def refine(boxes, logits, deltas, stage, image_shape, labels=None):
    """Returns the boxes for the next stage of a cascade, `(batch, k, 4)`, without a gradient.

    Args:
        boxes: `(batch, k, 4)`.
        logits, deltas: what the box head says of them.
        stage: the `Stage` of that head.
        image_shape: `(batch, 2)`, height and width that the boxes are clipped to.
        labels: `(batch, k)`, the class whose deltas are taken, or `None`: the class with the
            highest score. In training also the number of classes, which stands for that class.
    """
    classes = deltas.shape[-2]
    likely = ops.cast(ops.argmax(logits[..., :-1], axis=-1), "int32")
    labels = likely if labels is None else ops.where(labels < classes, labels, likely)
    chosen = of_class(deltas, labels)
    return ops.stop_gradient(decode(boxes, chosen, stage.stds, image_shape[:, None]))


def detect(settings, box_heads, mask_heads, maps, boxes, valid, image_shape):
    """Returns the detections in images.

    Args:
        settings: a `Settings`.
        box_heads, mask_heads: lists of layers, one for each stage; without masks an empty list.
        maps: of the levels P2 to P5.
        boxes, valid: the proposals, `(batch, k, 4)` and `(batch, k)`.
        image_shape: `(batch, 2)`.

    Returns:
        `{"boxes": (batch, n, 4), "scores": (batch, n), "labels": (batch, n)}` and, with masks,
        `"masks"`, probabilities `(batch, n, side, side)`. Where there are fewer than n detections
        the label is -1, and the rest 0.
    """
    stages = list(zip(box_heads, settings.stages, strict=True))
    votes = []
    for head, stage in stages:
        logits, deltas = box_outputs(head, maps, boxes)
        votes.append(logits)
        if len(votes) < len(stages):
            boxes = refine(boxes, logits, deltas, stage, image_shape)
    scores = ops.softmax(sum(votes) / len(votes), axis=-1)[..., :-1]
    boxes = decode(boxes[:, :, None], deltas, stage.stds, image_shape[:, None, None])
    found = _detections(settings, boxes, scores, valid)
    if mask_heads:
        labels = ops.maximum(found["labels"], 0)
        masks = [
            ops.sigmoid(mask_logits(head, maps, found["boxes"], labels)) for head in mask_heads
        ]
        there = ops.cast(found["labels"] >= 0, "float32")[..., None, None]
        found["masks"] = sum(masks) / len(masks) * there
    return found


def _detections(settings, boxes, scores, valid):
    """Returns the best detections after suppression within each class, without masks."""
    classes = scores.shape[-1]
    enough = ops.logical_and(valid[..., None], scores > settings.score_threshold)
    flat = ops.reshape(ops.where(enough, scores, NOTHING), (-1, scores.shape[1] * classes))
    scores, index = best(flat, settings.detection_candidates)
    boxes = rows(ops.reshape(boxes, (-1, boxes.shape[1] * classes, 4)), index)
    labels = index % classes
    kept = batched_nms(boxes, scores, labels, settings.detection_overlap, scores > NOTHING)
    scores, index = best(ops.where(kept, scores, NOTHING), settings.detections)
    there = scores > NOTHING
    return {
        "boxes": ops.where(there[..., None], rows(boxes, index), 0.0),
        "scores": ops.where(there, scores, 0.0),
        "labels": ops.where(there, ops.take_along_axis(labels, index, axis=1), -1),
    }


def detection_spec(settings, batch, masks):
    """Returns the `keras.KerasTensor`s of what `detect` returns."""
    count, side = settings.detections, 2 * MASK_SIDE
    shapes = {"boxes": (4,), "scores": (), "labels": ()} | (
        {"masks": (side, side)} if masks else {}
    )
    return {
        name: keras.KerasTensor(
            (batch, count, *shape), dtype="int32" if name == "labels" else "float32", name=name
        )
        for name, shape in shapes.items()
    }
