"""The training of detectors, as its user starts it."""

import csv
import importlib.util
import itertools
import json
import shlex
import shutil
import sys
import types

import numpy as np
import pytest
from huggingface_hub import ModelCard
from safetensors.numpy import load_file

from keras_convnext.detection import Detector
from keras_convnext.detection.rcnn import DetectionModel
from tests import tiny_objects
from tests.backends import BACKEND, on_one_backend, proven_on_one
from training import command, train
from training.evaluate import command as evaluate
from training.run import checkpoint, course
from training.tasks.detection import building
from training.tasks.table import TASKS

pytestmark = pytest.mark.skipif(
    not any(map(importlib.util.find_spec, ("pycocotools", "faster_coco_eval"))),
    reason="nothing measures average precision here",
)
# Where each shape of a canvas is compiled, for longer than it is trained, there is one.
LIGHTER = {} if BACKEND == "torch" else {"canvas": (96, 96), "masks": False}
DATA = {"coco": "coco", "folder": "roboflow", "pennfudan": "flat"}


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """The data of every experiment."""
    root = tmp_path_factory.mktemp("shapes")
    tiny_objects.write_coco(root / "coco", train=6, validation=3, portraits=True)
    for name, first in (("train", 0), ("valid", 100)):
        folder = root / "roboflow" / name
        tiny_objects.write(folder / "_annotations.coco.json", folder, 4, first)
        file = root / "flat" / f"instances_{name.removesuffix('id')}.json"
        tiny_objects.write(file, root / "flat" / "images", 4, first)
    return root


def load(name, shapes, tmp_path, **fields):
    places = {"data_dir": str(shapes / DATA[name]), "output": str(tmp_path / "records")}
    return command.load(name, True, "detection", tensorboard=False, **places, **fields)


@proven_on_one
def test_a_run_leaves_its_record_and_resumes_to_the_bit(shapes, tmp_path, monkeypatch):
    """Two epochs; then the same without the end of the second one, resumed in its middle."""
    fields = {"epochs": 2, "checkpoint_steps": 2, "drop_path_rate": 0.2}
    config = load("coco", shapes, tmp_path, **fields, **LIGHTER)
    folder, result = train.train(command.Request(config))
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.keras",
        "checkpoints",
        "classes.json",
        "config.json",
        "curves.png",
        "detections.json",
        "last.keras",
        "log.csv",
        "log.jsonl",
        "model_card.md",
        "result.json",
        "validation_classes.csv",
        "validation_mistakes.png",
    ]
    scores = ModelCard.load(folder / "model_card.md").data.eval_results
    assert scores[0].metric_value == result["validation"]["box"]["ap"]
    assert json.loads((folder / "result.json").read_text()) == result
    assert result["validation"]["images"] == 3 and 0 <= result["validation"]["box"]["ap"] <= 1
    assert json.loads((folder / "classes.json").read_text()) == [
        ["3", "rectangle"],
        ["7", "ellipse"],
    ]
    with open(folder / "log.csv") as file:
        rows = list(csv.DictReader(file))
    assert {"loss", "box_loss", "val_loss", "val_box_ap"} <= set(rows[0])
    assert ("mask_loss" in rows[0]) == ("val_mask_ap" in rows[0]) == config.masks
    terms = ["rpn_class_loss", "rpn_box_loss", "class_loss", "box_loss"]
    terms += ["mask_loss"] * config.masks
    for row, prefix in itertools.product(rows, ("", "val_")):
        found = [float(row[prefix + name]) for name in terms]
        assert np.isfinite(found).all()
        assert sum(found) == pytest.approx(float(row[prefix + "loss"]), rel=1e-4)
    with open(folder / "validation_classes.csv") as file:
        names = [row["name"] for row in csv.DictReader(file) if row["kind"] == "box"]
    assert names == ["rectangle", "ellipse"]
    detections = Detector(folder, size=(64, 96))(tiny_objects.draw(0)[0])
    assert set(detections.names) <= {"rectangle", "ellipse"}
    if BACKEND == "tensorflow":  # it traces for ten times as long as it computes here
        eagerly = property(lambda model: True, lambda model, value: None)
        monkeypatch.setattr(DetectionModel, "run_eagerly", eagerly)
        _, result = resumed_after(3, config, folder)
    expected = load_file(folder / "checkpoints" / "step-00000006" / checkpoint.STATE)
    _, again = resumed_after(5, config, folder)
    found = load_file(folder / "checkpoints" / "step-00000006" / checkpoint.STATE)
    assert found.keys() == expected.keys()
    odd = [name for name in expected if found[name].tobytes() != expected[name].tobytes()]
    assert odd == []
    assert again["validation"] == result["validation"]


