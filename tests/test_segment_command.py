"""`keras-convnext segment`, as its user types it."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

from keras_convnext import Variant, cli
from keras_convnext.pretrained import saving
from keras_convnext.segmentation import SCALES, Segmenter, UperNet, checkpoints, overlay
from keras_convnext.segmentation.masks import read_mask
from tests import tiny_streets
from tests.backends import on_one_backend, randomise
from tests.test_golden import CASES, GOLDEN
from tests.test_public import python

pytestmark = on_one_backend
SIDES = {"height": 48, "width": 64}
KINDS = ("labels", "legend", "overlay")


@pytest.fixture(scope="module")
def given(tmp_path_factory):
    """A folder with two photographs of one name, and `model.keras`."""
    folder = tmp_path_factory.mktemp("given")
    tiny_streets.write(folder / "photos", count=1, images="a", masks="a/masks", **SIDES)
    tiny_streets.write(folder / "photos", count=1, images="b", masks="a/masks", **SIDES)
    (folder / "photos" / "a" / "masks" / "deeper" / "0.png").unlink()
    variant = Variant("small", (1, 1, 1, 1), (8, 8, 8, 8))
    model = randomise(UperNet(variant, classes=3, channels=8, auxiliary_channels=8), scale=0.3)
    for weight in model.weights:  # a variance is positive
        if weight.path.endswith("moving_variance"):
            weight.assign(keras.ops.ones(weight.shape))
    saving.save_keras(model, folder / "model.keras")
    (folder / "names.txt").write_text("\n".join(tiny_streets.NAMES.split(",")))
    return folder


def run(*arguments):
    return cli.main(["segment", *map(str, arguments)])


def test_pictures_are_written(given, tmp_path, capsys):
    model = f"--model={given / 'model.keras'}"
    names = f"--labels={given / 'names.txt'}"
    code = run(given / "photos", model, names, f"--output={tmp_path / 'out'}", "--json")
    results = json.loads(capsys.readouterr().out)["results"]
    assert code == 0 and len(results) == 2
    written = sorted(path.name for path in (tmp_path / "out").iterdir())
    assert written == [f"{stem}.{kind}.png" for stem in ("0", "0~2") for kind in KINDS]
    labels = read_mask(tmp_path / "out" / "0.labels.png")
    assert labels.shape == (48, 64) and labels.max() < 3
    photo, _ = tiny_streets.draw(0)
    with Image.open(tmp_path / "out" / "0.overlay.png") as picture:
        np.testing.assert_array_equal(np.asarray(picture), overlay(photo, labels, 3))
    classes = results[0]["classes"]
    assert sum(row["share"] for row in classes) == pytest.approx(1)
    assert {row["name"] for row in classes} <= set(tiny_streets.NAMES.split(","))


ALL_SCALES = {"scales": SCALES, "flip": True}
CHOICES = {
    "--window=32": {"window": 32},
    "--window=32 --mode=whole": {"mode": "whole"},
    "--size=40": {"size": (160, 40)},
    "--multi-scale --window=40": {"mode": "whole", **ALL_SCALES},
    "--multi-scale --window=40 --mode=slide": {"window": 40, **ALL_SCALES},
}


@pytest.mark.parametrize("flags", CHOICES)
def test_windows_and_scales_can_be_chosen(flags, given, tmp_path, capsys):
    photo = given / "photos" / "a" / "deeper" / "0.png"
    model = given / "model.keras"
    assert run(photo, f"--model={model}", f"--output={tmp_path}", *flags.split()) == 0
    assert "class 0" in capsys.readouterr().out
    found = read_mask(tmp_path / "0.labels.png")
    model = keras.saving.load_model(model)
    np.testing.assert_array_equal(found, Segmenter(model, **CHOICES[flags])(photo))
    others = (options for options in CHOICES.values() if options != CHOICES[flags])
    assert all((found != Segmenter(model, **options)(photo)).any() for options in others)


def test_an_exported_file_segments_as_its_model_does(given, tmp_path, capsys):
    pytest.importorskip("onnxruntime")
    model, file, out = given / "model.keras", tmp_path / "m.onnx", tmp_path / "out"
    assert cli.main(["export", str(model), "--to", str(file), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["task"] == "segmentation" and said["classes"] == 3
    flags = ["--window=32", f"--output={out}", f"--labels={given / 'names.txt'}", "--json"]
    code = f"""
