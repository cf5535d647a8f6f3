"""Exported detectors: equal to the originals and to the model, the same file from every backend."""

import dataclasses
import functools
import hashlib
import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_convnext import cli
from keras_convnext.detection import CASCADE_MASK_RCNN, CascadeMaskRCNN, Detector
from keras_convnext.pretrained import saving
from tests import tiny_detector
from tests.backends import compiles_long, numpy, on_one_backend, randomise
from tests.test_detection_models import FAMILIES, Case, needs_golden, relative_error
from tests.test_golden import TOLERANCE
from tests.test_public import python

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from keras_convnext.export import (  # noqa: E402
    ExportedDetector,
    export,
    export_for,
    exporting,
    matching,
    onnx_file,
    proof,
)
from keras_convnext.export.metadata import DescriptionError  # noqa: E402
from keras_convnext.export.plan import plan_of  # noqa: E402
from keras_convnext.export.runners import OnnxFile  # noqa: E402
from tests.test_export import with_texts  # noqa: E402

ANY_SIZE = (None, None, 3)


@needs_golden
@pytest.mark.parametrize("family", FAMILIES)
def test_files_find_what_the_originals_find(family, tmp_path):
    case = Case(family)
    export(case.model, tmp_path / "m.onnx", check=False)
    runner = OnnxFile(tmp_path / "m.onnx", threads=1)
    found = runner(case.images, image_shape=case.image_shape)
    assert runner.names == ["boxes", "scores", "labels", "masks"]
    start, logits = 0, [case[f"test.stage{n}.mask"] for n in range(len(case.model.mask_heads))]
    expected_masks = np.mean([1 / (1 + np.exp(-x)) for x in logits], axis=0)
    for image in (0, 1):
        boxes, scores, labels = (
            case[f"test.detections.{image}.{key}"] for key in ("bboxes", "scores", "labels")
        )
        count = len(labels)
        assert found["labels"][image].tolist() == [*labels, *[-1] * (12 - count)]
        assert relative_error(found["boxes"][image, :count], boxes) < TOLERANCE
        assert relative_error(found["scores"][image, :count], scores) < TOLERANCE
        masks = expected_masks[np.arange(start, start + count), labels]
        assert relative_error(found["masks"][image, :count], masks) < TOLERANCE
        assert not any(found[name][image, count:].any() for name in ("boxes", "scores", "masks"))
        start += count
    assert start == len(expected_masks) > 0


def build(classes=3, **arguments):
    """A Mask R-CNN whose random weights do not magnify rounding: `scale` is small."""
    return randomise(tiny_detector.build(classes, **arguments), scale=0.15)


def cascade(**arguments):
    """A Cascade R-CNN with convolutions in its heads, whose batch norms have statistics."""
    settings = dataclasses.replace(
        tiny_detector.SETTINGS, stages=CASCADE_MASK_RCNN.stages, box_convolutions=1, box_dense=1
    )
    arguments = {"classes": 3, "settings": settings, **arguments}
    model = randomise(CascadeMaskRCNN(tiny_detector.VARIANT, **arguments), scale=0.15)
    for weight in model.weights:
        if weight.path.endswith("moving_variance"):
            weight.assign(np.abs(numpy(weight)) + 0.5)
    return model


MODELS = {
    "masks": (build, "70fbd532fdf263a0"),
    "boxes": (lambda: build(masks=False), "572c4f384c202b29"),
    "cascade": (cascade, "af5e2c0f26ccd850"),
    "one class": (lambda: build(1, include_preprocessing=False), "32c9de0445d79d01"),
}


@pytest.mark.parametrize("name", MODELS)
def test_the_graph_is_the_same_from_every_backend(name):
    build, digest = MODELS[name]
    graph = onnx_file.model_of(plan_of(build())).graph
    found = hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest()
    assert found[:16] == digest


