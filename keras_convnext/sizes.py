"""Sizes of images, and images at other sizes, in numpy alone."""

import numpy as np


def fitting(sides, limits):
    """Returns the factor with which neither side exceeds `(long, short)`; 1 for `None`."""
    if limits is None:
        return 1.0
    return min(max(limits) / max(sides), min(limits) / min(sides))


def scaled(sides, factor, least=1):
    """Returns the sides times `factor`, in whole pixels, none shorter than `least`."""
    return tuple(max(least, int(side * factor + 0.5)) for side in sides)


def bilinear(pixels, height, width):
    """Returns a map at another size, float32 (height, width, channels).

    Bilinear between the four nearest pixels, half-pixel centres, without antialiasing.

    Args:
        pixels: array (h, w, channels) of any numbers.
        height, width: of the result.
    """
    if pixels.shape[0] == height:
        return _along(pixels, width)
    top, bottom, down = _neighbours(pixels.shape[0], height)
    rows = (_along(pixels.take(places, 0), width) for places in (top, bottom))
    return _between(*rows, down[:, None, None])


def _along(pixels, width):
    if pixels.shape[1] == width:
        return pixels.astype("float32")
    left, right, across = _neighbours(pixels.shape[1], width)
    columns = (pixels.take(places, 1).astype("float32") for places in (left, right))
    return _between(*columns, across[:, None])


def _between(one, other, share):
    """Returns one + share * (other - one), in the place of the other."""
    other -= one
    other *= share
    other += one
    return other


def _neighbours(length, count):
    """Returns for each of `count` pixels the two nearest of `length`, and the second's share."""
    places = np.clip((np.arange(count) + 0.5) * length / count - 0.5, 0, length - 1)
    first = places.astype("int64")
    return first, np.minimum(first + 1, length - 1), (places - first).astype("float32")
