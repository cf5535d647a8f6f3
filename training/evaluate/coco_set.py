"""The photographs that a detector is measured on: a COCO annotation file and a folder."""

import collections
import dataclasses
import functools
from pathlib import Path

import numpy as np

from keras_convnext.detection.annotations import checked_truth

from ..data import coco_file
from ..data.coco_objects import has_mask
from ..data.dataset import DataError
from ..data.listing import counted, some
from .detection_mistakes import Objects


@dataclasses.dataclass(frozen=True, eq=False)
class CocoSet:
    """Photographs with objects.

    Attributes:
        path: of the annotation file.
        content: of the file, a dict as `average_precision` takes it.
        paths: `{id of an image: path of its file}`, in the order of the file.
        has_masks: whether every object has a mask.
        split: the part of a training's data that these are, "train" or "validation"; `None`: all
            images of the file.
    """

    path: str
    content: dict
    paths: dict
    has_masks: bool
    split: str | None = None

    @property
    def name(self):
        """The name of the annotation file."""
        return Path(self.path).name

    @property
    def categories(self):
        """`{id: name}` in the order of the ids; without a name the id stands for it."""
        rows = sorted(self.content["categories"], key=lambda row: row["id"])
        return {row["id"]: str(row.get("name", row["id"])) for row in rows}

    @functools.cached_property
    def counts(self):
        """`{id of a category: number of its objects}`, without crowds; those with none are left
        out."""
        rows = self.content["annotations"]
        return collections.Counter(row["category_id"] for row in rows if not row.get("iscrowd", 0))

    @functools.cached_property
    def _rows(self):
        found = collections.defaultdict(list)
        for row in self.content["annotations"]:
            found[row["image_id"]].append(row)
        return found

    @functools.cached_property
    def sizes(self):
        """`{id of an image: (height, width)}`, `None` where the file does not say it."""
        rows = self.content["images"]
        sizes = {row["id"]: (row.get("height"), row.get("width")) for row in rows}
        return {key: None if None in size else size for key, size in sizes.items()}

    def objects(self, image, size, label_of):
        """Returns the `Objects` of an image.

        Args:
            image: its id.
            size: (height, width) of its file.
            label_of: `{id of a category: label}`; objects of others are left out.
        """
        rows = [row for row in self._rows[image] if row["category_id"] in label_of]
        boxes = np.array([row["bbox"] for row in rows], "float32").reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        names = self.categories
        return Objects(
            boxes,
            np.array([label_of[row["category_id"]] for row in rows], "int64"),
            tuple(names[row["category_id"]] for row in rows),
            np.array([bool(row.get("iscrowd", 0)) for row in rows], bool),
            size,
            tuple(row["segmentation"] for row in rows) if self.has_masks else None,
        )


def read(path, folder):
    """Returns the CocoSet of an annotation file and the folder of its images.

    The file is read as for a training. Where a training leaves out what it cannot use, a
    measurement refuses it: everything is checked but the contents of the images.

    Raises:
        DataError: if the file cannot be read, is none of COCO's format or contradicts itself, or
            an image is missing.
    """
    content = coco_file.load(path)
    rows = content["annotations"]
    has_masks = bool(rows) and all(map(has_mask, rows))
    try:
        checked_truth(content)
        if has_masks:
            checked_truth(content, masks=True)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
    if all(row.get("iscrowd", 0) for row in rows):
        raise DataError(f"{path} has no objects, or crowds alone: there is nothing to find.")
    content["categories"] = [
        {**row, "name": str(row["name"]).strip()} if "name" in row else row
        for row in content["categories"]
    ]
    paths = _paths(path, content["images"], Path(folder))
    return CocoSet(str(path), content, paths, has_masks)


def of_split(split, masks=True):
    """Returns the CocoSet of a `training.data.coco.CocoSplit`, which has all that was usable.

    Args:
        split: the split.
        masks: whether it was read with masks. Where an object has none, masks are not measured, as
            with `read`.
    """
    paths = {image.id: path for image, path in zip(split.images, split.paths, strict=True)}
    content = split.truth()
    masks = masks and all("segmentation" in row for row in content["annotations"])
    return CocoSet(split.file.path, content, paths, masks, split.name)


def _paths(path, images, folder):
    if not folder.is_dir():
        raise DataError(f"The folder {str(folder)!r} does not exist: name that of the images.")
    names = {row["id"]: coco_file.image_name(path, row) for row in images}
    missing = [name for name in names.values() if not (folder / name).is_file()]
    if missing:
        raise DataError(
            f"{len(missing)} of {counted(len(images), 'image')} of {path} are not in "
            f"{str(folder)!r}: {some(missing)}."
        )
    return {key: folder / name for key, name in names.items()}
