"""Images with masks: two folders with files of equal names."""

import dataclasses
import os
import warnings
from pathlib import Path

import numpy as np

from keras_convnext.images import SUFFIXES

from . import turned
from .bad_images import BadImages
from .dataset import DataError, Dataset, IndexedSplit
from .duplicates import leaks
from .folder import file_identity
from .images import problem
from .listing import counted, files_below, some
from .survey import surveyed

MASKS = (".png", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".pgm")
KEPT_FOR_VALIDATION = 10  # every tenth pair, where there is no folder for it


@dataclasses.dataclass(frozen=True, eq=False)
class PairSplit(IndexedSplit):
    """Files of images and of their masks. The `image` of an example is a string tensor (2,), the
    contents of both; its label is 0.

    Attributes:
        paths, mask_paths: of the files, tuples of strings.
        root: the directory relative to which the fingerprint names the files.
    """

    paths: tuple
    mask_paths: tuple
    root: str

    def _reader(self, tf):
        paths, masks = (
            tf.constant([os.fsencode(path) for path in files], tf.string)
            for files in (self.paths, self.mask_paths)
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
    labels=None,
):
    """Returns the Dataset of the pairs in these folders of `data_dir`.

    With `labels`, a `LabelMap`, some masks are read first, see `training.data.survey`.

    Raises:
        DataError: if a folder, an image or a mask is missing, or the masks that were read
            contradict `labels`.
    """
    train = pair_split("train", data_dir, train_images, train_masks)
    if validation_images is None:
        how = f"every {KEPT_FOR_VALIDATION}th of them for validation"
        size = train.size
        train, validation = _divided(train)
    else:
        validation = pair_split("validation", data_dir, validation_images, validation_masks)
        how, size = f"{validation.size:,} in {validation_images}/ for validation", train.size
    summary = (
        f"{counted(len(class_names), 'class')}; {counted(size, 'image')} in {train_images}/ with "
        f"masks in {train_masks}/, {how}."
    )
    paths = [*train.paths, *validation.paths]
    for note in (*leaks({"train": train, "validation": validation}), *turned.notes(paths, "masks")):
        warnings.warn(note, stacklevel=2)
    dataset = Dataset(str(data_dir), tuple(class_names), train, validation, summary=summary)
    return dataset if labels is None else surveyed(dataset, labels)


def pair_split(name, data_dir, images, masks):
    """Returns the PairSplit of two folders in `data_dir`.

    A mask has the name of its image but for the suffix, or that name with one and the same ending
    for all, such as `_mask`.

    Raises:
        DataError: if a folder is missing or has no files, an image has no mask, or two files could
            be one and the same image or mask.
    """
    root = Path(data_dir or "").expanduser()
    if data_dir is None or not root.is_dir():
        raise DataError(f"The directory {data_dir!r} does not exist: give it with --data_dir.")
    files = _files(root, f"--{name}_images", images, SUFFIXES)
    theirs = _without_ending(files, _files(root, f"--{name}_masks", masks, MASKS))
    lost = sorted(files.keys() - theirs.keys())
    if lost:
        raise DataError(
            f"{len(lost)} of {counted(len(files), 'image')} in {images!r} have no mask in "
            f"{masks!r}, the first is {lost[0]!r}: a mask has the name of its image and one of "
            f"{' '.join(MASKS)}."
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
    """Returns {path without suffix: path} of the files below a folder."""
    if folder is None or not (root / folder).is_dir():
        raise DataError(f"There is no folder {folder!r} in {str(root)!r}: name it with {flag}.")
    found = {}
    below = files_below(root / folder)
    for path in sorted(below.images + below.others):
        if not path.lower().endswith(suffixes):
            continue
        name = os.path.splitext(os.path.relpath(path, root / folder))[0]
        if name in found:
            raise DataError(
                f"{found[name]} and {path} have one name: keep one of them, or put images and "
                "masks into folders of their own."
            )
        found[name] = path
    if not found:
        there = sorted({os.path.splitext(path)[1].lower() for path in below.images + below.others})
        raise DataError(
            f"{str(root / folder)!r} has no files with one of {' '.join(suffixes)}"
            f"{f'; it has {some(there)}' if there else '.'}"
            f"{' JPEG changes the values of masks: save them as PNG.' * ('.jpg' in there)}"
        )
    return found


def _without_ending(images, masks):
    """Returns the masks under the names of their images, where all have one ending more."""
    first = min(images)
    if first in masks:
        return masks
    endings = {name[len(first) :] for name in masks if name.startswith(first)}
    for ending in sorted(endings, key=len):
        if all(name + ending in masks for name in images):
            return {name: masks[name + ending] for name in images}
    return masks


def _split(name, paths, masks, root):
    zeros = np.zeros(len(paths), "int64")
    shape = (None, None, 3)
    return PairSplit(name, len(paths), shape, zeros, tuple(paths), tuple(masks), str(root))


def _divided(split):
    if split.size < 2:
        raise DataError("Training and validation need an image each: there is only one.")
    kept = [n % KEPT_FOR_VALIDATION == 0 for n in range(split.size)]
    parts = []
    for name, wanted in (("train", False), ("validation", True)):
        places = [n for n in range(split.size) if kept[n] == wanted]
        paths, masks = ([files[n] for n in places] for files in (split.paths, split.mask_paths))
        parts.append(_split(name, paths, masks, split.root))
    return parts


class BadPairs(BadImages):
    """`BadImages` that says what is wrong with a pair.

    Args:
        split: the `Split`.
        read: of two contents of files; raises a ValueError that says what is wrong with them.
    """

    hint = "The reasons above say what to change: the files, or the flags that describe the masks."

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
    """Returns the function with which an evaluation, where every image counts, refuses a pair: it
    raises a DataError about the first."""

    def refuse(name, pair):
        raise _unusable(name, BadPairs(None, read, cap=0).reason(pair))

    return refuse
