"""Prepared classification sets of TensorFlow Datasets. Nothing is downloaded here."""

import dataclasses
import fnmatch
import os
import re
from pathlib import Path

import numpy as np

from .dataset import DataError, Dataset, IndexedSplit, Split, cores, is_kept, tensorflow, untuned
from .listing import counted

VERSION = re.compile(r"\d+\.\d+\.\d+")
FILE_NAMES = ("file_name", "filename", "image/filename")
# Record files are read from front to back. First the files are shuffled, then, in windows of this
# many bytes, the records that come from several of them at once.
WINDOW_BYTES = 2**29
FILES_AT_ONCE, BLOCK = 16, 16


def prepared_set(name, data_dir=None, train_split=None, validation_split=None):
    """Returns the Dataset of a prepared set.

    Args:
        name: as in TFDS: `"cifar10"`, `"imagenet_v2/matched-frequency"` or, with a version,
            `"tf_flowers:3.*"`; the newest version where none is given.
        data_dir: where TFDS keeps its sets, default `TFDS_DATA_DIR`, else `~/tensorflow_datasets`.
        train_split, validation_split: as in TFDS, such as `"train[:90%]"`; default `"train"`, and
            `"validation"`, else `"test"`.

    Raises:
        DataError: if the set is missing, does not consist of labelled images, or a split is
            unknown, empty, or has images of the other.
    """
    builder = open_builder(name, data_dir)
    check_features(builder)
    train, validation = two_splits(builder, train_split, validation_split)
    names = class_names(builder)
    return Dataset(name, names, train, validation, summary=_summary(builder, train, validation))


def _summary(builder, train, validation):
    text = (
        f"{len(class_names(builder))} classes; {builder.info.full_name}: training on "
        f"{train.name!r} ({counted(train.size, 'image')}), validation on {validation.name!r} "
        f"({counted(validation.size, 'image')})"
    )
    if validation.name != "test":
        return f"{text}."
    return (
        f"{text}, so that the test images choose the best epoch; --train_split='train[:90%]' and "
        "--validation_split='train[90%:]' keep them apart."
    )


def two_splits(builder, train_split=None, validation_split=None, form=None):
    """Returns the splits of `prepared_set`, which share no images; `form` as of `read_split`."""
    train_split = train_split or "train"
    validation_split = validation_split or _default_validation(builder)
    infos = [_split_info(builder, split) for split in (train_split, validation_split)]
    _check_overlap(builder, *infos, train_split, validation_split)
    return read_split(builder, train_split, form), read_split(builder, validation_split, form)


# ---------------------------------------------------------------- where it is


def open_builder(name, data_dir=None, or_directory=False):
    """Returns the TFDS builder of a prepared set.

    Args:
        name, data_dir: as of `prepared_set`.
        or_directory: whether the name could as well be that of a directory of images, which is not
            there; the error says so.

    The directories are searched here and not by `tfds.builder`, which asks the network for what it
    does not find.

    Raises:
        DataError: if the set is missing or damaged.
    """
    try:
        tensorflow()
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            f"{error}. Reading {name!r} needs "
            "`pip install tensorflow tensorflow-datasets importlib_resources`."
        ) from None
    directory = _version_directory(name, data_dir, or_directory)
    try:
        return tfds.builder_from_directory(str(directory))
    except Exception as error:  # whatever a damaged description makes the library raise
        raise DataError(f"{directory} is unreadable as a prepared set ({error!r}).") from error


