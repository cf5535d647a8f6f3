"""`keras-convnext train`, `evaluate` and `check`: the trainer without a clone, for photos alone."""

import dataclasses
import json
import re
import shlex
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from keras_convnext import VARIANTS, cli
from keras_convnext.cli import trainer
from keras_convnext.pretrained import find, registry, resolve
from tests import tiny_objects
from tests.backends import on_one_backend
from tests.test_resolve import tensors_of
from training import choice, command
from training.run import course, distribution, shell
from training.tasks.table import TASKS

pytestmark = on_one_backend


@pytest.fixture(autouse=True)
def offline(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_CONVNEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("KERAS_CONVNEXT_OFFLINE", "1")


@pytest.fixture
def photos(tmp_path):
    """Eight dark and eight bright photos."""
    draw = np.random.default_rng(0)
    for name, level in (("day", 128), ("night", 0)):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(8):
            pixels = draw.integers(level, level + 128, (40, 48, 3), dtype="uint8")
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number}.png")
    return "photos"


def flags_of(text):
    """Returns the command line that a training says it stands for."""
    return shlex.split(re.search(r"This is `[\w .-]+? (--.*)`\.", text)[1])


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_photos_alone_become_a_model(photos, capsys):
    """No GPU, few photos and no weights: what it says is true, and what it prints works."""
    assert cli.main(["train", photos, "--epochs=2"]) == 0
    out, err = capsys.readouterr()
    (run,) = Path("records").iterdir()
    start = "12 photos to learn 2 classes from, no GPU: training begins from scratch"
    why = "(convnext_atto.d2_in1k: KERAS_CONVNEXT_OFFLINE is set, so no request was made; --weights"
    assert start in err and why in err
    config = json.loads((run / "config.json").read_text())["config"]
    assert (config["weights"], config["batch_size"], config["image_size"]) == (None, 2, 64)
    result = json.loads((run / "result.json").read_text())
    right = round(4 * result["accuracy"])
    assert f"{result['accuracy']:.2%}: right for {right} of 4 images" in out
    assert "always answering the commonest class would be right for 2." in out
    assert f"{run}/best.keras" in out
    assert out.count("min left") + out.count("a minute left") == 1  # after the first of two epochs
    # the flags that it stands for make the same run, also by the module of a clone
    asked = command.from_command_line(flags_of(err))
    assert json.loads(json.dumps(dataclasses.asdict(asked.config), default=str)) == config
    # the commands and the three lines at its end
    commands, _, python = out.partition("To use the best model:\n")[2].partition("and in Python:\n")
    photo = f"{photos}/day/0.png"
    for line in commands.replace("photo.jpg", photo).splitlines():
        assert cli.main(shlex.split(line)[1:]) == 0
    assert len(python.strip().splitlines()) == 3
    exec(textwrap.dedent(python.replace("photo.jpg", photo)), {})
    assert capsys.readouterr().out.splitlines()[-1] in ("day", "night")
    assert cli.main(["check", photos]) == 0


@pytest.mark.filterwarnings("ignore::keras_convnext.pretrained.download.FirstUseNotice")
def test_published_weights_are_begun_with_where_they_are(photos, monkeypatch):
    row = find("convnext_atto")
    source = dataclasses.replace(row.sources[0], sha256=None, size=None)  # random weights will do
    row = dataclasses.replace(row, sources=(source,))
    monkeypatch.setattr(registry.table, "all_rows", lambda: (row,))
    place = resolve.source_of(row.sources[0], row).place
    place.parent.mkdir(parents=True)
    safetensors.numpy.save_file(tensors_of(VARIANTS["convnext_atto"]), place)
    fields, sentence = choice.of_photos(photos, {})
    assert fields["weights"] == "imagenet" and fields["variant"] == "convnext_atto"
    assert (fields["freeze_stages"], fields["batch_size"]) == ("3", "2")
    assert row.name in sentence and "--freeze_stages=0" in sentence


def test_a_gpu_trains_all_of_a_larger_model(photos, monkeypatch):
    monkeypatch.setattr(distribution, "is_on_cpu", lambda: False)
    fields, sentence = choice.of_photos(photos, {}, may_download=False)
    assert fields["variant"] == "convnext_tiny" and "freeze_stages" not in fields
    assert "a GPU: training begins with convnext_tiny." in sentence
    assert "if the weights can be had" in sentence  # nothing was looked up


