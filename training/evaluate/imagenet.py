"""The sets that ImageNet classifiers are measured on, as encoded images with their labels.

Each is read from where TensorFlow Datasets has prepared it, or from folders of images as its
authors distribute it. Images are handed out as the bytes of their files, so that the decoder and
the transform are the evaluation's own. Nothing is downloaded.

Labels are positions in the order of the WordNet ids ("wnids") of the 1000 classes, which is the
order of every published ImageNet-1K classifier.
"""

import dataclasses
import functools
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path

from ..data.dataset import DataError, tensorflow, untuned

CORRUPTIONS = (
    "gaussian_noise",
    "shot_noise",
    "impulse_noise",
    "defocus_blur",
    "glass_blur",
    "motion_blur",
    "zoom_blur",
    "snow",
    "frost",
    "fog",
    "brightness",
    "contrast",
    "elastic_transform",
    "pixelate",
    "jpeg_compression",
)
SEVERITIES = (1, 2, 3, 4, 5)
WNID = re.compile(r"n\d{8}")
VERSION = re.compile(r"\d+\.\d+\.\d+")
IMAGES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm")


@dataclasses.dataclass(frozen=True)
class Set:
    """A set by name.

    Attributes:
        name: as in TensorFlow Datasets.
        split: the one that is measured.
        examples: how many there are in the published set.
        configs: what the set is divided into; each gives its own numbers. The first is the default,
            unless all of them are needed.
        restricted: the classifier chooses among the classes that occur in the set only.
        label: the feature with the label or labels. Images with no label at all are left out.
        is_cropped: the images are centre crops already.
    """

    name: str
    split: str
    examples: int
    configs: tuple[str, ...] = ()
    restricted: bool = False
    label: str = "label"
    is_cropped: bool = False

    def chosen(self, config):
        """Returns the configs to measure; (None,) where the set has none."""
        if config is not None:
            if config not in self.configs:
                raise DataError(
                    f"{self.name} has no part {config!r}. Its parts: {', '.join(self.configs)}."
                )
            return (config,)
        return self.configs if self.is_cropped else self.configs[:1] or (None,)


SETS = {
    row.name: row
    for row in (
        Set("imagenet2012", "validation", 50_000),
        Set(
            "imagenet_v2", "test", 10_000, ("matched-frequency", "threshold-0.7", "topimages")
        ),  # arXiv 1902.10811
        Set("imagenet_a", "test", 7_500, restricted=True),  # arXiv 1907.07174
        Set("imagenet_r", "test", 30_000, restricted=True),  # arXiv 2006.16241
        Set("imagenet_sketch", "test", 50_889),  # arXiv 1905.13549
        Set("imagenet2012_real", "validation", 50_000, label="real_label"),  # arXiv 2006.07159
        Set(
            "imagenet2012_corrupted",  # arXiv 1903.12261
            "validation",
            50_000,
            tuple(f"{corruption}_{level}" for corruption in CORRUPTIONS for level in SEVERITIES),
            is_cropped=True,
        ),
    )
}


@dataclasses.dataclass(frozen=True)
class Example:
    """An encoded image, the labels that count as right, and the image's name for messages."""

    image: bytes
    labels: tuple[int, ...]
    name: str


@dataclasses.dataclass(frozen=True)
class Part:
    """Labelled images that are measured together.

    Attributes:
        data: name of the set, with `/config` where it has some, or the path of a folder.
        version: of the prepared set, or `"folder"`.
        examples: how many images there are.
        read: yields every `Example` once, in a fixed order; raises `DataError`.
        subset: returns the labels that the classifier chooses among, in order; None for all.
        classes: how many the classifier must have, or None where any number will do.
        is_cropped: the images are centre crops already.
        is_whole: all images of the published set are there.
    """

    data: str
    version: str
    examples: int
    read: Callable[[], Iterator[Example]]
    subset: Callable[[], tuple[int, ...] | None]
    classes: int | None
    is_cropped: bool = False
    is_whole: bool = False


def parts(data, data_dir=None):
    """Returns what `data` consists of, a list of `Part`.

    Args:
        data: a key of `SETS`; `"name/config"` for one part of it; or the path of a folder with a
            folder of images per class. These are named by wnid, or by number (the label), or in any
            other way (then sorted, one for each class of the classifier).
        data_dir: of a named set: where TensorFlow Datasets keeps its sets (default:
            `TFDS_DATA_DIR`, else `~/tensorflow_datasets`), or the set's own folder of class folders
            as its authors distribute it; for `imagenet2012_corrupted` that of the corruptions,
            each with the folders 1 to 5.

    Raises:
        DataError: if there is no such set, or nothing of it at that place.
    """
    name, _, config = data.partition("/")
    if name in SETS:
        row = SETS[name]
        return [_named(row, choice, data_dir) for choice in row.chosen(config or None)]
    if not Path(data).is_dir():
        raise DataError(f"{data!r} is neither a known set nor a folder. Known: {', '.join(SETS)}.")
    if data_dir is not None:
        raise DataError("`data_dir` belongs to a named set; a folder is given as the data itself.")
    return [_folder(Path(data), str(Path(data).resolve()))]


