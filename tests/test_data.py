"""Datasets and their batches: order, parts, resuming, bad images, damaged files, and verification.

All of it is tf.data and NumPy, the same on every backend, so it runs on one only.
"""

import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import ExifTags, Image

from keras_convnext.preprocessing import EvalTransform, tf_decode
from tests import tiny_imagenet
from training import data, verify_data
from training.data import DataError, stream
from training.data.arrays import array_split
from training.data.bad_images import BadImages
from training.data.folder import every_split, file_split
from training.data.tfds import RecordSplit, SourceSplit

if keras.backend.backend() != "torch":
    pytest.skip("the same on every backend", allow_module_level=True)
pytest.importorskip("tensorflow_datasets")

import tensorflow as tf  # noqa: E402  (Keras has to be there before)

from tests.backends import on_one_backend

ROOT = Path(__file__).parents[1]
SIZE = 16
EVALUATION = EvalTransform(SIZE)
FORMATS = ("tfrecord", "array_record", "parquet")


class Resize:
    """A transform for training without chance: exactly that of the evaluation."""

    @staticmethod
    def image(image, key):
        return EVALUATION.tf(tf_decode(image))


class Drawn:
    """A transform whose pixels say which key it was given."""

    @staticmethod
    def image(image, key):
        pair = tf.stack([tf.cast(key[0], tf.int64) * 1000 + key[1], key[2]])
        return tf.random.stateless_uniform([4, 4, 1], pair, maxval=256, dtype=tf.int32)


def content(kind="JPEG", mode="RGB", size=(40, 30), seed=0, **options):
    """Writes an image file and returns its path."""
    random = np.random.default_rng(seed)
    pixels = Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8))
    buffer = io.BytesIO()
    pixels.convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def write(folder, files):
    for name, file in files.items():
        path = Path(folder) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(file)
    return Path(folder)


def photos(folder, classes=("cat", "dog"), each=10):
    return write(
        folder,
        {
            f"{c}/{n:02}.jpg": content(seed=(k, n))
            for k, c in enumerate(classes)
            for n in range(each)
        },
    )


def indices(examples):
    return [int(example["index"]) for example in examples.as_numpy_iterator()]


def listed(batches):
    return list(batches.as_numpy_iterator())


@pytest.fixture(scope="module")
def arrays():
    random = np.random.default_rng(0)
    return array_split("train", random.integers(0, 256, (53, 4, 4, 1), "uint8"), np.arange(53) % 5)


@pytest.fixture(scope="module")
def tfds_dirs(tmp_path_factory):
    """Returns {format: data_dir} of a tiny ImageNet of 30 and 10 images, in 3 files each."""
    found = {}
    for file_format in FORMATS:
        found[file_format] = tmp_path_factory.mktemp(file_format)
        archives = tmp_path_factory.mktemp("archives")
        tiny_imagenet.prepare(found[file_format], archives, shards=3, file_format=file_format)
    return found


