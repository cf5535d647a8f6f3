"""The trainer, as its user starts it."""

import csv
import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from training import config as configuration
from training import data, record, train
from training.configs import digits

ROOT = Path(__file__).parents[1]
SMOKE = ["--config=digits", "--epochs=1", "--warmup_epochs=0", "--batch_size=512"]


def run(*arguments):
    return subprocess.run(
        [sys.executable, "-m", "training.train", *arguments],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=300,
    )


def test_a_run_leaves_its_record(tmp_path):
    done = run(*SMOKE, f"--output={tmp_path}")
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.iterdir()
    assert sorted(file.name for file in folder.iterdir()) == [
        "config.json",
        "curves.png",
        "log.csv",
        "model.keras",
        "predictions.png",
        "result.json",
    ]
    result = json.loads((folder / "result.json").read_text())
    assert f"Test accuracy {result['test_accuracy']:.2%}" in done.stdout
    written = json.loads((folder / "config.json").read_text())
    assert written["config"]["batch_size"] == 512
    assert written["backend"] == keras.backend.backend()
    assert written["versions"]["keras"] == keras.__version__
    with open(folder / "log.csv") as log:
        assert len(list(csv.DictReader(log))) == 1
    for picture in ("curves.png", "predictions.png"):
        assert (folder / picture).read_bytes().startswith(b"\x89PNG")
    model = keras.saving.load_model(folder / "model.keras")
    images, labels = data.load("digits").test
    accuracy = (model.predict(images, verbose=0).argmax(-1) == labels).mean()
    assert accuracy == pytest.approx(result["test_accuracy"])


@pytest.mark.slow
def test_digits_are_learned(tmp_path):
    """What `make demo` promises, at the full length of the configuration."""
    _, accuracy = train.train(dataclasses.replace(digits.config(), output=str(tmp_path)))
    assert accuracy >= 0.97


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config"),
        (["--config=nothing"], "'digits'"),
        (["--config=digits", "--epoch=3"], "--epoch"),
        (["--config=digits", "--epochs=many"], "invalid int value: 'many'"),
        (["--config=digits", "--epochs=0"], "`epochs` must be at least 1, received 0"),
        (["--config=digits", "--warmup_epochs=99"], "between 0 and the 30 epochs"),
        (["--config=digits", "--variant=resnet50"], "convnext_tiny"),
    ],
)
def test_wrong_flags_say_what_is_allowed(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        configuration.from_command_line(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset=mnist"], "`dataset` must be one of ['digits'], received 'mnist'."),
        (["--variant=convnext_atto"], "at least 32 x 32 pixels, received height 8 and width 8"),
        (["--output=/proc/nowhere"], "/proc/nowhere"),
    ],
)
def test_what_cannot_run_ends_in_one_sentence(arguments, message):
    done = run(*SMOKE, *arguments)
    assert done.returncode == 1
    assert message in done.stderr and "Traceback" not in done.stderr


def test_flags_change_the_configuration():
    config = configuration.from_command_line(["--config=digits", "--epochs=5", "--seed=7"])
    assert (config.epochs, config.seed) == (5, 7)
    assert dataclasses.replace(config, epochs=30, seed=0) == digits.config()


def test_weight_decay_spares_tensors_of_rank_one():
    config = digits.config()
    model = train.build_model(config, data.load("digits"))
    optimizer = train.build_optimizer(config, model, steps_per_epoch=23)
    optimizer.build(model.trainable_variables)
    decayed = {v.path for v in model.trainable_variables if optimizer._use_weight_decay(v)}
    assert decayed == {v.path for v in model.trainable_variables if len(v.shape) > 1}


def test_the_schedule_warms_up_and_ends_at_zero():
    config = digits.config()
    model = train.build_model(config, data.load("digits"))
    schedule = train.build_optimizer(config, model, steps_per_epoch=10)._learning_rate
    rates = [float(schedule(step)) for step in (0, 15, 30, 300)]
    np.testing.assert_allclose(rates, [0, 2e-3, 4e-3, 0], atol=1e-8)


def test_the_digits_are_split_without_overlap():
    dataset = data.load("digits")
    (x, y), (x_test, y_test) = dataset.train, dataset.test
    assert x.shape == (1437, 8, 8, 1) and x_test.shape == (360, 8, 8, 1)
    assert x.min() == 0 and x.max() == 255
    assert set(y) == set(y_test) == set(range(10))
    mean, std = (x / 255).mean(), (x / 255).std()
    np.testing.assert_allclose((mean, std), (*digits.DIGITS.mean, *digits.DIGITS.std), atol=5e-4)


def test_two_records_of_one_day_have_two_folders(tmp_path):
    folders = [record.new_folder(tmp_path, "digits") for _ in range(3)]
    assert len(set(folders)) == 3 and all(folder.is_dir() for folder in folders)


def test_a_failed_write_leaves_the_old_file(tmp_path):
    path = tmp_path / "result.json"
    record.write_json(path, {"a": 1})
    with pytest.raises(TypeError):
        record.write_json(path, {("no", "key"): 1})
    assert json.loads(path.read_text()) == {"a": 1}
