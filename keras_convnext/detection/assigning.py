"""Which boxes are trained, and on which target: assignment by overlap, and sampling.

Nothing here has a gradient.
"""

import keras
from keras import ops

from keras_convnext.detection.boxes import iou
from keras_convnext.layers import ReplicaSeedGenerator, Seeded

IGNORED, BACKGROUND = -1, 0
TARGETS_AT_ONCE = 32  # bounds the memory: the IoU of 268 569 anchors with 32 targets is 34 MB


def assign(boxes, valid, targets, targets_valid, positive, negative, least, low_quality):
    """Returns the target of each box.

    Args:
        boxes: `(batch, n, 4)`.
        valid: bool `(batch, n)`, which of them exist.
        targets: boxes `(batch, m, 4)`; m may be 0.
        targets_valid: bool `(batch, m)`, which of them exist.
        positive: boxes of this IoU or more with a target get the one with the highest (the first
            of equal ones).
        negative: boxes whose IoU with every target is less are background. What is between the
            two is ignored.
        low_quality: whether each target, besides, takes all boxes that have the highest IoU with
            it, whatever theirs is with others. Of several such targets, the last one takes a box.
        least: IoU from which on a target does so.

    Returns:
        `assigned`, int32 `(batch, n)`: -1 for ignored boxes and those that do not exist, 0 for
        background, k + 1 for target k; and `overlaps`, float32 `(batch, n)`: the highest IoU with a
        target, 0 where there is none.

    Source: arXiv 1506.01497, section 3.1.2.

    Example:
        import numpy as np
        from keras_convnext.detection import assign
        boxes, exist = np.float32([[[0, 0, 4, 4], [8, 8, 12, 12]]]), np.array([[True, True]])
        objects, are = np.float32([[[0, 0, 4, 5]]]), np.array([[True]])
        assigned, overlaps = assign(boxes, exist, objects, are, 0.7, 0.3, 0.3, low_quality=True)
        assigned  # [[1, 0]]
        overlaps  # [[0.8, 0.0]]
    """
    boxes, targets = (ops.stop_gradient(ops.cast(x, "float32")) for x in (boxes, targets))
    valid, targets_valid = ops.cast(valid, "bool"), ops.cast(targets_valid, "bool")
    overlaps = ops.zeros_like(boxes[..., 0], dtype="float32")
    best = ops.zeros_like(overlaps, dtype="int32")
    taken = best
    count = targets.shape[1]
    step = TARGETS_AT_ONCE if count is not None else None
    for first in range(0, 1 if count is None else count, step or 1):
        last = None if step is None else first + step
        there = ops.logical_and(valid[:, :, None], targets_valid[:, None, first:last])
        found = ops.where(there, iou(boxes, targets[:, first:last]), 0.0)
        highest = ops.max(found, axis=2)
        number = ops.cast(ops.argmax(found, axis=2), "int32") + (first + 1)
        best = ops.where(highest > overlaps, number, best)
        overlaps = ops.maximum(overlaps, highest)
        if low_quality:
            taken = ops.maximum(taken, _taken(found, there, least, first))
    assigned = ops.where(overlaps < negative, BACKGROUND, IGNORED)
    assigned = ops.where(overlaps >= positive, best, assigned)
    assigned = ops.where(taken > 0, taken, assigned)
    return ops.where(valid, ops.cast(assigned, "int32"), IGNORED), overlaps


def sample(assigned, count, fraction, order=None):
    """Returns which boxes are trained: positive ones first, filled up with background.

    Args:
        assigned: int `(batch, n)`, as of `assign`. What is ignored (-1) is never taken.
        count: how many boxes are taken.
        fraction: the share of them that is positive at most.
        order: float `(batch, n)`, keys of which the smallest come first: uniform random numbers
            for a random choice. Equal keys come in any order. `None`: the first boxes are taken.

    Returns:
        `indices`, int32 `(batch, count)`, 0 where there are too few boxes; `positive`, which of
        them are, bool `(batch, count)`; and `used`, which of them stand for a box, of that shape.

    Example:
        import numpy as np
        from keras_convnext.detection import sample
        indices, positive, used = sample(np.array([[0, 2, -1, 0]]), count=2, fraction=0.5)
        indices  # [[1, 0]]
        positive  # [[True, False]]
    """
    assigned = ops.convert_to_tensor(assigned)
    if order is None:
        order = ops.cast(ops.arange(ops.shape(assigned)[1], dtype="int32"), "float32")[None]
    keys = -ops.stop_gradient(ops.cast(order, "float32"))
    most = int(count * fraction)
    chosen, there = _first(assigned > BACKGROUND, keys, max(most, 1))
    there = ops.logical_and(there, most > 0)
    others, others_there = _first(ops.equal(assigned, BACKGROUND), keys, count)
    positives = ops.sum(ops.cast(there, "int32"), axis=1, keepdims=True)
    slot = ops.arange(count, dtype="int32")[None]
    positive = slot < positives
    slot = ops.where(positive, slot, slot - positives + max(most, 1))
    indices = ops.take_along_axis(ops.concatenate([chosen, others], axis=1), slot, axis=1)
    used = ops.take_along_axis(ops.concatenate([there, others_there], axis=1), slot, axis=1)
    return ops.where(used, indices, 0), positive, used


class SampleOrder(Seeded):
    """Draws the keys by which `sample` chooses at random.

    Input: any array; output: float32 of its shape in [0, 1), new ones at each call. The state is
    saved with the layer; the replicas of `tf.distribute` draw different keys.
    """

    def __init__(self, **kwargs):
        super().__init__(**kwargs)
        self.seed_generator = ReplicaSeedGenerator(name="seed_generator")
        self.built = True

    def call(self, inputs):
        return keras.random.uniform(ops.shape(inputs), dtype="float32", seed=self.seed_generator)


def _taken(found, there, least, first):
    """Returns the number of the last target that takes each box, int32; 0 for none."""
    highest = ops.max(found, axis=1, keepdims=True)
    takes = ops.logical_and(ops.equal(found, highest), ops.logical_and(there, highest >= least))
    numbers = ops.arange(ops.shape(found)[2], dtype="int32") + (first + 1)
    return ops.max(ops.where(takes, numbers, 0), axis=2)


def _first(candidates, keys, count):
    """Returns the indices of the candidates with the highest keys, and which of them exist."""
    keys = ops.where(candidates, keys, float("-inf"))
    # so that there are enough, however many boxes there are
    keys = ops.pad(keys, [[0, 0], [0, count]], constant_values=float("-inf"))
    keys, indices = ops.top_k(keys, count)
    return ops.cast(indices, "int32"), keys > float("-inf")
