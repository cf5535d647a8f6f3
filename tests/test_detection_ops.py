"""The operations of detectors, against what mmdet computed and against plain NumPy.

The golden files are those of `../shared/golden/detection`; tests that need them skip without.
"""

import functools
import json
import os
from pathlib import Path

import numpy as np
import pytest
from keras import ops

from keras_convnext import detection
from keras_convnext.detection import (
    anchors,
    assign,
    batched_nms,
    clip,
    decode,
    encode,
    giou,
    iou,
    nms,
    pyramid_roi_align,
    roi_align,
    sample,
    usable,
)
from tests.backends import BACKEND, gradients, numpy

GOLDEN = Path(
    os.environ.get("KERAS_CONVNEXT_GOLDEN", Path(__file__).parents[2] / "shared" / "golden")
)
FOLDER = GOLDEN / "detection"
needs_golden = pytest.mark.skipif(not FOLDER.exists(), reason=f"{FOLDER} is absent")
families = pytest.mark.parametrize("family", ["mask", "cascade"])
STRIDES = (4, 8, 16, 32, 64)
TOLERANCE = 1e-4  # of the largest magnitude: float32, other order of summation


@functools.cache
def golden(family):
    """Returns the arrays of a family by name, and its configuration."""
    with np.load(FOLDER / f"{family}_tiny.npz") as file:
        arrays = {name: file[name] for name in file.files}
    return arrays, json.loads((FOLDER / f"{family}_tiny.json").read_text())["config"]


def assert_close(found, expected, tolerance=TOLERANCE):
    found, expected = numpy(found), np.asarray(expected)
    assert found.shape == expected.shape
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def compiled(function, **options):
    """Returns a function that is compiled, where the backend compiles."""
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        return tf.function(function, **options)
    return function


def image_shapes(arrays):
    return np.stack([arrays[f"scene{i}.img_shape"] for i in (0, 1)]).astype("float32")


def map_sizes(arrays):
    return [arrays[f"test.fpn.{level}"].shape[2:] for level in range(5)]


def maps_of(arrays, levels=4):
    return [arrays[f"test.fpn.{k}"].transpose(0, 2, 3, 1).copy() for k in range(levels)]


def per_image(rois):
    """Returns the boxes of rois (image, box) as (2, k, 4), and where each roi is in it."""
    image = rois[:, 0].astype(int)
    place = np.array([np.sum(image[:k] == image[k]) for k in range(len(image))])
    boxes = np.zeros((2, place.max() + 1, 4), "float32")
    boxes[image, place] = rois[:, 1:]
    return boxes, (image, place)


def numbered(name, image):
    """Returns the name of an array of the training, of one of the two images."""
    head, tail = name.rsplit(".", 1)
    return f"{head}#1.{tail}" if image else name


def train_usable(arrays, config):
    border = config["train_cfg"]["rpn"]["allowed_border"]
    border = border if border >= 0 else None
    run = compiled(lambda shapes: usable(map_sizes(arrays), STRIDES, shapes, border))
    return [numpy(level) for level in run(image_shapes(arrays))]


# -- anchors


@needs_golden
@families
def test_anchors_are_those_of_mmdet(family):
    arrays, config = golden(family)
    found = compiled(lambda: anchors(map_sizes(arrays)))()
    for level, boxes in enumerate(found):
        np.testing.assert_allclose(numpy(boxes), arrays[f"test.anchors.{level}"], atol=1e-5)
    counts = np.concatenate(train_usable(arrays, config), axis=1).sum(1)
    assert counts.tolist() == [
        len(arrays[numbered("train.rpn_assign.gt_inds", image)]) for image in (0, 1)
    ]


def test_anchors_of_a_known_map():
    (found,) = anchors([(1, 2)], strides=(4,), scale=2, ratios=(1.0, 4.0))
    expected = [[-4, -4, 4, 4], [-2, -8, 2, 8], [0, -4, 8, 4], [2, -8, 6, 8]]
    np.testing.assert_allclose(numpy(found), expected, atol=1e-6)