@pytest.fixture(scope="module", params=["arrays", "files", "tfrecord", "array_record"])
def split(request, arrays, tfds_dirs, tmp_path_factory):
    """The same properties hold for every kind of split."""
    if request.param == "arrays":
        return arrays
    if request.param == "files":
        folder = photos(tmp_path_factory.mktemp("photos"), each=16)
        return file_split("train", sorted(map(str, folder.glob("*/*.jpg"))), np.arange(32) // 16)
    return data.load("imagenet2012", tfds_dirs[request.param]).train


# ---------------------------------------------------------------- order, parts, resuming


def test_the_fixed_order(split):
    examples = list(split.examples().as_numpy_iterator())
    assert [int(e["index"]) for e in examples] == list(range(split.size))
    assert len({e["name"] for e in examples}) == split.size
    assert {e["label"].dtype for e in examples} == {np.dtype("int64")}
    np.testing.assert_array_equal(split.all_labels(), [e["label"] for e in examples])


def test_an_order_for_each_seed_and_epoch(split):
    orders = {key: indices(split.examples(order_seed=key[0], epoch=key[1])) for key in KEYS}
    for order in orders.values():
        assert sorted(order) == list(range(split.size))
    assert len({tuple(order) for order in orders.values()}) == len(KEYS)
    tf.random.set_seed(99)  # nor does the library's own state change anything
    assert indices(split.examples(order_seed=0, epoch=1)) == orders[0, 1]


KEYS = [(0, 0), (0, 1), (1, 0), (1, 1)]


def test_an_example_keeps_its_index_in_every_order(split):
    def by_index(examples):
        rows = examples.as_numpy_iterator()
        return {
            int(e["index"]): (e["name"], int(e["label"]), np.array(e["image"]).tobytes())
            for e in rows
        }

    assert by_index(split.examples(order_seed=3, epoch=2)) == by_index(split.examples())


def test_no_pass_waits_for_a_tuning(split):
    assert split.examples().options().autotune.enabled is False


@pytest.mark.parametrize("seed", [None, 0])
def test_a_start_equals_the_tail(split, seed):
    whole = indices(split.examples(order_seed=seed, epoch=1))
    for start in (17, split.size):
        assert indices(split.examples(start, order_seed=seed, epoch=1)) == whole[start:]


@pytest.mark.parametrize("seed", [None, 0])
def test_parts_are_the_workers_stretches_of_each_batch(split, seed):
    whole = indices(split.examples(order_seed=seed))
    for start, workers, batch in ((0, 2, 4), (11, 2, 8), (8, 1, 8)):
        local = batch // workers
        for worker in range(workers):
            expected = [
                index
                for place, index in enumerate(whole)
                if place >= start and place % batch // local == worker
            ]
            assert indices(split.examples(start, (worker, workers, batch), seed)) == expected


def test_windows_of_records_are_shuffled_too(tfds_dirs, monkeypatch):
    """A set of more than one window, as ImageNet is."""
    split = data.load("imagenet2012", tfds_dirs["tfrecord"]).train
    monkeypatch.setattr(RecordSplit, "_window", lambda self: 7)
    orders = [indices(split.examples(order_seed=0, epoch=epoch)) for epoch in (0, 1, 0)]
    assert orders[0] == orders[2] != orders[1]
    assert sorted(orders[0]) == sorted(orders[1]) == list(range(30))
    assert indices(split.examples(19, order_seed=0)) == orders[0][19:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(start=54), "`start` must be between 0 and the 53 images, received 54"),
        (dict(start=-1), "received -1"),
        (dict(part=(2, 2, 4)), "The worker must be in 0 to 1, received 2"),
        (dict(part=(0, 2, 5)), "a multiple of the 2 workers, received 5"),
    ],
)
def test_arguments_of_examples(arrays, arguments, message):
    with pytest.raises(ValueError, match=message):
        arrays.examples(**arguments)


# ---------------------------------------------------------------- batches


def test_batches_hold_the_examples_in_their_order(arrays):
    order = indices(arrays.examples(order_seed=5, epoch=2))
    batches = stream.batches(arrays, None, None, 8, seed=5, epoch=2)
    assert int(batches.cardinality()) == 6
    assert [spec.shape[0] for spec in batches.element_spec] == [8, 8, 8]
    for step, (pixels, labels, weights) in enumerate(listed(batches)):
        expected = order[8 * step : 8 * step + 8]
        np.testing.assert_array_equal(pixels, arrays.images[expected])
        np.testing.assert_array_equal(labels, arrays.labels[expected])
        np.testing.assert_array_equal(weights, np.ones(8, "float32"))


