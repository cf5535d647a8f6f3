"""Mask R-CNN and Cascade Mask R-CNN against what the published detectors' own code computes.

The expected values are in the folder `detection` of the golden files: two narrow detectors in the
published layout, two scenes, every intermediate of inference and of one training step, in which
each sampler takes the first candidates.
"""

import dataclasses
import inspect
import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_convnext import Variant
from keras_convnext.detection import (
    CASCADE_MASK_RCNN,
    MASK_RCNN,
    CascadeMaskRCNN,
    MaskRCNN,
    Stage,
    checkpoints,
    losses,
    proposals,
)
from keras_convnext.detection.rcnn import DetectionModel
from tests.backends import BACKEND, compiles_long, numpy, on_one_backend
from tests.test_golden import GOLDEN, TOLERANCE

FOLDER = GOLDEN / "detection"
FAMILIES = {"mask": (MaskRCNN, MASK_RCNN), "cascade": (CascadeMaskRCNN, CASCADE_MASK_RCNN)}
NARROW = Variant("narrow", (1, 1, 2, 1), (8, 16, 24, 32), layer_scale=1.0)
NUMBERS = {
    "channels": 16,
    "box_units": 32,
    "region_samples": 32,
    "box_samples": 24,
    "train_candidates": 200,
    "train_proposals": 60,
    "test_candidates": 150,
    "test_proposals": 40,
    "detections": 12,
    "sampling": "first",
}
# A ReLU at zero has its gradient or not, as processors round: so much does the reference with other
# kernels of RoIAlign differ from itself, and one unit of a box head from itself elsewhere (AVX2).
GRADIENT_TOLERANCE = 2e-3

needs_golden = pytest.mark.skipif(not FOLDER.exists(), reason="the golden files are not here")


def compiled(function, graph=True):
    """Returns the function as the backend runs it in `fit` and `predict`.

    On TensorFlow, which traces for ten times as long as it computes here, without `graph` as it
    is: one family in a graph is enough.
    """
    if BACKEND == "jax":
        import jax

        return jax.jit(function)
    if BACKEND == "tensorflow" and graph:
        import tensorflow as tf

        return tf.function(function)
    return function


def arrays(found):
    return {key: numpy(value) for key, value in found.items()}


def relative_error(computed, expected):
    computed, expected = np.asarray(computed), np.asarray(expected)
    assert computed.shape == expected.shape
    return float(np.abs(computed - expected).max() / max(np.abs(expected).max(), 1e-12))


def build(family, weights=None, classes=5, **changes):
    make, settings = FAMILIES[family]
    settings = dataclasses.replace(settings, **{**NUMBERS, **changes})
    return make(NARROW, weights, classes=classes, settings=settings, include_preprocessing=False)


class Case:
    """A detector with the golden weights, and what the reference computes."""

    def __init__(self, family):
        self.family = family
        with np.load(FOLDER / f"{family}_tiny.npz") as archive:
            self.expected = dict(archive)
        self.model = build(family, FOLDER / f"{family}_tiny.pth")
        self.images = self["inputs"].transpose(0, 2, 3, 1)
        self.image_shape = np.stack([self[f"scene{n}.img_shape"] for n in (0, 1)]).astype("float32")

    def __getitem__(self, name):
        return self.expected[name]

    def map(self, name):
        """A map in the order of axes that ours have."""
        return self[name].transpose(0, 2, 3, 1)

    @property
    def inputs(self):
        return {"images": self.images, "image_shape": self.image_shape}

    def objects(self):
        """The objects of both scenes, padded to four."""
        sides = self.images.shape[1:3]
        boxes = np.full((2, 4, 4), -1, "float32")
        labels = np.full((2, 4), -1, "int32")
        masks = np.zeros((2, 4, *sides), "float32")
        for n in (0, 1):
            # the scenes are scaled to the images: `img_shape` is their size there
            found = self[f"scene{n}.boxes"]
            boxes[n, : len(found)] = found
            labels[n, : len(found)] = self[f"scene{n}.labels"]
            scene = self[f"scene{n}.masks"]
            masks[n, : len(found), : scene.shape[1], : scene.shape[2]] = scene
        return {**self.inputs, "boxes": boxes, "labels": labels, "masks": masks}


@pytest.fixture(scope="module", params=FAMILIES)
def case(request):
    return Case(request.param)