def _named(row, config, data_dir):
    label = row.name if config is None else f"{row.name}/{config}"
    default = os.environ.get("TFDS_DATA_DIR") or "~/tensorflow_datasets"
    data_dir = Path(data_dir or default).expanduser()
    prepared = _newest_version(data_dir / label)
    if prepared is not None:
        return _prepared(row, label, prepared)
    folder = data_dir.joinpath(*config.rsplit("_", 1)) if row.is_cropped else data_dir
    if row.label == "label" and any(WNID.fullmatch(p.name) or p.name == "0" for p in _dirs(folder)):
        return _folder(folder, label, row)
    raise DataError(
        f"No {label} under {data_dir}: neither {label}/<version> as TensorFlow Datasets writes it, "
        f"nor class folders in {folder}. Prepare it with `tfds build {label}`, or say where it is "
        "with --data_dir."
    )


def _newest_version(folder):
    versions = [p for p in _dirs(folder) if VERSION.fullmatch(p.name)]
    versions = [p for p in versions if (p / "dataset_info.json").exists()]
    return max(versions, default=None, key=lambda p: tuple(map(int, p.name.split("."))))


def _dirs(folder):
    return sorted(p for p in folder.iterdir() if p.is_dir()) if folder.is_dir() else []


# ---------------------------------------------------------------- as TensorFlow Datasets has it


def _tfds():
    try:
        tensorflow()  # which then leaves accelerators alone, if it only reads
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise DataError(
            f"{error}. Reading prepared sets, and folders of some of the classes only, needs "
            "`pip install tensorflow tensorflow-datasets importlib_resources`."
        ) from None
    return tfds


@functools.cache
def wnids():
    """The wnids of the 1000 classes, in order."""
    path = _tfds().core.tfds_path("datasets/imagenet2012/labels.txt")
    return tuple(path.read_text().split())


def _prepared(row, label, folder):
    tfds = _tfds()
    try:
        builder = tfds.builder_from_directory(str(folder))
        examples = builder.info.splits[row.split].num_examples
        feature = builder.info.features[row.label]
    except Exception as error:  # whatever a damaged description makes the library raise
        raise DataError(f"{folder}: unreadable as a prepared set ({error!r}).") from error
    # real labels are a sequence of class labels
    names = (feature.feature if hasattr(feature, "feature") else feature).names
    positions = _positions(names, folder)
    return Part(
        data=label,
        version=folder.name,
        examples=examples,
        read=lambda: _read_prepared(builder, row, positions),
        subset=lambda: _occurring(builder, row, positions) if row.restricted else None,
        classes=1000,
        is_cropped=row.is_cropped,
        is_whole=examples == row.examples,
    )


def _positions(names, where):
    """Returns the label of each wnid."""
    order = {wnid: position for position, wnid in enumerate(wnids())}
    unknown = [name for name in names if name not in order]
    if unknown:
        raise DataError(f"{where}: {unknown[:5]} are no wnids of ImageNet-1K classes.")
    return [order[name] for name in names]


def _read_prepared(builder, row, positions):
    skip = {"image": _tfds().decode.SkipDecoding()}
    for count, example in enumerate(_iterate(builder, row, decoders=skip)):
        labels = example[row.label].reshape(-1)
        name = example.get("file_name", str(count).encode()).decode()
        yield Example(example["image"], tuple(positions[label] for label in labels), name)


def _occurring(builder, row, positions):
    """The labels that occur: the label feature of such a set has all 1000 names."""
    decoders = _tfds().decode.PartialDecoding({row.label: True})
    examples = _iterate(builder, row, decoders=decoders)
    return tuple(sorted({positions[example[row.label]] for example in examples}))


def _iterate(builder, row, **kwargs):
    import tensorflow as tf

    count, expected = 0, builder.info.splits[row.split].num_examples
    try:
        dataset = untuned(builder.as_dataset(split=row.split, shuffle_files=False, **kwargs))
        for example in dataset.as_numpy_iterator():
            count += 1
            yield example
    except (tf.errors.OpError, NotImplementedError, AssertionError) as error:
        raise DataError(
            f"{builder.data_dir}: reading failed after {count} of {expected} examples ({error}). "
            "Prepare the set again, in the tfrecord format."
        ) from error
    if count != expected:
        raise DataError(f"{builder.data_dir}: ended after {count} of {expected} examples.")


# ---------------------------------------------------------------- folders of images


def _folder(folder, label, row=None):
    classes = _dirs(folder)
    if not classes:
        raise DataError(f"{folder} holds no class folders.")
    names = [p.name for p in classes]
    labels, count = _folder_labels(names, folder)
    files = [
        (file, label)
        for directory, label in zip(classes, labels, strict=True)
        for file in sorted(directory.iterdir())
        if file.suffix.lower() in IMAGES
    ]
    if not files:
        raise DataError(f"{folder}: its class folders hold no images ({', '.join(IMAGES)}).")
    occurring = tuple(sorted({label for _, label in files}))
    return Part(
        data=label,
        version="folder",
        examples=len(files),
        read=lambda: _read_files(folder, files),
        subset=lambda: occurring if row is not None and row.restricted else None,
        classes=count,
        is_cropped=row is not None and row.is_cropped,
        is_whole=row is not None and len(files) == row.examples,
    )


def _folder_labels(names, folder):
    """Returns the label of each folder, and the number of classes that are needed, or None."""
    if all(map(WNID.fullmatch, names)):
        # all 1000 are their own order; only for fewer the list is needed
        return (range(1000) if len(names) == 1000 else _positions(names, folder)), 1000
    if all(map(str.isdecimal, names)):  # as text "10" would come before "2"
        return [int(name) for name in names], None
    return range(len(names)), len(names)


def _read_files(folder, files):
    for file, label in files:
        yield Example(file.read_bytes(), (label,), str(file.relative_to(folder)))