@pytest.mark.parametrize("batch", [8, 31, 32])  # of one chunk and of several
def test_a_resumed_epoch_equals_its_tail(arrays, batch):
    def epoch(**options):
        return listed(stream.batches(arrays, Drawn, _collate, batch, 1, 3, **options))

    whole = epoch(drop_remainder=False)
    for start in (1, len(whole)):
        _same(epoch(drop_remainder=False, start_step=start), whole[start:])
    _same(epoch(drop_remainder=False, start_step=1, steps=1), whole[1:2])
    _same(epoch(), whole[: arrays.size // batch])


def _collate(pixels, labels, weights, key):
    return {"pixels": pixels, "key": tf.stack([tf.cast(k, tf.int64) for k in key])}, labels, weights


def _same(some, others):
    assert len(some) == len(others)
    for one, other in zip(some, others, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, one, other)


def test_the_keys_of_image_and_batch(arrays):
    batches = listed(stream.batches(arrays, Drawn, _collate, 8, 1, 3, start_step=2))
    assert [list(inputs["key"]) for inputs, _, _ in batches] == [[1, 3, s] for s in range(2, 6)]
    order = indices(arrays.examples(order_seed=1, epoch=3))
    expected = Drawn.image(None, (1, 3, tf.constant(order[16], tf.int64)))
    np.testing.assert_array_equal(batches[0][0]["pixels"][0], expected)


def test_the_workers_batches_make_up_the_whole(split, workers=2):
    def pixels(part=None):
        # random pixels of each image's own key, so that they tell the images apart
        return [b[0] for b in listed(stream.batches(split, Drawn, None, 8, 1, 0, part=part))]

    parts = [pixels((worker, workers)) for worker in range(workers)]
    joined = [np.concatenate(several) for several in zip(*parts, strict=True)]
    _same(joined, pixels())


def test_batches_are_not_tuned_either(arrays):
    training = stream.batches(arrays, None, None, 8, seed=0, epoch=0)
    for dataset in training, stream.evaluation_batches(arrays, None, 8):
        assert dataset.options().autotune.enabled is False


def test_class_weights_multiply(arrays):
    weights = np.arange(5) / 2
    for _, labels, found in listed(stream.batches(arrays, None, None, 8, 0, 0, weights=weights)):
        np.testing.assert_array_equal(found, weights[labels])


@pytest.mark.parametrize("batch", [1, 16, 34, 64])
@pytest.mark.parametrize("workers", [None, 2])
def test_evaluation_counts_each_image_once(arrays, batch, workers):
    if workers and batch % workers:
        pytest.skip("no equal parts")
    parts = [None] if workers is None else [(worker, workers) for worker in range(workers)]
    seen, steps = [], -(-53 // batch)
    for part in parts:
        batches = listed(stream.evaluation_batches(arrays, None, batch, part))
        assert len(batches) == steps
        for pixels, labels, weights in batches:
            assert pixels.shape == (batch // (workers or 1), 4, 4, 1) and pixels.dtype == np.uint8
            assert labels.dtype == np.int64 and weights.dtype == np.float32
            assert set(weights) <= {0, 1}
            seen += list(
                zip(
                    pixels[weights == 1].reshape(-1, 16).tolist(), labels[weights == 1], strict=True
                )
            )
    expected = zip(arrays.images.reshape(-1, 16).tolist(), arrays.labels, strict=True)
    key = lambda pair: (pair[0], int(pair[1]))  # noqa: E731
    assert sorted(seen, key=key) == sorted(expected, key=key)


def test_photographs_are_evaluated_by_the_transform(tfds_dirs):
    validation = data.load("imagenet2012", tfds_dirs["tfrecord"]).validation
    ((pixels, labels, weights),) = listed(stream.evaluation_batches(validation, EVALUATION, 10))
    encoded = [e["image"] for e in validation.examples().as_numpy_iterator()]
    expected = [EVALUATION.tf(tf_decode(image)) for image in encoded]
    np.testing.assert_array_equal(pixels, expected)
    np.testing.assert_array_equal(labels, validation.all_labels())
    assert weights.sum() == 10


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (dict(batch_size=54), "has 53 images, fewer than one batch of 54"),
        (dict(batch_size=0), "`batch_size` must be at least 1, received 0"),
        (dict(start_step=7), "between 0 and the 6 steps of an epoch, received 7"),
        (dict(part=(0, 3)), "a multiple of the 3 workers, received 8"),
        (dict(steps=-1), "`steps` must be at least 0, received -1"),
    ],
)
def test_arguments_of_batches(arrays, options, message):
    with pytest.raises(ValueError, match=message):
        stream.batches(arrays, None, None, **{"batch_size": 8, "seed": 0, "epoch": 0, **options})


def test_transforms_that_do_not_fit(arrays, tmp_path):
    split = every_split(photos(tmp_path))["all"]
    with pytest.raises(ValueError, match="differ in size.*need a transform"):
        stream.evaluation_batches(split, None, 4)
    with pytest.raises(TypeError, match="EvalTransform or None, received Resize"):
        stream.evaluation_batches(split, Resize(), 4)

    class Ragged:
        @staticmethod
        def image(image, key):
            return tf_decode(image)

    with pytest.raises(ValueError, match=r"of shape \(None, None, 3\); all must have one shape"):
        stream.batches(split, Ragged, None, 4, 0, 0)


# ---------------------------------------------------------------- bad images


BAD = {
    "empty.jpg": (b"", "the file is empty"),
    "text.png": (b"not an image at all", "not an image"),
    "cut.jpg": (content()[:-600], "truncated"),
    "cut.png": (content("PNG")[:-600], "truncated"),
    "cut.webp": (content("WEBP")[:-200], ""),
}
ODD = {
    "grey.jpg": content(mode="L"),
    "cmyk.jpg": content(mode="CMYK"),
    "alpha.png": content("PNG", "RGBA"),
    "palette.gif": content("GIF", "P"),
    "bitmap.bmp": content("BMP"),
    "web.WEBP": content("WEBP"),
    "dot.png": content("PNG", size=(1, 1)),
    "line.JPEG": content(size=(1, 40)),
}


@pytest.fixture
def mixed(tmp_path):
    """60 sound images of odd kinds and ordinary ones, and five bad ones"""
    photos(tmp_path, each=26)
    write(tmp_path / "cat", ODD)
    write(tmp_path / "dog", {name: bad for name, (bad, _) in BAD.items()})
    return tmp_path


def test_bad_images_are_named_and_weigh_nothing(mixed):
    split = every_split(mixed)["all"]
    assert split.size == 65
    lines = []
    bad = BadImages(split, report=lines.append)
    batches = listed(
        stream.batches(split, Resize, None, 32, 0, 0, on_bad=bad, drop_remainder=False)
    )
    assert {Path(name).name for name in bad.names} == set(BAD)
    for name, reason in bad.names.items():
        assert BAD[Path(name).name][1] in reason
    assert len(lines) == 5 and all("Omitted: the image" in line for line in lines)
    order = indices(split.examples(order_seed=0))
    weights = np.concatenate([weights for _, _, weights in batches])
    labels = np.concatenate([labels for _, labels, _ in batches])
    is_bad = np.array([Path(split.paths[index]).name in BAD for index in order])
    np.testing.assert_array_equal(weights, np.r_[~is_bad, np.zeros(96 - 65)])
    np.testing.assert_array_equal(labels[:65], split.labels[order])  # the places stay
    pixels = np.concatenate([pixels for pixels, _, _ in batches])
    assert (pixels[weights == 0] == stream.GREY).all()
    for place in np.flatnonzero(~is_bad)[::7]:
        expected = EVALUATION.tf(tf_decode(Path(split.paths[order[place]]).read_bytes()))
        np.testing.assert_array_equal(pixels[place], expected)


def test_the_cap_ends_a_training(mixed):
    split = every_split(mixed)["all"]
    assert BadImages(split).cap == 10
    assert BadImages(array_split("a", np.zeros((50_000, 1, 1, 1)), np.zeros(50_000))).cap == 50
    bad = BadImages(split, cap=4, report=lambda line: None)
    with pytest.raises(DataError, match="5 images of the split 'all'.*more than the 4 that"):
        with stream.sentences(split):
            listed(stream.batches(split, Resize, None, 4, 0, 0, on_bad=bad, drop_remainder=False))


def test_an_image_is_counted_once_in_all_epochs(mixed):
    split = every_split(mixed)["all"]
    lines = []
    bad = BadImages(split, cap=5, report=lines.append)
    for epoch in range(2):
        batches = stream.batches(split, Resize, None, 5, 0, epoch, on_bad=bad)
        assert sum((weights == 0).sum() for _, _, weights in listed(batches)) == 5
    assert len(lines) == 5


def test_nothing_is_bad_when_a_loop_is_left(mixed):
    """Work in flight is cancelled then, which is no fault of the images."""
    split = file_split("sound", [str(p) for p in sorted(mixed.glob("*/??.jpg"))] * 10, [0] * 520)
    bad = []
    for epoch in range(5):
        batches = stream.batches(split, Resize, None, 8, 0, epoch, on_bad=lambda *b: bad.append(b))
        next(iter(batches))
    assert not bad


def test_a_bad_image_ends_an_evaluation(mixed):
    split = every_split(mixed)["all"]
    with pytest.raises(DataError, match=r"The image \S*dog/\S+ cannot be used \(.*verify_data"):
        with stream.sentences(split):
            listed(stream.evaluation_batches(split, EVALUATION, 8))


def test_a_transform_that_fails_is_told_from_a_bad_image(arrays, tmp_path):
    class Fails:
        @staticmethod
        def image(image, key):
            with tf.control_dependencies([tf.debugging.assert_equal(key[2], tf.int64.max)]):
                return tf.zeros((2, 2, 3), tf.uint8)

    for split in (arrays, every_split(photos(tmp_path))["all"]):
        with pytest.raises(DataError, match="can be decoded, but the transform fails on it"):
            with stream.sentences(split):
                listed(stream.batches(split, Fails, None, 16, 0, 0))


def test_names_that_are_no_text(tmp_path):
    folder = photos(tmp_path)
    with open(os.fsencode(folder) + b"/cat/\xff\xfe.jpg", "wb") as file:
        file.write(b"bad")
    split = every_split(folder)["all"]
    bad = BadImages(split, report=lambda line: line.encode())
    listed(stream.batches(split, Resize, None, 21, 0, 0, on_bad=bad))
    assert [name.rpartition("/")[2] for name in bad.names] == [r"\xff\xfe.jpg"]


def test_a_file_that_vanishes_is_an_error(tmp_path):
    split = every_split(photos(tmp_path))["all"]
    Path(split.paths[3]).unlink()
    with pytest.raises(DataError, match="03.jpg' cannot be read: No such file"):
        with stream.sentences(split):
            listed(stream.batches(split, Resize, None, 4, 0, 0))


# ---------------------------------------------------------------- digits and folders


def test_digits():
    dataset = data.load("digits")
    assert (dataset.train.size, dataset.validation.size) == (1437, 360)
    assert dataset.class_names == tuple("0123456789")
    assert dataset.train.image_shape == (8, 8, 1)
    pixels = dataset.train.images
    assert pixels.dtype == np.float32 and (pixels.min(), pixels.max()) == (0, 255)
    assert set(dataset.train.labels) == set(dataset.validation.labels) == set(range(10))
    (pixels, _, weights), *_ = listed(stream.evaluation_batches(dataset.validation, None, 256))
    np.testing.assert_array_equal(pixels, dataset.validation.images[:256])
    assert weights.all()


def test_a_folder_is_divided_by_class(tmp_path):
    photos(tmp_path, ("cat", "Dog", "eel"), each=10)
    write(
        tmp_path,
        {
            "cat/.hidden.jpg": b"",
            ".cache/x.jpg": b"",
            "README": b"",
            "cat/deep/x.PNG": content("PNG"),
        },
    )
    dataset = data.load("folder", tmp_path)
    assert dataset.class_names == ("Dog", "cat", "eel")
    assert (dataset.train.size, dataset.validation.size) == (25, 6)
    np.testing.assert_array_equal(np.bincount(dataset.validation.labels), [2, 2, 2])
    for split in (dataset.train, dataset.validation):
        for path, label in zip(split.paths, split.labels, strict=True):
            assert Path(path).relative_to(tmp_path).parts[0] == dataset.class_names[label]
    paths = set(dataset.train.paths) | set(dataset.validation.paths)
    assert len(paths) == 31 and str(tmp_path / "cat/deep/x.PNG") in paths
    assert data.load("folder", str(tmp_path)).validation.paths == dataset.validation.paths
    other = data.load("folder", tmp_path, split_seed=1).validation
    assert other.size == 6 and other.paths != dataset.validation.paths
    half = data.load("folder", tmp_path, validation_fraction=0.5)
    np.testing.assert_array_equal(np.bincount(half.validation.labels), [5, 6, 5])
    few = data.load("folder", tmp_path, validation_fraction=0.001).validation  # never none
    np.testing.assert_array_equal(np.bincount(few.labels), [1, 1, 1])
    most = data.load("folder", tmp_path, validation_fraction=0.999).train  # nor all
    np.testing.assert_array_equal(np.bincount(most.labels), [1, 1, 1])


@pytest.mark.parametrize("validation", ["val", "validation"])
def test_a_folder_with_its_own_validation(tmp_path, validation):
    photos(tmp_path / "train", ("cat", "dog"), each=3)
    photos(tmp_path / validation, ("dog",), each=2)
    with pytest.warns(UserWarning, match="has no images of the classes cat"):
        dataset = data.load("folder", tmp_path)
    assert dataset.class_names == ("cat", "dog")
    assert (dataset.train.size, list(dataset.validation.labels)) == (6, [1, 1])
    with pytest.raises(DataError, match="`validation_fraction` divides a directory without"):
        data.load("folder", tmp_path, validation_fraction=0.1)
    photos(tmp_path / validation, ("emu",), each=1)
    with pytest.raises(DataError, match=r"classes that the training images lack: \['emu'\]"):
        data.load("folder", tmp_path)


def test_train_and_test_may_be_classes(tmp_path):
    assert data.load("folder", photos(tmp_path, ("train", "tram"))).class_names == ("train", "tram")


def test_only_train_is_divided(tmp_path):
    photos(tmp_path / "train", each=5)
    dataset = data.load("folder", tmp_path)
    assert (dataset.train.size, dataset.validation.size) == (8, 2)


def test_other_files_are_named_in_a_warning(tmp_path):
    photos(tmp_path)
    write(tmp_path, {f"dog/{name}": b"" for name in ("a.txt", "b.psd", "c.zip", "d.heic")})
    write(tmp_path, {"dog/Thumbs.db": b"", "__MACOSX/dog/._00.jpg": b""})
    with pytest.warns(UserWarning, match=r"^Not used: 4 files under .*b.psd.*, \.\.\.$"):
        data.load("folder", tmp_path)


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({}, "has no class folders"),
        ({"a.jpg": b""}, "has no class folders"),
        ({"cat/a.jpg": b""}, "a single class, 'cat'"),
        ({"cat/a.jpg": b"", "dog/.jpg": b""}, "dog' has no images"),
        ({"cat/a.jpg": b"", "cat/b.jpg": b"", "dog/a.jpg": b""}, "'dog' has a single image"),
    ],
)
def test_folders_that_are_no_dataset(tmp_path, files, message):
    with pytest.raises(DataError, match=message) as caught:
        data.load("folder", write(tmp_path, files))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("folder", {}, "needs `data_dir`"),
        ("folder", dict(data_dir="missing"), "'missing' does not exist"),
        ("folder", dict(data_dir=__file__), "is a file"),
        ("folder", dict(data_dir="x" * 300), "cannot be read: File name too long"),
        ("folder", dict(data_dir=".", train_split="train"), "no option `train_split`"),
        ("digits", dict(data_dir="."), "'digits' has no option `data_dir`"),
        ("cifar10", dict(data_dir=".", validation_fraction=0.1), "belongs to folder"),
    ],
)
def test_what_load_refuses(name, options, message):
    with pytest.raises(DataError, match=message):
        data.load(name, **options)


