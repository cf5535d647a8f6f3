"""`python -m training.evaluate`: known answers on a few coloured images."""

import dataclasses
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from keras_convnext import ConvNeXt
from keras_convnext.pretrained.saving import save_keras, save_weights
from tests import cifar_set
from tests.backends import BACKEND, compiles_long, on_one_backend, randomise
from training import data
from training.evaluate import command as evaluate
from training.evaluate import subject
from training.experiments.classification import cifar10, digits
from training.run import record

SIZE = 32
COLOURS = {"blue": (20, 20, 230), "green": (20, 230, 20), "red": (230, 20, 20)}


def colour_model(names=tuple(COLOURS), activation="softmax"):
    """Returns a model that finds the class whose colour is nearest to an image's mean colour."""
    colours = np.array([COLOURS[name] for name in names], "float32")
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    model = keras.Model(inputs, keras.layers.Dense(len(names), activation=activation)(x))
    model.layers[-1].set_weights([colours.T / 5000, -np.square(colours).sum(1) / 10000])
    return model


def photos(
    folder, shown=("blue", "green", "red", "red"), classes=("blue", "green", "red", "green")
):
    """A folder with `shown[i]` in the class `classes[i]`, in train/ and in val/."""
    for place, (colour, name) in enumerate(zip(shown, classes, strict=True)):
        for part in ("train", "val"):
            path = Path(folder) / part / name / f"{place}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            width = 50 + (part == "val")  # one image in both would be warned of
            Image.new("RGB", (width, 40), COLOURS[colour]).save(path)
    return folder


def saved(folder, names=tuple(COLOURS), model=None):
    """The record of a run: its model and the names of its classes."""
    folder.mkdir(exist_ok=True)
    save_keras(model or colour_model(names), folder / "best.keras")
    record.write_json(folder / record.CLASSES, list(names))
    return folder


def result(folder):
    return json.loads((folder / "result.json").read_text())


def test_a_run_is_measured_on_a_folder(tmp_path, capsys):
    run, folder = saved(tmp_path / "run"), photos(tmp_path / "my photos")
    assert evaluate.main([str(run), f"--data={folder}", "--batch_size=3"]) == 0
    report = run / "evaluation_my_photos_validation"
    found = result(report)
    assert (found["images"], found["top1"], found["top5"]) == (4, 0.75, None)
    assert found["images_per_second"] > 0 and found["backend"] == BACKEND
    assert found["classes"] == [
        {"class": "blue", "images": 1, "recall": 1.0, "precision": 1.0},
        {"class": "green", "images": 2, "recall": 0.5, "precision": 1.0},
        {"class": "red", "images": 1, "recall": 1.0, "precision": 0.5},
    ]
    (mistake,) = found["mistakes"]
    assert mistake["image"] == str(folder / "val/green/3.png")
    assert (mistake["is"], mistake["predicted"]) == ("green", "red")
    for picture in ("confusion.png", "mistakes.png"):
        assert (report / picture).read_bytes().startswith(b"\x89PNG")
    assert "top-1 75.00 %, loss" in capsys.readouterr().out


@compiles_long
def test_a_run_is_measured_on_its_own_validation_images(tmp_path):
    """On grey images that have the model's size, and so are not resized."""
    model = randomise(ConvNeXt(digits.DIGITS, input_shape=(8, 8, 1), classes=10))
    run = saved(tmp_path / "run", [str(digit) for digit in range(10)], model)
    record.write_json(run / record.CONFIG, record.circumstances(digits.config()))
    assert evaluate.main([str(run)]) == 0
    split = data.load("digits").validation
    probabilities = model.predict(split.images, verbose=0)
    found = result(run / "evaluation_digits_validation")
    assert (found["images"], found["transform"]) == (360, None)
    # the last place of a logit may differ with the size of a batch
    assert found["top1"] == pytest.approx(
        (probabilities.argmax(-1) == split.labels).mean(), abs=3e-3
    )
    own = probabilities[np.arange(360), split.labels]
    assert found["loss"] == pytest.approx(-np.log(own).mean(), rel=1e-4)