@needs_golden
def test_the_numbers_are_those_of_the_reference(case):
    config = json.loads((FOLDER / f"{case.family}_tiny.json").read_text())["config"]
    train, test, settings = config["train_cfg"], config["test_cfg"], case.model.settings
    stages = train["rcnn"] if isinstance(train["rcnn"], list) else [train["rcnn"]]
    heads = config["roi_head"]["bbox_head"]
    heads = heads if isinstance(heads, list) else [heads]
    assert [s.overlap for s in settings.stages] == [s["assigner"]["pos_iou_thr"] for s in stages]
    assert [list(s.stds) for s in settings.stages] == [
        h["bbox_coder"]["target_stds"] for h in heads
    ]
    assert settings.low_quality == stages[0]["assigner"]["match_low_quality"]
    assert settings.inside == (train["rpn"]["allowed_border"] == 0)
    assert settings.region_beta == config["rpn_head"]["loss_bbox"].get("beta", 0)
    assert settings.train_proposals == train["rpn_proposal"]["max_per_img"]
    assert settings.score_threshold == test["rcnn"]["score_thr"]
    weights = config["roi_head"].get("stage_loss_weights", [1])
    assert [s.weight for s in settings.stages] == weights


def inference(model):
    """Returns a function to every intermediate of inference, by the names of the golden files."""

    def run(images, image_shape):
        maps = model.pyramid(images)
        found = {f"backbone.{n}": maps[f"P{n + 2}"] for n in range(4)}
        maps = model.neck([maps[f"P{n + 2}"] for n in range(4)])
        found |= {f"fpn.{n}": x for n, x in enumerate(maps)}
        regions = model._regions(maps)
        for n, (logits, deltas, grid) in enumerate(zip(*regions[:3], strict=True)):
            found |= {f"rpn.0.{n}": logits, f"rpn.1.{n}": deltas, f"anchors.{n}": grid}
        boxes, valid = model._proposals(regions, image_shape, "test")
        found |= {"proposals": boxes, "valid": valid}
        stages = model.settings.stages
        for n, (head, stage) in enumerate(zip(model.box_heads, stages, strict=True)):
            found[f"stage{n}.rois"] = boxes
            logits, deltas = proposals.box_outputs(head, maps[:-1], boxes)
            found |= {f"stage{n}.box.0": logits, f"stage{n}.box.1": deltas}
            boxes = proposals.refine(boxes, logits, deltas, stage, image_shape)
        return found | model({"images": images, "image_shape": image_shape})

    return run


@pytest.fixture(scope="module")
def run(case):
    return compiled(inference(case.model), graph=case.family == "mask")


@pytest.fixture(scope="module")
def inferred(case, run):
    return arrays(run(case.images, case.image_shape))


@needs_golden
@compiles_long
def test_every_intermediate_of_inference_equals_the_reference(case, inferred):
    errors = {}
    for name in (f"{part}.{n}" for part in ("backbone", "fpn") for n in range(4)):
        errors[name] = relative_error(inferred[name], case.map(f"test.{name}"))
    errors["fpn.4"] = relative_error(inferred["fpn.4"], case.map("test.fpn.4"))
    for n in range(5):
        for kind, last in ((0, ()), (1, (4,))):
            expected = case.map(f"test.rpn.{kind}.{n}").reshape(2, -1, *last)
            errors[f"rpn.{kind}.{n}"] = relative_error(inferred[f"rpn.{kind}.{n}"], expected)
        errors[f"anchors.{n}"] = relative_error(inferred[f"anchors.{n}"], case[f"test.anchors.{n}"])
    for image in (0, 1):
        expected = case[f"test.proposals.{image}.bboxes"]
        assert inferred["valid"][image].sum() == len(expected)
        errors[f"proposals.{image}"] = relative_error(
            inferred["proposals"][image, : len(expected)], expected
        )
    for n in range(len(case.model.box_heads)):
        rois = case[f"test.stage{n}.box_features.in.rois"]
        assert len(rois) == inferred["valid"].size  # every proposal is there in both scenes
        errors[f"stage{n}.rois"] = relative_error(
            inferred[f"stage{n}.rois"].reshape(-1, 4), rois[:, 1:]
        )
        for kind in (0, 1):
            expected = case[f"test.stage{n}.box.{kind}"]
            computed = inferred[f"stage{n}.box.{kind}"].reshape(expected.shape)
            errors[f"stage{n}.box.{kind}"] = relative_error(computed, expected)
    assert max(errors.values()) < TOLERANCE, errors


