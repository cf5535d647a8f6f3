"""A directory with a folder of images for each class.

Either `DIR/CLASS/...` (a part of each class is then kept for validation) or `DIR/train/CLASS/...`
with `DIR/val`, `DIR/validation` or `DIR/test` beside it. EXIF orientation is ignored when the
images are decoded, as in every published evaluation: turn the files themselves if it matters.
"""

import dataclasses
import os
import warnings
from pathlib import Path

import numpy as np

from training.data.dataset import DataError, Dataset, IndexedSplit

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".gif", ".webp")
VALIDATION_FOLDERS = ("val", "validation", "test")
VALIDATION_FRACTION = 0.2


@dataclasses.dataclass(frozen=True, eq=False)
class FileSplit(IndexedSplit):
    """Image files; an image's name is its path."""

    paths: tuple

    def _reader(self, tf):
        # as bytes: a name need not be text
        paths = tf.constant([os.fsencode(path) for path in self.paths], tf.string)
        labels = tf.constant(self.labels)

        def read(index):
            path = paths[index]
            return {"image": tf.io.read_file(path), "label": labels[index], "name": path}

        return read

    def damage(self):
        for path in self.paths:
            try:
                with open(path, "rb") as file:
                    file.read(1)
            except OSError as error:
                yield f"{path!r} cannot be read: {error.strerror}."


def file_split(name, paths, labels):
    """-> the FileSplit of these paths, in their order."""
    labels = np.asarray(labels, "int64")
    return FileSplit(name, len(paths), (None, None, 3), labels, tuple(paths))


def folder(data_dir, validation_fraction=None, split_seed=None):
    """The images under `data_dir`, see above.

    Classes are the names of the folders, sorted as text. Images are the files with one of
    `SUFFIXES` in any case, in folders below too; hidden files are ignored, others are counted in a
    warning.

    Args:
        data_dir: the directory.
        validation_fraction: of each class, in (0, 1), where there is no folder for validation;
            default 0.2. At least one image, and not all, of each class.
        split_seed: of the choice, default 0. It is not the seed of the training, so that runs with
            different seeds are measured on the same images.

    Raises:
        DataError: if directory, classes or images are missing, or too few to split, or the
            arguments contradict what is there.
    """
    root = _checked(data_dir)
    train, validation = _layout(root)
    class_names = _class_names(train)
    files = _listing(train, class_names)
    if validation is None:
        splits = _divided(files, class_names, validation_fraction, split_seed or 0)
    else:
        _refuse_split_options(validation, validation_fraction, split_seed)
        splits = files, _listing(validation, _known_classes(validation, class_names))
    train_split, validation_split = (
        _split(name, listing, class_names)
        for name, listing in zip(("train", "validation"), splits, strict=True)
    )
    return Dataset(str(root), class_names, train_split, validation_split)


def every_split(data_dir):
    """All images under a directory: {"all": FileSplit}, or one for each of train, val, ... there.

    Unlike `folder` it divides nothing, so that any number of images will do.

    Raises:
        DataError: as `folder`.
    """
    root = _checked(data_dir)
    train, validation = _layout(root)
    class_names = _class_names(train)
    if train == root:
        return {"all": _split("all", _listing(root, class_names), class_names)}
    names = [name for name in ("train", *VALIDATION_FOLDERS) if (root / name).is_dir()]
    return {
        name: _split(
            name, _listing(root / name, _known_classes(root / name, class_names)), class_names
        )
        for name in names
    }


def _checked(data_dir):
    if data_dir is None:
        raise DataError(
            "The dataset 'folder' needs `data_dir`, a directory with a folder per class."
        )
    root = Path(data_dir).expanduser()
    try:
        if not root.exists():
            raise DataError(f"The directory {str(root)!r} does not exist: check `data_dir`.")
        if not root.is_dir():
            raise DataError(f"{str(root)!r} is a file; `data_dir` must be a directory.")
    except OSError as error:
        raise _unreadable(root, error) from error
    return root


def _unreadable(path, error):
    return DataError(f"{str(path)!r} cannot be read: {error.strerror or error}.")