@on_one_backend
def test_classes_in_another_order_are_matched_by_name(tmp_path):
    run, folder = saved(tmp_path / "run", ("red", "blue", "green")), photos(tmp_path / "p")
    assert evaluate.main([str(run), f"--data={folder}"]) == 0
    found = result(run / "evaluation_p_validation")
    assert found["top1"] == 0.75
    assert [row["class"] for row in found["classes"]] == ["red", "blue", "green"]
    assert [row["images"] for row in found["classes"]] == [1, 1, 2]


@on_one_backend
def test_splits_of_a_folder(tmp_path, capsys):
    run, folder = saved(tmp_path / "run"), photos(tmp_path / "p")
    (folder / "val/green/3.png").unlink()
    for split, images, top1 in (("train", 4, 0.75), ("validation", 3, 1.0), ("all", 7, 6 / 7)):
        assert evaluate.main([str(run), f"--data={folder}", f"--split={split}"]) == 0
        found = result(run / f"evaluation_p_{split}")
        assert (found["images"], found["top1"]) == (images, top1)
    guess = "has no folder for validation: a fifth of each class is taken for it"
    assert guess not in capsys.readouterr().err
    for name, colour in COLOURS.items():
        (tmp_path / "flat" / name).mkdir(parents=True)
        for width in (50, 51):
            Image.new("RGB", (width, 40), colour).save(tmp_path / "flat" / name / f"{width}.png")
    for flags, said in ([], True), (["--split=all"], False):
        assert evaluate.main([str(run), f"--data={tmp_path / 'flat'}", *flags]) == 0
        assert (guess in capsys.readouterr().err) is said


@on_one_backend
def test_no_two_splits_have_one_report(tmp_path):
    splits = "train", "validation", "train[:10%]", "train[10%:]", "train[:2]+test", "train[2:]+test"
    for model in (str(tmp_path), "mine.keras", "convnext_tiny.fb_in1k"):
        folders = {subject.source_of(model, "sets/cifar10", split)[1] for split in splits}
        assert len(folders) == len(splits)
        assert all(re.fullmatch(r"evaluation_[\w.=-]+", folder.name) for folder in folders)
        assert all("cifar10_" in folder.name for folder in folders)