@needs_golden
@compiles_long
def test_the_detections_equal_the_reference(case, inferred):
    masks, start = [], 0
    stages = range(len(case.model.mask_heads))
    logits = [case[f"test.stage{n}.mask"].astype("float64") for n in stages]
    expected_masks = np.mean([1 / (1 + np.exp(-x)) for x in logits], axis=0)
    for image in (0, 1):
        boxes, labels = (case[f"test.detections.{image}.{key}"] for key in ("bboxes", "labels"))
        count = len(labels)
        assert inferred["labels"][image].tolist() == [*labels, *[-1] * (12 - count)]
        assert relative_error(inferred["boxes"][image, :count], boxes) < TOLERANCE
        scores = case[f"test.detections.{image}.scores"]
        assert relative_error(inferred["scores"][image, :count], scores) < TOLERANCE
        for unused in ("boxes", "scores", "masks"):
            assert not inferred[unused][image, count:].any()
        masks = expected_masks[np.arange(start, start + count), labels]
        assert relative_error(inferred["masks"][image, :count], masks) < TOLERANCE
        start += count
    assert start == len(expected_masks) > 0


@needs_golden
@compiles_long
def test_what_else_is_in_the_batch_changes_nothing(case, run, inferred):
    twice = arrays(run(case.images[[1, 1]], case.image_shape[[1, 1]]))
    assert twice["labels"].tolist() == [inferred["labels"][1].tolist()] * 2
    for key in ("boxes", "scores", "masks"):
        assert relative_error(twice[key], np.stack([inferred[key][1]] * 2)) < TOLERANCE


def training_step(model, inputs, graph):
    """Returns the losses, the gradients by the path of the weight, and the new statistics."""
    paths = [weight.path for weight in model.trainable_variables]
    statistics = [w for w in model.non_trainable_variables if "moving" in w.path]
    before = [numpy(weight) for weight in statistics]
    if BACKEND == "torch":
        found = model(inputs, training=True)
        sum(found.values()).backward()
        gradients = [weight.value.grad for weight in model.trainable_variables]
        gradients = [
            np.zeros(w.shape) if g is None else g.numpy()
            for g, w in zip(gradients, model.trainable_variables, strict=True)
        ]
        model.zero_grad()
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        def step(inputs):
            with tf.GradientTape() as tape:
                found = model(inputs, training=True)
                total = tf.add_n(list(found.values()))
            return found, tape.gradient(total, [w.value for w in model.trainable_variables])

        found, gradients = compiled(step, graph)(inputs)
    else:
        import jax

        def total(weights, others, inputs):
            found, others = model.stateless_call(weights, others, inputs, training=True)
            return sum(found.values()), (found, others)

        weights = [w.value for w in model.trainable_variables]
        others = [w.value for w in model.non_trainable_variables]
        (_, (found, others)), gradients = jax.jit(jax.value_and_grad(total, has_aux=True))(
            weights, others, inputs
        )
        for variable, value in zip(model.non_trainable_variables, others, strict=True):
            variable.assign(value)
    after = {weight.path: numpy(weight) for weight in statistics}
    for weight, value in zip(statistics, before, strict=True):
        weight.assign(value)
    gradients = dict(zip(paths, map(np.asarray, gradients), strict=True))
    return arrays(found), gradients, after


@pytest.fixture(scope="module")
def trained(case):
    return training_step(case.model, case.objects(), graph=case.family == "mask")


@needs_golden
@compiles_long
def test_every_loss_equals_the_reference(case, trained):
    found, _, _ = trained
    expected = dict.fromkeys(found, 0.0)
    for name, value in case.expected.items():
        if not name.startswith("train.losses.") or "acc" in name:
            continue
        term = name.split("loss_")[1].split(".")[0]
        ours = {"rpn_cls": "rpn_class_loss", "rpn_bbox": "rpn_box_loss", "cls": "class_loss"}
        ours |= {"bbox": "box_loss", "mask": "mask_loss"}
        expected[ours[term]] += float(np.sum(value))  # the weights of the stages are in them
    for name, value in expected.items():
        assert found[name] == pytest.approx(value, rel=TOLERANCE), name
    assert sum(found.values()) == pytest.approx(float(case["train.total"]), rel=TOLERANCE)


