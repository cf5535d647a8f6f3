"""The trainer, as its user starts it."""

import csv
import dataclasses
import functools
import json
import math
import os
import resource
import shutil
import signal
import subprocess
import sys
import textwrap
import types
from pathlib import Path

import keras
import numpy as np
import pytest
from huggingface_hub import ModelCard
from PIL import Image

from keras_convnext import VARIANTS, AdamW, ConvNeXt
from tests import cifar_set, tiny_imagenet
from tests.backends import BACKEND, compiles_long, numpy, on_one_backend, proven_on_one
from training import command, data, train
from training.run import (
    best,
    card,
    checkpoint,
    course,
    distribution,
    lock,
    loop,
    models,
    plan,
    record,
    replicas,
    resuming,
    shell,
)
from training.tasks.table import TASKS

ROOT = Path(__file__).parents[1]
SMOKE = ["--config=digits", "--smoke", "--tensorboard=false"]


def run(*arguments, timeout=300, without=(), **kwargs):
    """Runs the trainer in a process of its own, `without` these environment variables."""
    kept = {name: value for name, value in os.environ.items() if name not in without}
    return subprocess.run(
        [sys.executable, "-m", "training.train", *arguments],
        cwd=ROOT,
        env={**kept, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=timeout,
        **kwargs,
    )


def request(*arguments):
    return command.from_command_line([*SMOKE, *arguments])


def photos(directory, count=6, classes=("cat", "dog")):
    """A folder of noise, by class."""
    draw = np.random.default_rng(0)
    for name in classes:
        (directory / name).mkdir(parents=True)
        for number in range(count):
            pixels = draw.integers(0, 256, (40, 48, 3), dtype="uint8")
            Image.fromarray(pixels).save(directory / name / f"{number}.jpg")
    return directory


def test_a_run_leaves_its_record(tmp_path):
    done = run(*SMOKE, "--ema_momentum=0.9", f"--output={tmp_path}")
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.iterdir()
    assert sorted(file.name for file in folder.iterdir()) == [
        "best.keras",
        "checkpoints",
        "classes.json",
        "config.json",
        "confusion.png",
        "curves.png",
        "last.keras",
        "last_ema.keras",
        "log.csv",
        "log.jsonl",
        "mistakes.png",
        "model_card.md",
        "result.json",
        "transform.json",
    ]
    result = json.loads((folder / "result.json").read_text())
    transform = json.loads((folder / "transform.json").read_text())
    assert (transform["crop_pct"], transform["upright"]) == (1.0, True)  # images of that size
    assert "Validation of the averages after epoch 1 of 1: accuracy " in done.stdout
    assert f"Validation accuracy {result['accuracy']:.2%}" in done.stdout
    written = json.loads((folder / "config.json").read_text())
    assert written["config"]["batch_size"] == 512
    assert written["backend"] == keras.backend.backend()
    assert written["versions"]["keras"] == keras.__version__
    with open(folder / "log.csv") as log:
        assert len(list(csv.DictReader(log))) == 1
    assert (folder / "curves.png").read_bytes().startswith(b"\x89PNG")
    model = keras.saving.load_model(folder / "best.keras")
    examples = list(data.load("digits").validation.examples().as_numpy_iterator())
    images = np.stack([example["image"] for example in examples])
    right = model.predict(images, verbose=0).argmax(-1) == [e["label"] for e in examples]
    assert right.mean() == pytest.approx(result["accuracy"])
    written = ModelCard.load(folder / "model_card.md")
    (score,) = written.data.eval_results
    assert (score.metric_type, score.metric_value) == ("accuracy", result["accuracy"])
    assert (written.data.pipeline_tag, written.data.library_name) == (
        "image-classification",
        "keras",
    )
    assert f"| accuracy | {result['accuracy']:g} |" in written.text and "seed 0" in written.text
    assert str(tmp_path) not in str(written)


@on_one_backend
def test_a_card_names_the_start_and_its_licence():
    config = command.load("folder", variant=VARIANTS["convnext_tiny"], weights="in12k_ft_in1k")
    row = card.start_of(config)
    assert row.name == "convnext_tiny.in12k_ft_in1k" and card._repository(row) == "timm/" + row.name
    assert card._licence(row) == {"license": "apache-2.0"}
    other = dataclasses.replace(config, variant=VARIANTS["convnextv2_atto"], weights="fcmae")
    assert card._licence(card.start_of(other)) == {"license": "cc-by-nc-4.0"}
    own = dataclasses.replace(config, variant=VARIANTS["convnext_tiny"], weights="dinov3_lvd1689m")
    licence = card._licence(card.start_of(own))
    assert licence["license"] == "other" and licence["license_link"].startswith("https://")
    for weights in (None, "hf://timm/x", str(Path(__file__))):
        assert card.start_of(dataclasses.replace(config, weights=weights)) is None
    assert list(card._numbers({"a": 1, "b": {"c": 0.5, "d": None, "e": [1]}})) == [
        ("a", 1),
        ("b.c", 0.5),
    ]


@proven_on_one
def test_digits_are_learned(tmp_path):
    """What `make demo` promises, at the full length of the command."""
    flags = "--config=digits", f"--output={tmp_path}"
    done = run(*flags, timeout=1200, without=["XLA_FLAGS"])  # which trade speed for compilation
    assert done.returncode == 0, done.stderr
    (result,) = tmp_path.glob("*/result.json")
    assert json.loads(result.read_text())["accuracy"] >= 0.97


@pytest.fixture(scope="session")
def prepared(tmp_path_factory):
    """Small sets of TensorFlow Datasets: {name: data_dir}."""
    data_dir, archives = (tmp_path_factory.mktemp(name) for name in ("tfds", "archives"))
    tiny_imagenet.prepare(data_dir, archives, train_per_class=3, validation=5)
    cifar_set.prepare_noise(data_dir, train=8, test=5)
    return data_dir


@compiles_long
@pytest.mark.parametrize(
    "name",
    (
        "cifar10",
        "cifar10_quick",
        "cifar10_roadmap",
        "imagenet1k",
        "finetune",
        "imagenet22k",
        "folder",
    ),
)
def test_every_experiment_trains_two_steps(name, request, tmp_path):
    """The digits' run is `test_a_run_leaves_its_record`."""
    if name == "cifar10_roadmap" and BACKEND != "torch":
        pytest.skip("tests/test_roadmap.py trains its networks on every backend")
    if name in ("imagenet22k", "folder"):
        data_dir = photos(tmp_path / "photos")
    else:
        data_dir = request.getfixturevalue("prepared")
    config = command.load(
        name,
        smoke=True,
        data_dir=str(data_dir),
        output=str(tmp_path / "records"),
        tensorboard=False,
    )
    folder, result = train.train(command.Request(config))
    assert json.loads((folder / "result.json").read_text()) == result
    (row,) = (json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines())
    assert np.isfinite(row["loss"]) and np.isfinite(row["val_loss"])
    assert checkpoint.newest(folder / "checkpoints").name == "step-00000002"


@pytest.fixture
def any_policy():
    """Lets a run set the dtype policy, and sets it back."""
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@on_one_backend
def test_a_folder_with_every_option(any_policy, tmp_path, capsys):
    flags = (
        "--config=folder",
        "--smoke",
        f"--data_dir={photos(tmp_path / 'photos', count=8)}",
        "--augmentation=exact",
        "--class_weights=true",
        "--mixup=0.8",
        "--cutmix=1",
        "--gradient_accumulation=2",
        "--dtype=mixed_bfloat16",
        "--clip_norm=1",
        f"--output={tmp_path / 'records'}",
    )
    assert train.main(flags) == 0
    (folder,) = (tmp_path / "records").iterdir()
    assert json.loads((folder / "classes.json").read_text()) == ["cat", "dog"]
    transform = json.loads((folder / "transform.json").read_text())
    assert (transform["crop_pct"], transform["upright"]) == (0.875, True)
    # the last lines are Python that works
    photo = str(tmp_path / "photos" / "cat" / "0.jpg")
    lines = capsys.readouterr().out.partition("and in Python:\n")[2].replace("photo.jpg", photo)
    exec(textwrap.dedent(lines), {})
    assert capsys.readouterr().out.split()[-1] in ("cat", "dog")


@on_one_backend
@pytest.mark.parametrize("name", command.names())
def test_every_experiment_says_what_it_is(name):
    config = command.load(name)
    assert config.name == name
    assert "python -m training.train --config" in command.lab_book(name)
    assert command.load(name, smoke=True).batch_size <= 512


# Table 5 of the paper: stochastic depth from scratch on 1K, and on 22K.
TABLE_5 = {
    "convnext_tiny": (0.1, 0.0),
    "convnext_small": (0.4, 0.0),
    "convnext_base": (0.5, 0.1),
    "convnext_large": (0.5, 0.1),
    "convnext_xlarge": (None, 0.2),
}


@on_one_backend
@pytest.mark.parametrize(("variant", "rates"), TABLE_5.items())
def test_the_paper_s_training_settings(variant, rates):
    for name, rate in zip(("imagenet1k", "imagenet22k"), rates, strict=True):
        given = command.load(name, variant=VARIANTS[variant])
        is_1k = name == "imagenet1k"
        assert rate in (None, given.drop_path_rate)
        assert (given.epochs, given.warmup_epochs) == ((300, 20) if is_1k else (90, 5))
        assert given.ema_momentum == (0.9999 if is_1k else None)
        assert (given.learning_rate, given.learning_rate_batch, given.batch_size) == (
            4e-3,
            4096,
            4096,
        )
        assert (given.minimum_learning_rate, given.weight_decay) == (1e-6, 0.05)
        assert given.rand_augment == "rand-m9-mstd0.5-inc1" and given.augmentation == "exact"
        assert (given.mixup, given.cutmix, given.erase) == (0.8, 1.0, 0.25)
        assert (given.label_smoothing, given.clip_norm, given.head_init_scale) == (0.1, None, 1)
        assert given.variant.layer_scale == 1e-6


@on_one_backend
def test_fine_tuning_follows_table_6():
    base = VARIANTS["convnext_base"]
    from_22k = command.load("finetune", variant=base, image_size=384)
    assert (from_22k.layer_decay, from_22k.drop_path_rate) == (0.8, 0.2)
    from_1k = command.load("finetune", variant=base, weights="fb_in1k", image_size=384)
    assert (from_1k.layer_decay, from_1k.drop_path_rate) == (0.7, 0.8)
    assert (from_22k.epochs, from_22k.batch_size, from_22k.learning_rate) == (30, 512, 5e-5)
    assert (from_22k.weight_decay, from_22k.warmup_epochs, from_22k.mixup) == (1e-8, 0, 0)


@on_one_backend
def test_a_dry_run_needs_no_data(capsys):
    asked = ["--config=imagenet1k", "--dry-run", "--variant=convnext_atto", "--batch_size=1024"]
    assert train.train(command.from_command_line(asked)) == (None, None)
    plan = " ".join(capsys.readouterr().out.split())
    assert "0.001 = 0.004 x 1024 / 4096" in plan
    assert "300 epochs x 1,251 = 375,300 updates (143 images of each epoch fill no batch)" in plan


@on_one_backend
@pytest.mark.parametrize(
    ("batch", "steps"),
    [
        (359, "1 epoch x 4 = 4 updates (1 image of each epoch fills no batch) learning rate"),
        (479, "1 epoch x 3 = 3 updates learning rate"),
    ],
)
def test_the_plan_counts_what_fills_no_batch(batch, steps, capsys):
    asked = ["--config=digits", "--dry-run", "--epochs=1", f"--batch_size={batch}"]
    train.train(command.from_command_line(asked))
    plan = " ".join(capsys.readouterr().out.split())
    assert steps in plan and "in 10 classes, " in plan and f" batch {batch} images steps" in plan


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "--config"),
        (["--config=nothing"], "digits"),
        (["--config=digits", "--epoch=3"], "--epoch"),
        (["--config=digits", "--epochs=many"], "invalid int value: 'many'"),
        (["--config=digits", "--epochs=0"], "`epochs` must be an integer >= 1, received 0"),
        (["--config=digits", "--warmup_epochs=99"], "from 0 to below the 30 epochs"),
        (["--config=digits", "--variant=resnet50"], "convnext_tiny"),
        (["--config=digits", "--augmentation=wild"], "`augmentation` must be one of"),
        (["--config=digits", "--class_weights=perhaps"], "neither true nor false"),
        (["--config=digits", "--crop_scale=2"], "not two numbers"),
        (["--config=digits", "--crop_scale=0.5,2"], "0 < a <= b <= 1"),
        (["--config=digits", "--gradient_accumulation=3"], "is not divisible by"),
        (["--config=finetune", "--batch_size=8"], "above the peak of 7.8125e-07"),
    ],
)
@on_one_backend
def test_wrong_flags_say_what_is_allowed(arguments, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.from_command_line(arguments)
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@on_one_backend
def test_a_wrong_flag_is_answered_by_one_sentence(capsys):
    with pytest.raises(SystemExit):
        command.from_command_line(["--config=digits", "--epoch=3"])
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2 and "did you mean --epochs" in lines[0]
    assert lines[1] == "`python -m training.train --help` shows all flags."


@on_one_backend
def test_every_flag_has_a_meaning_limits_and_the_experiment_s_default(capsys):
    with pytest.raises(SystemExit):
        command.from_command_line(["--config=digits", "--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "passes over the training images (>= 1; default: 30)" in text
    assert "one of none, exact, keras_cv; default: none" in text
    for task in TASKS.values():
        for field in dataclasses.fields(task.config):
            assert len(field.metadata["meaning"]) > 5, field.name


@on_one_backend
def test_the_name_of_a_run_can_be_chosen(capsys):
    assert request("--name=mine").config.name == "mine"
    with pytest.raises(SystemExit):
        request("--name=../elsewhere")
    assert "`name` must be letters, digits" in capsys.readouterr().err


@on_one_backend
def test_numbers_that_are_none_are_refused():
    for field, value in (("learning_rate", math.nan), ("weight_decay", math.inf), ("epochs", True)):
        with pytest.raises(ValueError, match=f"`{field}` must be"):
            command.load("digits", **{field: value})


@on_one_backend
@pytest.mark.parametrize("given", [[], ["--resume=auto"], ["--resume", "auto"], ["--resume=run"]])
def test_the_command_that_resumes_names_the_run_once(given, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["train.py", "--config", "digits", *given, "--epochs=5"])
    course.say_how_to_resume("Stopped.", sys.argv[1:])
    said = capsys.readouterr().err
    assert said.endswith("training.train --config digits --epochs=5 --resume=auto\n")


@on_one_backend
def test_printed_commands_are_found_by_the_shell(tmp_path, monkeypatch):
    folder = tmp_path / "my env" / "bin"
    folder.mkdir(parents=True)
    for name in ("python", "keras-convnext"):
        (folder / name).touch(mode=0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python3"))
    monkeypatch.setenv("PATH", str(tmp_path))
    assert shell.python() == f"'{folder / 'python'}'"
    monkeypatch.chdir(tmp_path)
    assert shell.program("keras-convnext") == "'my env/bin/keras-convnext'"
    monkeypatch.setenv("PATH", str(folder))
    assert (shell.python(), shell.program("keras-convnext")) == ("python", "keras-convnext")


@on_one_backend
def test_a_short_run_has_a_short_warm_up():
    asked = command.from_command_line(["--config=folder", "--weights=none", "--epochs=5"])
    assert asked.config.warmup_epochs == pytest.approx(5 * 5 / 120)
    (note,) = asked.notes
    assert "takes 0.208 epochs in place of the recipe's 5" in note
    asked = command.from_command_line(["--config=folder", "--weights=none", "--epochs=50"])
    assert asked.config.warmup_epochs == 5 and not asked.notes
    asked = request("--epochs=100", "--warmup_epochs=40")
    assert asked.config.warmup_epochs == 40 and not asked.notes


@on_one_backend
def test_an_experiment_knows_its_task():
    assert command.from_command_line(["--config=camvid"]).config.ignored_label == 11
    asked = command.from_command_line(["--task=segmentation", "--config=folder"])
    assert type(asked.config) is TASKS["segmentation"].config
    assert command.from_command_line(["--config=folder"]).config.augmentation == "keras_cv"


@on_one_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--dataset=no_such_set"], "no_such_set"),
        (["--dry-run", "--weights=fb_in1k"], "convnext_digits"),
        (["--dry-run", "--weights=nowhere.h5"], "'nowhere.h5': there is no such file"),
        (["--dry-run", "--variant=convnext_tiny", "--weights=fb_in1"], "fb_in1k"),
        (["--variant=convnext_atto"], "at least 32 x 32 pixels, received height 8 and width 8"),
        (["--output=/proc/nowhere"], "/proc/nowhere"),
        (["--batch_size=5000"], "larger than the training set of 1437 images"),
        (["--resume=/nowhere"], "is not the folder of a run"),
        (["--dataset=folder", "--data_dir=/nowhere"], "/nowhere"),
        (["--distribute=tpu"], "--distribute=none"),
    ],
)
def test_what_cannot_run_ends_in_one_sentence(arguments, message, capsys, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["train", *SMOKE, *arguments])
    assert train.main() == 1
    assert message in capsys.readouterr().err


def spoiled(tmp_path, kind):
    """Returns a folder of photos with which something is wrong."""
    folder = tmp_path / "photos"
    if kind == "one class":
        return photos(folder, classes=("cat",))
    if kind == "three images":
        photos(folder, count=1)
        Image.new("RGB", (40, 40)).save(folder / "cat" / "second.png")
        return folder
    photos(folder)
    (folder / "cat" / "notes.jpg").write_text("not a photo")
    return folder


@on_one_backend
@pytest.mark.parametrize(
    ("kind", "message"),
    [("one class", "a classifier needs two or more"), ("three images", "'dog' has a single image")],
)
def test_too_little_data_ends_in_one_sentence(kind, message, tmp_path, capsys, monkeypatch):
    flags = ["--config=folder", "--smoke", f"--data_dir={spoiled(tmp_path, kind)}"]
    monkeypatch.setattr(sys, "argv", ["train", *flags, f"--output={tmp_path / 'records'}"])
    assert train.main() == 1
    assert message in capsys.readouterr().err
    assert not (tmp_path / "records").exists()


@on_one_backend
def test_a_text_file_among_images_is_named_and_a_pixel_is_an_image(tmp_path, capsys, monkeypatch):
    folder = spoiled(tmp_path, "a text file")
    Image.new("RGB", (1, 1)).save(folder / "dog" / "dot.png")
    for name in ("cat", "dog"):  # the text is among the images for training
        (folder / "train" / name).parent.mkdir(exist_ok=True)
        (folder / name).rename(folder / "train" / name)
        (folder / "val").mkdir(exist_ok=True)
        (folder / "val" / name).mkdir()
        Image.new("RGB", (40, 40)).save(folder / "val" / name / "grey.png")
    flags = ["--config=folder", "--smoke", f"--data_dir={folder}", "--batch_size=1", "--epochs=1"]
    monkeypatch.setattr(sys, "argv", ["train", *flags, f"--output={tmp_path / 'records'}"])
    assert train.main() == 0
    assert "notes.jpg cannot be used (not an image)" in capsys.readouterr().err


def test_a_loss_that_is_no_number_stops_the_run(tmp_path, capsys, monkeypatch):
    flags = ["--learning_rate=1e30", "--epochs=3", "--batch_size=64", "--checkpoint_steps=1"]
    monkeypatch.setattr(sys, "argv", ["train", *SMOKE, *flags, f"--output={tmp_path}"])
    assert train.main() == 1
    assert "Training diverged in epoch 1" in capsys.readouterr().err
    (checkpoints,) = tmp_path.glob("*/checkpoints")
    for kept in checkpoints.iterdir():
        assert checkpoint.damage(kept) is None
        arrays = checkpoint.load_file(kept / checkpoint.STATE).values()
        assert all(np.isfinite(array).all() for array in arrays if array.dtype.kind == "f")


@on_one_backend
def test_a_full_disk_leaves_the_checkpoint_before(tmp_path):
    """A limit on the size of files stands in for the disk: the write fails in its middle."""
    model = keras.Sequential([keras.Input((4,)), keras.layers.Dense(512), keras.layers.Dense(512)])
    model.compile("sgd", "mse")
    model.optimizer.build(model.trainable_variables)
    values = checkpoint.arrays(model)
    first = checkpoint.save(tmp_path, values, {"step": 1, "best": None})
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    try:
        with pytest.raises(checkpoint.CheckpointError, match=f"last complete one is {first}"):
            checkpoint.save(tmp_path, values, {"step": 2, "best": None})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert checkpoint.newest(tmp_path) == first
    assert [path.name for path in tmp_path.iterdir()] == [first.name]


@on_one_backend
def test_the_time_of_an_epoch_goes_on_after_a_stop(monkeypatch):
    now = 100.0
    monkeypatch.setattr(loop, "time", types.SimpleNamespace(perf_counter=lambda: now))
    stopped = loop.Progress(step=3)
    now = 105.0
    state = stopped.state(steps_per_epoch=10)
    assert state["seconds"] == 5
    now = 1000.0
    resumed = loop.Progress.of(state)
    now = 1002.0
    assert resumed.elapsed() == 7
    resumed.step = 0  # between two epochs
    assert resumed.state(steps_per_epoch=10)["seconds"] == 0


def test_a_damaged_checkpoint_is_passed_over(tmp_path, capsys):
    values = {"model/00000/kernel": np.arange(1000, dtype="float32")}
    for step in (1, 2, 3):
        checkpoint.save(tmp_path, values, {"step": step, "best": {"step": 1}})
    assert sorted(path.name[-1] for path in tmp_path.iterdir()) == ["1", "2", "3"]
    state = tmp_path / "step-00000003" / checkpoint.STATE
    content = bytearray(state.read_bytes())
    content[-1] ^= 1
    state.write_bytes(content)
    assert checkpoint.newest(tmp_path).name == "step-00000002"
    assert "step-00000003 is passed over" in capsys.readouterr().out


@on_one_backend
def test_resume_asks_for_the_same_configuration(tmp_path, capsys, monkeypatch):
    config = request(f"--output={tmp_path}").config
    dataset = data.load("digits")
    run = record.begin(config, dataset)
    assert resuming.find(config, "none", dataset) is None
    assert resuming.find(config, "auto", dataset) == run
    other = dataclasses.replace(config, seed=1)
    assert resuming.find(other, "auto", dataset) is None
    said = capsys.readouterr().err
    assert f"No run of this configuration is unfinished in {tmp_path}: a new one" in said
    with pytest.raises(ValueError, match="seed was 0, is 1"):
        resuming.find(other, str(run), dataset)
    record.write_json(run / record.RESULT, {})
    with pytest.raises(ValueError, match="is finished"):
        resuming.find(config, str(run), dataset)


VALUES = {"model/00000/kernel": np.arange(1000, dtype="float32")}


def damaged(path):
    """Flips a bit of a checkpoint."""
    content = bytearray((path / checkpoint.STATE).read_bytes())
    content[-1] ^= 1
    (path / checkpoint.STATE).write_bytes(content)


@on_one_backend
def test_damaged_checkpoints_do_not_count_among_those_kept(tmp_path, capsys):
    for step in (11, 22, 33):
        checkpoint.save(tmp_path, VALUES, {"step": step, "best": {"step": 11}})
    for step in (22, 33):
        damaged(checkpoint.folder_of(tmp_path, step))
    for step in range(12, 22):
        assert checkpoint.save(tmp_path, VALUES, {"step": step, "best": {"step": 11}}).exists()
    assert checkpoint.newest(tmp_path).name == "step-00000021"
    checkpoint.set_damaged_aside(tmp_path)
    said = capsys.readouterr().out
    assert "step-00000033 is damaged and set aside as damaged-step-00000033: state.saf" in said
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "damaged-step-00000022",
        "damaged-step-00000033",
        "step-00000011",
        "step-00000020",
        "step-00000021",
    ]


@on_one_backend
@pytest.mark.parametrize("fault", [damaged, shutil.rmtree])
def test_a_lost_best_epoch_is_replaced_by_the_best_that_is_left(tmp_path, fault):
    rows = [{"epoch": n, "val_accuracy": a, "val_loss": 1.0} for n, a in ((1, 0.5), (2, 0.9))]
    rows.append({"epoch": 3, "val_accuracy": 0.7, "val_loss": 1.0})
    progress = loop.Progress(epoch=3, history=rows, best={**rows[1], "step": 20})
    for step in (10, 20, 30):
        checkpoint.save(tmp_path, VALUES, {"step": step, "best": {"step": 20}})
    schedule = types.SimpleNamespace(score="val_accuracy", steps_per_epoch=10)
    find = functools.partial(best.checkpoint_of_best, tmp_path, progress, schedule)
    assert find() == checkpoint.folder_of(tmp_path, 20)
    fault(checkpoint.folder_of(tmp_path, 20))
    said = []
    assert find(say=said.append) == checkpoint.folder_of(tmp_path, 30)
    assert progress.best == {**rows[2], "step": 30}
    (sentence,) = said
    assert (
        "best epoch, 2, is lost" in sentence and "epoch 3 is the best of what is left" in sentence
    )
    fault(checkpoint.folder_of(tmp_path, 30))
    assert find(say=said.append) is None and "no other is left" in said[-1]


@on_one_backend
def test_of_equal_scores_the_lower_loss_is_the_better():
    rows = [
        {"epoch": epoch, "val_accuracy": accuracy, "val_loss": loss}
        for epoch, (accuracy, loss) in enumerate(
            [(0.5, 2.0), (0.75, 1.0), (0.75, 0.5), (0.75, 0.6)]
        )
    ]
    found = None
    for row in rows:
        if best.is_better(row, found, "val_accuracy"):
            found = row
    assert found["epoch"] == 2


@on_one_backend
def test_a_folder_has_one_writer(tmp_path):
    with lock.only_writer(tmp_path):
        with pytest.raises(
            lock.RunInUseError, match=f"written by process {os.getpid()} on .* since"
        ):
            with lock.only_writer(tmp_path):
                pytest.fail("two writers")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / lock.LOCK).write_text("process 1, which was killed")
    with lock.only_writer(tmp_path):
        pass