def test_usable_anchors():
    # 40 pixels are padded to 64: two cells of 32
    shape = np.array([[40, 96], [64, 33]], "float32")
    (cells,) = usable([(3, 3)], (32,), shape, ratios=(1.0,))
    expected = [[1, 1, 1, 1, 1, 1, 0, 0, 0], [1, 1, 0, 1, 1, 0, 0, 0, 0]]
    np.testing.assert_array_equal(numpy(cells), np.array(expected, bool))
    # of 16 pixels: those on (32, 32) and (64, 32) end at the last row of the first image
    (inside,) = usable([(3, 3)], (32,), shape, border=0, scale=0.5, ratios=(1.0,))
    assert not numpy(inside).any()
    (inside,) = usable([(3, 3)], (32,), shape, border=1, scale=0.5, ratios=(1.0,))
    expected = [[0, 0, 0, 0, 1, 1, 0, 0, 0], [0] * 9]
    np.testing.assert_array_equal(numpy(inside), np.array(expected, bool))


# -- assignment and sampling


def pad_targets(arrays):
    boxes, valid = np.zeros((2, 4, 4), "float32"), np.zeros((2, 4), bool)
    for image in (0, 1):
        scene = arrays[f"scene{image}.boxes"]
        boxes[image, : len(scene)], valid[image, : len(scene)] = scene, True
    return boxes, valid


@needs_golden
@families
def test_anchors_are_assigned_and_sampled_as_by_mmdet(family):
    arrays, config = golden(family)
    targets, targets_valid = pad_targets(arrays)
    good = np.concatenate(train_usable(arrays, config), axis=1)
    boxes = np.concatenate([numpy(level) for level in anchors(map_sizes(arrays))])
    run = compiled(lambda *a: assign(*a, 0.7, 0.3, 0.3, low_quality=True))
    assigned, overlaps = run(np.stack([boxes] * 2), good, targets, targets_valid)
    count = config["train_cfg"]["rpn"]["sampler"]["num"]
    indices, positive, used = (
        numpy(x) for x in compiled(lambda a: sample(a, count, 0.5))(assigned)
    )
    for image in (0, 1):
        name = functools.partial(numbered, image=image)
        expected = arrays[name("train.rpn_assign.gt_inds")]
        np.testing.assert_array_equal(numpy(assigned)[image][good[image]], expected)
        expected = arrays[name("train.rpn_assign.max_overlaps")]
        np.testing.assert_allclose(numpy(overlaps)[image][good[image]], expected, atol=1e-5)
        assert (numpy(assigned)[image][~good[image]] == -1).all()
        number = np.flatnonzero(good[image])
        order = [arrays[name(f"train.rpn_sample.{sign}_inds")] for sign in ("pos", "neg")]
        assert used[image].all() and positive[image].sum() == len(order[0])
        np.testing.assert_array_equal(indices[image], number[np.concatenate(order)])
    _check_region_targets(arrays, boxes, targets, numpy(assigned), indices, positive)


def _check_region_targets(arrays, boxes, targets, assigned, indices, positive):
    found = np.zeros((2, len(boxes), 4), "float32")
    for image in (0, 1):
        chosen = indices[image][positive[image]]
        goal = targets[image][assigned[image][chosen] - 1]
        found[image, chosen] = numpy(encode(boxes[chosen], goal))
    expected = np.concatenate([arrays[f"train.rpn_targets.2.{k}"] for k in range(5)], axis=1)
    assert_close(found, expected)


def refined(arrays, config, stage):
    """Returns the boxes of the next stage of the cascade's training, of each image."""
    rois, label = (
        arrays[f"train.stage{stage}.{n}"] for n in ("box_features.in.rois", "box_targets.0")
    )
    logits, deltas = (arrays[f"train.stage{stage}.box.{k}"] for k in (0, 1))
    label = np.where(label == 5, logits[:, :-1].argmax(1), label)
    deltas = deltas.reshape(-1, 5, 4)[np.arange(len(label)), label]
    stds = config["roi_head"]["bbox_head"][stage]["bbox_coder"]["target_stds"]
    found = []
    for image in (0, 1):
        mine = rois[:, 0] == image
        shape = image_shapes(arrays)[image]
        boxes = numpy(decode(rois[mine, 1:], deltas[mine], stds, image_shape=shape))
        truth = arrays[numbered(f"train.stage{stage}.sample.pos_is_gt", image)]
        given = np.concatenate([truth, np.zeros(len(boxes) - len(truth))])
        found.append(boxes[given == 0])
    return found