@needs_golden
@compiles_long
def test_the_gradient_of_every_weight_equals_the_reference(case, trained, tmp_path):
    """The gradients of the reference are read as if they were weights of the published layout."""
    _, gradients, after = trained
    expected = twin_with(case, tmp_path)
    errors = {}
    for weight in expected.weights:
        if weight.path in gradients:
            error = relative_error(gradients[weight.path], numpy(weight))
            if error >= GRADIENT_TOLERANCE:
                errors[weight.path] = error
        elif weight.path in after:
            if relative_error(after[weight.path], numpy(weight)) >= TOLERANCE:
                errors[weight.path] = "statistics"
    assert not errors
    assert len(gradients) == len(expected.trainable_variables)


def twin_with(case, folder):
    from safetensors.numpy import save_file

    tensors = {}
    for name, value in case.expected.items():
        for prefix in ("train.grad.", "train.after."):
            if name.startswith(prefix):
                tensors[name.removeprefix(prefix)] = np.ascontiguousarray(value)
    save_file(tensors, folder / "gradients.safetensors")
    return build(case.family, folder / "gradients.safetensors")


SIDE = 64
LEAST = {"region_samples": 8, "box_samples": 8, "train_candidates": 16, "train_proposals": 12}
LEAST |= {"test_candidates": 16, "test_proposals": 12, "detections": 4}
SMALL = Variant("small", (1, 1, 1, 1), (4, 8, 8, 8), layer_scale=1.0)


def small(family, **changes):
    make, settings = FAMILIES[family]
    sampling = changes.pop("sampling", "random")
    settings = dataclasses.replace(settings, **{**NUMBERS, **LEAST, "sampling": sampling})
    return make(SMALL, classes=2, settings=settings, **changes)


def scenes(count=4, seed=0):
    """Returns images with bright squares, the last without one, as the model is trained on them."""
    random = np.random.default_rng(seed)
    images = random.integers(0, 60, (count, SIDE, SIDE, 3)).astype("float32")
    boxes = np.full((count, 2, 4), -1, "float32")
    labels = np.full((count, 2), -1, "int32")
    for n in range(count - 1):
        left, top = random.integers(4, 24, 2)
        boxes[n, 0] = left, top, left + 30, top + 24
        labels[n, 0] = n % 2
        images[n, top : top + 24, left : left + 30] = 200
    crops = np.ones((count, 2, 28, 28), "uint8")
    return {"images": images, "boxes": boxes, "labels": labels, "mask_crops": crops}


@pytest.fixture(scope="module")
def fitted():
    """A detector after a few epochs of two batches, and what Keras said of them.

    What it says of a validation is measured where one is compiled anyway, in a run of training.
    """
    keras.utils.set_random_seed(0)
    model = small("mask", drop_path_rate=0.2)
    model.box_heads[0].dense[0].trainable = False
    model.compile(keras.optimizers.Adam(1e-3))
    history = model.fit(scenes(), batch_size=2, epochs=6, verbose=0)
    return model, history.history


@compiles_long
def test_fit_minimises_the_sum_of_the_losses(fitted):
    _, history = fitted
    terms = ("rpn_class_loss", "rpn_box_loss", "class_loss", "box_loss", "mask_loss")
    assert {*terms, "loss"} <= set(history)
    assert np.isfinite([history[name] for name in (*terms, "loss")]).all()
    total = sum(np.array(history[name]) for name in terms)
    assert total == pytest.approx(np.array(history["loss"]), rel=1e-4)
    # the other terms begin with the first proposals that are any good
    assert history["rpn_class_loss"][-1] < history["rpn_class_loss"][0]


@compiles_long
def test_a_saved_detector_is_the_same_model(fitted, tmp_path):
    model, _ = fitted
    model.published = "mask_rcnn_small.mine"
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again, DetectionModel) and again.published == model.published
    assert again.settings == model.settings and again.classes == 2
    assert not again.box_heads[0].dense[0].trainable
    assert again.variant == SMALL
    assert again.dtype_policy.name == model.dtype_policy.name
    assert again.compiled and int(again.optimizer.iterations) == 12
    assert [w.path for w in again.weights] == [w.path for w in model.weights]
    states = [numpy(m.sample_order.seed_generator.state).tolist() for m in (model, again)]
    assert states[0] == states[1] and states[0][1] > 0  # a run is resumed with the same samples
    images = scenes()["images"][:2]
    # without a graph of each, which TensorFlow traces for long; JAX has a cache of them
    model.run_eagerly = again.run_eagerly = BACKEND == "tensorflow"
    ours, theirs = (m.predict(images, verbose=0) for m in (model, again))
    for key in ours:
        np.testing.assert_allclose(ours[key], theirs[key], atol=1e-5)
    assert ours["masks"].shape == (2, 4, 28, 28)


