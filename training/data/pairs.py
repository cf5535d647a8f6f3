"""Images with masks: two folders with files of equal names."""

import dataclasses
import os
from pathlib import Path

import numpy as np

from training.data.bad_images import BadImages
from training.data.dataset import DataError, Dataset, IndexedSplit
from training.data.folder import file_identity
from training.data.images import problem

IMAGES, MASKS = (".jpg", ".jpeg", ".png", ".bmp", ".webp"), (".png", ".bmp", ".gif", ".tif")
KEPT_FOR_VALIDATION = 10  # every so-manieth, where there is no folder for it


@dataclasses.dataclass(frozen=True, eq=False)
class PairSplit(IndexedSplit):
    """Files of images and of their masks. The `image` of an example is a string tensor (2,), the
    contents of both; its label is 0."""

    paths: tuple
    mask_paths: tuple
    root: str

    def _reader(self, tf):
        paths, masks = (
            tf.constant([os.fsencode(path) for path in some], tf.string)
            for some in (self.paths, self.mask_paths)
        )

        def read(index):
            pair = tf.stack([tf.io.read_file(paths[index]), tf.io.read_file(masks[index])])
            return {"image": pair, "label": tf.zeros((), tf.int64), "name": paths[index]}

        return read

    def _identity(self):
        for pair in zip(self.paths, self.mask_paths, strict=True):
            yield " ".join(file_identity(path, self.root) for path in pair)


def folders(
    data_dir,
    class_names,
    train_images=None,
    train_masks=None,
    validation_images=None,
    validation_masks=None,
):
    """-> the Dataset of the pairs in these folders of `data_dir`.

    Raises:
        DataError: if a folder, an image or a mask is missing.
    """
    train = pair_split("train", data_dir, train_images, train_masks)
    if validation_images is None:
        train, validation = _divided(train)
    else:
        validation = pair_split("validation", data_dir, validation_images, validation_masks)
    return Dataset(str(data_dir), tuple(class_names), train, validation)


def pair_split(name, data_dir, images, masks):
    """-> the PairSplit of two folders in `data_dir`.

    Raises:
        DataError: if one of them is missing or has no files, or an image has no mask.
    """
    root = Path(data_dir or "").expanduser()
    if data_dir is None or not root.is_dir():
        raise DataError(f"The directory {data_dir!r} does not exist: give it with --data_dir.")
    kinds = {f"--{name}_images": (images, IMAGES), f"--{name}_masks": (masks, MASKS)}
    files, theirs = (_files(root, flag, *kind) for flag, kind in kinds.items())
    lost = sorted(files.keys() - theirs.keys())
    if lost:
        raise DataError(
            f"{len(lost)} of {len(files)} images in {images!r} have no mask in {masks!r}, the "
            f"first is {lost[0]!r}: a mask has the name of its image and one of {' '.join(MASKS)}."
        )
    names = sorted(files)
    return _split(name, [files[n] for n in names], [theirs[n] for n in names], root)


def verify(split, read):
    """Reads every pair of a PairSplit.

    Raises:
        DataError: about the first that `read` (of two contents of files) refuses.
    """
    for image, mask in zip(split.paths, split.mask_paths, strict=True):
        try:
            read(Path(image).read_bytes(), Path(mask).read_bytes())
        except ValueError as error:
            raise _unusable(image, error) from error


def _unusable(name, reason):
    return DataError(f"The image {name} cannot be used ({reason}): replace or remove it.")


def _files(root, flag, folder, suffixes):
    """-> {path without suffix: path} of the files below a folder"""
    if folder is None or not (root / folder).is_dir():
        raise DataError(f"There is no folder {folder!r} in {str(root)!r}: name it with {flag}.")
    found = {}
    for path in sorted((root / folder).rglob("*")):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            found[str(path.relative_to(root / folder).with_suffix(""))] = str(path)
    if not found:
        raise DataError(f"{str(root / folder)!r} has no files with one of {' '.join(suffixes)}.")
    return found


def _split(name, paths, masks, root):
    zeros = np.zeros(len(paths), "int64")
    shape = (None, None, 3)
    return PairSplit(name, len(paths), shape, zeros, tuple(paths), tuple(masks), str(root))


def _divided(split):
    if split.size < 2:
        raise DataError("Training and validation need an image each: there is one only.")
    kept = [n % KEPT_FOR_VALIDATION == 0 for n in range(split.size)]
    parts = []
    for name, wanted in (("train", False), ("validation", True)):
        places = [n for n in range(split.size) if kept[n] == wanted]
        paths, masks = ([some[n] for n in places] for some in (split.paths, split.mask_paths))
        parts.append(_split(name, paths, masks, split.root))
    return parts


class BadPairs(BadImages):
    """`BadImages` that says what is wrong with a pair.

    Args:
        split: the `Split`.
        read: of two contents of files; raises a ValueError that says what is wrong with them.
    """

    hint = "The reasons above say what to change: the files, --first_label or --ignored_label."

    def __init__(self, split, read, **options):
        super().__init__(split, **options)
        self.read = read

    def reason(self, pair):
        try:
            self.read(*pair)
        except ValueError as error:
            return str(error)
        return problem(bytes(pair[0])) or "it can be read, but the transform fails on it"


def refuse_pair(read):
    """-> for evaluation, where every image counts: what raises a DataError about the first."""

    def refuse(name, pair):
        raise _unusable(name, BadPairs(None, read, cap=0).reason(pair))

    return refuse