@on_one_backend
@pytest.mark.parametrize("name", MODELS)
def test_files_equal_the_model_in_any_batch_of_any_size(name, tmp_path):
    model = MODELS[name][0]()
    made = export(model, tmp_path / "m.onnx")
    assert made.difference < 1e-5 and made.note is None
    runner, plan = OnnxFile(tmp_path / "m.onnx", threads=1), plan_of(model)
    random = np.random.default_rng(1)
    images = random.integers(0, 256, (3, 96, 160, 3)).astype("float32")
    images = images if "masks" in name else images / 64 - 2
    shapes = np.float32([[96, 160], [50, 90], [96, 33]])
    expected = matching.outputs_of_model(plan, images, shapes)
    found = runner(images, image_shape=shapes, score_threshold=[0.0])
    for n in range(3):
        pair = ({key: part[n] for key, part in one.items()} for one in (found, expected))
        differences, is_far = matching.compared(*pair, 1e-5)
        assert len(differences) and differences.max() <= 1e-5 and not is_far
    whole = runner(images)  # without its options, as the model without `image_shape`
    assert relative_error(whole["boxes"], numpy(model(images)["boxes"])) < 1e-5


@on_one_backend
def test_an_image_without_objects(tmp_path):
    export(build(), tmp_path / "m.onnx", check=False)
    runner = OnnxFile(tmp_path / "m.onnx", threads=1)
    found = runner(np.zeros((2, 64, 32, 3)), score_threshold=[0.9999])
    assert (found.pop("labels") == -1).all()
    assert [part.shape[:2] for part in found.values()] == [(2, 6)] * 3
    assert not any(part.any() for part in found.values())
    with pytest.raises(ValueError, match="ONNX Runtime cannot run it on float32 images of shape"):
        runner(np.zeros((1, 60, 60, 3)))


@compiles_long
def test_one_detector_on_every_backend(tmp_path):
    made = export(build(masks=False), tmp_path / "m.onnx", input_shape=(64, 96, 3))
    assert made.difference < 1e-5
    assert OnnxFile(tmp_path / "m.onnx")(np.zeros((1, 64, 96, 3)))["boxes"].shape[0] == 1


# ---------------------------------------------------------------- the proof


def detections(*rows):
    boxes, scores, labels = zip(*rows, strict=True)
    return {
        "boxes": np.float32(boxes),
        "scores": np.float32(scores),
        "labels": np.int32(labels),
    }


LEFT, RIGHT, NOTHING = [0, 0, 50, 50], [100, 0, 150, 50], ([0] * 4, 0, -1)


@on_one_backend
def test_detections_are_paired():
    """Whatever their order; a confident one needs one alike, another is only counted."""
    model = detections((LEFT, 0.8, 0), (RIGHT, 0.7, 1), (RIGHT, 0.2, 0), NOTHING)
    for rows, equal, is_far in (
        (((RIGHT, 0.7, 1), (LEFT, 0.8, 0), (RIGHT, 0.2, 0), NOTHING), [True] * 3, False),
        (((LEFT, 0.8, 0), (RIGHT, 0.7, 1), NOTHING, NOTHING), [True, True, False], False),
        (((LEFT, 0.8, 0), (RIGHT, 0.7, 0), (RIGHT, 0.2, 0), NOTHING), None, True),
        (((LEFT, 0.8, 0), (RIGHT, 0.7, 1), (RIGHT, 0.2, 0), (LEFT, 0.6, 1)), None, True),
        (((LEFT, 0.8, 0), NOTHING, NOTHING, NOTHING), None, True),
        (((LEFT, 0.8, 0), (RIGHT, 0.69, 1), (RIGHT, 0.2, 0), NOTHING), None, False),
        (((LEFT, float("nan"), 0), (RIGHT, 0.7, 1), (RIGHT, 0.2, 0), NOTHING), None, True),
    ):
        differences, far = matching.compared(detections(*rows), model, 1e-4)
        assert far == is_far
        if equal is not None:
            assert (differences <= 1e-4).tolist() == equal
        else:
            assert not (differences <= 1e-4).all()


