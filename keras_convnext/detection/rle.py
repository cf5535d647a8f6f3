"""Masks as run lengths, as COCO's files have them, and polygons as the same pixels as there.

A mask is read column by column. The lengths of its runs alternate, and the first is of pixels
outside of the object, be it 0. A file has them as numbers ("uncompressed", of crowds), or as text:
`{"size": [height, width], "counts": "..."}`, in which each number but the first three is the
difference from the one before the last, written in digits of 5 bits, the lowest first.

Source: the format is that of the COCO dataset, arXiv 1405.0312, and of its annotation files.
"""

import numpy as np

from keras_convnext.checks import integer

MOST_PIXELS = 2**28  # of a mask; no photo has more, and a damaged file may say anything
MOST_POINTS = 2**22  # at fifths of a pixel, on the outline of a polygon
DIGITS = 7  # of a number in the text: up to 2**34
UPSAMPLING = 5  # of the outline of a polygon


def encode(mask, size=None, top=0, left=0):
    """Returns a mask as run lengths in text, which `json.dump` can write.

    Args:
        mask: bool array (h, w): the mask of an image, or a window of it, outside of which there is
            nothing of the object.
        size: (height, width) of the image; `None`: that of `mask`.
        top, left: the place of the window's first pixel in the image.

    Returns:
        `{"size": [height, width], "counts": str}`.

    Raises:
        ValueError: if the window is not within the image.
    """
    mask = np.asarray(mask) != 0
    height, width = size = mask.shape if size is None else _checked_size(size)
    inside = top >= 0 and left >= 0
    if not inside or top + mask.shape[0] > height or left + mask.shape[1] > width:
        raise ValueError(
            f"A window of {mask.shape} at ({top}, {left}) is not within an image of {size}."
        )
    edges = np.zeros((mask.shape[1], mask.shape[0] + 1), "int8")
    edges[:, :-1] = mask.T
    edges[:, 1:] -= mask.T
    columns, rows = np.nonzero(edges)
    places = (left + columns) * height + top + rows  # they alternate: start, end, start, ...
    return _as_text(*_union(places[::2], places[1::2]), height, width)


def decode(segmentation, height=None, width=None):
    """Returns the mask of a segmentation of COCO's, bool (height, width).

    Args:
        segmentation: run lengths, a dict with "size" and "counts" (list of numbers, or text); or a
            list of polygons, each a list x, y, x, y, ... in pixels.
        height, width: of the image, in pixels; needed for polygons.

    Raises:
        ValueError: if it is none of these, is damaged, or is of another size than the image.
    """
    starts, ends, height, width = _runs_of(segmentation, height, width)
    change = np.zeros(height * width + 1, "int8")
    np.add.at(change, starts, 1)
    np.add.at(change, ends, -1)
    inside = np.cumsum(change[:-1], dtype="int8").astype(bool)
    return inside.reshape(width, height).T


def area(segmentation, height=None, width=None):
    """Returns the number of the object's pixels, an int; arguments and errors as of `decode`."""
    starts, ends, _, _ = _runs_of(segmentation, height, width)
    return int((ends - starts).sum())


