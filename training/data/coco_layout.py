"""Where a directory has its annotation files in COCO's format, and the folders of their images.

Recognised is how such sets are commonly laid out; NAME is `train`, `val` or another spelling of it
that `training.data.layout` knows, `train2017` and the like included:

    DIR/annotations/instances_NAME.json  DIR/NAME/, DIR/images/NAME/ or DIR/images/      (COCO)
    DIR/instances_NAME.json  DIR/NAME.json  DIR/annotations/NAME.json              the same folders
    DIR/NAME/_annotations.coco.json                             images beside it         (Roboflow)
    DIR/annotations.json  DIR/_annotations.coco.json            images beside it or in DIR/images/

What could be read in two ways is refused with a sentence that says what to do.
"""

import dataclasses
import re
from pathlib import Path

from .dataset import DataError
from .layout import SPELLINGS
from .listing import folders, some, visible

ROBOFLOW = "_annotations.coco.json"
SINGLE = ("annotations.json", ROBOFLOW)  # without splits
PREFIX = "instances_"
IMAGES = ("images", "")  # folders in DIR that may hold the images, or a folder NAME of them


@dataclasses.dataclass(frozen=True)
class Place:
    """An annotation file and the folders that may have its images, the likeliest first; Paths."""

    file: Path
    folders: tuple

    def folder_with(self, names):
        """Returns the folder that has the most of these files, the first of equals.

        Args:
            names: of files, relative to the folder.

        Raises:
            DataError: if none has any of them.
        """
        best, count = None, 0
        for folder in self.folders:
            if (there := sum((folder / name).is_file() for name in names)) > count:
                best, count = folder, there
        if best is None:
            raise DataError(
                f"None of the images that {str(self.file)!r} names is there, such as "
                f"{names[0]!r}; looked in: {some([str(folder) for folder in self.folders])} Name "
                "their folder with --train_images or --validation_images."
            )
        return best


def recognise(root, given=None):
    """Returns `{split: Place}` of a directory: "train" and perhaps "validation", or "all".

    Args:
        root: Path of the directory.
        given: `{split: file}` that a user named, relative to `root`: these splits are not looked
            for, and these files are not taken for another split.

    Raises:
        DataError: if there is no annotation file, or several could be meant.
    """
    found, given = {}, given or {}
    wanted = {"train", "validation"} - set(given)
    named_files = {(root / file).resolve() for file in given.values()}
    for file, name in _candidates(root):
        role = _role(name)
        if role in wanted and file.resolve() not in named_files:
            found.setdefault(role, []).append(Place(file, _folders(root, file, name)))
    for role, places in found.items():
        if len(places) > 1:
            files = some([str(place.file.relative_to(root)) for place in places])
            raise DataError(
                f"{str(root)!r} has several annotation files for {role}, {files} Name one with "
                f"--{role}_annotations."
            )
    if "train" in found or "train" in given:
        return {role: found[role][0] for role in ("train", "validation") if role in found}
    for name in SINGLE:
        if (root / name).is_file():
            return {"all": Place(root / name, (root / "images", root))}
    raise DataError(
        f"{str(root)!r} has no annotations for training in COCO's format: it needs "
        f"annotations/{PREFIX}train.json, train/{ROBOFLOW} or {SINGLE[0]}, or name the file with "
        "--train_annotations."
    )


def named(root, file, folder):
    """Returns the Place of a file, and perhaps a folder, that a user named, relative to `root`.

    Raises:
        DataError: if one of them does not exist.
    """
    path = root / file
    if not path.is_file():
        raise DataError(f"There is no annotation file {str(path)!r}: check the flag.")
    if folder is None:
        return Place(path, _folders(root, path, _name(path.stem)))
    if not (root / folder).is_dir():
        raise DataError(f"There is no folder of images {str(root / folder)!r}: check the flag.")
    return Place(path, (root / folder,))


def _candidates(root):
    """Yields (file, name of its split)."""
    for directory in (root / "annotations", root):
        for entry in visible(directory) if directory.is_dir() else ():
            path = Path(entry.path)
            if path.suffix == ".json" and path.name not in SINGLE and entry.is_file():
                yield path, _name(path.stem)
    for folder in folders(root):
        if (folder / ROBOFLOW).is_file():
            yield folder / ROBOFLOW, folder.name


def _name(stem):
    return stem.removeprefix(PREFIX)


def _role(name):
    """Returns "train", "validation" or "test" for the name of a split, such as train2017."""
    return SPELLINGS.get(re.sub(r"[\s_.-]*[0-9]*$", "", name.casefold()))


def _folders(root, file, name):
    """Returns the folders that may have the images of a split, the likeliest first."""
    places = [file.parent] if file.name == ROBOFLOW else []
    inside = [root / part for part in IMAGES if (root / part).is_dir()]
    places += [place / name for place in inside]
    places += [
        path
        for place in inside
        for path in folders(place)
        if _role(path.name) == _role(name) and _role(name)
    ]
    places += [*inside, file.parent]
    return tuple(dict.fromkeys(place for place in places if place.is_dir()))