def _entries(directory):
    """-> the visible entries of a directory, sorted by name."""
    try:
        with os.scandir(directory) as entries:
            visible = [entry for entry in entries if not entry.name.startswith(".")]
    except OSError as error:
        raise _unreadable(directory, error) from error
    return sorted(visible, key=lambda entry: entry.name)


def _folders(directory):
    return [Path(entry.path) for entry in _entries(directory) if entry.is_dir()]


def _layout(root):
    """-> folder of the training classes, folder of the validation classes or None"""
    train = root / "train"
    # "train" may be a class, among cars and ships: then it holds images and not folders
    if not (train.is_dir() and _folders(train)):
        return root, None
    found = [root / name for name in VALIDATION_FOLDERS if (root / name).is_dir()]
    return train, found[0] if found else None


def _class_names(directory):
    names = tuple(path.name for path in _folders(directory))
    if not names:
        raise DataError(
            f"{str(directory)!r} has no class folders: put the images of each class into a folder "
            "with the name of the class."
        )
    if len(names) == 1:
        raise DataError(
            f"{str(directory)!r} has a single class, {names[0]!r}; a classifier needs two or more."
        )
    return names


def _known_classes(directory, class_names):
    unknown = sorted({path.name for path in _folders(directory)} - set(class_names))
    if unknown:
        raise DataError(
            f"{str(directory)!r} has classes that the training images lack: {unknown[:5]}."
        )
    known = [name for name in class_names if (directory / name).is_dir()]
    if not known:
        raise DataError(f"{str(directory)!r} has no class folders, such as {class_names[0]!r}.")
    return known


def _listing(directory, names):
    """-> {class: paths of its images, sorted}; warns about other files, once for all of them"""
    listing, others = {}, []
    for name in names:
        paths = list(_files(directory / name))
        listing[name] = [path for path in paths if path.lower().endswith(SUFFIXES)]
        others += [path for path in paths if not path.lower().endswith(SUFFIXES)]
        if not listing[name]:
            raise DataError(
                f"The class folder {str(directory / name)!r} has no images "
                f"({', '.join(SUFFIXES)}): add some, or remove the folder."
            )
    if others:
        warnings.warn(
            f"{len(others)} files under {str(directory)!r} are not used, as they have none of the "
            f"suffixes {', '.join(SUFFIXES)}: {', '.join(others[:3])}"
            + (", ..." if len(others) > 3 else "."),
            stacklevel=4,
        )
    return listing


def _files(directory):
    for entry in _entries(directory):
        # links to files are followed; links to folders are not, they may lead back
        if entry.is_dir(follow_symlinks=False):
            yield from _files(entry.path)
        elif entry.is_file():
            yield entry.path


def _refuse_split_options(validation, fraction, seed):
    for option, value in (("validation_fraction", fraction), ("split_seed", seed)):
        if value is not None:
            raise DataError(
                f"`{option}` divides a directory without folder for validation, but there is "
                f"{str(validation)!r}: leave the option out, or remove the folder."
            )


def _divided(files, class_names, fraction, seed):
    """Stratified: the same fraction of every class -> ({class: paths}, {class: paths})"""
    fraction = VALIDATION_FRACTION if fraction is None else fraction
    if not 0 < fraction < 1:
        raise DataError(f"`validation_fraction` must be in (0, 1), received {fraction}.")
    train, validation = {}, {}
    for label, name in enumerate(class_names):
        paths = files[name]
        if len(paths) < 2:
            raise DataError(
                f"The class {name!r} has a single image, {paths[0]}; to divide it, training and "
                "validation need one each: add images, or make folders train/ and val/."
            )
        count = min(max(1, round(fraction * len(paths))), len(paths) - 1)
        order = np.random.default_rng((seed, label)).permutation(len(paths))
        validation[name] = [paths[index] for index in sorted(order[:count])]
        train[name] = [paths[index] for index in sorted(order[count:])]
    return train, validation


def _split(name, listing, class_names):
    position = {key: label for label, key in enumerate(class_names)}
    pairs = [(path, position[key]) for key, paths in listing.items() for path in paths]
    paths, labels = zip(*pairs, strict=True)
    return file_split(name, paths, labels)