@on_one_backend
@pytest.mark.parametrize(
    "content",
    ["", "{}", "[]", '{"config": 3, "backend": "jax"}', pytest.param("[" * 10**5, id="deep")],
)
def test_a_broken_record_of_somebody_else_ends_no_resume(tmp_path, content, capsys):
    config, dataset = request(f"--output={tmp_path}").config, data.load("digits")
    run = record.begin(config, dataset)
    other = record.new_folder(tmp_path, config.name)
    (other / record.CONFIG).write_text(content)
    for folder in (run, other):  # written within one tick of a coarse clock
        os.utime(folder, ns=(10**18, 10**18))
    assert resuming.find(config, "auto", dataset) == run
    assert "is passed over" in capsys.readouterr().err
    with pytest.raises(ValueError, match="is not a configuration of a run"):
        resuming.find(config, str(other), dataset)


@on_one_backend
def test_data_that_changed_are_noticed(tmp_path, capsys):
    place = photos(tmp_path / "photos", count=12)
    given = ["--config=folder", "--smoke", f"--data_dir={place}", f"--output={tmp_path / 'out'}"]
    config = command.from_command_line(given).config
    run = record.begin(config, data.of_config(vars(config)))
    assert resuming.find(config, "auto", data.of_config(vars(config))) == run
    (place / "cat").rename(place / "zebra")
    for resume in ("auto", str(run)):
        with pytest.raises(ValueError, match=r"gone are \['cat'\], new are \['zebra'\]"):
            resuming.find(config, resume, data.of_config(vars(config)))
    (place / "zebra").rename(place / "cat")
    for name in ("cat", "dog"):
        Image.new("RGB", (40, 40)).save(place / name / "one_more.jpg")
    with pytest.raises(ValueError, match="start anew with --resume=none"):
        resuming.find(config, "auto", data.of_config(vars(config)))
    elsewhere = photos(tmp_path / "elsewhere", classes=("cow", "pig"))
    other = dataclasses.replace(config, data_dir=str(elsewhere))
    assert resuming.find(other, "auto", data.of_config(vars(other))) is None
    assert "is passed over, a run on other data" in capsys.readouterr().err


