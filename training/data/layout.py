"""The layout of a directory of images: its splits, its classes, and what is not used.

Recognised are the layouts that are commonly downloaded:

    DIR/CLASS/...                                     no splits
    DIR/train/CLASS/...  DIR/val/CLASS/...            splits, with the spellings of `ROLES` in any
    DIR/seg_train/CLASS/...  DIR/seg_test/CLASS/...   case, alone or behind a common prefix
    DIR/data/train/train/CLASS/...                    each of them inside of folders of their own

Anything that could be read in two ways is refused with a sentence that says what to do.
"""

import dataclasses
import os
import re
import unicodedata
from pathlib import Path

from ..run import shell
from .dataset import DataError
from .listing import (
    Files,
    counted,
    files_below,
    folders,
    loose_images,
    natural,
    some,
    unreadable,
)

ROLES = {
    "train": ("train", "training", "trn"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
SPELLINGS = {spelling: role for role, spellings in ROLES.items() for spelling in spellings}
ADDED = ("set", "data", "images", "split")  # such as in training_set
# Of segmentation, detection and the like: names of folders that are never all classes.
PICTURES = {"images", "image", "imgs", "img", "jpegimages"}
ANNOTATIONS = {
    *("labels", "label", "annotations", "annotation", "masks", "mask", "segmentationclass"),
    *("segmentation", "ground_truth", "groundtruth", "gt", "labelstxt"),
}
DEEPEST = 4  # folders inside of each other before the first choice


@dataclasses.dataclass(frozen=True, eq=False)
class Layout:
    """A directory of images with a folder for each class.

    Attributes:
        root: Path of the directory, as it was given.
        class_names: tuple of the names of the training folders in natural order, 2 before 10.
        splits: `{"all": {class: paths}}` where there are no folders of splits; else a dict with
            "train" and, where they are there, "validation" and "test". Paths are strings in a
            fixed order.
        places: {split: Path of the folder that holds its class folders}.
        notes: sentences about what is there and not used, or unusual.
    """

    root: Path
    class_names: tuple
    splits: dict
    places: dict
    notes: tuple

    @property
    def has_splits(self):
        """Whether there is a folder for training, rather than class folders alone."""
        return "all" not in self.splits

    def count(self, split):
        """Returns the number of images in a split."""
        return sum(len(paths) for paths in self.splits[split].values())

    def place(self, split):
        """Returns the folder of a split relative to the root, as text such as `"train/"`."""
        relative = os.path.relpath(self.places[split], self.root)
        return "the directory itself" if relative == "." else f"{relative}/"


def recognise(data_dir, class_names=None):
    """Returns the Layout of a directory.

    Args:
        data_dir: the directory.
        class_names: the order of the classes, such as a trained model has it; `None` is natural
            order. The names must be those of the folders.

    Raises:
        DataError: if there is no such directory, no images of two or more classes, or if it can be
            read in more than one way.
    """
    root = checked(data_dir)
    places, notes = _places(root)
    known = _class_folders(next(iter(places.values())))
    order = _ordered(root, tuple(known), class_names)
    splits = {}
    for split, place in places.items():
        listing, remarks = _listing(split, place, order)
        notes += remarks
        if listing is not None:
            splits[split] = listing
    return Layout(root, order, splits, places, (*notes, *_case_notes(order)))


def checked(data_dir, needed="The dataset 'folder' needs `data_dir`, a folder per class in it."):
    """Returns the Path of a directory that exists.

    Args:
        data_dir: the directory.
        needed: the sentence of the error where it is `None`.

    Raises:
        DataError: if it does not exist, or is no directory.
    """
    if data_dir is None:
        raise DataError(needed)
    root = Path(data_dir).expanduser()
    try:
        if not root.exists():
            raise DataError(f"The directory {str(root)!r} does not exist: check its name.")
        if not root.is_dir():
            raise DataError(f"{str(root)!r} is a file, and must be a directory.")
    except OSError as error:
        raise unreadable(root, error) from error
    return root


# ---------------------------------------------------------------- folders of splits


def _places(root):
    """Returns {split: folder that holds its classes} and notes about what lies beside them."""
    directory = root
    for _ in range(DEEPEST):
        if splits := _split_folders(directory):
            return _opened(directory, splits)
        if (inner := _only_folder(directory)) is None:
            break
        directory = inner
    return {"all": directory}, _loose_notes(directory)


def _only_folder(directory):
    """Returns the folder in a directory that holds nothing else, if it holds folders itself."""
    inner = folders(directory)
    is_wrapper = len(inner) == 1 and folders(inner[0]) and not loose_images(directory)
    return inner[0] if is_wrapper else None


def _opened(directory, splits):
    notes = _loose_notes(directory)
    used = set(splits.values())
    unused = [path.name for path in folders(directory) if path not in used]
    if unused:
        notes.append(
            f"Not used: {counted(len(unused), 'folder')} in {str(directory)!r}, beside the splits: "
            f"{some(unused)}"
        )
    _refuse_one_folder_twice(splits)
    places = {}
    for split, path in splits.items():
        places[split] = _inside(path)
        notes += _loose_notes(places[split]) if folders(places[split]) else []
    return places, notes


def _inside(directory):
    """Returns the folder that holds the classes: of train/train/CLASS the inner one."""
    for _ in range(DEEPEST):
        if (inner := _only_folder(directory)) is None:
            break
        directory = inner
    return directory


def _loose_notes(directory):
    loose = loose_images(directory)
    if not loose or not folders(directory):
        return []
    return [
        f"Not used: {counted(len(loose), 'image')} in {str(directory)!r}, beside the folders of "
        f"the classes: {some(loose)}"
    ]


def _split_folders(directory):
    """Returns {split: folder}, with "train" first; empty if the directory has none."""
    groups = {}
    for path in folders(directory):
        if found := spelled(path.name):
            prefix, role = found
            groups.setdefault(prefix, {}).setdefault(role, []).append(path)
    groups = {prefix: roles for prefix, roles in groups.items() if not prefix or _is_whole(roles)}
    if not groups:
        return {}
    if "" not in groups and len(groups) > 1:
        raise DataError(
            f"{str(directory)!r} has several sets of splits ({', '.join(sorted(groups))}): give "
            "the directory of one of them, with folders train/ and val/."
        )
    return _unambiguous(directory, groups.get("") or next(iter(groups.values())))


def _is_whole(roles):
    """Whether folders with a common prefix are splits: there is one to learn and another."""
    return "train" in roles and len(roles) > 1


def spelled(name):
    """Returns `(prefix, role)` of a folder whose name says that it is a split, such as
    `("seg", "train")` of "seg_train"; else `None`."""
    words = [word for word in re.split(r"[\s_.-]+", name.casefold()) if word]
    if len(words) > 1 and words[-1] in ADDED:
        words.pop()
    if not words or words[-1] not in SPELLINGS:
        return None
    return " ".join(words[:-1]), SPELLINGS[words[-1]]


def _unambiguous(directory, roles):
    """Returns {split: folder} of {role: folders}, or {} where these names are classes."""
    named = [path for paths in roles.values() for path in paths]
    others = [path for path in folders(directory) if path not in named]
    deep = [path for path in named if folders(path)]
    if not deep:
        if others:
            return {}  # "train" may be a class, among cars and ships: it holds images, not folders
        raise _without_classes(directory, named)
    if len(named) == 1 and any(loose_images(path) for path in others):
        raise _class_or_split(directory, named[0], others)
    for role, paths in roles.items():
        if len(paths) > 1:
            raise DataError(
                f"{str(directory)!r} has several folders for {role}: "
                f"{', '.join(path.name for path in paths)}. Keep one of them, or join them."
            )
    if "train" not in roles:
        raise _without_training(directory, deep[0])
    if not folders(roles["train"][0]):
        raise _without_classes(directory, roles["train"])
    return {role: roles[role][0] for role in ROLES if role in roles}


def _without_classes(directory, paths):
    names = " and ".join(f"{path.name}/" for path in paths)
    return DataError(
        f"{names} in {str(directory)!r} has no class folders: put the images of each class into a "
        f"folder of its own, such as {paths[0].name}/CLASS/. Names of files, CSV and JSON files "
        "are not read for labels."
    )


def _class_or_split(directory, split, others):
    return DataError(
        f"{split.name}/ in {str(directory)!r} has folders inside, and beside it are folders of "
        f"images ({some([path.name for path in others])[:-1]}): it could be a class or a split. "
        f"Move the others into train/, or the images of {split.name}/ out of its folders."
    )


def _without_training(directory, split):
    return DataError(
        f"{str(directory)!r} has {split.name}/, but no folder for training: call it train/, or "
        f"give --data_dir {str(split)!r} to divide these images."
    )


def _refuse_one_folder_twice(splits):
    seen = {}
    for split, path in splits.items():
        other = seen.setdefault(os.path.realpath(path), split)
        if other != split:
            raise DataError(
                f"{str(path)!r} and {str(splits[other])!r} are one folder, so that what is learned "
                "would be what is measured: remove the link, a part of the images is then kept "
                "for validation."
            )


# ---------------------------------------------------------------- classes


def _class_folders(directory):
    """Returns {class name: Path} of the training folders.

    Raises:
        DataError: if there are fewer than two, or they are not classes.
    """
    found = {path.name: path for path in folders(directory)}
    if not found:
        raise DataError(
            f"{str(directory)!r} has no class folders: put the images of each class into a folder "
            f"with the name of the class.{_kinds_of_files(directory)}"
        )
    _refuse_annotations(directory, found)
    _refuse_splits_inside(directory, found)
    if len(found) == 1:
        (name,) = found
        if spelled(name):  # train/train/*.jpg
            raise _without_classes(directory, [found[name]])
        raise DataError(
            f"{str(directory)!r} has a single class, {name!r}; a classifier needs two or more."
        )
    return found


def _kinds_of_files(directory):
    files = files_below(directory)
    if not files.others or files.images:
        return ""
    suffixes = sorted({os.path.splitext(path)[1].lower() or "none" for path in files.others})
    return f" It holds {counted(len(files.others), 'file')} with the suffixes {some(suffixes)}"


def _refuse_annotations(directory, found):
    names = {name.casefold() for name in found}
    if names & PICTURES and names & ANNOTATIONS:
        raise DataError(
            f"{str(directory)!r} has the folders {', '.join(found)}, as sets for segmentation or "
            "detection have: the classes of whole images need a folder each. For masks use "
            f"`{shell.entry('segment')}`."
        )


def _refuse_splits_inside(directory, found):
    """Of CLASS/train and CLASS/test all images would be learned."""
    for name, path in found.items():
        inner = folders(path)
        roles = {role for p in inner if (role := (spelled(p.name) or (None, None))[1])}
        if len(roles) > 1 and len(roles) == len(inner):
            raise DataError(
                f"The class folder {str(path)!r} holds the splits "
                f"{' and '.join(f'{p.name}/' for p in inner)}: turn them round, into "
                f"{str(directory / inner[0].name / name)!r}, so that each split holds the classes."
            )


def _ordered(root, found, wanted):
    if wanted is None:
        return found
    missing = [name for name in wanted if name not in found]
    more = [name for name in found if name not in wanted]
    if missing or more:
        raise DataError(
            f"The classes of {str(root)!r} are not those that were asked for: missing are "
            f"{missing[:5] or 'none'}, additional are {more[:5] or 'none'}."
        )
    return tuple(wanted)


def _case_notes(class_names):
    folded = {}
    for name in class_names:
        folded.setdefault(_plain(name), []).append(name)
    same = [" and ".join(names) for names in folded.values() if len(names) > 1]
    return [f"Classes differ in upper and lower case only: {some(same)}"] if same else []


def _plain(name):
    return unicodedata.normalize("NFC", name).casefold().strip()


# ---------------------------------------------------------------- images


def _listing(split, place, class_names):
    """Returns {class: paths of its images} and notes; `None` for a test split without classes."""
    found = {unicodedata.normalize("NFC", path.name): path for path in folders(place)}
    if split == "test" and (odd := _odd_test(place, found, class_names)):
        return None, [odd]
    if split in ("validation", "test"):
        _refuse_unknown(place, found, class_names)
    files, listing, empty = Files(), {}, []
    for name in class_names:
        path = found.get(unicodedata.normalize("NFC", name))
        below = Files() if path is None else files_below(path)
        files.add(below)
        listing[name] = tuple(below.images)
        if not below.images:
            empty.append(name)
    if empty and split in ("all", "train"):
        raise _empty(place, empty[0])
    notes = list(files.notes(place))
    if empty:
        notes.append(f"{str(place)!r} has no images of the classes {some(empty)}")
    return listing, notes


def _empty(place, name):
    inside = [path.name for path in folders(place) if files_below(path).images]
    hint = f" If the classes are inside of {inside[0]!r}, give that as the directory." * (
        len(inside) == 1
    )
    return DataError(
        f"The class folder {str(place / name)!r} has no images: add some, or remove the "
        f"folder.{hint}"
    )


def _odd_test(place, found, class_names):
    """Returns why a folder of test images is not read, or `None`."""
    if not found:
        return f"{str(place)!r} has no class folders: its images are not used."
    unknown = sorted(found.keys() - _normalised(class_names), key=natural)
    if unknown:
        return (
            f"{str(place)!r} has classes that the training images lack ({some(unknown)[:-1]}): "
            "its images are not used."
        )
    return None


def _refuse_unknown(place, found, class_names):
    unknown = sorted(found.keys() - _normalised(class_names), key=natural)
    if unknown:
        plain = {_plain(name): name for name in class_names}
        near = [plain[_plain(name)] for name in unknown if _plain(name) in plain]
        hint = f" Did you mean {near[0]!r}? Upper and lower case differ." if near else ""
        raise DataError(
            f"{str(place)!r} has classes that the training images lack: {unknown[:5]}. Every "
            f"class needs a folder of training images.{hint}"
        )
    if not found:
        raise DataError(
            f"{str(place)!r} has no class folders, such as {class_names[0]!r}: put the images of "
            "each class into a folder, or remove it to divide the training images."
        )


def _normalised(names):
    return {unicodedata.normalize("NFC", name) for name in names}
