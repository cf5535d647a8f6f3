"""A directory with a folder of images for each class becomes a `Dataset`.

`training.data.layout` says which directories are understood. Where there is no folder for
validation, a part of each class is kept for it; images for testing are never used in training.
Photos are turned as their EXIF says, as a `Classifier` does; `upright=False` takes them as they are
stored, as every published evaluation does.
"""

import dataclasses
import os
import warnings

import numpy as np
from PIL import features

from keras_convnext.images import upright_file

from .dataset import DataError, Dataset, IndexedSplit
from .duplicates import leaks
from .layout import recognise
from .listing import counted, readable, unreadable

VALIDATION_FRACTION = 0.2
SHOWN_CLASSES = 10


@dataclasses.dataclass(frozen=True, eq=False)
class FileSplit(IndexedSplit):
    """Image files; the name of an image is its path.

    Attributes:
        paths: of the files, a tuple of strings.
        root: the directory relative to which the fingerprint names the files.
        upright: whether an image is turned as its EXIF says.
    """

    paths: tuple
    root: str = os.sep
    upright: bool = False

    def _reader(self, tf):
        # As bytes, because the name of a file need not be text.
        paths = tf.constant([os.fsencode(path) for path in self.paths], tf.string)
        labels = tf.constant(self.labels)

        def read(index):
            path = paths[index]
            image = tf.io.read_file(path)
            if self.upright:
                image = tf.numpy_function(upright_file, [image], tf.string, stateful=False)
                image = tf.ensure_shape(image, ())
            return {"image": image, "label": labels[index], "name": path}

        return read

    def damage(self):
        for path in self.paths:
            try:
                with open(path, "rb") as file:
                    file.read(1)
            except OSError as error:
                yield f"{path!r} cannot be read: {error.strerror}."

    def _identity(self):
        for path, label in zip(self.paths, self.labels, strict=True):
            yield f"{label} {file_identity(path, self.root)}"


def file_identity(path, root):
    """Returns the name of a file relative to `root`, with `/` on every system, and its size."""
    try:
        size = os.stat(path).st_size
    except OSError as error:
        raise unreadable(path, error) from error
    return f"{os.path.relpath(path, root).replace(os.sep, '/')} {size}"


def file_split(name, paths, labels, root=os.sep, upright=False):
    """Returns the FileSplit of these paths, in their order."""
    labels, shape = np.asarray(labels, "int64"), (None, None, 3)
    return FileSplit(name, len(paths), shape, labels, tuple(paths), str(root), upright)


def folder(data_dir, validation_fraction=None, split_seed=None, class_names=None, upright=True):
    """Returns the Dataset of the images under `data_dir`.

    Classes are the names of the folders in natural order, so that 2 comes before 10. Images are
    the files with one of `images.SUFFIXES` in any case, in folders below too; hidden files and
    those of operating systems are ignored, all others are counted in a warning.

    Args:
        data_dir: the directory.
        validation_fraction: of each class, in (0, 1), where there is no folder for validation;
            default 0.2. At least one image of each class, and not all, are kept.
        split_seed: of that choice, default 0. It is not the seed of the training, so that runs
            with different seeds are measured on the same images.
        class_names: the order of the classes, such as the record of a trained model has it.
        upright: whether photos are turned as their EXIF says.

    Raises:
        DataError: if directory, classes or images are missing, or too few to divide, if the layout
            is ambiguous, or the arguments contradict what is there.

    Warns:
        UserWarning: about each kind of file or folder that is not used, and about images that are
            in two splits.
    """
    layout = recognise(data_dir, class_names)
    _check_formats(layout)
    parts, how = _parts(layout, validation_fraction, split_seed)
    splits = {name: _split(name, part, layout, upright) for name, part in parts.items()}
    for note in (*layout.notes, *leaks(splits)):
        warnings.warn(note, stacklevel=3)
    return Dataset(
        str(layout.root),
        layout.class_names,
        splits["train"],
        splits["validation"],
        splits.get("test"),
        summary=_summary(layout, splits, how),
        divided="validation" not in layout.splits,
    )


def order_has_changed(dataset):
    """Returns whether versions before 0.2 had the classes of this folder in another order: they
    sorted names as text, 10 before 2."""
    names = list(dataset.class_names)
    return isinstance(dataset.train, FileSplit) and names != sorted(names)


