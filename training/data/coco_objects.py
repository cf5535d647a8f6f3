"""The objects of COCO annotations: what a box and a mask must be, and how they are read."""

import json
import math

import numpy as np

from keras_convnext.detection import rle
from keras_convnext.detection.augmentation import Objects
from keras_convnext.images import ImageError, about_exif, load_image

MOST_PIXELS = 178_956_970  # of an image; Pillow refuses to open larger ones
MOST_POINTS = 100_000  # of an object's polygons
LARGEST = 1e9  # number: no coordinate, side or area of an image is larger
RUN_LETTERS = 7  # at most, of one run of a compressed mask
LEAST_POLYGON = 6  # numbers: three points


class UnusableError(Exception):
    """An object cannot be used; the message completes "objects ..."."""


def is_whole(value):
    """Returns whether a value of JSON is a whole number."""
    is_int = isinstance(value, int) and not isinstance(value, bool)
    return is_int or isinstance(value, float) and value.is_integer()


def are_numbers(values):
    """Returns whether values of JSON are a list of finite numbers, none of them absurdly large."""
    if not isinstance(values, list) or not set(map(type, values)) <= {int, float}:
        return False
    # NaN is neither larger nor smaller than anything, but shows in the sum
    return not values or (
        -LARGEST <= min(values) and max(values) <= LARGEST and math.isfinite(sum(values))
    )


def has_mask(annotation):
    """Returns whether an annotation has a mask, right or wrong."""
    return bool(annotation.get("segmentation"))


def checked_box(annotation, size):
    """Returns `(x1, y1, x2, y2)` in pixels; without `bbox` that of the mask.

    Args:
        annotation: a dict.
        size: `(width, height)` of its image, or `None`.

    Raises:
        UnusableError: if it has no usable box.
    """
    box = annotation.get("bbox")
    if box is None and has_mask(annotation):
        return _box_of_mask(checked_mask(annotation, size))
    if not are_numbers(box) or len(box) != 4:
        raise UnusableError("without a `bbox` of four numbers")
    left, top, width, height = box
    return left, top, left + width, top + height


def _box_of_mask(mask):
    if isinstance(mask, list):
        points = np.array([number for polygon in mask for number in polygon]).reshape(-1, 2)
        return (*points.min(0).tolist(), *points.max(0).tolist())
    try:
        left, top, width, height = rle.bbox(mask)
    except ValueError as error:
        raise UnusableError("with a damaged `segmentation`") from error
    return left, top, left + width, top + height


def checked_area(annotation):
    """Returns the `area` in pixels, or `None` where there is none."""
    area = annotation.get("area")
    return area if are_numbers([area]) and area >= 0 else None


def checked_mask(annotation, size):
    """Returns the `segmentation` of an annotation: a list of polygons, or a dict of runs.

    Polygons of fewer than three points are left out, as in the reference.

    Args:
        annotation: a dict.
        size: `(width, height)` of its image, or `None`.

    Raises:
        UnusableError: if it is missing, damaged, or of another size than the image.
    """
    mask = annotation.get("segmentation")
    if not mask:
        raise UnusableError("without a `segmentation`")
    if isinstance(mask, dict):
        return _checked_runs(mask, size)
    if not isinstance(mask, list) or not all(map(are_numbers, mask)):
        raise UnusableError("with a damaged `segmentation`")
    if sum(map(len, mask)) > 2 * MOST_POINTS:
        raise UnusableError(f"with polygons of more than {MOST_POINTS:,} points")
    kept = [polygon for polygon in mask if len(polygon) >= LEAST_POLYGON and len(polygon) % 2 == 0]
    if not kept:
        raise UnusableError("without a polygon of three points")
    return kept


def _checked_runs(mask, size):
    shape, runs = mask.get("size"), mask.get("counts")
    if not are_numbers(shape) or len(shape) != 2 or not all(map(is_whole, shape)):
        raise UnusableError("with a damaged `segmentation`")
    if size is not None and tuple(shape) != size[::-1]:
        raise UnusableError("with a mask of another size than the image")
    pixels = shape[0] * shape[1]
    if min(shape) < 1 or pixels > MOST_PIXELS:
        raise UnusableError("with a mask of no or too many pixels")
    if isinstance(runs, str):
        good = len(runs) <= RUN_LETTERS * (pixels + 1)
    else:
        good = isinstance(runs, list) and set(map(type, runs)) == {int}
        good = good and min(runs) >= 0 and sum(runs) == pixels
    if not good:
        raise UnusableError("with a damaged `segmentation`")
    return {"size": [int(side) for side in shape], "counts": runs}


def read(image, objects):
    """Returns `(image, objects)`, a Pillow image of mode "RGB" and its `Objects`.

    Args:
        image: content of the file.
        objects: JSON text of `CocoImage.objects`, as bytes.

    Raises:
        ImageError: (a ValueError) if the image cannot be read or has another size than the
            annotations say, or a mask is damaged.
    """
    file, content = bytes(image), json.loads(bytes(objects))
    image, said = load_image(file), content["size"]
    if said is not None and tuple(said) != image.size:
        raise ImageError(
            f"it has {image.width} x {image.height} pixels, in the annotations {said[0]} x "
            f"{said[1]}{about_exif(file, said)}"
        )
    masks = content.get("segmentations")
    return image, Objects(
        np.array(content["boxes"], "float32").reshape(-1, 4),
        np.array(content["labels"], "int32"),
        None if masks is None else lambda number: _mask(masks[number], image),
    )


def _mask(segmentation, image):
    if isinstance(segmentation, dict) and tuple(segmentation["size"]) != image.size[::-1]:
        raise ImageError(f"a mask has the size {segmentation['size']}, not the image's")
    try:
        return rle.decode(segmentation, image.height, image.width)
    except ValueError as error:
        raise ImageError(f"a mask is damaged: {error}") from error


def verify(image, objects):
    """Reads an image with all masks of its objects; arguments and errors as of `read`."""
    _, found = read(image, objects)
    if found.mask is not None:
        for number in range(len(found.labels)):
            found.mask(number)