def test_without_masks_there_are_no_mask_heads():
    model = small("mask", masks=False)
    assert not model.mask_heads
    images = keras.KerasTensor((3, SIDE, SIDE, 3))
    assert set(model.compute_output_spec(images)) == {"boxes", "scores", "labels"}
    assert "mask_loss" not in model.compute_output_spec(images, training=True)


def test_the_losses_are_the_models_own():
    model = small("mask")
    with pytest.raises(ValueError, match="has losses of its own: omit"):
        model.compile("adamw", loss="mse")
    with pytest.raises(ValueError, match="mask_crops|masks.* is missing"):
        model.losses_of({"images": np.zeros((1, SIDE, SIDE, 3), "float32")})


def test_objects_fit_each_other_and_the_images():
    model, images = small("mask"), np.zeros((2, SIDE, SIDE, 3), "float32")
    right = {"images": images, "boxes": np.zeros((2, 3, 4)), "labels": np.zeros((2, 3), "int32")}
    right["masks"] = np.zeros((2, 3, SIDE, SIDE), "uint8")
    wrong = {"boxes": (2, 3, 5), "labels": (2, 2), "masks": (2, 3, 20, 20)}
    for key, shape in wrong.items():
        with pytest.raises(ValueError, match=f"'{key}' must be .* received .2, "):
            model.losses_of({**right, key: np.zeros(shape, "int32")})


@compiles_long
def test_images_without_objects_and_labels_out_of_range():
    """No objects at all are background; a class that is not there is no background, and neither is
    a box that is NaN; what only fills up may be."""
    model = small("mask")
    images = {"images": scenes(2)["images"]}
    some = {**images, "boxes": np.array([[[4, 4, 40, 40]]] * 2, "float32")}
    some |= {"labels": np.full((2, 1), 2), "mask_crops": np.ones((2, 1, 8, 8), "uint8")}
    none = {key: value[:, :0] for key, value in some.items() if key != "images"} | images
    losses = compiled(model.losses_of, graph=False)
    damaged = {**some, "labels": np.array([[0], [-1]])}
    damaged["boxes"] = np.full((2, 1, 4), np.nan, "float32")
    filled = {**damaged, "boxes": some["boxes"].copy()}
    filled["boxes"][1] = np.nan
    for inputs, is_nan in ((damaged, True), (filled, False)):
        assert np.isnan(arrays(losses(inputs))["class_loss"]) == is_nan
    some, none = (arrays(losses(inputs)) for inputs in (some, none))
    assert np.isnan(some["class_loss"]) and np.isfinite(some["mask_loss"])
    assert all(map(np.isfinite, none.values()))
    assert none["rpn_class_loss"] > 0 and none["class_loss"] > 0
    assert none["box_loss"] == none["mask_loss"] == none["rpn_box_loss"] == 0


@pytest.mark.skipif(BACKEND != "tensorflow", reason="its graphs alone do not know the number")
@pytest.mark.slow
def test_a_graph_need_not_know_how_many_objects_there_are():
    import tensorflow as tf

    model, inputs = small("mask", sampling="first"), scenes(2)
    free = {key: tf.TensorSpec((None, None, *value.shape[2:])) for key, value in inputs.items()}
    free |= {"images": tf.TensorSpec((None, SIDE, SIDE, 3)), "labels": tf.TensorSpec((None, None))}
    graph = tf.function(model.losses_of, input_signature=[free])
    found = graph({key: tf.cast(value, "float32") for key, value in inputs.items()})
    for name, value in arrays(model.losses_of(inputs)).items():
        assert numpy(found[name]) == pytest.approx(value, rel=1e-4)
    none = {key: value if key == "images" else value[:, :0] for key, value in inputs.items()}
    without = arrays(graph({key: tf.cast(value, "float32") for key, value in none.items()}))
    assert without["rpn_class_loss"] > 0 and without["class_loss"] > 0
    assert without["box_loss"] == without["mask_loss"] == without["rpn_box_loss"] == 0


