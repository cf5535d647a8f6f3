"""From a photo to boxes and masks at its own size, as the published code computes them."""

import dataclasses
import functools
import json

import numpy as np
import pytest
from PIL import Image

from keras_convnext import VARIANTS, Classifier, ConvNeXt, Variant
from keras_convnext.detection import (
    CASCADE_MASK_RCNN,
    MASK_RCNN,
    CascadeMaskRCNN,
    Detector,
    MaskRCNN,
    checkpoints,
    rle,
)
from keras_convnext.images import ImageError
from keras_convnext.inside import calling
from keras_convnext.segmentation import Segmenter, UperNet
from tests import tiny_detector
from tests.backends import BACKEND, compiles_long, on_one_backend
from tests.test_detection_pictures import CASES, FOLDER, golden, needs_golden

# The detector


@pytest.fixture(scope="module")
def model():
    """A detector; TensorFlow would trace each shape for long, the golden ones are in graphs."""
    found = tiny_detector.build()
    found.run_eagerly = BACKEND == "tensorflow"
    return found


@pytest.fixture(scope="module")
def detect(model):
    return Detector(model, size=(64, 96), threshold=0, labels=["ant", [7, "bee"], "cat"])


BUILDS = {"mask_tiny": MaskRCNN, "cascade_tiny": CascadeMaskRCNN}
COMPILED = (
    "mask_tiny",
    pytest.param("cascade_tiny", marks=() if BACKEND == "torch" else pytest.mark.slow),
)
GOLDEN_VARIANT = Variant("golden", (1, 1, 2, 1), (8, 16, 24, 32))


def golden_settings(case):
    config = json.loads((FOLDER / f"{case}.json").read_text())["config"]
    regions, boxes = config["test_cfg"]["rpn"], config["test_cfg"]["rcnn"]
    return dataclasses.replace(
        {"mask_tiny": MASK_RCNN, "cascade_tiny": CASCADE_MASK_RCNN}[case],
        channels=16,
        box_units=32,
        test_candidates=regions["nms_pre"],
        test_proposals=regions["max_per_img"],
        detections=boxes["max_per_img"],
    )


@functools.cache
def golden_model(case):
    weights, settings = FOLDER / f"{case}.pth", golden_settings(case)
    return BUILDS[case](GOLDEN_VARIANT, weights=weights, settings=settings)


@needs_golden
@pytest.mark.parametrize("case", COMPILED)
def test_photos_become_the_published_detections(case):
    """The photos as they were padded there, and the boxes and masks in photos of another size."""
    arrays, detect = golden(case), Detector(golden_model(case))
    shapes = [arrays[f"scene{image}.img_shape"] for image in (0, 1)]
    images = np.full((2, 256, 256, 3), 0, "float32") + np.float32(detect.model.variant.mean) * 255
    for image, (height, width) in enumerate(shapes):
        images[image, :height, :width] = arrays[f"scene{image}.image"]
    inputs = {"images": images, "image_shape": np.array(shapes, "float32")}
    outputs = detect.model.predict_on_batch(inputs)
    for image in (0, 1):
        expected = {k: arrays[f"test.final{image}.{k}"] for k in ("boxes", "scores", "labels")}
        masks = arrays[f"test.final{image}.masks"]
        row = {name: np.asarray(value[image]) for name, value in outputs.items()}
        found = detect.in_photo(row, shapes[image], arrays[f"scene{image}.ori_shape"])
        np.testing.assert_array_equal(found.labels, expected["labels"])
        np.testing.assert_allclose(found.boxes, expected["boxes"], atol=1e-4 * 385)
        np.testing.assert_allclose(found.scores, expected["scores"], atol=1e-4)
        assert found.masks.shape == masks.shape
        # where a probability is the threshold but for rounding
        assert (found.masks != masks).mean() < 1e-4


@needs_golden
@compiles_long
def test_a_photo_is_padded_as_there():
    arrays = golden("mask_tiny")
    detect = Detector(golden_model("mask_tiny"), size=(256, 256), canvas="fixed")
    found = detect(arrays["scene0.image"])
    np.testing.assert_array_equal(found.labels, arrays["test.detections.0.labels"])
    np.testing.assert_allclose(found.boxes, arrays["test.detections.0.bboxes"], atol=1e-4 * 256)
    np.testing.assert_allclose(found.scores, arrays["test.detections.0.scores"], atol=1e-4)


@needs_golden
@on_one_backend
@pytest.mark.parametrize("case", CASES)
def test_a_file_of_weights_is_identified(case, monkeypatch):
    """Where the variant and the numbers of the small detectors stand for those that are known."""
    monkeypatch.setitem(VARIANTS, "golden", GOLDEN_VARIANT)
    family = {"mask_tiny": "mask_rcnn", "cascade_tiny": "cascade_mask_rcnn"}[case]
    monkeypatch.setitem(checkpoints.SETTINGS, family, golden_settings(case))
    detect = Detector(str(FOLDER / f"{case}.pth"), size=(208, 256))
    photo = golden(case)["scene0.image"]
    expected = Detector(golden_model(case), size=(208, 256))(photo)
    assert len(detect.model.box_heads) == {"mask_tiny": 1, "cascade_tiny": 3}[case]
    assert len(expected)
    np.testing.assert_array_equal(detect(photo).boxes, expected.boxes)