@needs_golden
@pytest.mark.parametrize(("family", "stage"), [("mask", 0), *(("cascade", k) for k in range(3))])
def test_proposals_are_assigned_and_sampled_as_by_mmdet(family, stage):
    arrays, config = golden(family)
    recipe = config["train_cfg"]["rcnn"]
    recipe = recipe if family == "mask" else recipe[stage]
    rule = recipe["assigner"]
    proposals = (
        refined(arrays, config, stage - 1)
        if stage
        else [arrays[f"train.rpn_loss_and_proposals.1.{k}.bboxes"] for k in (0, 1)]
    )
    targets, targets_valid = pad_targets(arrays)
    for image in (0, 1):
        name = functools.partial(numbered, image=image)
        boxes = proposals[image][None]
        assigned, overlaps = assign(
            boxes,
            np.ones(boxes.shape[:2], bool),
            targets[image : image + 1],
            targets_valid[image : image + 1],
            rule["pos_iou_thr"],
            rule["neg_iou_thr"],
            rule["min_pos_iou"],
            rule["match_low_quality"],
        )
        head = f"train.stage{stage}"
        np.testing.assert_array_equal(numpy(assigned)[0], arrays[name(f"{head}.assign.gt_inds")])
        assert_close(overlaps[0], arrays[name(f"{head}.assign.max_overlaps")])
        count = int(targets_valid[image].sum())
        whole = np.concatenate([np.arange(count)[None] + 1, numpy(assigned)], axis=1)
        found = sample(whole.astype("int32"), recipe["sampler"]["num"], 0.25)
        indices, positive, used = (numpy(x)[0] for x in found)
        order = [arrays[name(f"{head}.sample.{sign}_inds")] for sign in ("pos", "neg")]
        np.testing.assert_array_equal(indices[used], np.concatenate(order))
        assert positive.sum() == len(order[0]) and not positive[~used].any()
        goal = arrays[name(f"{head}.sample.pos_assigned_gt_inds")]
        np.testing.assert_array_equal(whole[0][indices[positive]] - 1, goal)


def plain_assign(overlaps, positive, negative, least, low_quality):
    """The rule of arXiv 1506.01497, section 3.1.2, one box after the other."""
    assigned = np.full(len(overlaps), -1)
    for box, row in enumerate(overlaps):
        best = row.max(initial=0)
        if best < negative:
            assigned[box] = 0
        elif best >= positive:
            assigned[box] = row.argmax() + 1
    if low_quality:
        for target, column in enumerate(overlaps.T):
            if column.max() >= least:
                assigned[column == column.max()] = target + 1
    return assigned


def random_boxes(random, *shape, side=100):
    corners = random.integers(0, side, (*shape, 2, 2)).astype("float32")
    return np.concatenate([corners.min(-2), corners.max(-2) + 1], axis=-1)


@pytest.mark.parametrize("low_quality", [False, True])
def test_assignment_is_the_rule_for_many_targets_and_padding(low_quality):
    random = np.random.default_rng(0)
    boxes, targets = random_boxes(random, 2, 90), random_boxes(random, 2, 70)
    targets[:, 50:60] = targets[:, :10]  # ties
    boxes[0, :20] = targets[0, :20]
    valid, real = random.random((2, 90)) < 0.8, random.random((2, 70)) < 0.7
    assigned, overlaps = assign(boxes, valid, targets, real, 0.6, 0.4, 0.3, low_quality)
    for image in (0, 1):
        table = numpy(iou(boxes[image][valid[image]], targets[image][real[image]]))
        expected = plain_assign(table, 0.6, 0.4, 0.3, low_quality)
        number = np.concatenate([[-1, 0], np.flatnonzero(real[image]) + 1])
        np.testing.assert_array_equal(numpy(assigned)[image][valid[image]], number[expected + 1])
        np.testing.assert_allclose(numpy(overlaps)[image][valid[image]], table.max(1), atol=1e-6)
        assert (numpy(assigned)[image][~valid[image]] == -1).all()


@pytest.mark.parametrize("count", [0, 3])
def test_without_targets_all_boxes_are_background(count):
    boxes = random_boxes(np.random.default_rng(1), 1, 5)
    valid = np.array([[True, True, False, True, True]])
    targets, real = np.zeros((1, count, 4), "float32"), np.zeros((1, count), bool)
    assigned, overlaps = assign(boxes, valid, targets, real, 0.7, 0.3, 0.0, True)
    assert numpy(assigned).tolist() == [[0, 0, -1, 0, 0]]
    assert numpy(overlaps).tolist() == [[0.0] * 5]


