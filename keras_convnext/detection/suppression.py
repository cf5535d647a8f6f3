"""Non-maximum suppression: of boxes that overlap, the one with the highest score stays.

The result is that of the greedy algorithm, which takes one box after the other, but boxes are
compared in blocks: blocks of 256 by 256 pairs are all that is ever in memory. Nothing here has a
gradient.
"""

import functools

import keras
from keras import ops

from keras_convnext.detection.boxes import intersection_and_union
from keras_convnext.detection.one_thread import one_thread

BLOCK = 256  # boxes; smaller ones take more steps, larger ones more memory and more comparisons
LAST = 2**31 - 1  # the label of what does not exist
LEAST_UNION = 1e-30  # so that nothing is divided by zero; boxes without area overlap nothing


def nms(boxes, scores, threshold, valid=None):
    """Returns which boxes are kept by non-maximum suppression.

    From the highest score to the lowest, a box is kept if its IoU with every box kept before is at
    most `threshold`. Of equal scores, the first comes first.

    Args:
        boxes: `(..., n, 4)`, x1, y1, x2, y2.
        scores: float `(..., n)`; a box whose score is NaN is not kept.
        threshold: IoU in [0, 1], a float.
        valid: bool `(..., n)`, which boxes exist, or `None`: all do. Others are not kept and
            suppress nothing.

    Returns:
        bool `(..., n)`, in the order of `boxes`. Leading axes are suppressed independently.

    Example:
        import numpy as np
        from keras_convnext.detection import nms
        boxes = np.float32([[0, 0, 4, 4], [0, 0, 4, 5], [8, 8, 9, 9]])
        nms(boxes, np.float32([0.9, 0.8, 0.1]), 0.5)  # [True, False, True]
    """
    return _suppress(boxes, scores, None, threshold, valid)


def batched_nms(boxes, scores, labels, threshold, valid=None):
    """Returns which boxes are kept where only boxes of equal labels suppress each other.

    Args:
        boxes, scores, threshold, valid: as of `nms`.
        labels: int32 `(..., n)`: classes, or levels of a pyramid.

    Returns:
        bool `(..., n)`, in the order of `boxes`.

    Example:
        import numpy as np
        from keras_convnext.detection import batched_nms
        boxes = np.float32([[0, 0, 4, 4], [0, 0, 4, 5], [0, 0, 4, 5]])
        scores, labels = np.float32([0.9, 0.8, 0.7]), np.int32([1, 1, 2])
        batched_nms(boxes, scores, labels, 0.5)  # [True, False, True]
    """
    return _suppress(boxes, scores, labels, threshold, valid)


def _suppress(boxes, scores, labels, threshold, valid):
    boxes, scores = (ops.stop_gradient(ops.cast(x, "float32")) for x in (boxes, scores))
    shape = ops.shape(scores)
    count = shape[-1]
    if isinstance(count, int) and not count:
        return ops.zeros(shape, dtype="bool")
    scores, boxes = ops.reshape(scores, (-1, count)), ops.reshape(boxes, (-1, count, 4))
    alive = ops.equal(scores, scores)
    if valid is not None:
        alive = ops.logical_and(alive, ops.reshape(ops.cast(valid, "bool"), (-1, count)))
    if labels is not None:
        labels = ops.reshape(ops.cast(labels, "int32"), (-1, count))
        labels = ops.where(alive, labels, LAST)
    order = _order(scores, labels, alive)
    block = min(BLOCK, count) if isinstance(count, int) else BLOCK

    def sorted_(x, fill=0):
        return _blocks(ops.take_along_axis(x, order, axis=1), block, fill)

    parts = [sorted_(boxes[..., k]) for k in range(4)]
    parts += [] if labels is None else [sorted_(labels, LAST)]
    alive = ops.cast(sorted_(ops.cast(alive, "int32")), "bool")
    kept = _compiled()(parts, alive, threshold)
    kept = ops.reshape(kept, (ops.shape(order)[0], -1))
    kept = ops.take_along_axis(ops.cast(kept, "int32"), ops.argsort(order, axis=1), axis=1)
    return ops.reshape(ops.cast(kept, "bool"), shape)


