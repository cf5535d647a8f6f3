"""Masks of 28 x 28 probabilities become masks of the photo: each fills its box.

A window a pixel larger than the box is computed, in bands of rows, so that neither a large photo
nor many objects need much memory. Source: arXiv 1703.06870, section 3.1 (inference).
"""

import numpy as np

THRESHOLD = 0.5  # from this probability on a pixel belongs to the object
BAND = 2**20  # pixels whose probabilities are computed at once


def paste(probabilities, box, height, width, threshold=THRESHOLD):
    """Returns the part of a mask that may hold pixels of the object, and where it is.

    Bilinear between the centres of the mask's pixels; outside the mask the probability is 0.

    Args:
        probabilities: float array (rows, columns) in [0, 1], which fills the box.
        box: x1, y1, x2, y2 in pixels of the photo. One without area has an empty mask.
        height, width: of the photo, in pixels.
        threshold: from this probability on a pixel belongs to the object.

    Returns:
        `(window, top, left)`: bool array (h, w), and the place of its first pixel in the photo.
    """
    probabilities = np.asarray(probabilities, "float32")
    x1, y1, x2, y2 = np.asarray(box, "float32")
    if not (x2 > x1 and y2 > y1):
        return np.zeros((0, 0), bool), 0, 0
    top, bottom = _around(y1, y2, height)
    left, right = _around(x1, x2, width)
    window = np.zeros((bottom - top, right - left), bool)
    across = _shares(x1, x2, left, right, probabilities.shape[1])
    step = max(1, BAND // max(1, right - left))
    for first in range(top, bottom, step):
        last = min(first + step, bottom)
        down = _shares(y1, y2, first, last, probabilities.shape[0])
        window[first - top : last - top] = down @ probabilities @ across.T >= threshold
    return window, top, left


def paste_all(probabilities, boxes, height, width, threshold=THRESHOLD):
    """Returns the masks of all objects at the photo's size, bool (n, height, width).

    Args:
        probabilities: float array (n, rows, columns) in [0, 1].
        boxes: float array (n, 4).
        height, width, threshold: as of `paste`.
    """
    masks = np.zeros((len(boxes), height, width), bool)
    for mask, crop, box in zip(masks, probabilities, boxes, strict=True):
        window, top, left = paste(crop, box, height, width, threshold)
        rows, columns = window.shape
        mask[top : top + rows, left : left + columns] = window
    return masks


def _around(low, high, length):
    """Returns the first pixel, and that behind the last, of a side of the box and one more."""
    first = int(np.clip(np.floor(low) - 1, 0, length))
    return first, max(first, int(np.clip(np.ceil(high) + 1, 0, length)))


def _shares(low, high, first, last, count):
    """Returns float32 (last - first, count): what each pixel takes of the `count` of a mask that
    goes from `low` to `high`."""
    # in the order of operations of the published code, whose rounding decides at the threshold
    places = (np.arange(first, last, dtype="float32") + 0.5 - low) / (high - low) * 2 - 1
    places = ((places + 1) * count - 1) / 2
    return np.maximum(1 - np.abs(places[:, None] - np.arange(count, dtype="float32")), 0)
