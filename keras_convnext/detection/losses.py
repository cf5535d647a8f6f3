"""The losses of a detector: which anchors and boxes are trained, towards what, and how.

Every term is the published one (arXiv 2201.03545, Appendix A.3, with the configurations published
for it): sums over the samples of the batch, divided by the number of samples, positive or not; of
the masks, the mean over those with an object.
"""

from typing import NamedTuple

from keras import ops

from keras_convnext.detection.assigning import assign, sample
from keras_convnext.detection.boxes import decode, encode, giou
from keras_convnext.detection.proposals import of_class, rows
from keras_convnext.detection.roi_pooling import roi_align

REGION_POSITIVE, REGION_NEGATIVE = 0.7, 0.3  # IoU with an object of anchors that are, and are not
GIOU_WEIGHT = 10.0
MASK_THRESHOLD = 0.5
WHOLE_MASKS_AT_ONCE = 32  # per image; of 800 x 1344 pixels: 138 MB


class Objects(NamedTuple):
    """The objects in a batch of images.

    Attributes:
        boxes: `(batch, objects, 4)`, float32.
        labels: `(batch, objects)`, int32; -1 where there is none.
        masks: `(batch, objects, h, w)`, or `None`.
        cropped: whether each mask is the content of its box, and not of the whole image.
    """

    boxes: object
    labels: object
    masks: object = None
    cropped: bool = False

    @property
    def valid(self):
        """`(batch, objects)`, where there is an object."""
        return self.labels >= 0


class Sample(NamedTuple):
    """The boxes that a stage is trained on; those with an object come first.

    Attributes:
        boxes: `(batch, k, 4)`.
        used: `(batch, k)`; False for what only fills up.
        positive: `(batch, k)`, whether there is an object.
        object: `(batch, k)`, its index among the objects of the image, 0 if there is none.
        labels: `(batch, k)`, its class; the number of classes if there is none.
        targets: `(batch, k, 4)`, its box; where there is none, any box.
        own: `(batch, k)`, whether the box is an object's itself.
    """

    boxes: object
    used: object
    positive: object
    object: object
    labels: object
    targets: object
    own: object


def _sum(values, where):
    """Returns the sum of `values` where `where` is True; elsewhere they may be anything finite."""
    return ops.sum(values * ops.cast(where, "float32"))


def _count(where):
    return ops.maximum(ops.sum(ops.cast(where, "float32")), 1.0)


def _cross_entropy_of_logits(logits, truth):
    """Returns the binary cross-entropy of each logit."""
    return ops.binary_crossentropy(ops.cast(truth, "float32"), logits, from_logits=True)


def smooth_l1(difference, beta):
    """Returns |d| - beta / 2, and d**2 / (2 beta) where |d| < beta; with `beta` 0 this is |d|."""
    size = ops.absolute(difference)
    if not beta:
        return size
    return ops.where(size < beta, 0.5 * size * size / beta, size - 0.5 * beta)


def _pairs(positive, boxes, targets):
    """Returns boxes and targets where they are positive, else two boxes with finite deltas."""
    unit = ops.convert_to_tensor([0.0, 0.0, 1.0, 1.0], "float32")
    return (ops.where(positive[..., None], x, unit) for x in (boxes, targets))


def region_losses(settings, logits, deltas, anchors, usable, objects, order):
    """Returns the losses of the region proposals' scores and of their deltas.

    Args:
        settings: a `Settings`.
        logits: `(batch, anchors)`, float32.
        deltas: `(batch, anchors, 4)`, float32.
        anchors: `(anchors, 4)`.
        usable: `(batch, anchors)`, which anchors may be trained.
        objects: `Objects`.
        order: `(batch, anchors)`, the sampler's keys, or `None`.
    """
    anchors = ops.broadcast_to(anchors, ops.shape(deltas))
    assigned, _ = assign(
        anchors,
        usable,
        objects.boxes,
        objects.valid,
        positive=REGION_POSITIVE,
        negative=REGION_NEGATIVE,
        least=REGION_NEGATIVE,
        low_quality=True,
    )
    index, positive, used = sample(assigned, settings.region_samples, 0.5, order)
    matched = ops.maximum(ops.take_along_axis(assigned, index, axis=1) - 1, 0)
    logits = ops.take_along_axis(logits, index, axis=1)
    boxes, targets = _pairs(positive, rows(anchors, index), rows(objects.boxes, matched))
    errors = ops.sum(
        smooth_l1(rows(deltas, index) - encode(boxes, targets), settings.region_beta), axis=-1
    )
    count = _region_count(positive, used)
    class_loss = _sum(_cross_entropy_of_logits(logits, positive), used) / count
    return class_loss, _sum(errors, positive) / count


def _region_count(positive, used):
    """Returns the number of samples, where an image without one of a kind counts as having one."""
    negative = ops.logical_and(used, ops.logical_not(positive))
    per_image = (ops.sum(ops.cast(x, "float32"), axis=1) for x in (positive, negative))
    return ops.sum(sum(ops.maximum(count, 1.0) for count in per_image))