def every_split(data_dir):
    """Returns all images under a directory: `{"all": FileSplit}`, or one for each folder of a
    split, under its name there, such as "train", "valid" and "test".

    Unlike `folder` it divides nothing, so that any number of images will do.

    Raises:
        DataError: as `folder`.

    Warns:
        UserWarning: about each kind of file or folder that is not used.
    """
    layout = recognise(data_dir)
    for note in layout.notes:
        warnings.warn(note, stacklevel=2)
    names = {split: layout.place(split).rstrip("/") for split in layout.splits}
    if not layout.has_splits:
        names = {"all": "all"}
    return {names[split]: _split(names[split], layout.splits[split], layout) for split in names}


def _split(name, listing, layout, upright=False):
    position = {key: label for label, key in enumerate(layout.class_names)}
    pairs = [(path, position[key]) for key, paths in listing.items() for path in paths]
    paths, labels = zip(*pairs, strict=True) if pairs else ((), ())
    return file_split(name, paths, labels, layout.root, upright)


def _check_formats(layout):
    paths = (path for part in layout.splits.values() for paths in part.values() for path in paths)
    first = next((path for path in paths if path.lower().endswith(".avif")), None)
    if first and not features.check("avif"):
        raise DataError(
            f"{first!r} is an AVIF file, which the installed Pillow cannot read: install Pillow "
            "11.3 or later, or convert these files to PNG."
        )


# ---------------------------------------------------------------- training and validation


def _parts(layout, fraction, seed):
    """Returns {split: {class: paths}}, and in words how images for validation were chosen."""
    splits = layout.splits
    if "validation" in splits:
        _refuse_split_options(layout.places["validation"], fraction, seed)
        if not layout.count("validation"):
            raise DataError(
                f"{str(layout.places['validation'])!r} has no images: add some, or remove the "
                "folder, so that a part of the training images is kept for validation."
            )
        return splits, f"validation on {layout.place('validation')}"
    fraction = VALIDATION_FRACTION if fraction is None else fraction
    train = splits["train" if layout.has_splits else "all"]
    parts = _divided(train, layout.class_names, fraction, seed or 0)
    if "test" in splits:
        parts["test"] = splits["test"]
    return parts, f"validation on {fraction:g} of each class, chosen with seed {seed or 0}"


def _refuse_split_options(validation, fraction, seed):
    for option, value in (("validation_fraction", fraction), ("split_seed", seed)):
        if value is not None:
            raise DataError(
                f"`{option}` divides a directory without folder for validation, but there is "
                f"{str(validation)!r}: omit the option, or remove the folder."
            )


def _divided(files, class_names, fraction, seed):
    """Returns the parts for training and validation, with the same fraction of every class."""
    if not 0 < fraction < 1:
        raise DataError(f"`validation_fraction` must be in (0, 1), received {fraction}.")
    train, validation = {}, {}
    for name in class_names:
        paths = files[name]
        if len(paths) < 2:
            raise DataError(
                f"The class {name!r} has a single image, {paths[0]}; to divide it, training and "
                "validation need one each: add images, or make folders train/ and val/."
            )
        count = kept_for_validation(len(paths), fraction)
        order = _permutation(seed, sorted(class_names).index(name), len(paths))
        validation[name] = [paths[index] for index in sorted(order[:count])]
        train[name] = [paths[index] for index in sorted(order[count:])]
    return {"train": train, "validation": validation}


def kept_for_validation(images, fraction):
    """Returns how many images of a class are kept for validation, of two or more."""
    return min(max(1, round(fraction * images)), images - 1)


def _permutation(seed, place, length):
    """The same choice for a class whatever the order of the labels: `place` is that in text order,
    in which earlier versions had the labels."""
    return np.random.default_rng((seed, place)).permutation(length)


# ---------------------------------------------------------------- what is said


def _summary(layout, splits, how):
    names = layout.class_names
    shown = ", ".join(map(readable, names[:SHOWN_CLASSES])) + (
        ", ..." if len(names) > SHOWN_CLASSES else ""
    )
    place = layout.place("train" if layout.has_splits else "all")
    train, validation = splits["train"], splits["validation"]
    text = (
        f"training on {counted(train.size, 'image')} of {place} ({_range(train, names)}), {how} "
        f"({counted(validation.size, 'image')})"
    )
    if "test" in splits:
        text += f", {layout.place('test')} ({counted(splits['test'].size, 'image')}) is not touched"
    if not train.upright:
        text += "; photos are taken as they are stored, whatever their EXIF says"
    return f"{len(names)} classes ({shown}); {text}."


def _range(split, names):
    """Returns the numbers of images of the smallest and of the largest class, in words."""
    counts = np.bincount(split.labels, minlength=len(names))
    few, many = int(counts.argmin()), int(counts.argmax())
    if counts[few] == counts[many]:
        return f"{counts[few]:,} of each class"
    few, many = (f"{counts[n]:,} of {readable(names[n])}" for n in (few, many))
    return f"{few} to {many}"
