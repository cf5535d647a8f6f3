"""`keras-convnext detect`, as its user types it."""

import json

import numpy as np
import pytest
from PIL import Image

from keras_convnext import ConvNeXt, cli
from keras_convnext.cli.detect import ids_of
from keras_convnext.detection import Detector
from keras_convnext.pretrained import saving
from keras_convnext.segmentation import UperNet
from tests import tiny_detector
from tests.backends import on_one_backend

pytestmark = on_one_backend
NAMES = ["ant", "bee", "cat"]
SIZE = ("--size=64,96", "--threshold=0")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with two photos, which are named as COCO's are, and the folder of a training."""
    folder = tmp_path_factory.mktemp("given")
    (folder / "photos").mkdir()
    for number, name in enumerate(("000000000139", "000000000285")):
        photo = Image.fromarray(tiny_detector.photo(number))
        photo.save(folder / "photos" / f"{name}.png")
    (folder / "run").mkdir()
    saving.save_keras(tiny_detector.build(), folder / "run" / "best.keras")
    (folder / "run" / "classes.json").write_text(json.dumps(NAMES))
    return folder


@pytest.fixture(scope="module")
def detect(given):
    return Detector(given / "run", size=(64, 96), threshold=0)


def run(*arguments):
    return cli.main(["detect", *map(str, arguments)])


def test_pictures_and_results_are_written(given, detect, tmp_path, capsys):
    places = (f"--output={tmp_path / 'out'}", "--json", tmp_path / "results.json")
    assert run(given / "photos", f"--model={given / 'run'}", *SIZE, *places) == 0
    paths = sorted((given / "photos").iterdir())
    found = [detect(path) for path in paths]
    written = json.loads((tmp_path / "results.json").read_text())
    assert written == found[0].to_coco(139) + found[1].to_coco(285) and len(written) > 2
    for one, path in zip(found, paths, strict=True):
        with Image.open(tmp_path / "out" / f"{path.stem}.detected.png") as picture:
            np.testing.assert_array_equal(np.asarray(picture), one.draw(path, threshold=0))
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 1 + len(written) and lines[0].split("\t")[:3] == ["image", "name", "score"]
    assert lines[1].split("\t")[1:3] == [found[0].names[0], f"{found[0].scores[0]:.2f}"]
    assert not any(path.name.startswith(".") for path in (tmp_path / "out").iterdir())


def test_json_for_programs_and_chosen_classes(given, detect, tmp_path, capsys):
    photo = given / "photos" / "000000000139.png"
    found = detect(photo)
    kind = found.names[0]
    flags = ("--weights", given / "run", *SIZE, f"--classes={kind}", f"--output={tmp_path}")
    assert run(photo, *flags, "--json") == 0
    printed = json.loads(capsys.readouterr().out)
    expected = found[[name == kind for name in found.names]].to_coco(139)
    assert printed == expected and 0 < len(printed) < len(found)


def test_a_photo_with_nothing_is_said(given, tmp_path, capsys):
    photo = given / "photos" / "000000000139.png"
    flags = (f"--model={given / 'run'}", "--size=64,96", "--threshold=1", f"--output={tmp_path}")
    assert run(photo, *flags) == 0
    assert "\tnothing\t" in capsys.readouterr().out
    assert (tmp_path / "000000000139.detected.png").is_file()


def test_ids_of_images():
    assert ids_of(["a/000000000139.jpg", "a/7.jpg"]) == [139, 7]
    for names in (["a/7.jpg", "b/07.jpg"], ["a/7.jpg", "street.jpg"], ["-"]):
        assert ids_of(names) == names


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["{given}/nowhere.jpg"], 1, "No such image or folder"),
        (["clip.MP4"], 2, "clip.MP4 is a video, and only images are read here. Extract its frames"),
        (["{photos}", "--model={model}", "--json={photos}/a.jpg"], 2, "must end in .json"),
        (["{photos}", "--model={model}", "--json={given}/no/a.json"], 1, "does not exist: make it"),
        (["{photos}", "--model={model}", "--output={model}/best.keras"], 2, "is a file, needed is"),
        (
            ["{photos}", "--model={model}", "--classes=ant,bees"],
            2,
            "none of the model's 3 classes, ",
        ),
        (["{photos}", "--model={model}", "--labels=coco"], 1, "coco names 80 classes, the model"),
        (["{photos}", "--model={model}", "--variant=convnext_tiny"], 2, "omit `--variant`"),
        (
            ["{photos}", "--model={model}", "--size=16,96"],
            1,
            "`size` must be a tuple of 2 integers",
        ),
        (["{photos}", "--model=mask_rcnn_convnext_tini"], 1, "Unknown detector weights"),
        (["{photos}", "--model={model}/classes.json"], 1, "no known kind of weights"),
        (["{model}/classes.json", "--model={model}"], 1, "1 of 1 images"),
    ],
)
def test_what_cannot_be_ends_in_one_sentence(arguments, code, message, given, tmp_path, capsys):
    places = {"given": given, "photos": given / "photos", "model": given / "run"}
    filled = [argument.format(**places) for argument in arguments]
    output = [] if any("--output" in argument for argument in filled) else [f"--output={tmp_path}"]
    assert run(*filled, *output) == code
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("flag", ["--threshold=2", "--threshold=x", "--classes=a,,b", "--size=800"])
def test_wrong_flags_are_wrong_usage(flag, given, capsys):
    with pytest.raises(SystemExit) as stop:
        run(given / "photos", flag)
    assert stop.value.code == 2 and flag.split("=")[0] in capsys.readouterr().err


def test_models_of_other_tasks_are_sent_to_their_commands(given, tmp_path, capsys):
    variant, output = tiny_detector.VARIANT, f"--output={tmp_path / 'out'}"
    classifier = ConvNeXt(variant, classes=5, input_shape=(32, 32, 3))
    segmenter = UperNet(variant, classes=5, channels=8, auxiliary_channels=8)
    saving.save_keras(classifier, tmp_path / "classifier.keras")
    saving.save_keras(segmenter, tmp_path / "segmenter.keras")
    for command, model, right in (
        ("detect", tmp_path / "classifier.keras", "predict"),
        ("detect", tmp_path / "segmenter.keras", "segment"),
        ("predict", given / "run", "detect"),
        ("segment", given / "run", "detect"),
        ("predict", tmp_path / "segmenter.keras", "segment"),
        ("segment", tmp_path / "classifier.keras", "predict"),
    ):
        arguments = [command, str(given / "photos"), f"--model={model}"]
        assert cli.main(arguments + ([] if command == "predict" else [output])) == 1
        assert f"`keras-convnext {right}`" in capsys.readouterr().err


@pytest.mark.parametrize(
    "command, name, right",
    [
        ("detect", "convnext_tiny.fb_in1k", "predict"),
        ("detect", "upernet_convnext_tiny", "segment"),
        ("predict", "upernet_convnext_tiny", "segment"),
        ("predict", "mask_rcnn_convnext_tiny", "detect"),
        ("segment", "cascade_mask_rcnn_convnext_tiny", "detect"),
    ],
)
def test_names_of_other_tasks_are_sent_to_their_commands(command, name, right, given, capsys):
    assert cli.main([command, str(given / "photos"), f"--model={name}"]) == 1
    assert f"`keras-convnext {right}`" in capsys.readouterr().err
