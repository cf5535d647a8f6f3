"""The training of a masked autoencoder, as its user starts it, and what is fine-tuned from it."""

import csv
import dataclasses
import json
import shutil
import statistics
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image
from safetensors.numpy import load_file

from keras_convnext import VARIANTS, ConvNeXt, Variant
from keras_convnext.pretraining import FCMAE
from tests import cifar_set, hub_server
from tests.backends import BACKEND, compiles_long, on_one_backend
from tests.test_distribution import start, surroundings
from tests.tiny_imagenet import jpeg
from training import command, data, train
from training.data.unlabelled import unlabelled_folder
from training.run import checkpoint, resuming
from training.tasks.pretraining import building, usage

ROOT = Path(__file__).resolve().parents[1]
TINY = Variant("tiny_v2", (1, 1, 1, 1), (8, 8, 16, 16), layer_scale=None, grn=True)


def photos(folder, count=7, classes=("",)):
    """Writes images; without names of classes into the folder itself."""
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for index in range(count):
            (folder / name / f"{index}.jpg").write_bytes(jpeg(100 * number + index, (70, 80)))
    return folder


def load(tmp_path, **fields):
    fields = {"data_dir": str(tmp_path / "photos"), "output": str(tmp_path / "records")} | fields
    return command.load("fcmae", True, variant=TINY, tensorboard=False, **fields)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A finished run of two epochs: its root, configuration, folder and result."""
    root = tmp_path_factory.mktemp("pretraining")
    photos(root / "photos")
    config = load(root, epochs=2, validation_fraction=0.4, pictures_every=1)
    return root, config, *train.train(command.Request(config))


@compiles_long
def test_a_run_leaves_its_record(whole):
    root, config, folder, result = whole
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.keras",
        "checkpoints",
        "config.json",
        "curves.png",
        "encoder.weights.h5",
        "last.keras",
        "log.csv",
        "log.jsonl",
        "model_card.md",
        "reconstructions",
        "reconstructions.png",
        "result.json",
    ]
    assert json.loads((folder / "result.json").read_text()) == result
    rows = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    best = min(rows, key=lambda row: row["val_loss"])
    assert (result["loss"], result["best_epoch"]) == (best["val_loss"], best["epoch"])
    sheets = sorted(path.name for path in (folder / "reconstructions").iterdir())
    assert sheets == ["epoch_0001.png", "epoch_0002.png"]
    assert Image.open(folder / "reconstructions.png").height > 3 * 256  # of three images
    model = keras.saving.load_model(folder / "best.keras")
    assert type(model) is FCMAE and model.mask_ratio == 0.6
    # the loss that was logged is that of the model, on each validation image once
    images = building.validation_batches(config, building.load(config), 3)
    model.compile("adam")
    images = np.concatenate([batch[0] for batch in images.as_numpy_iterator()])
    shown = Image.open(folder / "reconstructions.png").size
    assert model.reconstructions(images).shape[:2] == shown[::-1]


@on_one_backend
def test_the_encoder_of_a_run_is_fine_tuned(whole, tmp_path):
    """The lines that a run ends with are Python and a command that work."""
    root, config, folder, _ = whole
    weights = str(folder / "encoder.weights.h5")
    scope = {}
    lines = usage.usage(folder, config, None).partition("in Python:\n")[2]
    exec(textwrap.dedent(lines), scope)  # the variant is none that a flag could name
    assert scope["variant"] == TINY and scope["model"].output_shape == (None, 10)
    atto = dataclasses.replace(config, variant=VARIANTS["convnextv2_atto"], stem_stride=2)
    lines = usage.usage(folder, atto, None)
    assert "variant = 'convnextv2_atto'\n" in lines and lines.endswith("stem_stride=2)")
    given = lines.splitlines()[1].partition("training.train ")[2].replace("PHOTOS", str(tmp_path))
    asked = command.from_command_line(given.split()).config
    assert (asked.variant, asked.weights, asked.image_size) == (atto.variant, weights, 64)
    assert asked.stem_stride == 2 and asked.dataset == "folder"
    photos(tmp_path / "classes", 4, ("cat", "dog"))
    fine = command.load(
        "finetune",
        variant=TINY,
        weights=weights,
        dataset="folder",
        data_dir=str(tmp_path / "classes"),
        output=str(tmp_path / "records"),
        image_size=32,
        epochs=1,
        batch_size=2,
        tensorboard=False,
    )
    assert fine.decay_each_block and fine.layer_decay == 0.9 and fine.weight_decay == 0.3
    _, result = train.train(command.Request(fine))
    assert 0 <= result["accuracy"] <= 1
    encoder = keras.saving.load_model(folder / "best.keras").encoder
    features = ConvNeXt(TINY, include_top=False, weights=weights)
    image = np.full((1, 32, 32, 3), 200.0)
    np.testing.assert_allclose(features.predict(image), encoder.predict(image), atol=1e-5)


@compiles_long
def test_a_run_goes_on_where_it_was_stopped(whole):
    """Without its result and the last checkpoint, the second epoch is trained again, the same.

    The sheet of the first is made then, which a kill may have come before.
    """
    root, config, folder, result = whole
    again = root / "again"
    shutil.copytree(folder, again / folder.name)
    config = dataclasses.replace(config, output=str(again))
    run = again / folder.name
    (run / "result.json").unlink()
    last = checkpoint.newest(run / "checkpoints")
    expected = load_file(last / checkpoint.STATE)
    shutil.rmtree(last)
    sheet = run / "reconstructions" / "epoch_0001.png"
    drawn = sheet.read_bytes()
    sheet.unlink()
    _, found = train.train(command.Request(config, resume="auto"))
    # TensorFlow adds up the gradients of what is gathered in another order each time
    atol = 1e-6 if BACKEND == "tensorflow" else 0
    measured = ("training_seconds", "loss")
    assert sheet.read_bytes() == drawn
    assert {k: v for k, v in found.items() if k not in measured} == {
        k: v for k, v in result.items() if k not in measured
    }
    np.testing.assert_allclose(found["loss"], result["loss"], atol=atol)
    state = load_file(last / checkpoint.STATE)
    assert set(state) == set(expected)
    for name, array in state.items():
        np.testing.assert_allclose(array, expected[name], 0, atol, err_msg=name)


@on_one_backend
def test_a_corrupt_file_and_grey_images(tmp_path, capsys):
    folder = photos(tmp_path / "photos", 6)
    (folder / "3.jpg").write_bytes(b"no image")
    Image.fromarray(np.full((80, 70), 90, "uint8")).save(folder / "grey.png")
    config = load(tmp_path, validation_fraction=0.2)
    _, result = train.train(command.Request(config))
    assert np.isfinite(result["loss"])
    said = capsys.readouterr()
    assert "3.jpg" in said.out + said.err


# The data


@on_one_backend
def test_every_image_below_a_directory(tmp_path):
    photos(tmp_path / "plain", 40)
    photos(tmp_path / "classes", 5, ("a", "b/c"))
    plain, classes = (unlabelled_folder(tmp_path / name) for name in ("plain", "classes"))
    assert (plain.train.size, plain.validation.size) == (38, 2)
    assert not set(plain.train.paths) & set(plain.validation.paths)
    assert (classes.train.size, classes.validation.size) == (9, 1)
    assert unlabelled_folder(tmp_path / "plain").fingerprint() == plain.fingerprint()
    half = unlabelled_folder(tmp_path / "plain", 0.5)
    assert half.validation.size == 20 and "20 images for training" in half.summary


@on_one_backend
def test_folders_of_splits(tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 3)):
        photos(tmp_path / split, count, ("a", "b"))
    with pytest.warns(UserWarning, match="In train and in validation: 4 images"):
        dataset = unlabelled_folder(tmp_path)
    assert (dataset.train.size, dataset.validation.size) == (8, 4)
    with pytest.raises(data.DataError, match="omit it, or remove the folder"):
        unlabelled_folder(tmp_path, 0.1)
    (tmp_path / "valid").mkdir()
    with pytest.raises(data.DataError, match="are both for validation"):
        unlabelled_folder(tmp_path)
    photos(tmp_path / "other" / "test", 2, ("a",))
    with pytest.raises(data.DataError, match="no folder of images to train on"):
        unlabelled_folder(tmp_path / "other")


@on_one_backend
def test_directories_without_enough_images(tmp_path):
    with pytest.raises(data.DataError, match="does not exist"):
        unlabelled_folder(tmp_path / "none")
    with pytest.raises(data.DataError, match="has no images"):
        unlabelled_folder(tmp_path)
    photos(tmp_path, 1)
    with pytest.raises(data.DataError, match="has a single image"):
        unlabelled_folder(tmp_path)


def prepare(data_dir, image, **others):
    """Writes a set `tiny` of TensorFlow Datasets; arguments are features and their values."""
    import tensorflow_datasets as tfds

    features = {"image": image, **{name: feature for name, (feature, _) in others.items()}}
    pixels = np.random.default_rng(0).integers(0, 256, (6, *image.shape), "uint8")
    values = {name: value for name, (_, value) in others.items()}
    tfds.dataset_builders.store_as_tfds_dataset(
        name="tiny",
        version="1.0.0",
        features=tfds.features.FeaturesDict(features),
        split_datasets={"train": [(n, {"image": pixels[n], **values}) for n in range(6)]},
        data_dir=str(data_dir),
        disable_shuffling=True,
    )
    return pixels


@on_one_backend
def test_a_prepared_set_without_labels(tmp_path):
    """Its images are grey, so that the model has one channel."""
    import tensorflow_datasets as tfds

    pixels = prepare(tmp_path, tfds.features.Image(shape=(64, 64, 1)))
    places = {"dataset": "tiny", "data_dir": str(tmp_path)}
    parts = {"train_split": "train[:4]", "validation_split": "train[4:]"}
    with pytest.raises(data.DataError, match="no split for validation, only train: divide it"):
        building.load(load(tmp_path, **places))
    config = load(tmp_path, **places, **parts)
    dataset = building.load(config)
    assert "(4 images)" in dataset.summary and "labels count for nothing" in dataset.summary
    shown = next(building.validation_batches(config, dataset, 2).as_numpy_iterator())[0]
    np.testing.assert_array_equal(shown, pixels[4:])
    folder, result = train.train(command.Request(config))
    assert np.isfinite(result["loss"])
    assert keras.saving.load_model(folder / "best.keras").channels == 1


@on_one_backend
def test_a_prepared_set_whose_labels_are_secret(tmp_path):
    """They are -1 for each image, which a classifier cannot learn."""
    import tensorflow_datasets as tfds

    label = (tfds.features.ClassLabel(num_classes=2), -1)
    pixels = prepare(tmp_path, tfds.features.Image(shape=(64, 64, 3)), label=label)
    options = {"train_split": "train[:4]", "validation_split": "train[4:]"}
    dataset = data.load("tiny", tmp_path, **options, labelled=False)
    found = [example["label"] for example in dataset.train.examples().as_numpy_iterator()]
    assert found == [0] * 4 and dataset.class_names == ("images",)
    assert dataset.train.fingerprint() != dataset.validation.fingerprint()
    batch = building.validation_batches(load(tmp_path), dataset, 2).as_numpy_iterator()
    np.testing.assert_array_equal(next(batch)[0], pixels[4:])


@on_one_backend
def test_a_prepared_set_without_images(tmp_path):
    import tensorflow_datasets as tfds

    sound = tfds.features.Tensor(shape=(2,), dtype=np.uint8)
    prepare(tmp_path, sound)
    with pytest.raises(data.DataError, match="does not consist of images: it needs .*has image"):
        data.load("tiny", tmp_path, labelled=False)


@on_one_backend
def test_options_of_other_data_are_refused(tmp_path):
    photos(tmp_path / "photos")
    with pytest.raises(data.DataError, match="has no option `train_split`, which belongs to"):
        building.load(load(tmp_path, train_split="train"))
    with pytest.raises(data.DataError, match="needs `data_dir`, any directory with images"):
        building.load(load(tmp_path, data_dir=None))


@on_one_backend
def test_cifar10_without_labels_and_then_with_few(tmp_path):
    cifar_set.prepare_noise(tmp_path / "sets", train=8, test=5)
    places = {"data_dir": str(tmp_path / "sets"), "output": str(tmp_path / "records")}
    config = command.load("fcmae_cifar10", True, tensorboard=False, **places)
    folder, _ = train.train(command.Request(config))
    weights = str(folder / "encoder.weights.h5")
    name = "cifar10_few_labels"
    fine = command.load(name, True, tensorboard=False, weights=weights, **places)
    _, result = train.train(command.Request(fine))
    assert 0 <= result["accuracy"] <= 1
    scratch, tuned = (command.load(name, seed=2, weights=given) for given in (None, weights))
    assert (scratch.kernel_gain, tuned.kernel_gain) == (0.7, None)
    assert scratch == dataclasses.replace(tuned, weights=None, kernel_gain=0.7)
    assert scratch.train_split == "train[1000:1500]" and scratch.variant.grn


@on_one_backend
@pytest.mark.parametrize("name", ["fcmae_cifar10", "cifar10_few_labels"])
def test_the_records_are_of_these_experiments(name):
    folder = ROOT / "training" / "records" / f"2026-11-29_{name}-2"
    assert resuming._differences(folder, command.load(name)) == []


@on_one_backend
@pytest.mark.parametrize("number", ["", "-2"])
def test_the_comparison_is_that_of_its_runs(number):
    folder = ROOT / "training" / "records" / f"2026-11-29_cifar10_few_labels{number}"
    runs, means = (
        list(csv.DictReader((folder / name).open())) for name in ("runs.csv", "comparison.csv")
    )
    for mean in means:
        scores = [float(run["test_accuracy"]) for run in runs if run["start"] == mean["start"]]
        assert len(scores) == int(mean["seeds"]) == 3
        assert statistics.mean(scores) == pytest.approx(float(mean["test_accuracy"]))
        assert statistics.stdev(scores) == pytest.approx(float(mean["spread"]))


# The configuration


@on_one_backend
@pytest.mark.parametrize("name", command.names("pretraining"))
def test_every_experiment_says_what_it_is(name):
    assert command.load(name).name == name
    assert f"python -m training.pretrain --config {name}" in command.lab_book(name, "pretraining")


@on_one_backend
def test_the_paper_s_settings():
    paper = command.load("fcmae", dataset="imagenet2012")
    assert (paper.epochs, paper.warmup_epochs, paper.batch_size) == (800, 40, 4096)
    assert paper.peak_learning_rate == 1.5e-4 * 4096 / 256 and paper.weight_decay == 0.05
    assert (paper.crop_scale, paper.flip, paper.mask_ratio) == ((0.2, 1.0), 0.5, 0.6)
    assert paper.normalize_targets and paper.grn_over == "image"
    assert "python -m training.pretrain --config fcmae" in command.lab_book("fcmae", "pretraining")


@on_one_backend
def test_the_optimizer_has_the_paper_s_beta(tmp_path):
    config = load(tmp_path)
    photos(tmp_path / "photos")
    from training.run import compiling, distribution, plan
    from training.tasks.table import task_of

    devices = distribution.start("none")
    task = task_of(config)
    dataset = building.load(config)
    schedule = plan.make(task.plan, config, dataset.train.size, 1, devices, dataset.summary)
    model = compiling.compiled(schedule, task, dataset, devices)
    assert (model.optimizer.beta_1, model.optimizer.beta_2) == (0.9, 0.95)
    rows = dict(schedule.rows(model))
    assert "betas 0.9 and 0.95" in rows["optimizer"] and "without labels" in rows["images"]
    assert rows["regularization"].startswith("0.6 of 4 patches of 32 x 32 pixels hidden")


@on_one_backend
@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--mask_ratio=1"], "`mask_ratio` must be a number"),
        (["--image_size=100"], "must be a multiple of the patches of 32 pixels, received 100"),
        (["--grn_over=all"], "`grn_over` must be one of"),
        (["--drop_path_rate=0.1"], "has no stochastic depth"),
        (["--warmup_epochs=900"], "from 0 to below the 800 epochs"),
    ],
)
def test_wrong_flags_say_what_is_allowed(flags, message, capsys):
    with pytest.raises(SystemExit) as stopped:
        command.from_command_line(["--config=fcmae", *flags], task="pretraining")
    assert stopped.value.code == 2
    assert message in capsys.readouterr().err


@on_one_backend
def test_a_set_smaller_than_a_batch(tmp_path):
    photos(tmp_path / "photos", 4)
    with pytest.raises(ValueError, match="`batch_size` 8 is larger than the training set of 3"):
        train.train(command.Request(load(tmp_path, batch_size=8)))


@on_one_backend
def test_fine_tuning_after_masked_pre_training(tmp_path):
    atto = command.load("finetune", variant=VARIANTS["convnextv2_atto"], weights="fcmae")
    assert (atto.epochs, atto.learning_rate, atto.layer_decay, atto.mixup) == (600, 2e-4, 0.9, 0)
    assert atto.decay_each_block and atto.ema_momentum == 0.9999 and atto.label_smoothing == 0.2
    base = command.load("finetune", variant=VARIANTS["convnextv2_base"], weights="fcmae")
    assert (base.epochs, base.learning_rate, base.layer_decay) == (100, 6.25e-4, 0.6)
    assert not base.decay_each_block and (base.mixup, base.cutmix) == (0.8, 1.0)
    tuned = command.load("finetune", variant=VARIANTS["convnextv2_atto"], weights="imagenet")
    assert tuned.epochs == 30  # these are fine-tuned already
    for name, top, epochs in (("classifier", {"classes": 2}, 30), ("encoder", {}, 600)):
        file = tmp_path / f"{name}.weights.h5"
        ConvNeXt("convnextv2_atto", include_top=bool(top), **top).save_weights(file)
        found = command.load("finetune", variant=VARIANTS["convnextv2_atto"], weights=str(file))
        assert found.epochs == epochs


@on_one_backend
@pytest.mark.filterwarnings("ignore::keras_convnext.pretrained.download.FirstUseNotice")
def test_fine_tuning_from_the_hub_has_the_recipe_of_what_the_file_is(tmp_path, monkeypatch, capsys):
    from keras_convnext import VARIANTS, ConvNeXt

    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "KERAS_CONVNEXT_OFFLINE"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("KERAS_CONVNEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))

    def recipe(weights):
        variant = VARIANTS["convnextv2_atto"]
        return command.load("finetune", variant=variant, weights=f"hf://{weights}").epochs

    with hub_server.hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        assert recipe("timm/convnextv2_atto.fcmae") == 600
        assert recipe("timm/convnextv2_atto.fcmae_ft_in1k@main/model.safetensors") == 30
        assert not server.requests  # their rows say it
        for name, top in (("classifier", {"classes": 2}), ("encoder", {})):
            file = tmp_path / f"{name}.weights.h5"
            ConvNeXt("convnextv2_atto", include_top=bool(top), **top).save_weights(file)
            server.files[f"/me/mine/resolve/main/{file.name}"] = file.read_bytes()
        assert recipe("me/mine/classifier.weights.h5") == 30
        assert recipe("me/mine/encoder.weights.h5") == 600
        flags = ["--config=finetune", "--variant=convnextv2_atto", "--weights=hf://me/mine/no.h5"]
        with pytest.raises(SystemExit):
            command.from_command_line(flags)
        assert "Could not get the weights 'hf://me/mine/no.h5'" in capsys.readouterr().err
        v1 = command.load("finetune", weights="hf://me/mine/no.h5")  # of one recipe
        assert v1.epochs == 30


@pytest.mark.slow
@pytest.mark.skipif(BACKEND == "jax", reason="GSPMD shares the same program of one process")
def test_two_processes_share_a_batch(tmp_path):
    """They hide other patches than one process does, so that the losses are not the same."""
    photos(tmp_path / "photos", 8)
    command = (
        "--config=fcmae --smoke --variant=test_convnext2 --tensorboard=false --epochs=1 "
        f"--data_dir={tmp_path / 'photos'}"
    ).split()
    program = ("-m", "training.pretrain")
    output = tmp_path / "records"
    runs = [start(output, "multiworker", env, program, command) for env in surroundings()]
    for run in runs:
        _, errors = run.communicate(timeout=400)
        assert run.returncode == 0, errors[-3000:]
    (folder,) = output.iterdir()
    result = json.loads((folder / "result.json").read_text())
    assert 0 < result["loss"] < 10 and (folder / "encoder.weights.h5").exists()
