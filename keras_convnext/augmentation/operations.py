"""The operations of RandAugment, on a Pillow image of mode "RGB" or "L"; each returns a new one."""

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image, ImageEnhance, ImageOps

from keras_convnext.augmentation.resampling import from_pillow, to_pillow


def auto_contrast(image):
    """Stretches each channel to [0, 255]; a channel of one value stays."""
    return ImageOps.autocontrast(image)


def equalize(image):
    """Flattens each channel's histogram; a channel of fewer than 255 pixels per level stays."""
    return ImageOps.equalize(image)


def invert(image):
    return ImageOps.invert(image)


def posterize(image, bits):
    """Keeps the highest `bits` of each value, an int of at most 8; below 1 it counts as 1."""
    return ImageOps.posterize(image, max(1, bits))


def solarize(image, threshold):
    """Inverts the values from `threshold`, an int in [0, 256], on."""
    return ImageOps.solarize(image, threshold)


def solarize_add(image, added):
    """Adds to the values below 128; `added` is an int in [0, 127]."""
    table = [value + added if value < 128 else value for value in range(256)]
    return image.point(table * len(image.getbands()))


# ---------------------------------------------------------------- blends: 1 is the image itself


def color(image, factor):
    return ImageEnhance.Color(image).enhance(factor)


def contrast(image, factor):
    return ImageEnhance.Contrast(image).enhance(factor)


def brightness(image, factor):
    return ImageEnhance.Brightness(image).enhance(factor)


def sharpness(image, factor):
    return ImageEnhance.Sharpness(image).enhance(factor)


# ---------------------------------------------------------------- geometry


def rotate(image, degrees, fill):
    """Turns the image counterclockwise around its centre."""
    return image.rotate(degrees, Image.Resampling.BICUBIC, fillcolor=fill)


def shear_x(image, factor, fill):
    """Takes row y from `factor * (y + 1/2)` pixels further right."""
    return _shift_rows(image, factor * (np.arange(image.height) + 0.5), fill)


def shear_y(image, factor, fill):
    """Takes column x from `factor * (x + 1/2)` pixels further down."""
    return _transposed(shear_x(_transposed(image), factor, fill))


def translate_x(image, share, fill):
    """Takes every pixel from `share` of the width further right."""
    return _shift_rows(image, np.full(image.height, share * image.width), fill)


def translate_y(image, share, fill):
    """Takes every pixel from `share` of the height further down."""
    return _transposed(translate_x(_transposed(image), share, fill))


def _transposed(image):
    return image.transpose(Image.Transpose.TRANSPOSE)


def _shift_rows(image, shifts, fill):
    """Takes each row from `shifts` (float64 (height,), in pixels) further right.

    Pillow's `transform` does the same, to a level, with sixteen neighbours for each pixel where the
    four of its row will do.
    """
    pixels = from_pillow(image)
    height, width, channels = pixels.shape
    whole = np.floor(shifts).astype(int)
    rows = _windows(pixels, whole - 1, width + 3).astype("float32")
    taps = sliding_window_view(rows, width * channels, axis=1)[:, ::channels]
    weights = _cubic_weights((shifts - whole).astype("float32"))
    shifted = np.einsum("yk,ykx->yx", np.stack(weights, axis=1), taps)
    # Pillow truncates, in double precision: in float32 a flat area of 100 would be 99.99999
    np.clip(np.add(shifted, 1e-4, out=shifted), 0, 255, out=shifted)
    shifted = shifted.astype("uint8").reshape(pixels.shape)
    centre = np.arange(width) + 0.5 + shifts[:, np.newaxis]
    colours = shifted.view(f"V{channels}")[..., 0]  # one item per pixel: much faster to mask
    colours[(centre < 0) | (centre >= width)] = np.array(fill, "uint8").tobytes()
    return to_pillow(shifted)


def _windows(pixels, start, count):
    """Returns `count` pixels of each row from `start` (int (height,)) on, flattened.

    Outside the image the nearest two pixels repeat the border, as far as a pixel that is not filled
    later reaches; those further out are black.
    """
    height, width, channels = pixels.shape
    margin = abs(start).max() + 3
    wide = np.zeros((height, width + 2 * margin, channels), "uint8")
    wide[:, margin:-margin] = pixels
    wide[:, margin - 2 : margin] = pixels[:, :1]
    wide[:, -margin : 2 - margin] = pixels[:, -1:]
    windows = sliding_window_view(wide.reshape(height, -1), count * channels, axis=1)
    return windows[np.arange(height), (start + margin) * channels]


def _cubic_weights(d):
    """Returns the weights of the four pixels around a point, `d` in [0, 1) behind the second."""
    # a = -1, as in Pillow
    square, cube = d * d, d * d * d
    return (-d + 2 * square - cube, 1 - 2 * square + cube, d + square - cube, cube - square)