@pytest.mark.parametrize("fraction", [0, 1, -0.1, 2])
def test_fractions_out_of_range(tmp_path, fraction):
    with pytest.raises(DataError, match=rf"in \(0, 1\), received {fraction}"):
        data.load("folder", photos(tmp_path), validation_fraction=fraction)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may read all")
def test_a_directory_that_may_not_be_read(tmp_path):
    photos(tmp_path)
    (tmp_path / "cat").chmod(0)
    try:
        with pytest.raises(DataError, match="cat' cannot be read: Permission denied"):
            data.load("folder", tmp_path)
    finally:
        (tmp_path / "cat").chmod(0o700)


# ---------------------------------------------------------------- TensorFlow Datasets


def test_imagenet_from_the_official_archives(tfds_dirs):
    for file_format, kind in zip(FORMATS, (RecordSplit, SourceSplit, SourceSplit), strict=True):
        dataset = data.load("imagenet2012", tfds_dirs[file_format])
        assert type(dataset.train) is kind
        assert (dataset.train.size, dataset.validation.size) == (30, 10)
        assert dataset.train.image_shape == (None, None, 3)
        assert len(dataset.class_names) == 1000 and dataset.class_names[0] == "n01440764"
        for example in dataset.train.examples().as_numpy_iterator():
            wnid, _, number = example["name"].decode().split()[1].partition("_")
            assert dataset.class_names[example["label"]] == wnid
            key = (CLASSES.index(wnid), int(number.removesuffix(".JPEG")))
            assert example["image"] == tiny_imagenet.jpeg(key)  # the file itself, undecoded


