"""Reads a COCO annotation file, `instances_*.json`, which may come from anywhere.

What contradicts itself is refused. Objects that cannot be used are left out, counted by the reason
and said once; where they are many, the file is refused.
"""

import dataclasses
import json
import os
from pathlib import PureWindowsPath

from .coco_objects import (
    MOST_PIXELS,
    UnusableError,
    checked_area,
    checked_box,
    checked_mask,
    has_mask,
    is_whole,
)
from .dataset import DataError
from .listing import counted, readable, unreadable

MOST_BYTES = 2 * 2**30  # of a file; COCO's largest has half a GiB
TOLERATED = 0.1  # share of the objects that may be unusable
SHOWN = 60  # letters of a value in a message
LONGEST, LONGEST_PART = 2000, 255  # bytes of a `file_name`, and of what is between slashes


@dataclasses.dataclass(frozen=True)
class CocoImage:
    """An image of a COCO file.

    Attributes:
        id: as the file has it.
        name: `file_name`, relative to the folder of the images, with "/".
        size: `(width, height)` in pixels, or `None` where the file does not say it.
        objects: JSON text, a dict with `size`; with lists of the same length, one entry for each
            object that is no crowd: `boxes` (x1, y1, x2, y2 in pixels), `labels` (from 0, in the
            order of the ids of the categories), `areas` (as the file has them, or null) and, where
            masks were asked for, `segmentations` as COCO has them; with `crowds`, a dict of the
            same lists; and, where there are any, with `unlearned`, such a dict of what counts in a
            measurement and is not trained on. There a segmentation may be null.
        count: number of objects that are trained on.
    """

    id: int
    name: str
    size: tuple | None
    objects: str
    count: int


@dataclasses.dataclass(frozen=True, eq=False)
class CocoFile:
    """What an annotation file says.

    Attributes:
        path: of the file.
        categories: `{id: name}` in the order of the ids.
        images: list of `CocoImage` in the order of the file.
        counts: number of objects of each category that are trained on.
        notes: sentences about what was left out, and why.
    """

    path: str
    categories: dict
    images: list
    counts: tuple
    notes: tuple

    @property
    def class_names(self):
        """The names of the labels 0, 1, ..., a tuple."""
        return tuple(self.categories.values())


class Tally:
    """Counts by reason, and remembers the first place of each."""

    def __init__(self):
        self.found = {}

    def add(self, reason, place):
        count, first = self.found.get(reason, (0, place))
        self.found[reason] = count + 1, first

    @property
    def total(self):
        return sum(count for count, _ in self.found.values())

    def sentences(self, what, noun):
        """Returns a sentence for each reason: "`what`: 2 `noun`s `reason`, the first is ..."."""
        return tuple(
            f"{what}: {counted(count, noun)} {reason}, the first is {readable(first)}."
            for reason, (count, first) in self.found.items()
        )


def read(path, masks=True):
    """Returns the `CocoFile` of a path.

    Args:
        path: of the JSON file.
        masks: whether objects need one. Without, segmentations are not looked at, unless there is
            no box.

    Raises:
        DataError: if it cannot be read, is not of that form, contradicts itself, or more than a
            tenth of its objects cannot be used.
    """
    content = load(path)
    if masks and content["annotations"] and not any(map(has_mask, content["annotations"])):
        raise DataError(
            f"No object of {path} has a mask: train on boxes alone with --masks=false, or give "
            "annotations with `segmentation`."
        )
    repeated, flaws, others, crowds, twins = (Tally() for _ in range(5))
    categories = _categories(path, content["categories"])
    categories = _told_apart(path, categories, content["annotations"], twins)
    images = _images(path, content["images"], repeated)
    objects = _Objects(categories, images, masks, flaws, others, crowds)
    for annotation in _once(path, content["annotations"], repeated):
        objects.add(annotation)
    _refuse_many(path, flaws, len(content["annotations"]))
    notes = (
        *repeated.sentences("Repeated", "record"),
        *twins.sentences("Left out", "label"),
        *flaws.sentences("Left out", "object"),
        *others.sentences("Not learned", "object"),
        *crowds.sentences("Not learned", "object"),
    )
    counts = tuple(objects.counts)
    return CocoFile(str(path), categories, objects.images(), counts, notes)


# ---------------------------------------------------------------- the file