@on_one_backend
@pytest.mark.parametrize(
    ("run", "experiment", "fields"),
    [
        ("2026-11-22_cifar10_quick", "cifar10_quick", {}),
        ("2026-11-22_camvid", "camvid", {}),
        ("2026-11-22_folder", "folder", {"weights": None}),
        ("2026-11-22_cifar10_roadmap", "cifar10_roadmap", {"step": "resnet"}),
    ],
)
def test_records_of_earlier_versions_are_runs_of_the_experiments(run, experiment, fields):
    folder, config = ROOT / "training" / "records" / run, command.load(experiment, **fields)
    assert resuming._differences(folder, config) == []
    assert config.ema_warmup is None and resuming.adopted(config, folder).ema_warmup is False
    if config.ema_momentum is not None:  # with a few updates per epoch already they are as before
        updates = 30 * config.epochs
        assert config.ema_momentum**updates < plan.INITIAL_SHARE
    asked = dataclasses.replace(config, ema_warmup=True)
    assert resuming._differences(folder, asked) == ["ema_warmup was False, is True"]


def test_averages_of_few_updates_forget_the_initial_weights():
    variable = keras.Variable(np.zeros(2, "float32"), name="weight")
    optimizer = replicas.averages_warmed_up(AdamW)(
        1.0, weight_decay=0.0, use_ema=True, ema_momentum=0.9
    )
    optimizer.build([variable])
    expected = np.zeros(2)
    for update in range(100):
        optimizer.apply([keras.ops.ones(2)], [variable])
        momentum = min(0.9, (1 + update) / (10 + update))
        value = keras.ops.convert_to_numpy(variable.value)
        expected = momentum * expected + (1 - momentum) * value
    ((_, average),) = optimizer.averages
    np.testing.assert_allclose(keras.ops.convert_to_numpy(average), expected, rtol=1e-5)
    assert optimizer.get_config()["ema_momentum"] == 0.9