@on_one_backend
def test_splits_of_a_prepared_set(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    cifar_set.prepare_noise("sets", train=8, test=5)
    run = saved(Path("run"), cifar_set.NAMES, _ten_classes())

    def images(split, *of):
        assert evaluate.main(["run", f"--split={split}", "--output=out", *of]) == 0
        return result(Path("out"))["images"]

    named = ("--data=cifar10", "--data_dir=sets")
    sizes = {"train": 8, "validation": 5, "test": 5, "train[2:5]": 3, "train[:2]+test": 7}
    assert {split: images(split, *named) for split in sizes} == sizes
    # a run that kept a part of the images for training to validate on
    parts = {"train_split": "train[:6]", "validation_split": "train[6:]", "data_dir": "sets"}
    config = dataclasses.replace(cifar10.config(), **parts)
    record.write_json(run / record.CONFIG, record.circumstances(config))
    sizes = {"train": 6, "validation": 2, "test": 5, "train[2:5]": 3}
    assert {split: images(split) for split in sizes} == sizes
    capsys.readouterr()
    assert evaluate.main(["run", *named, "--split=tset"]) == 1
    assert "has no split 'tset'. Its splits are train, test, or parts" in capsys.readouterr().err


@on_one_backend
def test_a_model_that_gives_logits_is_measured_by_its_probabilities(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_keras(colour_model(), tmp_path / "one.keras")
    save_keras(colour_model(activation=None), tmp_path / "other.keras")
    photos(tmp_path / "p")
    for name in ("one", "other"):
        assert evaluate.main([f"{name}.keras", "--data=p"]) == 0
    one, other = (result(Path(f"evaluation_{name}_p_validation")) for name in ("one", "other"))
    assert one["loss"] == pytest.approx(other["loss"], rel=1e-5) and one["top1"] == other["top1"]


@on_one_backend
def test_a_file_of_weights_is_measured(tmp_path):
    shape = (SIZE, SIZE, 3)
    model = randomise(ConvNeXt("test_convnext2", input_shape=shape, classes=3))
    save_weights(model, "test_convnext2", tmp_path / "mine.safetensors")
    photos(tmp_path / "p")
    arguments = [str(tmp_path / "mine.safetensors"), "--variant=test_convnext2", f"--size={SIZE}"]
    assert evaluate.main([*arguments, f"--data={tmp_path / 'p'}", f"--output={tmp_path}"]) == 0
    pixels = [np.full((1, *shape), COLOURS[c], "uint8") for c in ("blue", "green", "red", "red")]
    own = [
        model.predict(image, verbose=0)[0, label]
        for image, label in zip(pixels, (0, 1, 2, 1), strict=True)
    ]
    assert result(tmp_path)["loss"] == pytest.approx(-np.log(own).mean(), rel=1e-4)


@on_one_backend
def test_a_damaged_image_is_named(tmp_path, capsys):
    run, folder = saved(tmp_path / "run"), photos(tmp_path / "p")
    (folder / "val/red/2.png").write_bytes(b"no image")
    assert evaluate.main([str(run), f"--data={folder}"]) == 1
    assert str(folder / "val/red/2.png") in capsys.readouterr().err
    assert not [*run.glob("evaluation_*")]


@on_one_backend
@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (
            ["run"],
            1,
            "run has no config.json, which says what a run was trained on",
        ),
        (["older"], 1, "config.json does not say what the run was trained on: name the images"),
        (["nothing"], 1, "No file or folder 'nothing', and no weights of that name."),
        (["broken.keras"], 2, "give --data"),
        (["convnext_tiny.fb_in1k"], 2, "give --data"),
        (["nothing", "--data=p"], 1, "nothing"),
        (["empty", "--data=p"], 1, "empty has no best.keras"),
        (["broken.keras", "--data=p"], 1, "Keras cannot load this model"),
        (["run", "--data=no_such_set", "--data_dir=."], 1, "There is no 'no_such_set' under"),
        (["run", "--data=missing"], 1, "There is no directory 'missing', and no prepared set of"),
        (["run", "--data=p", "--data_dir=p"], 2, "omit --data_dir"),
        (["run", "--data=p", "--split=test"], 1, "no such split, but train, validation, all."),
        (["run", "--data=p", "--size=64"], 2, "the transform gives 64"),
        (["run", "--data=p", "--variant=convnext_tiny"], 2, "omit `--variant`"),
        (["two", "--data=p"], 1, "two/best.keras has 2 classes, the data has 3 (blue, green, red"),
        (["other", "--data=p"], 1, "does not know 'green'"),
        (["run", "--data=digits"], 1, "have 1 channel, run/best.keras takes 3"),
    ],
)
def test_what_does_not_fit_is_one_sentence(
    arguments, status, message, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    photos(Path("p"))
    saved(Path("run"))
    Path("empty").mkdir()
    Path("broken.keras").write_bytes(b"PK\x03\x04")
    saved(Path("two"), ("blue", "red"))
    saved(Path("other"))
    record.write_json(saved(Path("older")) / record.CONFIG, {})
    record.write_json(Path("other") / record.CLASSES, ["blue", "lime", "red"])
    if arguments[-1] == "--data=digits":
        save_keras(_ten_classes(), "run/best.keras")
        record.write_json("run/classes.json", [str(digit) for digit in range(10)])
    assert evaluate.main(arguments) == status
    error = capsys.readouterr().err
    assert message in error and "Traceback" not in error


def _ten_classes():
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.GlobalAveragePooling2D()(inputs)
    return keras.Model(inputs, keras.layers.Dense(10, activation="softmax")(x))


@on_one_backend
def test_code_in_a_model_is_not_run(tmp_path, capsys):
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Lambda(lambda image: image / 255)(inputs)
    x = keras.layers.GlobalAveragePooling2D()(x)
    model = keras.Model(inputs, keras.layers.Dense(3, activation="softmax")(x))
    run = saved(tmp_path / "run", model=model)
    assert evaluate.main([str(run), f"--data={photos(tmp_path / 'p')}"]) == 1
    assert "none that hold code" in capsys.readouterr().err


@on_one_backend
def test_it_runs_as_a_command(tmp_path):
    run, folder = saved(tmp_path / "run"), photos(tmp_path / "p")
    done = subprocess.run(
        [sys.executable, "-m", "training.evaluate", str(run), "--data", str(folder)],
        cwd=Path(__file__).parents[1],
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[0].split("\t") == ["class", "images", "recall", "precision"]
    assert f"{run}/evaluation_p_validation/confusion.png" in done.stdout
