"""The training of segmentation, as its user starts it."""

import csv
import json
import shutil
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

from tests import tiny_streets
from tests.backends import BACKEND, compiles_long, on_one_backend
from training import command, data, train
from training.data import pairs
from training.tasks.segmentation import building, usage


@pytest.fixture(scope="module")
def streets(tmp_path_factory):
    """Pairs in the folders of every experiment."""
    root = tmp_path_factory.mktemp("streets")
    tiny_streets.write(root / "folder", count=5)
    for split, count, first in (("train", 5, 100), ("val", 2, 0), ("test", 2, 200)):
        tiny_streets.write(root, count, images=split, masks=f"{split}annot", first=first)
    for split, count, first in (("training", 5, 100), ("validation", 2, 0)):
        tiny_streets.write(root, count, f"images/{split}", f"annotations/{split}", first=first)
    return root


def load(name, streets, tmp_path, **fields):
    data_dir = streets / "folder" if name == "folder" else streets
    fields = {"data_dir": str(data_dir), "output": str(tmp_path / "records")} | fields
    return command.load(name, True, "segmentation", tensorboard=False, **fields)


@compiles_long
def test_a_run_leaves_its_record(streets, tmp_path):
    config = load("camvid", streets, tmp_path, epochs=2, batch_size=2)
    folder, result = train.train(command.Request(config))
    assert sorted(path.name for path in folder.iterdir()) == [
        "best.keras",
        "checkpoints",
        "classes.json",
        "config.json",
        "curves.png",
        "last.keras",
        "last_ema.keras",
        "log.csv",
        "log.jsonl",
        "model_card.md",
        "result.json",
        "test_classes.csv",
        "test_overlays.png",
        "validation_classes.csv",
        "validation_overlays.png",
    ]
    assert json.loads((folder / "result.json").read_text()) == result
    assert result["test"]["images"] == 2 and 0 <= result["test"]["mean_iou"] <= 1
    with open(folder / "test_classes.csv") as file:
        rows = list(csv.DictReader(file))
    assert [row["class"] for row in rows] == config.class_names.split(",")
    with open(folder / "log.csv") as file:
        assert {"loss", "mean_iou", "val_mean_iou"} <= set(next(csv.DictReader(file)))
    model = keras.saving.load_model(folder / "best.keras")
    assert np.asarray(model.predict_on_batch(np.zeros((1, 40, 50, 3)))).shape == (1, 40, 50, 11)
    # the last lines of the training are Python that works
    photo, found = next((streets / "test").rglob("0.*")), {}
    lines = usage.usage(folder, config, None).partition("and in Python:\n")[2]
    exec(textwrap.dedent(lines.replace("photo.jpg", str(photo))), found)
    assert found["labels"].shape == Image.open(photo).size[::-1] and len(found["names"]) == 11


@compiles_long
@pytest.mark.parametrize("name", ["ade20k", "folder"])
def test_every_experiment_trains_two_steps(name, streets, tmp_path):
    """CamVid's run is the one above."""
    if BACKEND != "torch" and name == "folder":
        pytest.skip("the same on every backend")
    fields = {"class_names": tiny_streets.NAMES} if name == "folder" else {}
    config = load(name, streets, tmp_path, **fields)
    folder, result = train.train(command.Request(config))
    assert json.loads((folder / "result.json").read_text()) == result
    assert "validation" in result and "test" not in result


@on_one_backend
@pytest.mark.slow
def test_coloured_rectangles_are_learned(tmp_path):
    """Colours are classes: with 160 steps the smallest model finds them."""
    root = tmp_path / "data"
    tiny_streets.write(root / "folder", count=20)
    fields = {"class_names": tiny_streets.NAMES, "epochs": 40, "batch_size": 4}
    fields |= {"learning_rate": 0.01, "distort": False, "stage_decay": 1.0, "size": None}
    fields |= {"warmup_updates": 10}
    config = load("folder", root, tmp_path, **fields)
    _, result = train.train(command.Request(config))
    assert result["validation"]["mean_iou"] > 0.6