def test_sampling_takes_positives_first_and_never_what_is_ignored():
    assigned = np.array([[0, -1, 2, 0, 1, 3, -1, 0], [-1, 0, -1, -1, -1, -1, -1, 1]], "int32")
    indices, positive, used = (numpy(x) for x in sample(assigned, 4, 0.5))
    assert indices.tolist() == [[2, 4, 0, 3], [7, 1, 0, 0]]
    assert positive.tolist() == [[True, True, False, False], [True, False, False, False]]
    assert used.tolist() == [[True] * 4, [True, True, False, False]]
    order = np.array([[0.9, 0, 0.3, 0.8, 0.2, 0.1, 0, 0.7], [0.5] * 8], "float32")
    indices, positive, used = (numpy(x) for x in sample(assigned, 4, 0.5, order))
    assert indices[0].tolist() == [5, 4, 7, 3]
    # more than there are boxes, and no positive ones at all
    indices, positive, used = (numpy(x) for x in sample(assigned, 10, 0.0))
    assert not positive.any() and used.sum(1).tolist() == [3, 1]
    assert indices[0].tolist() == [0, 3, 7] + [0] * 7


# -- boxes


def test_overlaps_of_known_boxes():
    a = np.array([[0, 0, 4, 4], [1, 1, 1, 1]], "float32")
    b = np.array([[2, 0, 6, 4], [0, 0, 4, 4], [1, 1, 1, 1], [8, 8, 12, 12]], "float32")
    expected = [[1 / 3, 1, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_allclose(numpy(iou(a, b)), expected, atol=1e-6)
    pairs = np.stack([a[0]] * 4)
    # of the last pair nothing is shared: 32 of 144 are covered
    np.testing.assert_allclose(numpy(giou(pairs, b)), [1 / 3, 1, 0, -112 / 144], atol=1e-6)


def test_deltas_lead_there_and_back():
    random = np.random.default_rng(2)
    boxes, targets = random_boxes(random, 3, 7), random_boxes(random, 3, 7)
    stds = (0.1, 0.1, 0.2, 0.2)
    deltas = encode(boxes, targets, stds)
    assert_close(decode(boxes, deltas, stds), targets)
    single = numpy(encode([[0.0, 0.0, 10.0, 20.0]], [[5.0, 0.0, 25.0, 20.0]], stds))
    np.testing.assert_allclose(single, [[10, 0, 5 * np.log(2), 0]], atol=1e-5)


def test_wild_deltas_are_limited_and_boxes_clipped():
    boxes = np.array([[[0, 0, 16, 16]], [[20, 20, 36, 36]]], "float32")
    deltas = np.full((2, 1, 3, 4), 100.0, "float32") * np.array([0, 0, 1, -1], "float32")
    free = numpy(decode(boxes[:, :, None], deltas))
    np.testing.assert_allclose(free[0, 0, 1], [-492, 7.872, 508, 8.128], rtol=1e-5)
    found = numpy(decode(boxes[:, :, None], deltas, image_shape=[[100, 50], [25, 200]]))
    np.testing.assert_allclose(found[0, 0, 0], [0, 7.872, 50, 8.128], rtol=1e-5)
    np.testing.assert_allclose(found[1, 0, 0], [0, 25, 200, 25], rtol=1e-5)
    np.testing.assert_allclose(numpy(clip(boxes[0], (10, 12))), [[0, 0, 12, 10]])


def test_boxes_without_area_have_finite_values_and_gradients():
    boxes = np.array([[0, 0, 0, 0], [5, 5, 5, 9], [3, 3, 2, 2], [1, 2, 3, 4]], "float32")
    for function in (giou, encode, decode, lambda a, b: iou(a, b)):
        for a, b in ((boxes, boxes), (boxes, boxes[::-1].copy())):
            assert np.isfinite(numpy(function(a, b))).all()
            assert all(np.isfinite(g).all() for g in gradients(function, a, b))


def test_gradient_of_giou_is_its_slope():
    a = np.array([[0, 0, 4, 4], [0, 0, 4, 4]], "float64")
    b = np.array([[2, 1, 7, 3], [6, 5, 9, 8]], "float64")
    (found, _) = gradients(giou, a.astype("float32"), b.astype("float32"))
    for place in np.ndindex(a.shape):
        step = np.zeros_like(a)
        step[place] = 0.05
        slope = (numpy(giou(a + step, b)) - numpy(giou(a - step, b))).sum() / 0.1
        assert abs(slope - found[place]) < 2e-3


# -- suppression


def greedy(boxes, scores, threshold, valid, labels):
    """Greedy suppression, one box after the other, in float32."""
    left = [k for k in np.argsort(-scores, kind="stable") if valid[k]]
    kept = np.zeros(len(boxes), bool)
    table = np.zeros((len(boxes), len(boxes)), "float32")
    for k, (x1, y1, x2, y2) in enumerate(boxes):
        width = np.minimum(x2, boxes[:, 2]) - np.maximum(x1, boxes[:, 0])
        height = np.minimum(y2, boxes[:, 3]) - np.maximum(y1, boxes[:, 1])
        shared = np.maximum(width, 0) * np.maximum(height, 0)
        areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
        union = (x2 - x1) * (y2 - y1) + areas - shared
        table[k] = np.where(shared > 0, shared / np.where(union > 0, union, 1), 0)
    for k in left:
        same = kept & (labels == labels[k])
        kept[k] = not (table[k][same] > np.float32(threshold)).any()
    return kept


def difficult_boxes(rows, count):
    """Returns boxes, scores, labels and validity with ties, copies and boxes without area."""
    random = np.random.default_rng(count)
    boxes = random_boxes(random, rows, count, side=60)
    boxes[:, count // 2 :] += random.random((rows, count - count // 2, 1)).astype("float32")
    boxes[:, : count // 8] = boxes[:, count // 8 : 2 * (count // 8)]
    boxes[:, -3:] = [7, 7, 7, 7]
    boxes[:, 3] = boxes[:, 4] + [0.5, 0, 0, 0]
    scores = random.integers(0, 9, (rows, count)).astype("float32") / 8
    labels = random.integers(0, 4, (rows, count)).astype("int32")
    return boxes, scores, labels, random.random((rows, count)) < 0.9


@pytest.mark.parametrize("count", [17, 700])
@pytest.mark.parametrize("threshold", [0.2, 0.5])
def test_suppression_is_greedy(count, threshold):
    boxes, scores, labels, valid = difficult_boxes(2, count)
    scores[1, ::2] = 0.5
    both = compiled(
        lambda b, s, c, v: (nms(b, s, threshold, v), batched_nms(b, s, c, threshold, v))
    )
    found = [numpy(x) for x in both(boxes, scores, labels, valid)]
    for row in range(2):
        for kept, label in zip(found, (labels[row] * 0, labels[row]), strict=True):
            expected = greedy(boxes[row], scores[row], threshold, valid[row], label)
            np.testing.assert_array_equal(kept[row], expected)
            assert 0 < expected.sum() < (valid[row].sum() + (count < 100))


def test_suppression_of_a_chain_and_of_nothing():
    # each box overlaps the next one: every second one stays, which needs all steps
    start = np.arange(300, dtype="float32")[:, None] * 4
    boxes = np.concatenate([start, start * 0, start + 10, start * 0 + 10], axis=1)
    kept = numpy(nms(boxes, -start[:, 0], 0.4))
    assert kept.tolist() == [k % 2 == 0 for k in range(300)]
    scores = np.array([np.nan, 1.0, np.inf], "float32")
    kept = nms(boxes[[0, 0, 50]], scores, 0.4)
    assert numpy(kept).tolist() == [False, True, True]
    assert not numpy(nms(boxes, start[:, 0], 0.4, np.zeros(300, bool))).any()
    assert numpy(nms(boxes[:0], start[:0, 0], 0.4)).shape == (0,)


@functools.cache
def suppression(threshold):
    return compiled(functools.partial(batched_nms, threshold=threshold))


def proposals(arrays, candidates, count):
    """Returns the boxes of each image as the region proposal network's outputs make them."""
    scores, deltas, starts, levels = [], [], [], []
    for level in range(5):
        logits = arrays[f"test.rpn.0.{level}"].transpose(0, 2, 3, 1).reshape(2, -1)
        delta = arrays[f"test.rpn.1.{level}"].transpose(0, 2, 3, 1).reshape(2, -1, 4)
        order = np.argsort(-logits, axis=1, kind="stable")[:, :candidates]
        scores.append(1 / (1 + np.exp(-np.take_along_axis(logits, order, 1))))
        deltas.append(np.take_along_axis(delta, order[..., None], 1))
        starts.append(arrays[f"test.anchors.{level}"][order])
        levels.append(np.full(order.shape, level, "int32"))
    scores, deltas, starts, levels = (
        np.concatenate(x, axis=1) for x in (scores, deltas, starts, levels)
    )
    boxes = numpy(decode(starts, deltas, image_shape=image_shapes(arrays)))
    valid = (boxes[..., 2:] > boxes[..., :2]).all(-1)
    kept = numpy(suppression(0.7)(boxes, scores, levels, valid=valid))
    for image in (0, 1):
        best = np.argsort(-scores[image], kind="stable")
        best = best[kept[image][best]][:count]
        yield boxes[image, best], scores[image, best]


@needs_golden
@families
def test_proposals_are_those_of_mmdet(family):
    arrays, _ = golden(family)
    for candidates, count, name in (
        (150, 40, "test.proposals"),
        (200, 60, "train.rpn_loss_and_proposals.1"),
    ):
        for image, (boxes, scores) in enumerate(proposals(arrays, candidates, count)):
            assert_close(boxes, arrays[f"{name}.{image}.bboxes"])
            assert_close(scores, arrays[f"{name}.{image}.scores"])


@needs_golden
@families
def test_detections_are_those_of_mmdet(family):
    arrays, config = golden(family)
    stages = 1 if family == "mask" else 3
    last = f"test.stage{stages - 1}"
    logits = sum(arrays[f"test.stage{k}.box.0"] for k in range(stages)) / stages
    scores = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    rois, deltas = arrays[f"{last}.box_features.in.rois"], arrays[f"{last}.box.1"].reshape(-1, 5, 4)
    heads = config["roi_head"]["bbox_head"]
    head = heads if family == "mask" else heads[-1]
    for image in (0, 1):
        mine = rois[:, 0] == image
        stds, shape = head["bbox_coder"]["target_stds"], image_shapes(arrays)[image]
        boxes = decode(rois[mine, None, 1:], deltas[mine], stds, image_shape=shape)
        boxes, score = numpy(boxes).reshape(-1, 4), scores[mine, :5].reshape(-1)
        labels = np.tile(np.arange(5, dtype="int32"), mine.sum())
        kept = numpy(suppression(0.5)(boxes, score, labels, valid=score > 0.05))
        order = [k for k in np.argsort(-score, kind="stable") if kept[k]][:12]
        name = f"test.detections.{image}"
        np.testing.assert_array_equal(labels[order], arrays[f"{name}.labels"])
        assert_close(boxes[order], arrays[f"{name}.bboxes"])
        assert_close(score[order], arrays[f"{name}.scores"])


# -- RoIAlign


@functools.cache
def pooling(size):
    """Returns the compiled function of maps and boxes, whichever form of it."""
    return compiled(functools.partial(pyramid_roi_align, size=size))


@needs_golden
@families
def test_pooled_features_are_those_of_mmdet(family):
    arrays, _ = golden(family)
    for kind, size, slots in (("box", 7, 200), ("mask", 14, 30)):
        names = [n for n in arrays if n.endswith(f".{kind}_features")]
        assert names
        rois = np.concatenate([arrays[f"{name}.in.rois"] for name in names])
        boxes, place = per_image(rois)
        boxes = np.pad(boxes, [(0, 0), (0, slots - boxes.shape[1]), (0, 0)])
        found = numpy(pooling(size)(maps_of(arrays), boxes))[place]
        expected = np.concatenate([arrays[name] for name in names])
        assert_close(found.transpose(0, 3, 1, 2), expected)


def plain_roi_align(features, box, size, stride):
    """RoIAlign of one box, in float64: the mean of ceil(side / size) bilinear samples per bin."""
    height, width, channels = features.shape
    samples = []
    for start, end, extent in ((box[1], box[3], height), (box[0], box[2], width)):
        start, end = start / stride - 0.5, end / stride - 0.5
        count = max(int(np.ceil(np.float32(end - start) / np.float32(size))), 0)
        step = (end - start) / size / max(count, 1)
        samples.append([(start + (k + 0.5) * step, extent) for k in range(size * count)])
    if not samples[0] or not samples[1]:
        return np.zeros((size, size, channels))
    values = np.zeros((len(samples[0]), len(samples[1]), channels))
    for row, (y, _) in enumerate(samples[0]):
        for column, (x, _) in enumerate(samples[1]):
            values[row, column] = bilinear(features, y, x)
    rows, columns = len(samples[0]) // size, len(samples[1]) // size
    return values.reshape(size, rows, size, columns, channels).mean((1, 3))


def bilinear(features, y, x):
    height, width, _ = features.shape
    if not (-1 <= y <= height and -1 <= x <= width):
        return 0.0
    y, x = min(max(y, 0), height - 1), min(max(x, 0), width - 1)
    top, left = int(y), int(x)
    bottom, right = min(top + 1, height - 1), min(left + 1, width - 1)
    y, x = y - top, x - left
    upper = features[top, left] * (1 - x) + features[top, right] * x
    lower = features[bottom, left] * (1 - x) + features[bottom, right] * x
    return upper * (1 - y) + lower * y


# of an image of 352 x 480 pixels; the level of each is known
BOXES = [
    (0, [10.2, 20.1, 60.7, 99.9]),
    (1, [100.3, 50.2, 260.1, 200.4]),
    (2, [30.5, 20.1, 330.2, 270.3]),
    (2, [0, 0, 480, 352]),
    (3, [-20.1, -30.2, 500.3, 380.4]),
    (3, [-80.3, -100.2, 500.4, 460.7]),  # beyond all sides
    (0, [100.1, 100.2, 101.1, 101.2]),  # a pixel
    (0, [5.3, 10.2, 470.8, 14.9]),  # long
    (0, [5.3, 10.2, 9.8, 340.4]),  # tall
    (1, [1.3, 30.2, 478.7, 79.9]),
    (0, [-30.3, -40.2, -1.1, -2.3]),  # outside; the last samples still are near the border
    (0, [600.3, 500.2, 660.4, 580.1]),  # far outside
    (0, [50, 60, 50, 60]),  # no area
    (0, [50, 60, 90, 60]),
    (0, [90, 60, 50, 20]),  # upside down
    (0, [-1000.7, 20.5, 1800.2, 21.5]),  # very long
    (0, [460.2, 330.4, 488.9, 360.3]),  # across a corner
]


@functools.cache
def pyramid(channels=5):
    random = np.random.default_rng(3)
    sides = [(88, 120), (44, 60), (22, 30), (11, 15)]
    return [random.standard_normal((2, *side, channels)).astype("float32") for side in sides]


@functools.cache
def pooled_plainly(size):
    maps = pyramid()
    found = [
        [
            plain_roi_align(maps[level][image].astype("float64"), box, size, STRIDES[level])
            for level, box in (BOXES if image == 0 else BOXES[::-1])
        ]
        for image in (0, 1)
    ]
    return np.array(found)


def two_images_of_boxes():
    boxes = np.array([box for _, box in BOXES], "float32")
    return np.stack([boxes, boxes[::-1]])


@pytest.mark.parametrize("size", [7, 14])
def test_pooling_is_the_adaptive_one_for_every_box(size):
    assert_adaptive(pooling(size)(pyramid(), two_images_of_boxes()), size)


def test_the_form_for_exporters_is_the_same(monkeypatch):
    monkeypatch.setenv("KERAS_CONVNEXT_FORMS", "portable")
    run = compiled(functools.partial(pyramid_roi_align, size=7))
    assert_adaptive(run(pyramid(), two_images_of_boxes()), 7)


def assert_adaptive(found, size):
    found, expected = numpy(found), pooled_plainly(size)
    assert found.dtype == "float32" and found.shape == expected.shape
    for place, (level, box) in enumerate(BOXES):
        for index in ((0, place), (1, len(BOXES) - 1 - place)):
            error = np.abs(found[index] - expected[index]).max()
            assert error < 1e-4, (level, box)


def test_pooling_of_one_map():
    features, boxes = pyramid()[1], two_images_of_boxes()[:, :9]
    found = numpy(roi_align(features, boxes, 3, stride=8))
    expected = [
        [plain_roi_align(x.astype("float64"), box, 3, 8) for box in mine]
        for x, mine in zip(features, boxes, strict=True)
    ]
    assert_close(found, np.array(expected))


def test_gradient_of_pooling_is_its_transpose():
    maps, boxes = pyramid(), two_images_of_boxes()
    random = np.random.default_rng(4)
    weight = random.standard_normal((2, len(BOXES), 7, 7, 5)).astype("float32")
    found = compiled_gradients(
        lambda *m: ops.sum(ops.multiply(pyramid_roi_align(list(m), boxes, 7), weight)), *maps
    )
    # <A maps, weight> = <maps, A' weight>, for the maps and for others
    for seed in range(3):
        others = [np.random.default_rng(seed).standard_normal(m.shape) for m in maps]
        one = [
            plain_total(others, boxes, weight),
            sum((g * o).sum() for g, o in zip(found, others, strict=True)),
        ]
        assert abs(one[0] - one[1]) < 1e-4 * np.abs(one).max() + 1e-3


def plain_total(maps, boxes, weight):
    pooled = numpy(pyramid_roi_align([m.astype("float32") for m in maps], boxes, 7))
    return (pooled.astype("float64") * weight).sum()


def compiled_gradients(function, *arrays):
    if BACKEND == "jax":
        import jax

        found = jax.jit(jax.grad(function, argnums=tuple(range(len(arrays)))))(*arrays)
        return [np.asarray(g) for g in found]
    return gradients(function, *arrays)


def test_boxes_that_are_not_finite_give_nothing():
    boxes = two_images_of_boxes()
    boxes[0, :2] = [[np.nan, 0, 9, 9], [0, 0, np.inf, 9]]
    found = numpy(pooling(7)(pyramid(), boxes))
    assert not found[0, :2].any() and np.isfinite(found).all()
    np.testing.assert_array_equal(
        found[:, 2:-2], numpy(pooling(7)(pyramid(), two_images_of_boxes()))[:, 2:-2]
    )


def test_pooling_of_no_boxes():
    assert pyramid_roi_align(pyramid(), np.zeros((2, 0, 4), "float32"), 7).shape == (2, 0, 7, 7, 5)


def test_pooling_in_half_precision_rounds_once():
    boxes = two_images_of_boxes()
    maps = [ops.cast(m, "bfloat16") for m in pyramid()]
    found = pooling(7)(maps, boxes)
    assert "bfloat16" in str(found.dtype)
    exact = pooling(7)([ops.cast(m, "float32") for m in maps], boxes)
    np.testing.assert_allclose(numpy(ops.cast(found, "float32")), numpy(exact), rtol=2**-8)


# -- graphs of TensorFlow


@pytest.mark.skipif(BACKEND != "tensorflow", reason="only TensorFlow has unknown sizes")
def test_sizes_may_be_unknown_and_xla_compiles():
    import tensorflow as tf

    def everything(a, b, c, d, boxes, scores, shape):
        maps = [a, b, c, d]
        sizes = [tuple(ops.shape(m)[1:3]) for m in maps]
        boxes = decode(boxes, ops.zeros_like(boxes), image_shape=shape)
        levels = anchors(sizes, STRIDES[:4])
        good = usable(sizes, STRIDES[:4], shape, border=0)
        flat = ops.broadcast_to(
            ops.concatenate(levels)[None],
            (ops.shape(a)[0], ops.shape(ops.concatenate(levels))[0], 4),
        )
        assigned, _ = assign(
            flat, ops.concatenate(good, axis=1), boxes, scores > 0, 0.7, 0.3, 0.3, True
        )
        return (
            pyramid_roi_align(maps, boxes, 7),
            nms(boxes, scores, 0.5),
            ops.concatenate(levels),
            assigned,
            *sample(assigned, 16, 0.5),
        )

    boxes = two_images_of_boxes()
    scores = np.random.default_rng(5).random(boxes.shape[:2]).astype("float32")
    shape = np.array([[352, 480], [300, 400]], "float32")
    arrays = [*pyramid(), boxes, scores, shape]
    expected = [numpy(x) for x in everything(*map(tf.constant, arrays))]
    unknown = [tf.TensorSpec((None, None, None, 5))] * 4
    known = [tf.TensorSpec((None, *x.shape[1:])) for x in arrays[4:]]
    for function in (
        tf.function(everything, input_signature=[*unknown, *known]),
        tf.function(everything, jit_compile=True),
    ):
        for one, two in zip(function(*arrays), expected, strict=True):
            np.testing.assert_allclose(numpy(one), two, atol=1e-5)


def test_the_operations_are_public():
    for name in (
        "anchors",
        "assign",
        "batched_nms",
        "clip",
        "decode",
        "encode",
        "giou",
        "iou",
        "nms",
    ):
        assert callable(getattr(detection, name)) and getattr(detection, name).__doc__