def sample_boxes(settings, stage, classes, boxes, valid, objects, order):
    """Returns the `Sample` of boxes that a stage is trained on; the objects' own are among them.

    Args:
        settings: a `Settings`.
        stage: a `Stage` of it.
        classes: number of classes.
        boxes, valid: `(batch, k, 4)` and `(batch, k)`.
        objects: `Objects`.
        order: `(batch, objects + k)`, the sampler's keys, or `None`.
    """
    assigned, _ = assign(
        boxes,
        valid,
        objects.boxes,
        objects.valid,
        positive=stage.overlap,
        negative=stage.overlap,
        least=stage.overlap,
        low_quality=settings.low_quality,
    )
    count = ops.shape(objects.labels)[1]  # a tensor where a graph of TensorFlow does not know it
    own = ops.where(objects.valid, ops.arange(1, count + 1, dtype="int32"), -1)
    assigned = ops.concatenate([own, ops.cast(assigned, "int32")], axis=1)
    boxes = ops.concatenate([objects.boxes, boxes], axis=1)
    index, positive, used = sample(assigned, settings.box_samples, settings.positive_share, order)
    matched = ops.maximum(ops.take_along_axis(assigned, index, axis=1) - 1, 0)
    labels = ops.where(positive, ops.take_along_axis(objects.labels, matched, axis=1), classes)
    targets = rows(objects.boxes, matched)
    sampled = ops.stop_gradient(rows(boxes, index))
    own = ops.logical_and(positive, index < count)
    return Sample(sampled, used, positive, matched, labels, targets, own)


def class_loss(logits, sample):
    """Returns the cross-entropy of the classes, the background among them."""
    truth = ops.one_hot(sample.labels, logits.shape[-1], dtype="float32")
    errors = -ops.sum(truth * ops.log_softmax(logits, axis=-1), axis=-1)
    return _sum(errors, sample.used) / _count(sample.used)


def box_loss(settings, stage, deltas, sample):
    """Returns the loss of the boxes with an object, of the deltas of its class alone."""
    classes = deltas.shape[-2]
    chosen = of_class(deltas, ops.minimum(sample.labels, classes - 1))
    boxes, targets = _pairs(sample.positive, sample.boxes, sample.targets)
    if settings.box_loss == "giou":
        moved = decode(boxes, ops.where(sample.positive[..., None], chosen, 0.0), stage.stds)
        errors = GIOU_WEIGHT * (1 - giou(moved, targets))
    else:
        errors = ops.sum(ops.absolute(chosen - encode(boxes, targets, stage.stds)), axis=-1)
    return _sum(errors, sample.positive) / _count(sample.used)


def mask_targets(sample, objects, side):
    """Returns what is in the boxes of the masks of their objects, `(batch, k, side, side)`, 0 or 1.

    Args:
        sample: a `Sample`.
        objects: `Objects` with masks.
        side: of the result, in pixels.
    """
    height, width = ops.shape(objects.masks)[2:]
    boxes, around = _pairs(sample.positive, sample.boxes, sample.targets)
    if objects.cropped:  # from pixels of the image to pixels of the crop
        scale = ops.cast(ops.stack([width, height]), "float32") / (
            around[..., 2:] - around[..., :2]
        )
        corner = ops.tile(around[..., :2], (1, 1, 2))
        boxes = (boxes - corner) * ops.tile(scale, (1, 1, 2))
    inside = _masks_in(objects, sample.object, boxes, side)
    return ops.cast(inside >= MASK_THRESHOLD, "float32")


def _masks_in(objects, index, boxes, side):
    """Returns the shares of the masks' pixels, `(batch, k, side, side)`, one box for each mask."""
    batch, count, height, width = ops.shape(objects.masks)
    masks = ops.reshape(objects.masks, (-1, height, width, 1))
    first = ops.arange(batch, dtype="int32")[:, None] * count
    boxes_per_image, at_once = boxes.shape[1], boxes.shape[1]
    if not objects.cropped:  # masks as large as the images: a few at a time
        at_once = WHOLE_MASKS_AT_ONCE
    found = []
    for start in range(0, boxes_per_image, at_once):
        some = slice(start, start + at_once)
        chosen = ops.take(masks, ops.reshape(first + index[:, some], (-1,)), axis=0)
        some = ops.reshape(boxes[:, some], (-1, 1, 4))
        inside = roi_align(ops.cast(chosen, "float32"), some, side, 1)
        found.append(ops.reshape(inside, (batch, -1, side, side)))
    return ops.concatenate(found, axis=1)


def mask_loss(logits, targets, positive):
    """Returns the mean binary cross-entropy of the masks in the boxes with an object."""
    errors = ops.mean(_cross_entropy_of_logits(logits, targets), axis=(-2, -1))
    return _sum(errors, positive) / _count(positive)


def first(sample, count):
    """Returns the first `count` boxes of a `Sample`, among which are all with an object."""
    return Sample(*(field[:, :count] for field in sample))