CLASSES = ["n01440764", "n01443537", "n02123045"]


def test_parts_of_splits(tfds_dirs):
    whole = data.load("imagenet2012", tfds_dirs["tfrecord"]).train
    dataset = data.load(
        "imagenet2012:5.*",
        tfds_dirs["tfrecord"],
        train_split="train[:50%]+train[80%:]",
        validation_split="train[50%:80%]",
    )
    names = [e["name"].split()[1] for e in whole.examples().as_numpy_iterator()]
    halves = [
        [e["name"].split()[1] for e in s.examples().as_numpy_iterator()]
        for s in (dataset.train, dataset.validation)
    ]
    assert halves == [names[:15] + names[24:], names[15:24]]
    assert sorted(indices(dataset.train.examples(order_seed=0))) == list(range(21))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "imagenet2013",
            {},
            "no 'imagenet2013' under .*, but imagenet2012.*`tfds build imagenet2013",
        ),
        ("imagenet2012:6.*", {}, r"has no version '6.\*', but 5.1.0"),
        (
            "imagenet2012",
            dict(train_split="test"),
            "no split 'test'. Its splits are train, validation",
        ),
        ("imagenet2012", dict(train_split="train[5"), r"no split 'train\[5'"),
        ("imagenet2012", dict(train_split="train[:0]"), "has no images|corresponds to no"),
        ("imagenet2012", dict(train_split="train", validation_split="train[90%:]"), "share images"),
    ],
)
def test_sets_and_splits_that_are_not_there(tfds_dirs, name, options, message):
    with pytest.raises(DataError, match=message):
        data.load(name, tfds_dirs["tfrecord"], **options)