@on_one_backend
def test_a_run_goes_on_where_it_was_stopped(streets, tmp_path):
    """One epoch of two, a copy of its folder without a result, then the second."""
    whole = load("folder", streets, tmp_path / "a", epochs=2, class_names=tiny_streets.NAMES)
    _, expected = train.train(command.Request(whole))
    run = next((tmp_path / "a" / "records").iterdir())
    (run / "result.json").unlink()
    last = sorted((run / "checkpoints").iterdir())[-1]
    shutil.rmtree(last)
    _, result = train.train(command.Request(whole, resume="auto"))
    for key in ("last_mean_iou", "validation"):
        assert result[key] == expected[key]


# ---------------------------------------------------------------------------- the data


@on_one_backend
def test_batches_are_a_function_of_the_seed(streets, tmp_path):
    config = load("camvid", streets, tmp_path, batch_size=2)
    devices = _Alone()
    dataset = building.load(config)
    images, labels = (
        np.concatenate(parts)
        for parts in zip(
            *building.Pipeline(config, dataset, devices, 2).training(0).as_numpy_iterator(),
            strict=True,
        )
    )
    again = building.Pipeline(config, dataset, devices, 2).training(0, start_step=1)
    np.testing.assert_array_equal(next(again.as_numpy_iterator())[0], images[2:])
    assert images.shape == (4, 32, 32, 3) and images.dtype == "uint8"
    assert labels.shape == (4, 32, 32) and set(np.unique(labels)) <= {0, 1, 2, 255}


class _Alone:
    part = None

    @staticmethod
    def dataset(batches):
        return batches


@on_one_backend
def test_validation_has_each_image_once(streets, tmp_path):
    fields = {"batch_size": 4, "size": (64, 48), "validation_size": (48, 64)}
    config = load("camvid", streets, tmp_path, **fields)
    dataset = building.load(config)
    ((images, labels),) = building.Pipeline(config, dataset, _Alone(), 1).validation()
    expected = [tiny_streets.draw(number) for number in range(2)]
    np.testing.assert_array_equal(images[:2], [image for image, _ in expected])
    np.testing.assert_array_equal(labels[:2], [mask for _, mask in expected])
    assert (labels[2:].numpy() == 255).all()  # fills up the batch


@on_one_backend
def test_a_bad_pair_is_left_out_by_name(streets, tmp_path, capfd):
    root = tmp_path / "spoiled"
    shutil.copytree(streets, root)
    odd = root / "trainannot" / "deeper" / "1.png"
    Image.fromarray(np.full((48, 64), 77, "uint8")).save(odd)
    config = load("camvid", root, tmp_path, batch_size=5)
    pipeline = building.Pipeline(config, building.load(config), _Alone(), 1)
    ((images, labels),) = pipeline.training(0).as_numpy_iterator()
    assert sum((mask == 255).all() for mask in labels) == 1
    assert "1.png cannot be used (The mask has the values [77]" in capfd.readouterr().err


@on_one_backend
def test_what_is_missing_is_said(tmp_path):
    with pytest.raises(data.DataError, match="give it with --data_dir"):
        pairs.folders(None, ("a",))
    root = tiny_streets.write(tmp_path, count=2)
    with pytest.raises(
        data.DataError, match="There is no folder 'frames' in .* with --train_images"
    ):
        pairs.folders(root, ("a",), "frames", "masks")
    Path(root / "masks" / "deeper" / "1.png").unlink()
    with pytest.raises(data.DataError, match="1 of 2 images in 'images' have no mask in 'masks'"):
        pairs.folders(root, ("a",), "images", "masks")


@on_one_backend
@pytest.mark.parametrize("split, number", [("val", 1), ("test", 0)])
def test_a_wrong_mask_ends_the_run_before_it_begins(split, number, streets, tmp_path, capsys):
    """A forgotten --ignored_label, say."""
    root = tmp_path / "spoiled"
    shutil.copytree(streets, root)
    odd = next((root / f"{split}annot").rglob(f"{number}.png"))
    Image.fromarray(np.full((48, 64), 77, "uint8")).save(odd)
    config = load("camvid", root, tmp_path)
    with pytest.raises(data.DataError, match=rf"{number}.png cannot be used .*the values \[77\]"):
        train.train(command.Request(config))
    assert not (tmp_path / "records").exists()