def _version_directory(name, data_dir, or_directory):
    root = Path(data_dir or os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets").expanduser()
    path, _, version = name.partition(":")
    place = _config_directory(root / path)
    versions = [p for p in _prepared_versions(place) if fnmatch.fnmatch(p.name, version or "*")]
    if not versions:
        raise DataError(_not_there(name, path, root, place, or_directory))
    return max(versions, key=lambda p: tuple(map(int, p.name.split("."))))


def _config_directory(place):
    """Returns the directory of the only configuration of a set, unless one is named."""
    if _prepared_versions(place):
        return place
    configs = [path for path in _directories(place) if _prepared_versions(path)]
    if len(configs) > 1:
        raise DataError(
            f"{place.name!r} has the configurations {', '.join(p.name for p in configs)}: choose "
            f"one, such as {place.name + '/' + configs[0].name!r}."
        )
    return configs[0] if configs else place


def _prepared_versions(place):
    return [
        path
        for path in _directories(place)
        if VERSION.fullmatch(path.name) and (path / "dataset_info.json").exists()
    ]


def _directories(place):
    try:
        return sorted(path for path in place.iterdir() if path.is_dir())
    except OSError:
        return []


def _not_there(name, path, root, place, or_directory):
    versions = [p.name for p in _prepared_versions(place)]
    if versions:
        return f"{place} has no version {name.partition(':')[2]!r}, but {', '.join(versions)}."
    there = [p.name for p in _directories(root) if _prepared_versions(_config_directory_or(p))]
    missing = f"There is no {name!r} under {root}"
    if or_directory:
        missing = f"There is no directory {name!r}, and no prepared set of that name under {root}"
    return (
        missing
        + (f", but {', '.join(there)}" if there else "")
        + f". Known without preparation are 'digits' and 'folder'; a set of TensorFlow Datasets is "
        f"prepared by `tfds build {path} --data_dir {root}`."
    )


def _config_directory_or(place):
    try:
        return _config_directory(place)
    except DataError:  # several configurations: any will do to say that the set is there
        return next(path for path in _directories(place) if _prepared_versions(path))


# ---------------------------------------------------------------- what is in it


def check_features(builder):
    """Raises DataError unless the set consists of images with one label each."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    label = features["label"] if "label" in features else None
    if not has_images(builder) or not isinstance(label, tfds.features.ClassLabel):
        raise DataError(
            f"{builder.info.full_name} does not consist of images with one label each: it needs "
            f"the features `image` (uint8) and `label`, and has {', '.join(features)}."
        )


def has_images(builder):
    """Returns whether each example of a set has one `image`, uint8."""
    import tensorflow_datasets as tfds

    features = builder.info.features
    image = features["image"] if "image" in features else None
    return isinstance(image, tfds.features.Image) and image.np_dtype == np.uint8


def class_names(builder):
    return tuple(builder.info.features["label"].names)


def usual_validation(builder):
    """Returns the name of the split that a set is validated on: "validation", else "test", `None`
    where it has neither."""
    return next((name for name in ("validation", "test") if name in builder.info.splits), None)


def _default_validation(builder):
    if (found := usual_validation(builder)) is None:
        raise DataError(
            f"{builder.info.full_name} has no split for validation, only "
            f"{', '.join(builder.info.splits)}: divide it, such as train_split='train[:90%]' and "
            "validation_split='train[90%:]'."
        )
    return found


def _split_info(builder, split):
    try:
        info = builder.info.splits[split]
        size = info.num_examples
    except (KeyError, ValueError, AssertionError) as error:
        raise DataError(
            f"{builder.info.full_name} has no split {split!r}. Its splits are "
            f"{', '.join(builder.info.splits)}, or parts of them, such as 'train[:90%]'."
        ) from error
    if not size:
        raise DataError(f"The split {split!r} of {builder.info.full_name} has no images.")
    return info


def _check_overlap(builder, train, validation, train_name, validation_name):
    stretches = [
        {(file.filename, file.skip, file.skip + file.take) for file in info.file_instructions}
        for info in (train, validation)
    ]
    for file, first, end in stretches[0]:
        for other, other_first, other_end in stretches[1]:
            if file == other and max(first, other_first) < min(end, other_end):
                raise DataError(
                    f"The splits {train_name!r} and {validation_name!r} of "
                    f"{builder.info.full_name} share images, so that accuracy would be measured "
                    "on what was learned: choose splits without overlap."
                )


# ---------------------------------------------------------------- reading it


def read_split(builder, split, form=None):
    """Returns the Split of that name: a `RecordSplit` of record files, a `SourceSplit` of other
    formats.

    `form` says what an example is; `None`: a `Labelled` image with one of the set's classes.
    """
    size = _split_info(builder, split).num_examples
    shape = builder.info.features["image"].shape
    kind = RecordSplit if builder.info.file_format.value == "tfrecord" else SourceSplit
    form = form or Labelled(len(class_names(builder)))
    return kind(split, size, shape, None, builder, form)


@dataclasses.dataclass(frozen=True)
class Labelled:
    """Images with one label each: what is read of an example, and what is made of it.

    Args:
        classes: number of classes; a label outside of [0, classes) ends the run. `None`: labels
            are not checked.
    """

    classes: int | None = None

    keys = ("image", "label")

    def decoders(self):
        import tensorflow_datasets as tfds

        return {key: tfds.decode.SkipDecoding() for key in self.keys if key != "label"}

    def features(self, builder):
        """Returns the features that are read: a set may have more, which would cost time."""
        import tensorflow_datasets as tfds

        features = builder.info.features
        names = [key for key in FILE_NAMES if key in features][:1]
        return tfds.features.FeaturesDict({key: features[key] for key in (*self.keys, *names)})

    def contract(self, tf, split, example, index):
        """Returns the example as `Split.examples` gives it; its name is such as `train[17]`, with
        the name of the file where it is known."""
        name = tf.strings.join([split, "[", tf.strings.as_string(index), "]"])
        for key in FILE_NAMES:
            if key in example:
                name = tf.strings.join([name, " ", example[key]])
        content = self.content(tf, example)
        if self.classes is not None:
            content["label"] = _checked_label(tf, content["label"], self.classes, name)
        return {**content, "index": index, "name": name}

    def content(self, tf, example):
        return {"image": example["image"], "label": tf.cast(example["label"], tf.int64)}


def _checked_label(tf, label, classes, name):
    """Returns the label after a check that it is a class: one-hot encoding makes zeros of others,
    which some sets have in splits whose labels are secret."""
    message = tf.strings.join(
        ["DataError: The label ", tf.strings.as_string(label), " of the image ", name]
        + [f" is none of the {classes} classes 0 to {classes - 1}: choose a split with labels."]
    )
    check = tf.debugging.Assert((label >= 0) & (label < classes), [message], summarize=1)
    with tf.control_dependencies([check] if check is not None else []):
        return tf.identity(label)


def _stretch_identity(split):
    """Yields the set and the stretches of its record files that a split consists of."""
    yield split.builder.info.full_name
    for stretch in split.builder.info.splits[split.name].file_instructions:
        yield f"{os.path.basename(stretch.filename)} {stretch.skip} {stretch.take}"


@dataclasses.dataclass(frozen=True, eq=False)
class SourceSplit(IndexedSplit):
    """Files with random access to their records: array_record, parquet."""

    builder: object
    form: Labelled = Labelled()

    def _reader(self, tf):
        source = self.builder.as_data_source(self.name, decoders=self.form.decoders())
        keys = tuple(self.form.features(self.builder))
        types = [tf.int64 if key == "label" else tf.string for key in keys]

        def fetch(index):
            example = source[int(index)]
            return [np.int64(example[k]) if k == "label" else example[k] for k in keys]

        def read(index):
            values = tf.numpy_function(fetch, [index], types, stateful=False)
            example = {k: tf.ensure_shape(v, ()) for k, v in zip(keys, values, strict=True)}
            return self.form.contract(tf, self.name, example, index)

        return read

    def _identity(self):
        return _stretch_identity(self)


@dataclasses.dataclass(frozen=True, eq=False)
class RecordSplit(Split):
    """tfrecord files, which can only be read from front to back.

    In the fixed order the files follow each other. Otherwise their order is a permutation, some of
    them are read at once in turn, and what comes is shuffled in windows; a set of less than
    `WINDOW_BYTES` is one window, so that every permutation can occur.
    """

    builder: object
    form: Labelled = Labelled()

    def _examples(self, start, part, order_seed, epoch):
        tf = tensorflow()
        features, decoders = self.form.features(self.builder), self.form.decoders()
        records = self._ordered(tf, order_seed, epoch).skip(start)
        if part is not None:
            records = self._kept(tf, records, start, part)

        def parse(index, record):
            example = features.deserialize_example(record, decoders=decoders)
            return self.form.contract(tf, self.name, example, index)

        return records.map(parse, num_parallel_calls=cores(), deterministic=True)

    def _ordered(self, tf, order_seed, epoch):
        """Returns a dataset of (place in the fixed order, record) in the order of an epoch."""
        files = len(self._stretches())
        if order_seed is None:
            return self._records(tf, np.arange(files), 1)
        random = np.random.default_rng((order_seed, epoch))
        records = self._records(tf, random.permutation(files), FILES_AT_ONCE)
        return self._shuffled(tf, records, random)

    def _kept(self, tf, records, start, part):
        places = records.enumerate(start)
        records = places.filter(lambda place, _: is_kept(place, part)).map(lambda _, kept: kept)
        size = int(is_kept(np.arange(start, self.size), part).sum())
        return records.apply(tf.data.experimental.assert_cardinality(size))

    def _stretches(self):
        return self.builder.info.splits[self.name].file_instructions

    def _records(self, tf, order, at_once):
        """Returns a dataset of (place in the fixed order, record), files in the given order."""
        stretches = self._stretches()
        takes = np.array([stretch.take for stretch in stretches], "int64")
        columns = (
            np.array([os.fspath(stretch.filename) for stretch in stretches])[order],
            np.array([stretch.skip for stretch in stretches], "int64")[order],
            takes[order],
            (np.cumsum(takes) - takes)[order],
        )

        def stretch(file, skip, take, first):
            records = tf.data.TFRecordDataset(file).skip(skip).take(take)
            # a file that was cut between two records has no other sign of it
            whole = records.apply(tf.data.experimental.assert_cardinality(take))
            return whole.enumerate(first)

        records = tf.data.Dataset.from_tensor_slices(columns).interleave(
            stretch,
            cycle_length=at_once,
            block_length=BLOCK,
            num_parallel_calls=min(at_once, cores()),
            deterministic=True,
        )
        return records.apply(tf.data.experimental.assert_cardinality(self.size))

    def _shuffled(self, tf, records, random):
        # Not `Dataset.shuffle`, whose order depends on TensorFlow's global seed too.
        window = self._window()
        keys = tf.constant(random.integers(2**31, size=(-(-self.size // window), 2)))

        def shuffle(number, content):
            places, records = content
            order = tf.range(tf.size(places))
            order = tf.random.experimental.stateless_shuffle(order, keys[number])
            return tf.gather(places, order), tf.gather(records, order)

        windows = records.batch(window).enumerate().map(shuffle).prefetch(1)
        return windows.unbatch().apply(tf.data.experimental.assert_cardinality(self.size))

    def _window(self):
        info = self.builder.info
        mean = max(1, info.dataset_size // max(1, info.splits.total_num_examples))
        return int(min(self.size, max(1024, WINDOW_BYTES // mean)))

    def _identity(self):
        return _stretch_identity(self)

    def damage(self):
        tf = tensorflow()
        for stretch in self._stretches():
            file = f"The record file {os.fspath(stretch.filename)} of the split {self.name!r}"
            try:
                records = untuned(tf.data.TFRecordDataset(os.fspath(stretch.filename)))
                count = sum(1 for _ in records)
            except tf.errors.OpError as error:
                yield f"{file} is damaged: {_core(error)}."
                continue
            if count != stretch.examples_in_shard:
                yield f"{file} has {count} records instead of {stretch.examples_in_shard}."


def _core(error):
    """Returns TensorFlow's message without the names of its own functions."""
    return re.sub(r"\{\{.*?\}\}|\[Op:.*|\[\[.*", "", error.message, flags=re.DOTALL).strip()