def test_what_is_asked_for_is_kept(photos, capsys):
    def asked(*arguments):
        return command.from_command_line([photos, *arguments])

    chosen = asked("--dry-run", "--batch_size=4", "--variant", "convnext_nano", "--epochs", "3")
    config = chosen.config
    assert (config.batch_size, config.variant.name, config.epochs) == (4, "convnext_nano", 3)
    assert (config.weights, config.freeze_stages) == ("imagenet", 3) and chosen.dry_run
    assert asked("--weights=none").config.weights is None
    assert asked("--stem_stride=2").config.weights is None  # no published weights have it
    finetune = asked("--config=finetune").config
    assert (finetune.dataset, finetune.freeze_stages) == ("folder", 0)
    assert type(asked("--task=pretraining").config) is TASKS["pretraining"].config
    with pytest.raises(SystemExit):
        asked("--batch_siz=4")
    assert "did you mean --batch_size" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        command.from_command_line(["nowhere"])
    assert "'nowhere' does not exist" in capsys.readouterr().err


def test_boxes_are_recognised(tmp_path):
    tiny_objects.write_coco(tmp_path / "objects")
    asked = command.from_command_line(["objects"])
    assert type(asked.config) is TASKS["detection"].config
    assert command.from_command_line(flags_of(asked.notes[0])).config == asked.config


def test_images_with_boxes_are_checked(tmp_path, capsys):
    root = tiny_objects.write_coco(tmp_path / "objects")
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.open(root / "train2017/000.png").save(root / "train2017/000.png", exif=exif)
    (root / "train2017/001.png").unlink()
    assert cli.main(["check", "objects"]) == 1
    out = capsys.readouterr().out
    assert "001.png: cannot be read" in out and "1 image is rotated by EXIF" in out
    assert "1 of 9 images are bad (train 6, validation 3)." in out
    (tmp_path / "one/cat").mkdir(parents=True)
    assert cli.main(["check", "one"]) == 2
    assert re.search("single class, 'cat'.*COCO's format", capsys.readouterr().err)


def test_a_stopped_run_is_resumed_by_the_flags_that_were_chosen(photos, capsys):
    with shell.as_installed_command():
        asked = command.from_command_line([photos, "--dry-run"])
        course.say_how_to_resume("Stopped.", asked.flags)
    said = capsys.readouterr().err
    assert re.search(r"keras-convnext train --data_dir=photos .*--resume=auto\n$", said)
    assert "python -m training.train" in shell.entry("train")


def test_help_and_list_speak_of_the_command(capsys):
    with pytest.raises(SystemExit) as stopped:
        cli.main(["train", "--list"])
    shown = capsys.readouterr().out
    assert not stopped.value.code
    for task in TASKS:
        assert {line.split()[1] for line in shown.splitlines() if line.startswith(task)} == {
            *command.names(task)
        }
    for name in trainer.COMMANDS:
        with pytest.raises(SystemExit):
            cli.main([name, "--help"])
        text = capsys.readouterr().out
        assert text.startswith(f"usage: keras-convnext {name}") and "python -m" not in text
        assert name == "evaluate" or f"examples:\n  keras-convnext {name} PHOTOS" in text
        assert name != "train" or "default: 300" not in text
    with pytest.raises(SystemExit):
        cli.main(["train", "--epoch=3", "--config=digits"])
    assert "`keras-convnext train --help` shows" in capsys.readouterr().err


def test_missing_packages_are_said_with_the_command_that_installs_them(photos, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert cli.main(["train", photos, "--smoke"]) == 1
    assert 'pip install "keras_convnext[train]"' in capsys.readouterr().err
    assert cli.main(["evaluate", "anything.keras"]) == 1
    assert 'pip install "keras_convnext[train]"' in capsys.readouterr().err


def test_a_package_without_the_trainer_says_so(monkeypatch, capsys):
    monkeypatch.setattr(trainer, "MARK", "nothing")
    assert cli.main(["train", "--list"]) == 2
    assert "keras_convnext_training" in capsys.readouterr().err
