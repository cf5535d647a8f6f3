"""Images with objects: sets whose annotations are in COCO's format.

`coco_layout` finds the files, `coco_file` reads them; here they become a `Dataset`.
"""

import dataclasses
import json
import os
import warnings
from pathlib import Path

import numpy as np

from keras_convnext.images import open_image

from . import coco_file, coco_layout, turned
from .coco_file import CocoFile, Tally
from .dataset import DataError, Dataset, IndexedSplit
from .duplicates import leaks
from .folder import file_identity
from .layout import checked
from .listing import counted, readable, some, spread
from .pairs import KEPT_FOR_VALIDATION

TOLERATED = 0.1  # share of the images that may be missing
NARROWEST = 32  # pixels; images with a shorter side are not trained on, as in the reference
SHOWN_CLASSES = 10
FIRST = 20  # images by whose names the folder is found
PLACES = ("train_annotations", "train_images", "validation_annotations", "validation_images")


@dataclasses.dataclass(frozen=True, eq=False)
class CocoSplit(IndexedSplit):
    """Images with their objects. The `image` of an example is a string tensor (2,): the content of
    the file, and the JSON text of its objects (see `CocoImage`); its label is 0.

    Attributes:
        images: tuple of `CocoImage`.
        folder: Path of the folder that their names are relative to.
        file: the `CocoFile`.
        shape_of: `None`, or `(size, key)` -> whether an image of that size in pixels is a portrait
            when it is shown, for a key of seed, epoch and index.
        batch: number of images, see `in_batches`.
    """

    images: tuple
    folder: Path
    file: CocoFile
    shape_of: object = None
    batch: int = 1

    @property
    def paths(self):
        """Paths of the images, strings."""
        return tuple(str(self.folder / image.name) for image in self.images)

    def in_batches(self, batch, shape_of):
        """Returns the split in another order, in which `batch` consecutive images of an epoch are
        all portraits or all not.

        The last batch of a kind is filled up with images that come once more in that epoch. There
        are as many batches as without this: where there would be one more, those that an epoch
        leaves out are drawn anew for each, so that the rarer kind is trained on however rare it is.
        """
        return dataclasses.replace(self, batch=batch, shape_of=shape_of)

    def where(self, wanted):
        """Returns the split of the images whose place in `wanted`, bools, is true."""
        kept = tuple(
            image for image, is_wanted in zip(self.images, wanted, strict=True) if is_wanted
        )
        return dataclasses.replace(self, size=len(kept), images=kept)

    def truth(self):
        """Returns the content of an annotation file in COCO's format of these images: what average
        precision is measured against."""
        images, annotations, keys = [], [], list(self.file.categories)
        for image in self.images:
            width, height = image.size
            images.append({"id": image.id, "width": width, "height": height})
            objects = json.loads(image.objects)
            kinds = (objects, 0), (objects["crowds"], 1), (objects.get("unlearned"), 0)
            for rows, is_crowd in kinds:
                for entry in _annotations(rows, keys) if rows else ():
                    about = {"id": len(annotations) + 1, "image_id": image.id, "iscrowd": is_crowd}
                    annotations.append(about | entry)
        categories = [{"id": key, "name": name} for key, name in self.file.categories.items()]
        return {"images": images, "annotations": annotations, "categories": categories}

    @property
    def objects(self):
        """The number of objects that are trained on, crowds not among them."""
        return sum(image.count for image in self.images)

    def _order(self, seed, epoch):
        order = super()._order(seed, epoch)
        if self.shape_of is None or seed is None:
            return order
        is_portrait = np.array(
            [
                self.shape_of(image.size, (seed, epoch, index))
                for index, image in enumerate(self.images)
            ]
        )
        return grouped(order, is_portrait, self.batch, np.random.default_rng((seed, epoch, 1)))

    def _reader(self, tf):
        paths = tf.constant([os.fsencode(path) for path in self.paths], tf.string)
        objects = tf.constant([image.objects.encode() for image in self.images], tf.string)

        def read(index):
            pair = tf.stack([tf.io.read_file(paths[index]), objects[index]])
            return {"image": pair, "label": tf.zeros((), tf.int64), "name": paths[index]}

        return read

    def _identity(self):
        for path, image in zip(self.paths, self.images, strict=True):
            yield f"{image.id} {file_identity(path, self.folder)} {image.objects}"


