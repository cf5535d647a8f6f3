"""Directories of images as people download them: recognised, or refused with what to do."""

import io
import json
import os
import re
import shutil

import keras
import numpy as np
import pytest
from PIL import Image

from training import data
from training.data import DataError, duplicates
from training.data.arrays import array_split
from training.data.dataset import Dataset
from training.data.folder import order_has_changed
from training.data.layout import recognise, spelled

if keras.backend.backend() != "torch":
    pytest.skip("the same on every backend", allow_module_level=True)


def picture(number, kind="PNG"):
    """Returns the content of an image file; other numbers are other images of equal size."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (number % 256, number // 256, 7)).save(buffer, kind)
    return buffer.getvalue()


def tree(root, *folders, each=5, suffix=".png"):
    """Writes images that all differ into these folders and returns the root."""
    for place, folder in enumerate(folders):
        (root / folder).mkdir(parents=True, exist_ok=True)
        for number in range(each):
            (root / folder / f"{number}{suffix}").write_bytes(picture(100 * place + number))
    return root


def both(*splits, classes=("cat", "dog")):
    return [f"{split}/{name}" for split in splits for name in classes]


def places(split, root):
    return {
        path[len(str(root)) + 1 :].rpartition("/")[0].rpartition("/")[0] for path in split.paths
    }


SPLIT_LAYOUTS = {
    "torchvision": (("train", "val"), "train", "val", None),
    "Roboflow": (("train", "valid", "test"), "train", "valid", "test"),
    "capitals": (("Train", "Validation", "TEST"), "Train", "Validation", "TEST"),
    "dev": (("training", "dev"), "training", "dev", None),
    "Hugging Face": (("data/train", "data/validation"), "data/train", "data/validation", None),
    "sets": (("training_set", "valid_set"), "training_set", "valid_set", None),
    "doubled": (("train/train", "val/val"), "train/train", "val/val", None),
    "prefixes": (("seg_train/seg_train", "seg_val"), "seg_train/seg_train", "seg_val", None),
    "inside": (
        ("photos/data/train", "photos/data/val"),
        "photos/data/train",
        "photos/data/val",
        None,
    ),
}


@pytest.mark.parametrize("layout", SPLIT_LAYOUTS.values(), ids=SPLIT_LAYOUTS)
def test_splits_have_many_names(layout, tmp_path):
    folders, train, validation, test = layout
    dataset = data.load("folder", tree(tmp_path, *both(*folders)))
    assert dataset.class_names == ("cat", "dog")
    assert places(dataset.train, tmp_path) == {train}
    assert places(dataset.validation, tmp_path) == {validation}
    assert (test and {test}) == (dataset.test and places(dataset.test, tmp_path))
    assert f"training on 10 images of {train}/" in dataset.summary
    assert f"validation on {validation}/ (10 images)" in dataset.summary


def test_test_images_are_never_touched(tmp_path):
    tree(tmp_path, *both("Training", "Testing"), each=10)
    dataset = data.load("folder", tmp_path)
    assert (dataset.train.size, dataset.validation.size, dataset.test.size) == (16, 4, 20)
    assert places(dataset.validation, tmp_path) == {"Training"}
    assert "validation on 0.2 of each class, chosen with seed 0 (4 images)" in dataset.summary
    assert "Testing/ (20 images) is not touched" in dataset.summary


def test_class_folders_inside_of_others(tmp_path):
    tree(tmp_path, *both("data/data"))
    (tmp_path / "__MACOSX/data").mkdir(parents=True)
    dataset = data.load("folder", tmp_path)
    assert dataset.class_names == ("cat", "dog") and dataset.train.size == 8
    assert dataset.summary == (
        "2 classes (cat, dog); training on 8 images of data/data/ (4 of each class), "
        "validation on 0.2 of each class, chosen with seed 0 (2 images)."
    )


def test_numbers_are_in_natural_order(tmp_path):
    tree(tmp_path, *map(str, range(12)), each=2)
    assert data.load("folder", tmp_path).class_names == tuple(map(str, range(12)))
    text = tuple(sorted(map(str, range(12))))
    then = data.load("folder", tmp_path, class_names=text)
    assert then.class_names == text and not order_has_changed(then)
    assert order_has_changed(data.load("folder", tmp_path))
    labels = {
        path.split("/")[-2]: text[label]
        for path, label in zip(then.train.paths, then.train.labels, strict=True)
    }
    assert all(folder == name for folder, name in labels.items()) and len(labels) == 12
    with pytest.raises(DataError, match=r"missing are \['x'\], additional are \['11'\]"):
        data.load("folder", tmp_path, class_names=(*map(str, range(11)), "x"))


@pytest.mark.parametrize("suffix", [".JPG", ".jfif", ".tif", ".TIFF", ".webp", ".bmp", ".avif"])
def test_suffixes(suffix, tmp_path):
    assert data.load("folder", tree(tmp_path, "cat", "dog", suffix=suffix)).train.size == 8


def test_avif_needs_a_pillow_that_reads_it(tmp_path, monkeypatch):
    monkeypatch.setattr("PIL.features.check", lambda name: False)
    with pytest.raises(DataError, match="0.avif' is an AVIF file, .* install Pillow 11.3"):
        data.load("folder", tree(tmp_path, "cat", "dog", suffix=".avif"))


REFUSED = {
    "two for validation": (
        both("train", "val", "valid"),
        "several folders for validation: val, valid",
    ),
    "case differs": (
        [*both("train"), *both("val", classes=("Cat", "dog"))],
        r"classes that the training images lack: \['Cat'\].*Did you mean 'cat'\?",
    ),
    "no training": (both("val", "test"), "no folder for training: call it train/"),
    "without classes": (["train", "test"], r"test/ and train/ in .* has no class folders: put"),
    "train alone": (["train"], "train/ in .* has no class folders"),
    "doubled without classes": (["train/train", "test/test"], "train/ in .* has no class folders"),
    "class or split": (
        [*both("train"), "ship"],
        r"train/ .* beside it are folders of images \(ship\): it could be a class or a split",
    ),
    "flat validation": ([*both("train"), "val"], "val' has no class folders, such as 'cat'"),
    "splits inside": (
        ["cat/train", "cat/test", "dog/train", "dog/test"],
        r"holds the splits test/ and train/: turn them round",
    ),
    "segmentation": (["images", "masks"], "as sets for segmentation or detection have"),
    "several sets": (
        both("a_train", "a_test", "b_train", "b_test"),
        r"several sets of splits \(a, b\)",
    ),
}


@pytest.mark.parametrize("case", REFUSED.values(), ids=REFUSED)
def test_what_could_be_read_in_two_ways_is_refused(case, tmp_path):
    folders, message = case
    with pytest.raises(DataError, match=message) as caught:
        data.load("folder", tree(tmp_path, *folders))
    assert "\n" not in str(caught.value) and str(caught.value).endswith(".")


def test_files_of_another_kind_are_named(tmp_path):
    (tmp_path / "train-00000.parquet").write_bytes(b"")
    with pytest.raises(DataError, match=r"It holds 1 file with the suffixes \.parquet"):
        recognise(tmp_path)


def test_one_folder_is_not_two_splits(tmp_path):
    tree(tmp_path, *both("train"))
    (tmp_path / "val").symlink_to(tmp_path / "train")
    with pytest.raises(DataError, match="are one folder, so that what is learned would be what"):
        data.load("folder", tmp_path)


def test_what_is_not_used_is_said(tmp_path):
    tree(tmp_path, *both("train", "val"), "Meta", "val/emu", "test")
    shutil.rmtree(tmp_path / "val/emu")
    (tmp_path / "val/dog").rename(tmp_path / "val/no-dog")
    shutil.rmtree(tmp_path / "val/no-dog")
    tree(tmp_path, "train")  # beside the class folders
    (tmp_path / "train/cat/link.png").symlink_to(tmp_path / "missing.png")
    (tmp_path / "train/cat/more").symlink_to(tmp_path / "Meta")
    notes = "\n".join(recognise(tmp_path).notes)
    for part in (
        "Not used: 1 folder in .*, beside the splits: Meta.",
        "Not used: 5 images in .*train', beside the folders of the classes",
        "Broken: 1 link under .*link.png",
        "Not followed: 1 link to folders under .*more",
        "val' has no images of the classes dog",
        "test' has no class folders: its images are not used",
    ):
        assert re.search(part, notes), (part, notes)


def test_classes_may_differ_in_case_with_a_word(tmp_path):
    layout = recognise(tree(tmp_path, "a", "A", "b"))
    assert layout.class_names == ("A", "a", "b")
    assert layout.notes == ("Classes differ in upper and lower case only: A and a.",)


def test_a_linked_class_folder_is_followed(tmp_path):
    tree(tmp_path, "store/dog", "photos/cat")
    (tmp_path / "photos/dog").symlink_to(tmp_path / "store/dog")
    assert data.load("folder", tmp_path / "photos").class_names == ("cat", "dog")


@pytest.mark.parametrize(
    "name, found",
    [
        ("Training", ("", "train")),
        ("seg_test", ("seg", "test")),
        ("VALIDATION-set", ("", "validation")),
        ("train_station", None),
        ("dataset", None),
        ("set", None),
        ("contest", None),
    ],
)
def test_names_of_splits(name, found):
    assert spelled(name) == found


def test_names_need_not_be_text(tmp_path):
    odd = os.fsencode(tmp_path) + b"/caf\xe9"
    os.mkdir(odd)
    (tmp_path / "tea").mkdir()
    for folder in (odd, os.fsencode(tmp_path / "tea")):
        for number in range(2):
            with open(folder + b"/%d.png" % number, "wb") as file:
                file.write(picture(0))
    with pytest.warns(UserWarning, match=r"In train and in validation") as said:
        dataset = data.load("folder", tmp_path)
    dataset.fingerprint()
    for text in (dataset.summary, str(said[0].message)):
        assert r"caf\udce9" in text and text.encode("utf-8")


def test_an_image_in_two_splits_is_found(tmp_path, monkeypatch):
    tree(tmp_path, *both("train", "val"))
    shutil.copy(tmp_path / "train/cat/3.png", tmp_path / "val/cat/copy.png")
    with pytest.warns(UserWarning, match=r"^In train and in validation: 1 image, .*copy.png"):
        data.load("folder", tmp_path)
    monkeypatch.setattr(duplicates, "MOST_HEADS", 4)
    with pytest.warns(UserWarning, match=r"Not compared: .* images of train and validation"):
        data.load("folder", tmp_path)


def test_fingerprints_are_those_of_the_data(tmp_path):
    photos = tree(tmp_path / "a", "cat", "dog")
    then = json.loads(json.dumps(data.load("folder", photos).fingerprint()))
    assert then["classes"] == ["cat", "dog"] and then["train"]["images"] == 8
    photos = photos.rename(tmp_path / "moved")
    assert data.differences(then, data.load("folder", photos).fingerprint()) == []
    (photos / "cat").rename(photos / "zebra")
    renamed, *_ = data.differences(then, data.load("folder", photos).fingerprint())
    assert renamed == "The classes differ: gone are ['cat'], new are ['zebra']."
    (photos / "zebra").rename(photos / "cat")
    (photos / "cat/0.png").write_bytes(picture(0) + b" ")
    (changed,) = data.differences(then, data.load("folder", photos).fingerprint())
    assert "split has as many images as before, but other ones" in changed
    (photos / "cat/9.png").write_bytes(picture(9))
    tree(photos, "dog", each=12)
    more = data.differences(then, data.load("folder", photos).fingerprint())
    assert "The train split had 8 images and has 15." in more[0]


def test_labels_must_be_classes():
    images = np.zeros((4, 2, 2, 1), "uint8")
    good = array_split("train", images, np.array([0, 1, 2, 2]))
    assert Dataset("x", ("a", "b", "c"), good, good).fingerprint()["train"]["images"] == 4
    for labels, message in (
        ([1, 2, 3, 3], r"must be in 0 to 2 for 3 classes, received 3\. They seem to count from 1"),
        ([-1, 0, 1, 7], "received -1, 7"),
    ):
        with pytest.raises(DataError, match=message):
            Dataset("x", ("a", "b", "c"), array_split("train", images, np.array(labels)), good)
