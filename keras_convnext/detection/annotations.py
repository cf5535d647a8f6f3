"""Checks the content of COCO annotation files and of results, as far as scores depend on it.

The ids of images, categories and objects are numbered afresh from 1, in their own order: they may
have gaps, and an object of id 0 would count as not found in the usual implementations.
"""

import collections
import dataclasses
import math
import numbers
from collections.abc import Iterable, Mapping

import numpy as np

from keras_convnext.detection import rle

SHOWN = 3  # ids or names in a message


@dataclasses.dataclass(frozen=True, eq=False)
class Truth:
    """The objects of a set of images, checked.

    Attributes:
        images: `{id: number from 1}`, in the order of the ids.
        sizes: `{id: (height, width)}`.
        categories: `{id: number from 1}`, in the order of the ids.
        names: of the categories, a tuple in the same order.
        objects: a list of dicts with `id`, `image_id`, `category_id` (the numbers), `iscrowd`,
            `bbox` (x, y, width, height), `area`, and `segmentation` where masks are asked for.
    """

    images: dict
    sizes: dict
    categories: dict
    names: tuple
    objects: list


def checked_truth(truth, masks=False):
    """Returns the `Truth` in the content of a COCO annotation file.

    Args:
        truth: dict with the lists `images`, `annotations` and `categories`.
        masks: whether the masks are looked at, or else the boxes.

    Raises:
        ValueError: if it is none, or has ids twice, objects of unknown images or categories, or
            impossible boxes or masks.
    """
    lists = {}
    for name in ("images", "annotations", "categories"):
        lists[name] = truth.get(name) if isinstance(truth, Mapping) else None
        if not isinstance(lists[name], (list, tuple)):
            raise ValueError(
                f"The ground truth must be a dict with the lists images, annotations and "
                f"categories, as in COCO's instances_*.json; it has no list {name!r}."
            )
    for name in ("images", "categories"):
        if not lists[name]:
            raise ValueError(f"The ground truth has no {name}: there is nothing to measure.")
    images = {int(row["id"]): row for row in _rows("image", lists["images"])}
    categories = {int(row["id"]): row for row in _rows("category", lists["categories"])}
    sizes = {key: _size(key, row) for key, row in images.items()} if masks else {}
    place_of, number_of = _numbered(images), _numbered(categories)
    names = tuple(str(categories[key].get("name", key)) for key in number_of)
    objects = []
    for number, row in enumerate(_rows("annotation", lists["annotations"], optional=True), start=1):
        where = f"The annotation {row.get('id', f'number {number}')}"
        ids = _known(where, row, place_of, number_of)
        objects.append({"id": number, **ids, **_object(where, row, sizes, masks)})
    return Truth(place_of, sizes, number_of, names, objects)


def checked_results(results, truth, masks=False):
    """Returns detections in COCO's results format as a list of dicts with the numbers of `truth`.

    Args:
        results: iterable of dicts with `image_id`, `category_id`, `score`, and `bbox`, or
            `segmentation` where masks are asked for.
        truth: a `Truth`, made with the same `masks`.
        masks: as of `checked_truth`.

    Raises:
        ValueError: if one is of an unknown image or category, or has no finite score, no box of
            finite numbers, or an impossible mask.
    """
    if isinstance(results, Mapping) or not isinstance(results, Iterable):
        raise ValueError(
            f"The results must be a list with a dict per detection, received a "
            f"{type(results).__name__}."
        )
    rows = []
    for number, row in enumerate(results, start=1):
        where = f"The result number {number}"
        if not isinstance(row, Mapping):
            raise ValueError(f"{where} must be a dict, received a {type(row).__name__}.")
        ids = _known(where, row, truth.images, truth.categories)
        score = row.get("score")
        if not _is_finite(score):
            raise ValueError(f"{where} must have a finite score, received {score!r}.")
        shape = _region(where, row, truth.sizes, masks)
        rows.append({"id": number, **ids, "score": float(score), "iscrowd": 0, **shape})
    return rows


