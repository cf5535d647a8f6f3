"""Photos at the size at which a detector sees them, as the published evaluation resizes them."""

import numpy as np

from keras_convnext.detection.settings import MULTIPLE
from keras_convnext.sizes import bilinear, fitting, scaled


def resized(pixels, height, width):
    """Returns a photo at another size, uint8 (height, width, 3).

    Bilinear between the four nearest pixels, half-pixel centres, without antialiasing, rounded to
    whole numbers.

    Args:
        pixels: uint8 array (h, w, 3).
        height, width: of the result.
    """
    if pixels.shape[:2] == (height, width):
        return pixels
    return np.rint(bilinear(pixels, height, width)).astype("uint8")


def fitted(pixels, size):
    """Returns a photo as large as it may be, its ratio kept, uint8 (h, w, 3).

    Args:
        pixels: uint8 array (height, width, 3).
        size: limits of the short and of the long side, in any order.
    """
    sides = pixels.shape[:2]
    return resized(pixels, *scaled(sides, fitting(sides, size), 1))


def canvas_of(sides, size=None):
    """Returns (height, width) of the canvas that a photo is put on, multiples of 32.

    Args:
        sides: (height, width) of the photo.
        size: limits of its sides, which it was fitted to: the canvas is one of two, for photos that
            lie and for those that stand; `None`: the smallest that holds it.
    """
    if size is not None:
        short, long = sorted(size)
        sides = (long, short) if sides[0] > sides[1] else (short, long)
    return tuple(-(-int(side) // MULTIPLE) * MULTIPLE for side in sides)
