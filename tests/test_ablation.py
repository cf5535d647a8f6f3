"""The roadmap's steps, trained with one budget each and compared."""

import csv
import dataclasses
import json

import pytest
from PIL import Image

from tests import cifar_set
from tests.backends import BACKEND
from training import ablation, command, train
from training.run import resuming
from training.tasks.classification import building

pytestmark = pytest.mark.skipif(BACKEND != "torch", reason="runs of training.train, tested there")


def test_steps_are_trained_and_compared(tmp_path, capfd):
    cifar_set.prepare_noise(tmp_path / "data", train=8, test=5)
    output = tmp_path / "records"
    steps = ("resnet", "separate_downsampling")
    places = f"--data_dir={tmp_path / 'data'}", f"--output={output}"
    flags = [*places, "--smoke", "--seeds", "3"]
    ablation.main([*flags, "--steps", steps[0]])  # in a process of its own; the other one here
    one = "--config=cifar10_roadmap", f"--step={steps[1]}", "--seed=3", "--tensorboard=false"
    assert train.main([*one, *places, "--smoke"]) == 0
    ablation.main([*flags, "--steps", *steps])  # both are there: neither is trained again
    rows = list(csv.DictReader((output / "roadmap.csv").open()))
    assert [row["step"] for row in rows] == list(steps)
    assert all(0 <= float(row["accuracy"]) <= 1 and row["seeds"] == "1" for row in rows)
    assert Image.open(output / "roadmap.png").size[0] > 500
    runs = sorted(output.glob("*/result.json"))
    assert len(runs) == 2
    said = capfd.readouterr().out
    assert all(f"{step}, seed 3: taken from {output}" in said for step in steps)
    last = [json.loads(run.read_text())["last_accuracy"] for run in runs]
    assert [float(row["accuracy"]) for row in rows] == last
    single = list(csv.DictReader((output / "runs.csv").open()))
    assert [(row["step"], row["seed"]) for row in single] == [(step, "3") for step in steps]
    assert [float(row["accuracy"]) for row in single] == last
    assert [row["record"] for row in single] == [run.parent.name for run in runs]
    same = command.load("cifar10_roadmap", smoke=True, step=steps[0], seed=3, output=str(output))
    same = dataclasses.replace(same, tensorboard=False)
    assert resuming.newest(same, finished=True) is not None
    assert resuming.newest(same, finished=True, here=True) is None  # these were other data
    real = command.load("cifar10_roadmap", step=steps[0], seed=3, output=str(output))
    assert resuming.newest(real, finished=True) is None  # what was tried out is no result of it


def test_each_step_is_a_network_of_the_road():
    first, last = (
        building.network(command.load("cifar10_roadmap", step=step), 10)
        for step in ("resnet", "separate_downsampling")
    )
    assert first.name == "cifar_resnet" and last.name == "convnext_cifar_road"
    assert first.output_shape == last.output_shape == (None, 10)


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"step": "swin"}, "`step` must be one of"),
        (
            {"step": "gelu", "weights": "imagenet", "kernel_gain": None},
            "is trained from scratch, received `weights`",
        ),
        ({"weights": "imagenet"}, "`kernel_gain` 0.7 is for new kernels, received `weights`"),
        ({"step": "gelu", "head_init_scale": 0.1}, "received `head_init_scale` 0.1: leave it at 1"),
    ],
)
def test_a_step_that_cannot_be(fields, message):
    with pytest.raises(ValueError, match=message):
        command.load("cifar10_roadmap", **fields)