@compiles_long
@pytest.mark.parametrize("canvas", ["smallest", pytest.param("fixed", marks=on_one_backend)])
def test_one_photo_and_several_have_the_same_detections(detect, canvas):
    sides = [(48, 64), (60, 90), (64, 48), (48, 64)]
    photos = [tiny_detector.photo(seed, *side) for seed, side in enumerate(sides)]
    alone = [dataclasses.replace(detect, canvas=canvas)(photo) for photo in photos]
    together = dataclasses.replace(detect, canvas=canvas, batch_size=2).batch(photos)
    for one, other, photo in zip(alone, together, photos, strict=True):
        assert len(one) and one.size == photo.shape[:2]
        assert (one.boxes[:, 2:] <= photo.shape[1::-1]).all() and (one.boxes >= 0).all()
        np.testing.assert_array_equal(one.labels, other.labels)
        # large random weights, and another order of summation: 3e-3 pixels on JAX
        np.testing.assert_allclose(one.boxes, other.boxes, atol=1e-2)
        np.testing.assert_allclose(one.crops, other.crops, atol=1e-2)
    assert detect.batch([]) == []


@on_one_backend
def test_fixed_canvases_have_one_shape_for_photos_that_lie(detect, model):
    fixed = dataclasses.replace(detect, canvas="fixed", batch_size=3)
    shapes = []

    def call(compute, x, *args, **kwargs):
        shapes.append(tuple(x.shape))
        return compute(x, *args, **kwargs)

    with calling(model.pyramid, call):
        sides = [(48, 64), (64, 48), (20, 64), (33, 40), (50, 60)]
        fixed.batch([tiny_detector.photo(0, *side) for side in sides])
    assert sorted(set(shapes)) == [(3, 64, 96, 3), (3, 96, 64, 3)]


@on_one_backend
def test_what_was_found_can_be_chosen_from(detect):
    photo = tiny_detector.photo(1)
    found = detect(photo)
    assert (np.diff(found.scores) <= 0).all() and set(found.names) <= {"ant", "bee", "cat"}
    middle = float(found.scores[2])
    few = dataclasses.replace(detect, threshold=middle)(photo)
    np.testing.assert_array_equal(few.boxes, found[found.scores >= middle].boxes)
    assert len(few) == 3 and repr(few).startswith("Detections(3: ")
    assert few.masks.shape == (3, 48, 64) and few.masks.dtype == bool
    np.testing.assert_array_equal(found[[1]].masks[0], found.masks[1])
    assert found[0].names == found.names[:1] and len(found[:0]) == 0
    assert found[:0].masks.shape == (0, 48, 64) and found[:0].to_coco(1) == []


@on_one_backend
def test_results_are_in_the_format_of_coco(detect):
    found = detect(tiny_detector.photo(1))
    rows = json.loads(json.dumps(found.to_coco(139)))
    assert len(rows) == len(found)
    for n, row in enumerate(rows):
        assert row["image_id"] == 139 and row["score"] == found.scores[n]
        assert row["category_id"] == found.labels[n] + 1  # as some names came without an id
        x, y, width, height = row["bbox"]
        np.testing.assert_allclose([x, y, x + width, y + height], found.boxes[n], rtol=1e-6)
        np.testing.assert_array_equal(rle.decode(row["segmentation"], 48, 64), found.masks[n])


@on_one_backend
def test_ids_and_names_of_the_classes(model, tmp_path):
    pairs = [(3, "ant"), (7, "bee"), (90, "cat")]
    (tmp_path / "names.json").write_text(json.dumps([[str(i), name] for i, name in pairs]))
    for labels in (pairs, tmp_path / "names.json", dict(enumerate(pairs))):
        detect = Detector(model, labels=labels)
        assert detect.names == ("ant", "bee", "cat") and detect.categories == (3, 7, 90)
    assert dataclasses.replace(detect, threshold=0.5).categories == (3, 7, 90)
    assert Detector(model).names == ("class 0", "class 1", "class 2")
    with pytest.raises(ValueError, match="coco names 80 classes, the model has 3"):
        Detector(model, labels="coco")
    published = Detector(tiny_detector.build(classes=80), labels="coco")
    assert (published.names[79], published.categories[79]) == ("toothbrush", 90)


@on_one_backend
def test_a_model_without_masks(tmp_path):
    detect = Detector(tiny_detector.build(masks=False), size=(64, 96), threshold=0)
    photo = tiny_detector.photo(2)
    found = detect(photo)
    assert len(found) and found.masks is None and found[:1].masks is None
    assert "segmentation" not in found.to_coco(1)[0]
    assert found.draw(photo, threshold=0).size == (512, 384)


