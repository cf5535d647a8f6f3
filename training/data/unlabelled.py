"""Images without classes: every image below a directory."""

import warnings

import numpy as np

from .dataset import DataError, Dataset
from .duplicates import leaks
from .folder import file_split
from .layout import SPELLINGS, checked
from .listing import counted, files_below, folders

VALIDATION_FRACTION = 0.05


def unlabelled_folder(data_dir, validation_fraction=None):
    """Returns the Dataset of all images below a directory, whatever the folders they are in.

    With folders train/ and val/ in it, in one of the spellings that image folders with classes
    have, these are the splits, and test/ is not touched; with train/ alone, a part of it is kept
    for validation.

    Args:
        data_dir: the directory.
        validation_fraction: of the images, in (0, 1), where there is no folder for validation;
            default 0.05. At least one image, and not all, are kept. The choice is always the same.

    Raises:
        DataError: if the directory is missing or has fewer than two images, or the fraction
            contradicts what is there.

    Warns:
        UserWarning: about each kind of file that is not used, and about images in both splits.
    """
    root = checked(
        data_dir, "The dataset 'folder' needs `data_dir`, any directory with images in it."
    )
    places = _places(root)
    paths = {split: _images(place) for split, place in places.items()}
    if "validation" not in paths:
        paths = _divided(root, paths["train"], validation_fraction)
    elif validation_fraction is not None:
        raise DataError(
            "`validation_fraction` divides a directory without folder for validation, but there is "
            f"{str(places['validation'])!r}: omit it, or remove the folder."
        )
    splits = {
        name: file_split(name, found, np.zeros(len(found)), root) for name, found in paths.items()
    }
    for note in leaks(splits):
        warnings.warn(note, stacklevel=2)
    train, validation = splits["train"], splits["validation"]
    summary = (
        f"{counted(train.size, 'image')} for training, {counted(validation.size, 'image')} for "
        "validation; folders of classes count for nothing."
    )
    return Dataset(str(root), ("images",), train, validation, summary=summary)


def _places(root):
    """Returns {split: folder}; the directory itself where it has no folder for training."""
    roles = {}
    for folder in folders(root):
        role = SPELLINGS.get(folder.name.casefold())
        if role in roles:
            raise DataError(
                f"{str(roles[role])!r} and {str(folder)!r} are both for {role}: remove one of them."
            )
        if role:
            roles[role] = folder
    if not roles:
        return {"train": root}
    if "train" not in roles:
        found = next(iter(roles.values()))
        raise DataError(
            f"{str(found)!r} is for measuring, and there is no folder of images to train on beside "
            "it: call that one `train`, or name another directory."
        )
    return {split: roles[split] for split in ("train", "validation") if split in roles}


def _images(place):
    found = files_below(place)
    for note in found.notes(place):
        warnings.warn(note, stacklevel=3)
    if not found.images:
        raise DataError(f"{str(place)!r} has no images, nor have the folders below it: add some.")
    return found.images


def _divided(root, paths, fraction):
    if len(paths) < 2:
        raise DataError(
            f"{str(root)!r} has a single image, {paths[0]!r}; training and validation need one "
            "each: add images."
        )
    fraction = VALIDATION_FRACTION if fraction is None else fraction
    count = min(max(1, round(fraction * len(paths))), len(paths) - 1)
    order = np.random.default_rng(0).permutation(len(paths))
    parts = {"validation": order[:count], "train": order[count:]}
    return {name: [paths[index] for index in sorted(part)] for name, part in parts.items()}