@on_one_backend
def test_few_updates_warm_the_averages_up():
    devices = distribution.Distribution("one CPU")
    few, many, none = (
        plan.make(TASKS["classification"].plan, request(*flags).config, 1437, 10, devices)
        for flags in (["--ema_momentum=0.99"], ["--ema_momentum=0.5", "--epochs=9"], [])
    )
    assert few.warms_averages_up and not many.warms_averages_up and not none.warms_averages_up
    assert "EMA 0.99 after a warm-up" in dict(few.rows())["optimizer"]


@on_one_backend
def test_the_second_ctrl_c_does_not_wait(capfd):
    before = signal.getsignal(signal.SIGINT)
    try:
        saver = loop.Saver("nowhere", None, 1, distribution.Distribution("one CPU"))
        saver.ask_to_stop(signal.SIGINT, None)
        assert saver.must_stop() and signal.getsignal(signal.SIGINT) == signal.SIG_DFL
        assert "Ctrl-C once more stops at once" in capfd.readouterr().err
        assert loop.Terminated(saver.signal).status == 130
        assert loop.Terminated(signal.SIGTERM).status == 143
    finally:
        signal.signal(signal.SIGINT, before)


@on_one_backend
def test_an_interruption_says_how_to_resume(capsys, monkeypatch):
    def interrupted():
        raise KeyboardInterrupt

    monkeypatch.setattr(sys, "argv", ["train", "--config=digits", "--name=a", "--resume=auto"])
    assert course.status(interrupted, sys.argv[1:]) == 130
    said = capsys.readouterr().err
    assert said.endswith("training.train --config=digits --name=a --resume=auto\n")