def _write_set(tfds, folder, features, examples):
    """A prepared set `tiny` with a single split -> its data_dir"""
    with tfds.core.registered.skip_registration():  # two tests have one of that name

        class Tiny(tfds.core.GeneratorBasedBuilder):
            VERSION = tfds.core.Version("1.0.0")

            def _info(self):
                return self.dataset_info_from_configs(features=features)

            def _split_generators(self, manager):
                return {"train": enumerate(examples)}

            def _generate_examples(self):
                raise AssertionError("not called")

    Tiny(data_dir=folder).download_and_prepare()
    return folder


def test_grey_arrays_and_sets_without_validation(tmp_path):
    import tensorflow_datasets as tfds

    random = np.random.default_rng(0)
    examples = [
        {"image": random.integers(0, 256, (6, 5, 1), "uint8"), "label": n % 2} for n in range(9)
    ]
    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(6, 5, 1)),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
    )
    _write_set(tfds, tmp_path, features, examples)
    with pytest.raises(DataError, match="no split for validation, only train: divide it"):
        data.load("tiny", tmp_path)
    dataset = data.load("tiny", tmp_path, train_split="train[:6]", validation_split="train[6:]")
    assert dataset.train.image_shape == (6, 5, 1)
    seen = [
        b
        for split in (dataset.train, dataset.validation)
        for b in listed(stream.evaluation_batches(split, None, 3))
    ]
    pixels = np.concatenate([p for p, _, _ in seen])
    key = lambda image: image.tobytes()  # noqa: E731
    expected = sorted((e["image"] for e in examples), key=key)
    np.testing.assert_array_equal(sorted(pixels, key=key), expected)