def _annotations(rows, keys):
    """Yields what COCO's format says about each of some objects."""
    masks = rows.get("segmentations", [None] * len(rows["boxes"]))
    for row, (x1, y1, x2, y2) in enumerate(rows["boxes"]):
        entry = {"category_id": keys[rows["labels"][row]], "bbox": [x1, y1, x2 - x1, y2 - y1]}
        if rows["areas"][row] is not None:
            entry["area"] = rows["areas"][row]
        if masks[row] is not None:
            entry["segmentation"] = masks[row]
        yield entry


def grouped(order, is_portrait, batch, random):
    """Returns an order in which each `batch` consecutive places are of one kind.

    Args:
        order: int array (n,), a permutation.
        is_portrait: bool array (n,), the kind by the values of `order`.
        batch: number of places. The last `n % batch` places are of either kind.
        random: `numpy.random.Generator` that the order of the batches is drawn from, and which of
            them are left out where filling up makes one too many.
    """
    batches = []
    for kind in (False, True):
        members = order[is_portrait[order] == kind]
        whole = -(-len(members) // batch) * batch
        batches += list(np.resize(members, whole).reshape(-1, batch))
    chosen = random.permutation(len(batches))[: len(order) // batch]
    batches = [batches[place] for place in chosen]
    shown = np.concatenate([*batches, order[:0]])
    unseen = order[~np.isin(order, shown)]
    return np.concatenate([shown, unseen, order])[: len(order)]


# ---------------------------------------------------------------- a directory becomes a dataset


def coco(
    data_dir,
    train_annotations=None,
    train_images=None,
    validation_annotations=None,
    validation_images=None,
    masks=True,
):
    """Returns the Dataset of a directory with annotations in COCO's format.

    Args:
        data_dir: the directory, in one of the layouts of `training.data.coco_layout`.
        train_annotations, validation_annotations: files in it, where it has another layout. One
            that is not named is looked for.
        train_images, validation_images: the folders of their images.
        masks: whether objects need masks.

    Raises:
        DataError: if files are missing, damaged, contradict each other, or have no object to learn
            from.

    Warns:
        UserWarning: about what is left out, with its count.
    """
    root = checked(
        data_dir,
        "A detector's training needs `data_dir`, a directory with images and annotation files in "
        "COCO's format.",
    )
    places = _places(
        root, train_annotations, train_images, validation_annotations, validation_images
    )
    splits, notes = {}, []
    for name, place in places.items():
        splits[name], said = _split(name, place, masks)
        notes += said
    if "all" in splits:
        splits = _divided(splits["all"])
        how = f"every {KEPT_FOR_VALIDATION}th image for validation"
    else:
        how = f"{_counted(splits['validation'])} for validation"
        _refuse_other_classes(splits["train"].file, splits["validation"].file)
    notes += _without_masks(splits["validation"]) if masks else []
    if not splits["validation"].objects:
        raise DataError(
            f"The {counted(splits['validation'].size, 'image')} for validation have no objects: "
            "nothing could be measured."
        )
    splits["train"], said = _to_learn_from(splits["train"])
    notes += said
    for note in (*notes, *leaks(splits)):
        warnings.warn(note, stacklevel=2)
    names = splits["train"].file.class_names
    return Dataset(
        str(root), names, splits["train"], splits["validation"], summary=_summary(splits, how)
    )


def of_config(fields):
    """Returns the Dataset that a training configuration names.

    Args:
        fields: dict with `"data_dir"`, `"masks"` and the `PLACES`; other fields are ignored.

    Raises:
        DataError: as `coco`.
    """
    places = {name: fields[name] for name in PLACES}
    return coco(fields["data_dir"], **places, masks=fields["masks"])


def _places(root, train_file, train_folder, validation_file, validation_folder):
    """Returns `{split: Place}`: what a user named, else what the directory has."""
    given = {"train": train_file, "validation": validation_file}
    given = {split: file for split, file in given.items() if file is not None}
    found = coco_layout.recognise(root, given)
    flags = {
        "train": (train_file, train_folder),
        "validation": (validation_file, validation_folder),
    }
    for split, (file, folder) in flags.items():
        if file is not None:
            found[split] = coco_layout.named(root, file, folder)
        elif folder is not None:
            key = "all" if "all" in found and split == "train" else split
            if key not in found:
                raise DataError(
                    f"--{split}_images={folder} needs --{split}_annotations, the file that "
                    "describes them."
                )
            found[key] = coco_layout.named(root, found[key].file, folder)
    if "all" in found and "validation" in found:
        found["train"] = found.pop("all")
    if "train" in found and "validation" not in found:
        found["all"] = found.pop("train")
    return {split: found[split] for split in ("all", "train", "validation") if split in found}


def _split(name, place, masks):
    """Returns the CocoSplit of a Place, of the images that are there, and notes."""
    file = coco_file.read(place.file, masks)
    names = [image.name for image in file.images]
    folder = place.folder_with([names[index] for index in spread(len(names), FIRST)])
    there = [(folder / image.name).is_file() for image in file.images]
    missing = Tally()
    for image, is_there in zip(file.images, there, strict=True):
        if not is_there:
            missing.add(f"of {place.file} that are not in {folder}", image.name)
    if missing.total > max(1, TOLERATED * len(names)):
        raise DataError(
            f"{missing.total:,} of {counted(len(names), 'image')} of {str(place.file)!r} are not "
            f"in {str(folder)!r}, such as {names[there.index(False)]!r}: put them there, or remove "
            "them from the file."
        )
    listed = [image for image, is_there in zip(file.images, there, strict=True) if is_there]
    images = tuple(_with_size(image, folder) for image in listed)
    split = CocoSplit(name, len(images), (None, None, 3), None, images, folder, file)
    sized = [image.size is not None for image in listed]
    notes = *missing.sentences("Left out", "image"), *turned.notes(split.paths, "boxes", sized)
    return split, [*file.notes, *notes]


def _with_size(image, folder):
    if image.size is not None:
        return image
    try:
        with open_image(str(folder / image.name)) as opened:
            return dataclasses.replace(image, size=opened.size)
    except Exception as error:  # whatever Pillow raises for a damaged file
        raise DataError(
            f"{str(folder / image.name)!r} is no image ({error}), and its annotations do not have "
            "its `width` and `height`: remove or replace it."
        ) from error


def _divided(split):
    if split.size < 2:
        raise DataError("Training and validation need an image each: there is only one.")
    kept = np.arange(split.size) % KEPT_FOR_VALIDATION == 0
    parts = {"train": ~kept, "validation": kept}
    return {
        name: dataclasses.replace(split.where(wanted), name=name) for name, wanted in parts.items()
    }


def _without_masks(split):
    """Returns a note if some objects have no usable mask, as `coco_set.of_split` needs."""
    rows = split.truth()["annotations"]
    count = sum("segmentation" not in row for row in rows)
    return [
        "The masks of the validation are not measured, its boxes alone: "
        f"{counted(count, 'object')} of {split.file.path} without a usable mask. Correct or remove "
        "what has none."
    ] * (count > 0)


def _to_learn_from(split):
    """Returns the split of the images that are trained on, and notes about the others."""
    empty, narrow = Tally(), Tally()
    for image in split.images:
        if not image.count:
            empty.add("without an object to learn, which only validation uses", image.name)
        elif min(image.size) < NARROWEST:
            narrow.add(f"with a side below {NARROWEST} pixels", image.name)
    kept = split.where([image.count > 0 and min(image.size) >= NARROWEST for image in split.images])
    if not kept.size:
        raise DataError(
            f"No image of {split.file.path} can be trained on: it needs objects that are no crowds "
            f"in images of {NARROWEST} pixels or more."
        )
    notes = (
        *empty.sentences("Not trained on", "image"),
        *narrow.sentences("Not trained on", "image"),
    )
    return kept, notes


def _refuse_other_classes(train, validation):
    odd = [
        (key, name)
        for key, name in validation.categories.items()
        if train.categories.get(key) != name
    ]
    lost = [key for key in train.categories if key not in validation.categories]
    if odd or lost:
        key = odd[0][0] if odd else lost[0]
        raise DataError(
            f"{train.path!r} and {validation.path!r} have other categories: the id {key} is "
            f"{train.categories.get(key, 'unknown')!r} in the one and "
            f"{validation.categories.get(key, 'unknown')!r} in the other. Give both the same list."
        )


def _counted(split):
    return f"{counted(split.size, 'image')} with {counted(split.objects, 'object')}"


def _summary(splits, how):
    train = splits["train"]
    names = train.file.class_names
    shown = ", ".join(map(readable, names[:SHOWN_CLASSES]))
    shown += ", ..." if len(names) > SHOWN_CLASSES else ""
    text = (
        f"{counted(len(names), 'class')} ({shown}); {_counted(train)} of {train.folder.name}/ "
        f"({Path(train.file.path).name}), {how}."
    )
    absent = [name for name, count in zip(names, train.file.counts, strict=True) if not count]
    return text + (f" Without an object in that file: {some(absent)}" if absent else "")