def resumed_after(step, config, folder):
    """Goes on with a finished run as if it had been killed after its checkpoint of `step`."""
    (folder / "result.json").unlink()
    for path in (folder / "checkpoints").glob("step-*"):
        if int(path.name.removeprefix("step-")) > step:
            shutil.rmtree(path)
    return train.train(command.Request(config, resume=str(folder)))


@on_one_backend
@pytest.mark.parametrize("name", ["folder", pytest.param("pennfudan", marks=pytest.mark.slow)])
def test_every_experiment_trains(name, shapes, tmp_path):
    """COCO's run is the one above."""
    fields = {"masks": False, "gradient_accumulation": 2} if name == "folder" else {}
    config = load(name, shapes, tmp_path, **fields)
    folder, result = train.train(command.Request(config))
    assert json.loads((folder / "result.json").read_text()) == result
    assert ("mask" in result["validation"]) == (name == "pennfudan")
    assert (folder / "validation_mistakes.png").read_bytes().startswith(b"\x89PNG")
    if name == "pennfudan":
        flags = ["--canvas=fixed", f"--batch_size={config.micro_batch}"]
        assert evaluate.main([str(folder), *flags]) == 0
        (file,) = folder.glob("evaluation_*/result.json")
        measured, known = json.loads(file.read_text()), result["validation"]
        for kind in ("box", "mask"):
            assert measured[kind]["ap"] == pytest.approx(known[kind]["ap"], abs=1e-6)


@on_one_backend
def test_the_pipeline_has_what_the_model_is_trained_on(shapes, tmp_path):
    config = load("coco", shapes, tmp_path)
    dataset = building.load(config)
    pipeline = building.Pipeline(config, dataset, _Alone(), 3)
    batches = list(pipeline.training(0).as_numpy_iterator())
    assert len(batches) == 3
    assert set(batches[0]) == {"images", "image_shape", "boxes", "labels", "mask_crops"}
    validation = list(pipeline.validation().as_numpy_iterator())
    assert [batch["images"].shape for batch in validation] == [(2, 64, 96, 3), (2, 96, 64, 3)]
    entries, pictures = tiny_objects.content(3, 100, portraits=True)
    np.testing.assert_array_equal(validation[0]["images"][0], pictures["100.png"])
    np.testing.assert_array_equal(validation[0]["images"][1], pictures["102.png"])
    for row in range(2):  # one portrait, repeated
        np.testing.assert_array_equal(validation[1]["images"][row], pictures["101.png"])
    assert [batch["weights"].tolist() for batch in validation] == [[1, 1], [1, 0]]
    boxes = [a["bbox"] for a in entries["annotations"] if a["image_id"] == 110]
    expected = [[x, y, x + w, y + h] for x, y, w, h in boxes]
    np.testing.assert_array_equal(validation[0]["boxes"][0, :2], expected)


class _Alone:
    part = None

    @staticmethod
    def dataset(batches):
        return batches


@on_one_backend
def test_more_objects_than_the_limit_are_said(shapes, tmp_path):
    config = load("coco", shapes, tmp_path, objects=1)
    with pytest.warns(UserWarning, match="More than 1 objects: 6 images, of which the largest"):
        building.load(config)