def test_labels_of_a_set_must_be_classes(tmp_path):
    """The labels of a test split may be secret, -1 for each image."""
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(6, 5, 1)),
            "label": tfds.features.ClassLabel(num_classes=2),
        }
    )
    image = np.zeros((6, 5, 1), np.uint8)
    _write_set(tfds, tmp_path, features, [{"image": image, "label": n - 1} for n in range(3)])
    dataset = data.load("tiny", tmp_path, train_split="train[:2]", validation_split="train[2:]")
    assert dataset.summary.endswith("(2 images), validation on 'train[2:]' (1 image).")
    with (
        pytest.raises(
            DataError, match=r"^The label -1 of the image train.*\[0\] is none of .* 0 to 1:"
        ),
        stream.sentences(dataset.train),
    ):
        listed(stream.batches(dataset.train, None, None, 2, seed=None, epoch=0))


def test_a_set_that_is_not_for_classification(tmp_path):
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict({"text": tfds.features.Text()})
    _write_set(tfds, tmp_path, features, [{"text": "a"}])
    with pytest.raises(DataError, match="does not consist of images with one label each.*has text"):
        data.load("tiny", tmp_path)


# ---------------------------------------------------------------- damaged records


def _damage_of(kind, file):
    whole = file.read_bytes()
    if kind == "cut":
        return whole[:-100]
    if kind == "flipped":
        return whole[:200] + bytes([whole[200] ^ 1]) + whole[201:]
    length = int.from_bytes(whole[:8], "little")  # the first record only: no sign of the others
    return whole[: 8 + 4 + length + 4]


@pytest.fixture(params=["cut", "flipped", "cut between records"])
def damaged(request, tfds_dirs, tmp_path):
    """Returns the `data_dir` of a set with one damaged file, and the file's name."""
    shutil.copytree(tfds_dirs["tfrecord"], tmp_path, dirs_exist_ok=True)
    (file,) = tmp_path.rglob("*train*-00001-of-00003")
    file.write_bytes(_damage_of(request.param, file))
    return tmp_path, file.name


def test_damaged_records_end_the_run_with_the_files_name(damaged):
    data_dir, file = damaged
    split = data.load("imagenet2012", data_dir).train
    pipelines = (
        stream.batches(split, Resize, None, 4, 0, 0, drop_remainder=False),
        stream.evaluation_batches(split, EVALUATION, 4),
    )
    for batches in pipelines:
        with pytest.raises(DataError, match=f"{file} of the split 'train'"):
            with stream.sentences(split):
                listed(batches)
    with pytest.raises(ZeroDivisionError), stream.sentences(split):  # other errors stay
        raise ZeroDivisionError


def test_a_short_file_is_noticed_where_it_ends(tfds_dirs, tmp_path):
    """Not only at the end of the epoch: what follows would have the wrong index."""
    shutil.copytree(tfds_dirs["tfrecord"], tmp_path, dirs_exist_ok=True)
    (file,) = tmp_path.rglob("*train*-00000-of-00003")
    file.write_bytes(_damage_of("cut between records", file))
    split = data.load("imagenet2012", tmp_path).train
    with pytest.raises(DataError, match="00000-of-00003 .* has 1 records instead of"):
        with stream.sentences(split):
            indices(split.examples().take(2))