def test_an_image_without_one_kind_counts_as_having_one():
    """What the reference divides the losses of the regions by: here 8 negatives and no positive."""
    settings = dataclasses.replace(MASK_RCNN, **{**NUMBERS, "region_samples": 8})
    count = 20
    corners = np.arange(count, dtype="float32")[:, None] * 10
    anchors = ops.convert_to_tensor(np.concatenate([corners, corners, corners + 8, corners + 8], 1))
    objects = losses.Objects(ops.zeros((1, 1, 4)), ops.full((1, 1), -1, "int32"))
    class_loss, box_loss = losses.region_losses(
        settings,
        ops.zeros((1, count)),
        ops.zeros((1, count, 4)),
        anchors,
        ops.ones((1, count), "bool"),
        objects,
        None,
    )
    assert float(class_loss) == pytest.approx(8 * np.log(2) / (8 + 1))
    assert float(box_loss) == 0


@on_one_backend
def test_validation_samples_anchors_of_all_levels():
    count = 268_569  # of an image of 800 x 1344 pixels
    keys = numpy(small("mask")._order(np.zeros((1, count), "float32"), False))[0]
    first = np.sort(np.argsort(keys, kind="stable")[:256])
    spread = np.histogram(first, 8, (0, count))[0]
    assert spread.min() >= 24 and spread.max() <= 40


def test_a_size_without_published_weights_is_random_by_default():
    from keras_convnext import detection

    for name in ("Tiny", "Small", "Base"):
        factory = getattr(detection, f"MaskRCNNConvNeXt{name}")
        default = inspect.signature(factory).parameters["weights"].default
        published = [r for r in checkpoints.rows() if r.head == "mask_rcnn"]
        there = any(row.variant == f"convnext_{name.lower()}" for row in published)
        assert default == ("coco" if there else None)


def test_settings_are_settings():
    with pytest.raises(TypeError, match="must be a `Settings` or None, received 'paper'"):
        MaskRCNN(SMALL, settings="paper")
    with pytest.raises(ValueError, match="`stds` must be a number > 0, received 0"):
        Stage(stds=(0.1, 0.1, 0.2, 0))


def test_images_are_as_large_as_the_pyramid_needs():
    model = small("mask")
    with pytest.raises(ValueError, match="multiples of 32, received .1, 64, 65, 3."):
        model(np.zeros((1, 64, 65, 3), "float32"))
    with pytest.raises(ValueError, match="multiples of 32, or None"):
        MaskRCNN(SMALL, input_shape=(60, 64, 3))
    with pytest.raises(ValueError, match="a dict with the key 'images', received the keys"):
        model({"image": np.zeros((1, 64, 64, 3), "float32")})


def test_weights_are_of_the_whole_model_or_of_the_convnext():
    with pytest.raises(ValueError, match="pass one of them, received 'coco' and 'imagenet'"):
        MaskRCNN("convnext_tiny", "coco", backbone_weights="imagenet")


@pytest.mark.skipif(BACKEND == "tensorflow", reason="slow to trace, and the same casts")
@compiles_long
def test_half_precision_keeps_boxes_and_scores_exact():
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = small("mask")
    finally:
        keras.config.set_dtype_policy("float32")
    assert model.neck.laterals[0].compute_dtype == "bfloat16"
    run = compiled(lambda inputs: model(inputs) | model.losses_of(inputs))
    found = arrays(run(scenes(2)))
    assert found.pop("labels").dtype == np.int32
    assert all(value.dtype == np.float32 and np.isfinite(value).all() for value in found.values())


def test_the_targets_of_crops_are_those_of_whole_masks():
    """A mask cropped to its box has the same pixels in boxes within it."""
    whole = np.zeros((1, 1, SIDE, SIDE), "float32")
    whole[0, 0, 8:40, 16:48] = np.triu(np.ones((32, 32)))
    around = np.array([[[16, 8, 48, 40]]], "float32")
    boxes = np.array([[[16, 8, 48, 40], [20, 12, 44, 36]]], "float32")
    yes = np.ones((1, 2), bool)
    sample = losses.Sample(
        ops.convert_to_tensor(boxes),
        yes,
        ops.convert_to_tensor(yes),
        ops.zeros((1, 2), "int32"),
        ops.zeros((1, 2), "int32"),
        ops.convert_to_tensor(np.repeat(around, 2, 1)),
        None,
    )
    labels = ops.zeros((1, 1), "int32")
    crops = ops.convert_to_tensor(whole[:, :, 8:40, 16:48])

    def targets(whole, crops):
        objects = losses.Objects(around, labels, whole), losses.Objects(around, labels, crops, True)
        return [losses.mask_targets(sample, some, 16) for some in objects]

    found = list(map(numpy, compiled(targets)(ops.convert_to_tensor(whole), crops)))
    np.testing.assert_array_equal(*found)
    assert 0.3 < found[0].mean() < 0.7