@on_one_backend
def test_a_finished_epoch_is_in_the_log_after_a_resume(tmp_path):
    """A kill between the last checkpoint and its row in the log."""
    asked = request(f"--output={tmp_path}")
    run, result = train.train(asked)
    rows = (run / "log.jsonl").read_text()
    for name in ("log.jsonl", "log.csv", "result.json"):
        (run / name).unlink()
    assert train.train(dataclasses.replace(asked, resume="auto")) == (run, result)
    assert (run / "log.jsonl").read_text() == rows


@on_one_backend
def test_a_model_from_scratch_says_its_architecture(tmp_path):
    """Of `--config=folder --weights=none`, whose stem and depths no named variant has."""
    from keras_convnext.named_weights import weights_of
    from keras_convnext.pretrained.saving import save_keras, save_weights

    config = command.load("folder", weights=None, image_size=32)
    model = TASKS["classification"].building.network(config, 3)
    save_keras(model, tmp_path / "best.keras")
    found = weights_of(str(tmp_path / "best.keras"))
    assert found.variant == config.variant.with_stem_stride(2) and found.classes == 3
    assert found.variant.name not in VARIANTS
    save_weights(found.build(), found.variant, tmp_path / "best.safetensors")
    again = ConvNeXt(found.variant, weights=tmp_path / "best.safetensors", classes=3)
    for one, other in zip(model.weights, again.weights, strict=True):
        np.testing.assert_array_equal(numpy(one), numpy(other))


@on_one_backend
@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), RuntimeError("full")])
def test_a_model_that_cannot_be_written_ends_in_one_sentence(tmp_path, monkeypatch, error):
    def fail(model, path):
        raise error

    monkeypatch.setattr(models, "save_keras", fail)
    model = types.SimpleNamespace(get_weights=list, set_weights=lambda weights: None)
    with pytest.raises(checkpoint.CheckpointError, match="(No space|full).* resume with --resume"):
        models._save(tmp_path / "best.keras", model, model, True)


@on_one_backend
def test_no_message_names_a_draft(tmp_path):
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").write_text("")
    with pytest.raises(OSError) as raised:
        record.write_json(tmp_path / "taken", {})  # a file cannot take the place of a folder
    assert str(raised.value).endswith("/taken'") and ".draft-" not in str(raised.value)