from keras_convnext.cli import main
assert main({["run", str(file), str(given / "photos" / "a"), *flags]}) == 0
assert "keras" not in sys.modules
"""
    done = python(code, missing=["keras", "torch", "jax", "tensorflow"])
    assert done.returncode == 0, done.stderr
    (result,) = json.loads(done.stdout)["results"]
    assert {row["name"] for row in result["classes"]} <= set(tiny_streets.NAMES.split(","))
    assert {path.name for path in out.iterdir()} == {f"0.{kind}.png" for kind in KINDS}
    photo = given / "photos" / "a" / "deeper" / "0.png"
    expected = Segmenter(keras.saving.load_model(model), window=32)(photo)
    assert np.mean(read_mask(out / "0.labels.png") != expected) < 1e-3  # where two classes tie


def test_an_exported_file_knows_the_classes_of_published_weights(tmp_path):
    pytest.importorskip("onnx")
    from keras_convnext.export.plan import plan_of

    row = checkpoints.find("upernet_convnext_base.fb_in22k_ft_ade20k_640")
    model = UperNet(Variant("s", (1,) * 4, (8,) * 4), channels=4, auxiliary_channels=4)
    assert "names" not in plan_of(model).metadata
    model.published = row.name
    said = plan_of(model).metadata
    assert json.loads(said["names"])[:2] == ["wall", "building"] and said["classes"] == "150"
    assert said["window"] == "640" and said["weights"] == row.name
    few = UperNet(Variant("s", (1,) * 4, (8,) * 4), classes=3, channels=4, auxiliary_channels=4)
    few.published = row.name  # with a classifier of its own
    said = plan_of(few).metadata
    assert "names" not in said and said["classes"] == "3"


@pytest.mark.skipif("transformers_upernet" not in CASES, reason=f"no golden UperNet at {GOLDEN}")
def test_a_file_of_weights_is_identified(monkeypatch, capsys):
    with pytest.raises(ValueError, match="its blocks are those of none of"):
        checkpoints.identify(GOLDEN / CASES["transformers_upernet"]["file"])
    row = Variant("golden", (1, 2, 3, 1), (16, 24, 32, 40))
    monkeypatch.setattr("keras_convnext.pretrained.checkpoint.VARIANTS", {"golden": row})
    assert checkpoints.identify(GOLDEN / CASES["transformers_upernet"]["file"]) == "golden"


@pytest.mark.parametrize(
    "arguments, code, message",
    [
        (["{given}/nowhere.jpg"], 1, "No such image or folder"),
        (["{given}/photos", "--model=upernet_convnext_mini"], 1, "Unknown UperNet weights"),
        (["{given}/photos", "--model={given}/names.txt"], 1, "no known kind of weights"),
        (
            ["{given}/photos", "--model={given}/model.keras", "--variant=convnext_tiny"],
            2,
            "omit `--variant`",
        ),
        (
            ["{given}/photos", "--model={given}/model.keras", "--labels=ade20k"],
            2,
            "has 150 names, the model 3 classes",
        ),
        (["{given}/names.txt", "--model={given}/model.keras"], 1, "1 of 1 images could not be"),
        (
            ["{given}/photos", "--model={given}/model.keras", "--window=16"],
            1,
            "`window` must be an integer >= 32, received 16",
        ),
    ],
)
def test_what_cannot_be_ends_in_one_sentence(arguments, code, message, given, tmp_path, capsys):
    filled = [argument.format(given=given) for argument in arguments]
    assert run(*filled, f"--output={tmp_path / 'out'}") == code
    assert message in capsys.readouterr().err


def test_classifiers_are_refused(tmp_path, given, capsys):
    from keras_convnext import ConvNeXt

    model = ConvNeXt(Variant("small", (1,), (8,)), classes=5, input_shape=(32, 32, 3))
    saving.save_keras(model, tmp_path / "c.keras")
    assert run(given / "photos", f"--model={tmp_path / 'c.keras'}") == 1
    assert "`keras-convnext predict` is for classifiers" in capsys.readouterr().err