@on_one_backend
def test_names_of_a_file_are_kept(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("road\n house \n\ntree")
    config = command.load("folder", task="segmentation", class_names=str(path))
    path.unlink()
    again = command.load("folder", task="segmentation", class_names=config.class_names)
    assert config.names == again.names == ("road", "house", "tree") and config == again


@on_one_backend
@pytest.mark.parametrize(
    "flags, message",
    [
        (["--crop=16"], "`crop` must be an integer >= 32"),
        (["--crop=64", "--stride=65"], "`stride` must be from 1 to the `crop` of 64 pixels"),
        (["--channels=0"], "`channels` must be an integer >= 1"),
        (["--dropout=1"], "`dropout` must be a number in [0, 1)"),
        (["--scale=2,1"], "`scale` must be two numbers"),
        (["--class_names=nams.txt"], "`class_names` 'nams.txt' is no file"),
        (["--first_label=-1"], "received `classes`=11 and `first`=-1"),
        (["--loss_average=mean"], "`loss_average` must be one of"),
        (["--scale=2"], "not two numbers"),
        (["--size=8,8"], "`size` must be two numbers of pixels >= 32"),
        (["--class_names=,"], "`class_names` has no names"),
        (["--mixup=0.8"], "unrecognized arguments"),
    ],
)
def test_wrong_flags_end_in_one_sentence(flags, message, capsys):
    with pytest.raises(SystemExit):
        command.from_command_line(["--config=camvid", *flags], "segmentation")
    assert message in capsys.readouterr().err


@on_one_backend
def test_flags_change_fields():
    flags = ["--config=ade20k", "--variant=convnext_base", "--weights=fb_in22k", "--size=none"]
    config = command.from_command_line(flags, "segmentation").config
    assert (config.crop, config.decay_depth, config.drop_path_rate) == (640, 12, 0.4)
    assert config.size is None and len(config.names) == 150
    config = command.load("ade20k")
    assert (config.weights, config.size, config.decay_depth) == ("fb_in1k_nonema", (2048, 512), 6)


@on_one_backend
def test_the_plan_is_that_of_the_paper(capsys):
    flags = ["--config=ade20k", "--data_dir=/nowhere", "--dry-run"]
    assert train.train(command.from_command_line(flags, "segmentation")) == (None, None)
    text = " ".join(capsys.readouterr().out.split())
    for part in (
        "127 epochs x 1,263 = 160,401 updates",
        "0.0001 after 1,500 updates",
        "in a straight line to 0, x 0.9 per stage (6 to the heads)",
        "parameters 60,255,436",
    ):
        assert part in text, text


@on_one_backend
def test_masks_of_tensorflow_datasets(tmp_path):
    """A set of the features of `scene_parse150`, written by TFDS's own writer."""
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(None, None, 3)),
            "annotation": tfds.features.Image(shape=(None, None, 3)),
        }
    )
    builder = tfds.dataset_builders.store_as_tfds_dataset(
        name="scene_parse150",
        version="1.0.0",
        features=features,
        split_datasets={
            split: [(number, _example(number)) for number in range(count)]
            for split, count in (("train", 4), ("test", 2))
        },
        data_dir=str(tmp_path),
        disable_shuffling=True,
    )
    assert builder.info.splits["train"].num_examples == 4
    config = load(
        "ade20k", tmp_path, tmp_path, dataset="scene_parse150", first_label=0, batch_size=2
    )
    dataset = building.load(config)
    pipeline = building.Pipeline(config, dataset, _Alone(), 2)
    images, labels = next(pipeline.training(0).as_numpy_iterator())
    assert images.shape == (2, 32, 32, 3) and set(np.unique(labels)) <= {0, 1, 2, 255}


def _example(number):
    image, labels = tiny_streets.draw(number)
    return {"image": image, "annotation": np.stack([labels] * 3, -1)}