@on_one_backend
def test_the_plan_is_that_of_the_paper(capsys):
    flags = ["--config=coco", "--data_dir=/nowhere", "--dry-run"]
    assert train.train(command.from_command_line(flags, "detection")) == (None, None)
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "mask_rcnn with convnext_tiny on coco",
        "36 epochs x 7,329 = 263,844 updates",
        "0.0001 after 500 updates from 0.001 of it, x 0.1 at update 197,883 and 241,857, x 0.95",
        "canvas of 1344 x 832 pixels, turned for portraits",
        "short side 480 to 800, long side to 1333, crops of 384 to 600 before in 50%, flip 0.5",
        "parameters 48,095,376",
    ):
        assert part in text, text


@on_one_backend
def test_flags_change_fields():
    flags = ["--config=coco", "--variant=convnext_base", "--weights=fb_in22k"]
    config = command.from_command_line([*flags, "--detector=cascade_mask_rcnn"], "detection").config
    assert (config.learning_rate, config.layer_decay, config.drop_path_rate) == (1e-4, 0.8, 0.6)
    flags = ["--task=detection", "--config=folder", "--epochs=12", "--augmentation=jitter"]
    config = command.from_command_line([*flags, "--canvas=1024,1024", "--size=1024,1024"]).config
    assert config.boundaries(100) == (900, 1100)
    assert type(config) is TASKS["detection"].config


@on_one_backend
@pytest.mark.parametrize(
    "flags, message",
    [
        (["--canvas=810,1344"], "`canvas` must be (height, width) in multiples of 32"),
        (["--canvas=1344,832"], "the width not below the height"),
        (["--size=80,16"], "`size` must be two whole numbers of pixels >= 32"),
        (["--size=2000,800"], "`size` must be at most (long, short) = 1344, 832"),
        (["--long_side=1400"], "`long_side` must be at most"),
        (["--short_side=800,480"], "`short_side` must be (least, most)"),
        (["--crop_sides=0.5,3"], "`crop_sides` must be two whole numbers of pixels"),
        (["--augmentation=jitter"], "a square, such as (1024, 1024)"),
        (["--decay_epochs=30,40"], "`decay_epochs` must be below the 36 `epochs`"),
        (["--decay_epochs=30,20"], "two numbers of epochs in rising order"),
        (["--detector=yolo"], "`detector` must be one of"),
        (["--crop=512"], "unrecognized arguments"),
    ],
)
def test_wrong_flags_end_in_one_sentence(flags, message, capsys):
    with pytest.raises(SystemExit):
        command.from_command_line(["--config=coco", *flags], "detection")
    assert message in capsys.readouterr().err


@on_one_backend
def test_the_command_that_uses_the_best_model_is_one(shapes, tmp_path):
    config = load("pennfudan", shapes, tmp_path)
    lines = TASKS["detection"].usage(tmp_path / "a run", config, None).splitlines()
    (line,) = (line for line in lines if " detect --model" in line)
    parser = importlib.import_module("keras_convnext.cli.main")._parser()
    arguments = parser.parse_args(shlex.split(line)[1:])
    assert (arguments.model, arguments.images) == (str(tmp_path / "a run"), ["photo.jpg"])
    assert arguments.size == tuple(sorted(map(int, config.size)))


@on_one_backend
def test_the_command_that_resumes_is_that_of_the_task(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["detect", "--config=coco"])
    for module in ("training.detect", "training.pretrain", "training.segment", "training.train"):
        spec = types.SimpleNamespace(name=module)
        monkeypatch.setitem(sys.modules, "__main__", types.SimpleNamespace(__spec__=spec))
        course.say_how_to_resume("Stopped.", sys.argv[1:])
        assert f"-m {module} --config=coco --resume=auto\n" in capsys.readouterr().err