@on_one_backend
def test_another_detector_is_refused(tmp_path):
    model = build(masks=False)
    plan, path = plan_of(model), tmp_path / "m.onnx"
    export(model, path, check=False)
    matching.proven(plan, OnnxFile(path, threads=1))
    weight = model.box_heads[0].classifier.bias
    weight.assign(weight * 1.5)
    with pytest.raises(proof.ProofError, match="finds other objects than mask_rcnn_tiny, in"):
        matching.proven(plan, OnnxFile(path, threads=1))
    weight.assign(weight * np.nan)
    with pytest.raises(proof.ProofError, match="finds nothing on random images"):
        export(model, tmp_path / "n.onnx")
    assert [file.name for file in tmp_path.iterdir()] == ["m.onnx"]


@on_one_backend
def test_photos_are_compared_as_the_detector_sees_them(tmp_path):
    detector = Detector(build(masks=False), size=(64, 96))
    photos = [tiny_detector.photo(seed) for seed in (0, 1)]
    made = export(detector, tmp_path / "m.onnx", images=photos)
    assert made.difference < 1e-5
    array = np.zeros((1, 64, 64, 3))
    assert export(detector.model, tmp_path / "m.onnx", images=array).difference < 1e-5
    with pytest.raises(ValueError, match="an array of shape"):
        export(detector.model, tmp_path / "m.onnx", images=np.zeros((1, 64, 64)))