# ---------------------------------------------------------------- verification


def _verify(*arguments):
    return verify_data.main([str(argument) for argument in arguments])


def test_every_bad_image_is_listed(mixed, tmp_path, capsys):
    for file in ("dot.png", "line.JPEG"):
        os.rename(mixed / "cat" / file, mixed / "dog" / file)
    report = tmp_path / "report.json"
    before = {path: path.read_bytes() for path in mixed.glob("*/*")}
    assert _verify(mixed, "--workers", 2, "--report", report) == 1
    output = capsys.readouterr().out
    for name, (_, reason) in (
        BAD | {n: (b"", "a side of one pixel") for n in ("dot.png", "line.JPEG")}
    ).items():
        (line,) = [line for line in output.splitlines() if name in line and "Warning" not in line]
        assert reason in line
    assert "7 of 65 images are bad (all 65)." in output
    written = json.loads(report.read_text())
    assert {Path(bad["name"]).name for bad in written["bad"]} == {*BAD, "dot.png", "line.JPEG"}
    assert written["images"] == {"all": 65}
    assert [Path(name).name for name in written["notes"]["CMYK"]] == ["cmyk.jpg"]
    assert {path: path.read_bytes() for path in before} == before


def test_what_is_unusual_is_no_error(tmp_path, capsys):
    photos(tmp_path, each=2)
    frames = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue")]
    frames[0].save(tmp_path / "cat/moving.gif", save_all=True, append_images=frames[1:])
    deep = Image.fromarray(np.arange(900, dtype=np.uint16).reshape(30, 30) * 70)
    deep.save(tmp_path / "cat/deep.png")
    turned = Image.Exif()
    turned[ExifTags.Base.Orientation] = 6
    Image.new("RGB", (9, 8)).save(tmp_path / "cat/turned.jpg", exif=turned)
    assert _verify(tmp_path) == 0
    output = capsys.readouterr().out
    for note, name in {"animated": "moving", "16-bit": "deep", "rotated by EXIF": "turned"}.items():
        (line,) = [line for line in output.splitlines() if f"1 image is {note}" in line]
        assert name in line
    assert "0 of 7 images are bad" in output


def test_the_same_image_twice(tmp_path, capsys):
    photos(tmp_path / "train", each=3)
    same = content(seed=77)
    write(tmp_path, {"train/cat/x.jpg": same, "val/cat/y.jpg": same, "val/dog/z.jpg": same})
    write(tmp_path, {"train/cat/again.jpg": same})
    assert _verify(tmp_path) == 0
    output = capsys.readouterr().out
    assert "1 image occurs in two splits" in output and "y.jpg" in output
    assert "1 image occurs in two classes" in output and "z.jpg" in output
    assert "1 image occurs more than once" in output
    assert "(train 8, val 2)" in output


def test_a_prepared_set_is_verified(tfds_dirs, capsys):
    assert _verify("imagenet2012", "--data_dir", tfds_dirs["tfrecord"]) == 0
    assert "0 of 40 images are bad (train 30, validation 10)." in capsys.readouterr().out


def test_bad_images_and_records_of_a_prepared_set(damaged, capsys):
    data_dir, file = damaged
    assert _verify("imagenet2012", "--data_dir", data_dir) == 1
    output = capsys.readouterr().out
    assert f"{file} of the split 'train'" in output
    assert "validation 10" in output  # the other split is looked at all the same


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["/missing"], "'/missing' does not exist"),
        (["no_such_set", "--data_dir", "."], "no 'no_such_set'"),
        (["digits"], "is in memory"),
        ([".", "--workers", "0"], "--workers must be at least 1"),
        ([".", "--report", "missing/report.json"], "'missing' does not exist"),
        (["missing"], "There is no directory 'missing', and no prepared set of that name under"),
        ([], "required: data"),
    ],
)
def test_wrong_usage_of_the_verification(arguments, message, capsys):
    try:
        status = verify_data.main(arguments)
    except SystemExit as stopped:
        status = stopped.code
    assert status == 2
    assert message in capsys.readouterr().err


@on_one_backend
def test_the_verification_as_a_command(tmp_path):
    write(photos(tmp_path, each=1), {"cat/bad.jpg": b"bad"})
    done = subprocess.run(
        [sys.executable, "-m", "training.verify_data", str(tmp_path)],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 1, done.stderr
    assert done.stdout.splitlines() == [
        f"{tmp_path / 'cat/bad.jpg'}: not an image",
        "1 of 3 images are bad (all 3).",
    ]
    assert "Traceback" not in done.stderr