def _order(scores, labels, alive):
    """Returns the indices that sort by label, then from the highest score to the lowest."""
    order = ops.argsort(ops.where(alive, -scores, float("inf")), axis=1)
    if labels is None:
        return order
    by_label = ops.argsort(ops.take_along_axis(labels, order, axis=1), axis=1)
    return ops.take_along_axis(order, by_label, axis=1)


def _blocks(x, block, fill):
    """Returns `(rows, n)` as `(rows, n / block, block)`, filled up at the end."""
    x = ops.pad(x, [[0, 0], [0, -ops.shape(x)[1] % block]], constant_values=fill)
    return ops.reshape(x, (ops.shape(x)[0], -1, block))


@functools.cache
def _compiled():
    """Returns `_kept`; JAX would compile its loops again in every call that is not compiled."""
    backend = keras.backend.backend()
    if backend == "jax":
        import jax

        return jax.jit(_kept)
    return one_thread()(_kept) if backend == "torch" else _kept


def _kept(parts, alive, threshold):
    """Returns bool (rows, blocks, block): one block after the other is compared with those before.

    Args:
        parts: the sides x1, y1, x2, y2 and maybe labels of the sorted boxes, `(rows, blocks,
            block)`.
        alive: which of them exist.
    """
    blocks, block = ops.shape(alive)[1], alive.shape[2]
    number = ops.arange(blocks, dtype="int32")[:, None]
    before = ops.triu(ops.ones((block, block), dtype="bool"), k=1)
    starts = _starts(parts[4], block) if len(parts) == 5 else ops.zeros_like(number[:, 0])
    ends = ops.max(ops.where(alive, number + 1, 0))  # where the last box is that exists

    def settle(i, kept):
        mine = [ops.take(part, i, axis=1) for part in parts]

        def compare(j, hit):
            others = [ops.take(part, j, axis=1) for part in parts]
            overlap = _overlap(others, mine, threshold)
            overlap = ops.logical_and(overlap, ops.take(kept, j, axis=1)[:, :, None])
            return ops.logical_or(hit, ops.any(overlap, axis=1))

        free = ops.take(alive, i, axis=1)
        hit = ops.fori_loop(ops.take(starts, i, axis=0), i, compare, ops.zeros_like(free))
        free = ops.logical_and(free, ops.logical_not(hit))
        own = ops.logical_and(_overlap(mine, mine, threshold), before)
        return ops.where(ops.equal(number, i), _greedy(own, free)[:, None], kept)

    return ops.fori_loop(0, ends, settle, ops.zeros_like(alive))


def _starts(labels, block):
    """Returns the first block that each block has a label in common with, int32 (blocks,)."""
    flat = ops.reshape(labels, (ops.shape(labels)[0], 1, -1))
    smaller = ops.sum(ops.cast(flat < labels[:, :, :1], "int32"), axis=2)
    return ops.min(smaller, axis=0) // block


def _overlap(a, b, threshold):
    """Returns whether boxes overlap too much, bool (rows, block of a, block of b)."""
    a, b = [x[:, :, None] for x in a], [x[:, None] for x in b]
    shared, union = intersection_and_union(a[:4], b[:4])
    over = shared / ops.maximum(union, LEAST_UNION) > threshold
    return ops.logical_and(over, ops.equal(a[4], b[4])) if len(a) == 5 else over


def _greedy(overlap, free):
    """Returns which boxes of a block are kept, bool (rows, block).

    Args:
        overlap: bool `(rows, block, block)`, which boxes an earlier one would suppress.
        free: bool `(rows, block)`, which may be kept.

    After n steps the first n boxes are as the greedy algorithm leaves them, most often all are.
    """

    def step(kept, _):
        hit = ops.any(ops.logical_and(overlap, kept[:, :, None]), axis=1)
        left = ops.logical_and(free, ops.logical_not(hit))
        return left, ops.any(ops.not_equal(left, kept))

    return ops.while_loop(lambda _, changed: changed, step, (free, ops.any(free)))[0]