@on_one_backend
def test_a_detector_in_half_precision_is_not_compared(tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = build(masks=False)
    finally:
        keras.config.set_dtype_policy(before)
    made = export(model, tmp_path / "m.onnx")
    assert made.difference is None and made.note == exporting.ROUGH
    found = OnnxFile(tmp_path / "m.onnx")(tiny_detector.photo(0, 64, 64)[None])
    model = build(masks=False)
    expected = model(tiny_detector.photo(0, 64, 64)[None].astype("float32"))
    assert relative_error(found["boxes"], numpy(expected["boxes"])) < 1e-5


# ---------------------------------------------------------------- what is refused


@on_one_backend
@pytest.mark.parametrize(
    ("name", "arguments", "said"),
    [
        ("m.tflite", {}, "a detector is not written as LiteRT, .* write one of .onnx, .xml"),
        ("m.pt2", {}, "not written as PyTorch"),
        ("m", {}, "not written as SavedModel"),
        ("m.onnx", {"dtype": "float16"}, "written in float32, as smaller numbers move its boxes"),
        ("m.onnx", {"quantize": "int8", "calibration": "."}, "omit `quantize`, `calibration`"),
        ("m.onnx", {"softmax": True}, "is a detector, .* omit `softmax`"),
        ("m.onnx", {"input_shape": (48, 64, 3)}, "sides of `input_shape` must be multiples of 32"),
    ],
)
def test_what_is_not_written_is_refused(name, arguments, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        export(refused(), tmp_path / name, **arguments)
    assert not list(tmp_path.iterdir())


@functools.cache
def refused():
    return build(masks=False)


@on_one_backend
@pytest.mark.parametrize("target", ["web", "triton", "ovms"])
def test_folders_are_for_other_models(target, tmp_path):
    with pytest.raises(ValueError, match="detect(ion|or): .* an .onnx file"):
        export_for(target, refused(), tmp_path / "folder")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- answers from the file alone

SIZE = (64, 96)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """A detector with names, the path of its file, and photos of two ratios."""
    folder = tmp_path_factory.mktemp("exported")
    labels = [(7, "ant"), (9, "bee"), (11, "ä cat")]
    detector = Detector(build(), size=SIZE, threshold=0.3, labels=labels)
    export(detector, folder / "m.onnx")
    for number, sides in enumerate(((48, 64), (70, 50))):
        photo = Image.fromarray(tiny_detector.photo(number, *sides))
        photo.save(folder / f"{number + 1}.png")
    return detector, folder / "m.onnx", sorted(folder.glob("*.png"))


def same(found, expected):
    assert found.names == expected.names and found.size == expected.size
    assert np.array_equal(found.categories, expected.categories)
    for field in ("boxes", "scores", "crops"):
        assert relative_error(getattr(found, field), getattr(expected, field)) < 1e-5
    assert (found.masks != expected.masks).mean() < 1e-3  # at the threshold


@on_one_backend
def test_an_exported_detector_answers_as_the_detector(exported):
    detector, path, photos = exported
    detect = ExportedDetector(path)
    fields = ("size", "threshold", "canvas", "names", "categories", "upright")
    assert all(getattr(detect, field) == getattr(detector, field) for field in fields)
    for found, expected in zip(detect.batch(photos), map(detector, photos), strict=True):
        assert len(expected)
        same(found, expected)
    fixed = {"canvas": "fixed", "batch_size": 2, "threshold": 0.05, "size": (32, 64)}
    other = dataclasses.replace(detector, **fixed)
    same(ExportedDetector(path, **fixed)(photos[1]), other(photos[1]))
    assert not ExportedDetector(path, upright=False)(photos[0]).upright
    labels = ["a", "b", "c"]
    assert set(ExportedDetector(path, labels=labels)(photos[0]).names) <= set(labels)
    for wrong, said in (
        ({"labels": ["a"]}, "names 1 classes, the model has 3"),
        ({"size": (20, 64)}, "`size`"),
        ({"threshold": 2}, "`threshold`"),
    ):
        with pytest.raises(ValueError, match=said):
            ExportedDetector(path, **wrong)


@on_one_backend
def test_without_normalisation_and_for_uint8(exported, tmp_path):
    detector, _, photos = exported
    for options in ({"preprocessing": False}, {"input_dtype": "uint8"}):
        export(detector, tmp_path / "m.onnx", **options)
        # what fills its canvas is not padded with the mean colour, which uint8 has to round
        photo = photos[0] if "preprocessing" in options else tiny_detector.photo(3, *SIZE)
        same(ExportedDetector(tmp_path / "m.onnx")(photo), detector(photo))


@on_one_backend
def test_openvino(exported, tmp_path):
    pytest.importorskip("openvino")
    detector, _, photos = exported
    made = export(detector, tmp_path / "m.xml")
    assert made.difference < 1e-5 and made.format == "OpenVINO"
    detect = ExportedDetector(tmp_path / "m.xml")
    for photo in photos:  # of two sizes, both padded
        same(detect(photo), detector(photo))


@on_one_backend
def test_the_command_answers_without_keras(exported, tmp_path):
    detector, path, photos = exported
    code = f"""
from keras_convnext.cli import main
arguments = [r"{path}", *{list(map(str, photos))}, "--output", r"{tmp_path}", "--threshold=0"]
assert main(["run", *arguments, "--json"]) == 0
assert "keras" not in sys.modules
"""
    done = python(code, missing=["keras", "torch", "jax", "tensorflow"])
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    detector = dataclasses.replace(detector, threshold=0)
    expected = [row for n, photo in enumerate(photos) for row in detector(photo).to_coco(n + 1)]
    assert [row["category_id"] for row in found] == [row["category_id"] for row in expected]
    for one, other in zip(found, expected, strict=True):
        assert one["image_id"] == other["image_id"]
        assert one["score"] == pytest.approx(other["score"], rel=1e-4)
        assert one["bbox"] == pytest.approx(other["bbox"], abs=1e-3)
        assert one["segmentation"]["size"] == other["segmentation"]["size"]
    assert {file.name for file in tmp_path.iterdir()} == {"1.detected.png", "2.detected.png"}


@on_one_backend
def test_the_commands(exported, tmp_path, capsys):
    detector, _, photos = exported
    saving.save_keras(detector.model, tmp_path / "best.keras")
    (tmp_path / "classes.json").write_text(json.dumps(["x", "y", "z"]))
    path = tmp_path / "d.onnx"
    assert cli.main(["export", str(tmp_path), "--to", str(path), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["task"] == "detection" and said["largest difference"] < 1e-5
    assert said["detector"]["size"] == [800, 1333] and said["classes"] == 3
    assert said["detector"]["threshold"] == 0.3  # as `detect` has it
    out = f"--output={tmp_path / 'seen'}"
    run = ["run", str(path), str(photos[0]), out]
    assert cli.main([*run, "--size=64,96", "--threshold=0", "--classes=y"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split("\t")[:2] == ["image", "name"]
    assert {line.split("\t")[1] for line in lines[1:]} <= {"y", "nothing"}
    for flags, message in (
        (["--window=64"], "--window is for segmentation, which"),
        (["--size=64"], "--size of a detector is a pair"),
        (["--classes=q"], "--classes q: is none of the model's 3 classes"),
    ):
        assert cli.main([*run, *flags]) == 2
        assert message in capsys.readouterr().err
    export_ = ["export", str(tmp_path), "--to", str(tmp_path / "e.onnx")]
    for flags, message in (
        (["--crop-pct=1"], "--crop-pct is for classifiers"),
        (["--size=64"], "is not one: give --size to `keras-convnext run`."),
        (["--no-softmax"], "which gives boxes with scores: omit `--no-softmax`"),
        (["--float16"], "is written in float32, as smaller numbers move its boxes: omit `--int8`"),
    ):
        assert cli.main([*export_, *flags]) != 0
        assert message in capsys.readouterr().err


@on_one_backend
def test_the_command_shows_what_the_files_threshold_says(tmp_path, capsys):
    Image.fromarray(tiny_detector.photo(0)).save(tmp_path / "p.png")
    run = ["run", str(tmp_path / "d.onnx"), str(tmp_path / "p.png"), f"--output={tmp_path}"]
    shown = {}
    detector = Detector(build(), size=SIZE)
    for threshold in (0, 1):
        export(dataclasses.replace(detector, threshold=threshold), run[1], check=False)
        for flags in ([], ["--threshold=0"]):
            assert cli.main([*run, *flags, "--json"]) == 0
            shown[threshold, len(flags)] = len(json.loads(capsys.readouterr().out))
    assert shown[1, 0] == 0 < shown[0, 0] == shown[0, 1] == shown[1, 1]


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("mask_rcnn_convnext_tiny", "--to d.tflite", "d.tflite: a detector is not written as"),
        ("mask_rcnn_convnext_tiny", "--to d.onnx --float16", "is written in float32"),
        ("mask_rcnn_convnext_tiny", "--to d.onnx --no-softmax", "omit `--no-softmax`"),
        ("mask_rcnn_convnext_tiny", "--to d.onnx --size 64", "give --size to `keras-convnext run`"),
        ("mask_rcnn_convnext_tiny", "--for web page", "--for web is for classifiers"),
        ("upernet_convnext_tiny", "--for web page", "--for web is for classifiers"),
        (
            "upernet_convnext_tiny",
            "--to u.onnx --upright",
            "give --upright to `keras-convnext run`",
        ),
        ("convnext_tiny", "--to c.pt2 --float16 --no-softmax", "omit `--no-softmax`, `--float16`"),
    ],
)
def test_what_is_not_written_is_refused_before_a_download(
    name, flags, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_CONVNEXT_OFFLINE", "1")
    monkeypatch.setenv("KERAS_CONVNEXT_HOME", str(tmp_path))
    assert cli.main(["export", name, *flags.split()]) in (1, 2)
    assert message in capsys.readouterr().err and not list(tmp_path.iterdir())


@on_one_backend
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("task", "segmentation", "is for segmentation, and no detector"),
        ("detector", '{"size": [64, 96]}', "'detector'"),
        ("detector", "{SIZE}", "'detector'"),
        ("names", '["a", 2, "b"]', "'names'"),
        ("categories", "[1, 1, 2]", "'categories'"),
        ("classes", "0", "'classes'"),
        ("input", '{"layout": "NCHW", "channels": 3, "range": [0, 255]}', "'input'"),
    ],
)
def test_damaged_descriptions_are_refused(key, value, said, exported, tmp_path):
    told = OnnxFile(exported[1]).texts["detector"]
    value = value.replace("{SIZE}", told.replace("[64", "[100000"))
    path = with_texts(exported[1], tmp_path / "m.onnx", **{key: value})
    with pytest.raises(DescriptionError, match=said):
        ExportedDetector(path)


@on_one_backend
def test_a_file_of_more_classes_than_it_says_is_refused(exported, tmp_path):
    texts = {"classes": "1", "names": '["a"]', "categories": "[1]"}
    path = with_texts(exported[1], tmp_path / "m.onnx", **texts)
    with pytest.raises(DescriptionError, match="'classes' of its description is damaged"):
        ExportedDetector(path, threshold=0).batch(exported[2])