def bbox(segmentation, height=None, width=None):
    """Returns the box of the object's pixels, [x, y, width, height], zeros where there are none.

    Arguments and errors are those of `decode`.
    """
    starts, ends, height, _ = _runs_of(segmentation, height, width)
    if not len(starts):
        return [0.0, 0.0, 0.0, 0.0]
    lasts = ends - 1
    left, right = int(starts.min() // height), int(lasts.max() // height)
    if (starts // height != lasts // height).any():  # such a run has the end and the top of columns
        top, bottom = 0, height - 1
    else:
        top, bottom = int((starts % height).min()), int((lasts % height).max())
    return [float(left), float(top), float(right - left + 1), float(bottom - top + 1)]


def compress(segmentation, height=None, width=None):
    """Returns a segmentation as run lengths in text; arguments and errors as of `decode`."""
    starts, ends, height, width = _runs_of(segmentation, height, width)
    return _as_text(*_union(starts, ends), height, width)


# ---------------------------------------------------------------------------- run lengths


def _runs_of(segmentation, height, width):
    """Returns int64 arrays of where the object's runs start and end, and the image's size."""
    if isinstance(segmentation, dict):
        return _runs_of_dict(segmentation, height, width)
    if not isinstance(segmentation, (list, tuple)):
        raise ValueError(
            "A segmentation must be a dict of run lengths or a list of polygons, received "
            f"{type(segmentation).__name__}."
        )
    if height is None or width is None:
        raise ValueError("Polygons become a mask of an image: pass its `height` and `width`.")
    height, width = _checked_size((height, width))
    runs = [_runs_of_polygon(polygon, height, width) for polygon in segmentation]
    starts = np.concatenate([np.zeros(0, "int64"), *(start for start, _ in runs)])
    ends = np.concatenate([np.zeros(0, "int64"), *(end for _, end in runs)])
    return *_union(starts, ends), height, width


def _runs_of_dict(segmentation, height, width):
    if not {"size", "counts"} <= set(segmentation):
        raise ValueError(
            f"Run lengths must have 'size' and 'counts', received {sorted(map(str, segmentation))}."
        )
    size = _checked_size(segmentation["size"])
    if any(given not in (None, side) for given, side in zip((height, width), size, strict=True)):
        raise ValueError(f"The mask is of an image of {size}, the image has {(height, width)}.")
    counts, total = segmentation["counts"], size[0] * size[1]
    if isinstance(counts, (str, bytes)):
        counts = _numbers_of(counts)
    counts = _array(counts)
    if counts.ndim != 1 or (counts.size and counts.dtype.kind not in "iu"):
        raise ValueError("The counts of run lengths must be a list of whole numbers, or a text.")
    if counts.size and (counts.min() < 0 or counts.max() > total):
        raise ValueError(f"Run lengths of an image of {size} must be in [0, {total}].")
    if counts.sum() != total:
        raise ValueError(
            f"The run lengths add up to {counts.sum()} pixels, an image of {size} has {total}."
        )
    ends = np.cumsum(counts, dtype="int64")
    starts, ends = ends[: len(ends) // 2 * 2 : 2], ends[1::2]
    some = starts < ends
    return starts[some], ends[some], *size


def _array(values):
    """Returns an array of a list of numbers; of anything else, one without axes."""
    try:
        return np.asarray(values)
    except ValueError:  # lists of several lengths
        return np.zeros(())


def _checked_size(size):
    if not isinstance(size, (tuple, list)) or len(size) != 2:
        raise ValueError(f"The size of a mask must be (height, width), received {size!r}.")
    size = tuple(
        integer(name, side, 1) for name, side in zip(("height", "width"), size, strict=True)
    )
    if size[0] * size[1] > MOST_PIXELS:
        raise ValueError(f"A mask has at most {MOST_PIXELS} pixels here, received {size}.")
    return size


def _union(starts, ends):
    """Returns where the runs start and end that hold all pixels of some runs, in order."""
    places, index = np.unique(np.concatenate([starts, ends]), return_inverse=True)
    change = np.zeros(len(places), "int64")
    np.add.at(change, index[: len(starts)], 1)
    np.add.at(change, index[len(starts) :], -1)
    inside = np.concatenate([[False], np.cumsum(change) > 0])
    differs = inside[1:] != inside[:-1]
    places = places[differs]
    return places[::2], places[1::2]


def _as_text(starts, ends, height, width):
    total = height * width
    edges = np.stack([starts, ends], 1).ravel()
    edges = np.concatenate([[0], edges, [total] if total not in edges[-1:] else []])
    counts = np.diff(edges.astype("int64"))
    return {"size": [int(height), int(width)], "counts": _text_of(counts)}


def _text_of(counts):
    left = counts.copy()
    left[3:] -= counts[1:-2]
    digits = np.zeros((len(counts), DIGITS), "uint8")
    used = np.zeros(digits.shape, bool)
    more = np.ones(len(counts), bool)
    for place in range(DIGITS):
        used[:, place] = more
        digit, left = left & 31, left >> 5
        more = more & (left != np.where(digit & 16, -1, 0))  # the rest is more than its sign
        digits[:, place] = digit + 32 * more + 48
    return digits[used].tobytes().decode("ascii")


def _numbers_of(text):
    """Returns the int64 counts of a text."""
    text = text.encode("utf-8") if isinstance(text, str) else text
    digits = np.frombuffer(text, "uint8").astype("int64") - 48
    if digits.size == 0 or digits.min() < 0 or digits.max() > 63 or digits[-1] & 32:
        raise ValueError("The text of run lengths is damaged: it is empty, cut, or of other signs.")
    last = np.flatnonzero(digits & 32 == 0)
    first = np.concatenate([[0], last[:-1] + 1])
    lengths = last - first + 1
    if lengths.max() > DIGITS:
        raise ValueError("The text of run lengths is damaged: it has numbers above any image.")
    places = np.arange(len(digits)) - np.repeat(first, lengths)
    counts = np.add.reduceat((digits & 31) << 5 * places, first)
    counts -= np.where(digits[last] & 16, 1, 0) << 5 * lengths  # the highest bit is the sign
    for chain in (slice(1, None, 2), slice(2, None, 2)):
        counts[chain] = np.cumsum(counts[chain])
    return counts


# ---------------------------------------------------------------------------- polygons


def _runs_of_polygon(polygon, height, width):
    """Returns where the runs of the pixels inside of a polygon start and end.

    The outline is drawn at fifths of a pixel. Where it passes the middle of a column of pixels, the
    pixels of that column below it change between outside and inside.
    """
    x, y = _outline(_corners(polygon))
    step = x[1:] != x[:-1]
    x, y = np.minimum(x[1:], x[:-1])[step], np.minimum(y[1:], y[:-1])[step]
    middle = UPSAMPLING // 2
    columns, at_middle = x // UPSAMPLING, x % UPSAMPLING == middle
    at_middle &= (columns >= 0) & (columns < width)
    rows = np.clip(-((middle - y) // UPSAMPLING), 0, height)  # rounded up
    places, times = np.unique((columns * height + rows)[at_middle], return_counts=True)
    places = places[times % 2 == 1]
    if len(places) % 2:
        places = np.concatenate([places, [height * width]])
    return places[::2], places[1::2]


def _corners(polygon):
    """Returns the corners at fifths of a pixel, int64 (n + 1, 2); the first is the last, too."""
    corners = _array(polygon)
    if corners.ndim != 1 or corners.dtype.kind not in "iuf":
        raise ValueError("A polygon must be a list of numbers x, y, x, y, ...")
    if corners.size < 6 or corners.size % 2:
        raise ValueError(
            f"A polygon must have x and y of 3 corners or more, received {corners.size} numbers."
        )
    if not (np.abs(corners) < MOST_POINTS).all():
        raise ValueError("The corners of a polygon must be pixels near the image, not infinite.")
    corners = np.trunc(UPSAMPLING * corners.astype("float64") + 0.5).astype("int64").reshape(-1, 2)
    return np.concatenate([corners, corners[:1]])


def _outline(corners):
    """Returns x and y of all points on the way along the corners, int64 each."""
    starts, ways = corners[:-1], np.diff(corners, axis=0)
    lengths = np.abs(ways).max(1)
    starts, ways, lengths = (array[lengths > 0] for array in (starts, ways, lengths))
    if lengths.sum() + len(lengths) > MOST_POINTS:
        raise ValueError(
            f"A polygon's outline must be shorter than {MOST_POINTS // UPSAMPLING} pixels, it has "
            f"{lengths.sum() // UPSAMPLING}."
        )
    flat = np.abs(ways[:, 0]) >= np.abs(ways[:, 1])
    along = np.where(flat, ways[:, 0], ways[:, 1])
    # always drawn in the direction of growing x or y, so that both neighbours share the outline
    origin = np.where((along < 0)[:, None], starts + ways, starts)
    slopes = np.where(flat, ways[:, 1], ways[:, 0]) / np.where(along == 0, 1, along)
    count = lengths + 1
    place = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
    flat, back, lengths, slopes, x, y = (
        np.repeat(array, count)
        for array in (flat, along < 0, lengths, slopes, origin[:, 0], origin[:, 1])
    )
    place = np.where(back, lengths - place, place)
    across = np.trunc(np.where(flat, y, x) + slopes * place + 0.5).astype("int64")
    return np.where(flat, x + place, across), np.where(flat, across, y + place)