def _rows(kind, rows, optional=False):
    """Returns the dicts of a list, whose ids are checked."""
    seen = collections.Counter()
    for row in rows:
        if not isinstance(row, Mapping):
            raise ValueError(f"Each {kind} must be a dict, received a {type(row).__name__}.")
        if optional and "id" not in row:
            continue
        key = row.get("id")
        if not _is_whole(key):
            raise ValueError(f"The id of each {kind} must be a whole number, received {key!r}.")
        seen[key] += 1
    twice = [key for key, count in seen.items() if count > 1]
    if twice:
        raise ValueError(
            f"The ground truth has several entries with the {kind} id {_some(twice)}: give each "
            f"{kind} an id of its own."
        )
    return rows


def _some(keys):
    return ", ".join(map(str, keys[:SHOWN])) + ", ..." * (len(keys) > SHOWN)


def _numbered(rows):
    return {key: number for number, key in enumerate(sorted(rows), start=1)}


def _size(key, row):
    size = row.get("height"), row.get("width")
    if not all(_is_whole(side) and side > 0 for side in size):
        raise ValueError(
            f"The image {key} must have a height and a width in whole pixels >= 1, received "
            f"{size[0]!r} x {size[1]!r}."
        )
    return int(size[0]), int(size[1])


def _known(where, row, images, categories):
    """Returns the numbers of image and category."""
    found = {}
    for field, known in (("image_id", images), ("category_id", categories)):
        key = row.get(field)
        if not _is_whole(key) or key not in known:
            raise ValueError(
                f"{where} has the {field} {key!r}, which the ground truth does not list; it lists "
                f"{_some(list(known))}."
            )
        found[field] = known[key]
    return found


def _object(where, row, sizes, masks):
    crowd = row.get("iscrowd", 0)
    if crowd not in (0, 1):
        raise ValueError(f"{where} must have 0 or 1 as iscrowd, received {crowd!r}.")
    shape = _region(where, row, sizes, masks)
    area = row.get("area", shape["area"])
    if not _is_finite(area) or area < 0:
        raise ValueError(f"{where} must have a finite area >= 0, received {area!r}.")
    return {"iscrowd": int(crowd), **shape, "area": float(area)}


def _region(where, row, sizes, masks):
    """Returns `bbox` and `area`, or `segmentation` and `area`."""
    if not masks:
        box = _box(where, row.get("bbox"))
        return {"bbox": box, "area": box[2] * box[3]}
    mask = row.get("segmentation")
    if mask is None or isinstance(mask, (list, tuple)) and not mask:
        raise ValueError(f"{where} has no segmentation, which masks are measured by.")
    size = sizes[row["image_id"]]
    try:
        area = float(rle.area(mask, *size))
        is_text = isinstance(mask, Mapping) and isinstance(mask["counts"], (str, bytes))
        return {"segmentation": mask if is_text else rle.compress(mask, *size), "area": area}
    except ValueError as error:
        raise ValueError(f"{where} has a mask that cannot be read: {error}") from error


def _box(where, box):
    is_row = isinstance(box, (list, tuple, np.ndarray)) and len(box) == 4
    if not is_row or not all(map(_is_finite, box)) or min(box[2:]) < 0:
        raise ValueError(
            f"{where} must have a bbox of four finite numbers (x, y, width, height), width and "
            f"height >= 0; received {box!r}."
        )
    return [float(value) for value in box]


def _is_finite(value):
    real = isinstance(value, (numbers.Real, np.number)) and not isinstance(value, bool)
    try:
        return real and math.isfinite(value)
    except OverflowError:  # an integer that no float can be
        return False


def _is_whole(value):
    """Returns whether a value is a whole number: 1.0 is one, as in JSON."""
    if isinstance(value, (float, np.floating)):
        return float(value).is_integer()
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)