def load(path):
    """Returns the content of a file, a dict with the lists of dicts `images`, `annotations` and
    `categories`, in which nothing is checked yet.

    Raises:
        DataError: if it cannot be read, or is not of that form.
    """
    try:
        size = os.path.getsize(path)
        content = None
        if size <= MOST_BYTES:
            with open(path, encoding="utf-8-sig") as file:
                content = json.load(file)
    except OSError as error:
        raise unreadable(path, error) from error
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{str(path)!r} is no JSON ({str(error)[:SHOWN]}): give the annotations of a set in "
            "COCO's format."
        ) from error
    if size > MOST_BYTES:
        raise DataError(f"{str(path)!r} has more than {MOST_BYTES // 2**30} GiB: divide it.")
    for part in ("images", "annotations", "categories"):
        items = content.get(part) if isinstance(content, dict) else None
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise DataError(
                f"{str(path)!r} is not in COCO's format of instances: it needs {part!r}, a list of "
                "objects."
            )
    return content


def _text(value):
    text = repr(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}..."


def _malformed(path, what, entry, wish):
    return DataError(f"{str(path)!r} has {what} {_text(entry)}, which needs {wish}.")


def _categories(path, entries):
    found = {}
    for entry in entries:
        key, name = entry.get("id"), entry.get("name")
        if not is_whole(key) or not isinstance(name, str) or not name.strip():
            raise _malformed(path, "the category", entry, "a whole number `id` and a `name`")
        if key in found and found[key] != name.strip():
            raise DataError(
                f"{str(path)!r} has two categories of the id {key}, {found[key]!r} and {name!r}: "
                "give each its own."
            )
        found[int(key)] = name.strip()
    if not found:
        raise DataError(f"{str(path)!r} has no categories: nothing could be told apart.")
    return dict(sorted(found.items()))


def _told_apart(path, categories, annotations, twins):
    """Returns the categories without those that have the name of another one and no objects, such
    as the group that some programs export before its only class."""
    used = {key for a in annotations if is_whole(key := a.get("category_id"))}
    kept = {}
    for key, name in sorted(categories.items(), key=lambda item: (item[0] in used, item[0])):
        other = kept.get(name)
        if other is not None and other in used:
            raise DataError(
                f"{str(path)!r} has objects of two categories of the name {_text(name)}, the ids "
                f"{other} and {key}: rename one of them, or give their objects one id."
            )
        if other is not None:
            twins.add("without objects, of the name of another", f"{name} (id {other})")
        kept[name] = key
    return {key: name for key, name in categories.items() if kept[name] == key}


def _images(path, entries, repeated):
    """Returns `{id: (name, size)}` in the order of the file."""
    found = {}
    for entry in entries:
        key = entry.get("id")
        if not is_whole(key):
            raise _malformed(path, "the image", entry, "a whole number `id`")
        image = image_name(path, entry), _size(path, entry)
        if key in found:
            if found[key] != image:
                raise DataError(
                    f"{str(path)!r} has two images of the id {key}, {found[key][0]!r} and "
                    f"{image[0]!r}: give each its own."
                )
            repeated.add("about an image", f"{image[0]} (id {key})")
        found[int(key)] = image
    if not found:
        raise DataError(f"{str(path)!r} has no images.")
    return found


def image_name(path, entry):
    """Returns the name of an image's file, relative to the folder of the images, with "/".

    Args:
        path: of the annotation file.
        entry: what it says about the image, a dict.

    Raises:
        DataError: if it has none, one that no file can have, or one that leads out of the folder.
    """
    name = entry.get("file_name")
    if not isinstance(name, str) or not name.strip() or "\0" in name:
        raise _malformed(path, "the image", entry, "a `file_name`")
    parts = name.replace("\\", "/").split("/")
    lengths = [len(part.encode("utf-8", "surrogatepass")) for part in parts]
    if max(lengths) > LONGEST_PART or sum(lengths) + len(parts) > LONGEST:
        wish = f"a `file_name` of at most {LONGEST} bytes, {LONGEST_PART} between slashes"
        raise _malformed(path, "the image", entry, wish)
    leads_out = parts[0].endswith(":") or PureWindowsPath(parts[0]).drive  # C:photo.jpg too
    if ".." in parts or parts[0] == "" or leads_out:
        raise DataError(
            f"{str(path)!r} has the image {_text(name)}: a `file_name` is relative to the folder "
            "of the images, and does not lead out of it."
        )
    return "/".join(part for part in parts if part not in ("", "."))