@on_one_backend
def test_whole_models_of_files_and_trainings(model, tmp_path):
    photo = tiny_detector.photo(3)
    model.save(tmp_path / "best.keras")
    (tmp_path / "classes.json").write_text('["ant", "bee", "cat"]')
    expected = Detector(model, size=(64, 96), threshold=0)(photo)
    for source in (tmp_path, str(tmp_path / "best.keras")):
        detect = Detector(source, size=(64, 96), threshold=0)
        found = detect(photo)
        assert detect.names == ("ant", "bee", "cat")
        np.testing.assert_array_equal(found.boxes, expected.boxes)
    with pytest.raises(ValueError, match="omit `variant=`"):
        Detector(tmp_path, variant="convnext_tiny")


@on_one_backend
@pytest.mark.filterwarnings("ignore:.*values above 255")
def test_unusual_photos(detect):
    for sides in ((1, 1), (1, 300), (8000, 40)):
        found = detect(np.full((*sides, 3), 99, "uint8"))
        assert found.size == sides and found.masks.shape[1:] == sides
    grey = tiny_detector.photo(1)[..., 0]
    np.testing.assert_array_equal(detect(grey).boxes, detect(grey[..., None].repeat(3, -1)).boxes)
    deep = Image.fromarray(grey.astype("uint16") * 200)
    np.testing.assert_array_equal(detect(deep).boxes, detect(np.full((48, 64), 255, "uint8")).boxes)
    with pytest.raises(ImageError, match="NaN or infinite values"):
        detect(np.full((40, 50, 3), np.nan))
    with pytest.raises(ImageError, match=r"images\[1\]: .*No such file"):
        detect.batch([grey, "nowhere.jpg"])


@on_one_backend
def test_damaged_weights_are_not_taken_for_an_empty_photo():
    model, photo = tiny_detector.build(), tiny_detector.photo(1)
    detect = Detector(model, size=(64, 96))
    assert len(detect(photo))
    nothing = {"boxes": np.zeros((6, 4)), "scores": np.zeros(6), "labels": np.full(6, -1)}
    assert len(detect.in_photo(nothing, (64, 85), (48, 64))) == 0
    for part in ("regressor", "classifier"):
        kernel = next(w for w in model.weights if w.path.endswith(f"box_head0/{part}/kernel"))
        kernel.assign(np.full(kernel.shape, np.nan))
        with pytest.raises(ValueError, match="mask_rcnn_tiny has NaN or infinite weights"):
            Detector(model, size=(64, 96))(photo)


@on_one_backend
def test_a_picture_of_the_detections(detect):
    photo = tiny_detector.photo(1, 480, 640)
    found = detect(photo)
    picture = np.asarray(found.draw(photo, threshold=0, opacity=1))
    assert picture.shape == photo.shape
    changed = (picture != photo).any(-1)
    assert changed[found.masks.any(0)].mean() > 0.99 and not changed.all()
    np.testing.assert_array_equal(np.asarray(found.draw(photo, threshold=1)), photo)
    with pytest.raises(ValueError, match="of a photo of 640 x 480 pixels, received one of 64 x"):
        found.draw(tiny_detector.photo(1))


# What cannot be


@on_one_backend
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"size": (800,)}, "`size` must be a tuple of 2 integers >= 32"),
        ({"size": (16, 1333)}, "`size` must be a tuple of 2 integers >= 32"),
        ({"threshold": 1.5}, r"`threshold` must be a number in \[0, 1\]"),
        ({"canvas": "fix"}, "`canvas` must be one of .* Nearest: 'fixed'"),
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1"),
        ({"labels": ["a", "b"]}, "`labels` names 2 classes, the model has 3"),
        ({"variant": "convnext_tiny"}, "is a model, not a file: omit `variant=`"),
    ],
)
def test_wrong_arguments_end_in_one_sentence(model, arguments, message):
    with pytest.raises(ValueError, match=message):
        Detector(model, **arguments)


@on_one_backend
def test_models_of_other_tasks_are_sent_to_what_answers_for_them(model):
    variant = tiny_detector.VARIANT
    with pytest.raises(ValueError, match=r"output per class is for `Classifier`"):
        Detector(ConvNeXt(variant, classes=5))
    with pytest.raises(ValueError, match=r"output per pixel is for `segmentation.Segmenter`"):
        Detector(UperNet(variant, classes=5, channels=8, auxiliary_channels=8))
    with pytest.raises(ValueError, match="normalised already: build it with"):
        Detector(tiny_detector.build(include_preprocessing=False))
    with pytest.raises(TypeError, match="a path or a DetectionModel, received int"):
        Detector(7)
    with pytest.raises(ValueError, match=r"is a detector, .* is for `detection.Detector`"):
        Classifier(model)
    with pytest.raises(ValueError, match=r"is a detector, .* is for `detection.Detector`"):
        Segmenter(model)
    with pytest.raises(ValueError, match="Unknown detector weights 'mask_rcnn_convnext_tini'"):
        Detector("mask_rcnn_convnext_tini")
    with pytest.raises(ValueError, match="Known|Nearest|names weights"):
        Detector("convnext_tiny.fb_in1k")