def _size(path, entry):
    sides = entry.get("width"), entry.get("height")
    if None in sides:
        return None
    if not all(is_whole(side) and side >= 1 for side in sides):
        raise _malformed(path, "the image", entry, "whole numbers `width` and `height` >= 1")
    if sides[0] * sides[1] > MOST_PIXELS:
        raise _malformed(path, "the image", entry, f"at most {MOST_PIXELS:,} pixels")
    return tuple(map(int, sides))


def _once(path, annotations, repeated):
    """Yields the annotations; those that occur twice as they are once only."""
    seen = {}
    for annotation in annotations:
        key = annotation.get("id")
        if key is None or not isinstance(key, int | str):
            yield annotation
        elif key not in seen:
            seen[key] = annotation
            yield annotation
        elif seen[key] == annotation:
            repeated.add("about an object that counts once", f"annotation {_text(key)}")
        else:
            repeated.add("with the id of another object; both count", f"annotation {_text(key)}")
            yield annotation


def _refuse_many(path, flaws, total):
    if flaws.total > max(1, TOLERATED * total):
        reason, (_, first) = max(flaws.found.items(), key=lambda item: item[1][0])
        raise DataError(
            f"{flaws.total:,} of {counted(total, 'object')} in {str(path)!r} cannot be used, most "
            f"of them {reason}, such as {readable(first)}: correct or remove them."
        )


# ---------------------------------------------------------------- its objects


LEARNED, CROWD, UNLEARNED = range(3)


class _Objects:
    """Collects the objects of each image."""

    def __init__(self, categories, images, masks, flaws, others, crowds):
        self.masks, self.flaws, self.others, self.crowds = masks, flaws, others, crowds
        self.labels = {key: label for label, key in enumerate(categories)}
        self.entries, self.counts = images, [0] * len(categories)
        self.found = {key: ([], [], []) for key in images}

    def add(self, annotation):
        """Adds an object, or counts why not."""
        place = f"annotation {_text(annotation.get('id', annotation))}"
        try:
            image = _known(annotation, "image_id", self.entries, "without an image in the list")
            key = _known(annotation, "category_id", self.labels, "without a category in the list")
            label, size = self.labels[key], self.entries[image][1]
            box = checked_box(annotation, size)
        except UnusableError as flaw:
            self.flaws.add(str(flaw), place)
            return
        mask, is_usable = self._mask(annotation, size, place)
        kind = CROWD if annotation.get("iscrowd") else LEARNED
        if kind == CROWD:
            self.crowds.add("marked as a crowd", place)
        elif not is_usable or not self._in_sight(box, size, place):
            kind = UNLEARNED
        else:
            self.counts[label] += 1
        self.found[image][kind].append((box, label, checked_area(annotation), mask))

    def _mask(self, annotation, size, place):
        """Returns the mask, `None` without one, and whether it can be used; counts it if not."""
        if not self.masks:
            return None, True
        try:
            return checked_mask(annotation, size), True
        except UnusableError as flaw:
            self.flaws.add(str(flaw), place)
            return None, False

    def _in_sight(self, box, size, place):
        """Returns whether there is anything to learn of a box; counts it if not."""
        x1, y1, x2, y2 = box
        width, height = size or (float("inf"), float("inf"))
        if min(x2 - x1, y2 - y1) < 1:  # the reference does not train on these, but measures them
            self.others.add("with a box narrower than a pixel", place)
        elif min(x2, width) <= max(x1, 0) or min(y2, height) <= max(y1, 0):
            self.others.add("outside of the image", place)
        else:
            return True
        return False

    def images(self):
        """Returns the list of `CocoImage`; the objects are forgotten on the way."""
        result = []
        for key, (name, size) in self.entries.items():
            found, crowds, unlearned = self.found.pop(key)
            content = {"size": size, **self._columns(found), "crowds": self._columns(crowds)}
            content |= {"unlearned": self._columns(unlearned)} if unlearned else {}
            text = json.dumps(content, separators=(",", ":"))
            result.append(CocoImage(key, name, size, text, len(found)))
        return result

    def _columns(self, found):
        names = ("boxes", "labels", "areas", "segmentations")[: 4 if self.masks else 3]
        columns = zip(*found, strict=True) if found else [()] * 4
        return dict(zip(names, columns, strict=False))


def _known(annotation, field, known, otherwise):
    key = annotation.get(field)
    if not is_whole(key) or key not in known:
        raise UnusableError(otherwise)
    return int(key)
