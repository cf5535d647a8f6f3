"""Decodes a file's content, or takes an array, and cuts out a part."""

import functools
import math

import numpy as np

from keras_convnext.augmentation.randomness import integers_below
from keras_convnext.augmentation.resampling import in_numpy
from keras_convnext.preprocessing import tf_decode

ATTEMPTS = 10  # as in torchvision, before the centre is taken
DRAWS = 2 * ATTEMPTS + 2


def random_crop(image, channels, scale, ratio, uniform):
    """Returns a random part of the image.

    Args:
        image: scalar string tensor (a file's content) or tensor (h, w, channels), uint8, or float
            in [0, 255].
        channels: of the result.
        scale, ratio: as in `random_box`.
        uniform: float64 tensor (DRAWS,) of uniforms in [0, 1).

    Returns:
        uint8 tensor (height, width, channels).
    """
    draw = functools.partial(random_box, scale=scale, ratio=ratio)
    return cropped(image, channels, lambda h, w: in_numpy(draw, [h, w, uniform], (4,), "int32"))


def random_box(height, width, uniform, scale, ratio):
    """Returns the box of a random resized crop.

    Source: arXiv 1409.4842, section 6; attempts and rounding are torchvision's.

    Args:
        height, width: of the image in pixels.
        uniform: float64 array (DRAWS,) of uniforms in [0, 1).
        scale: `(low, high)`, the crop's area divided by the image's, uniform.
        ratio: `(low, high)`, the crop's width divided by its height, uniform in the logarithm.

    Returns:
        int32 array (top, left, height, width).
    """
    low, high = math.log(ratio[0]), math.log(ratio[1])
    for draw, other in uniform[: 2 * ATTEMPTS].reshape(2, ATTEMPTS).T:
        area = height * width * (scale[0] + (scale[1] - scale[0]) * draw)
        aspect = math.exp(low + (high - low) * other)
        h, w = round(math.sqrt(area / aspect)), round(math.sqrt(area * aspect))
        if 1 <= h <= height and 1 <= w <= width:
            top, left = uniform[-2] * (height - h + 1), uniform[-1] * (width - w + 1)
            return np.array([top, left, h, w]).astype("int32")
    # the middle of the image, its longer side cut down to the nearest allowed ratio
    w = max(1, min(width, round(height * ratio[1])))
    h = max(1, min(height, round(width / ratio[0])))
    return np.array([(height - h) // 2, (width - w) // 2, h, w], "int32")


def padded_crop(image, size, channels, padding, uniform):
    """Returns a random `size` x `size` part of the image within a black frame.

    Args:
        image, channels: as in `random_crop`.
        size: height and width of the result in pixels.
        padding: width of the frame in pixels.
        uniform: float64 tensor (2,) of uniforms in [0, 1).

    Returns:
        uint8 tensor (size, size, channels).
    """
    import tensorflow as tf

    pixels = decoded(image, channels)
    pixels = tf.pad(pixels, [[padding, padding], [padding, padding], [0, 0]])
    spare = tf.shape(pixels)[:2] - size
    tf.debugging.assert_non_negative(
        spare, f"An image with its padding of {padding} is smaller than `image_size` = {size}."
    )
    top, left = tf.unstack(integers_below(uniform, spare + 1))
    pixels = pixels[top : top + size, left : left + size]
    return tf.ensure_shape(pixels, (size, size, channels))


# ---------------------------------------------------------------- sources


def cropped(image, channels, box):
    """Returns the part of the image that `box(height, width)` names, uint8 (h, w, channels)."""
    import tensorflow as tf

    if image.dtype != tf.string:
        return _slice(decoded(image, channels), box)
    jpeg = tf.strings.substr(image, 0, 3) == b"\xff\xd8\xff"
    rgb = tf.cond(
        jpeg,
        lambda: _cropped_jpeg(image, box),
        lambda: _slice(tf_decode(image), box),
    )
    return _with_channels(rgb, channels)


def _cropped_jpeg(data, box):
    """Returns a part of a JPEG; only the blocks that the part needs are decoded."""
    import tensorflow as tf

    shape = tf.image.extract_jpeg_shape(data)
    # the accurate transform, as in Pillow; the default is a level off
    return tf.image.decode_and_crop_jpeg(
        data, box(shape[0], shape[1]), channels=3, dct_method="INTEGER_ACCURATE"
    )


def _slice(pixels, box):
    import tensorflow as tf

    shape = tf.shape(pixels)
    top, left, height, width = tf.unstack(box(shape[0], shape[1]))
    return pixels[top : top + height, left : left + width]


def decoded(image, channels):
    """Returns the uint8 tensor (h, w, channels) of a file's content or an array."""
    import tensorflow as tf

    if image.dtype == tf.string:
        return _with_channels(tf_decode(image), channels)
    if image.shape.rank != 3 or image.shape[-1] not in (None, channels):
        raise ValueError(
            f"An image must be a scalar string tensor or have the shape (h, w, {channels}), "
            f"received {image.shape}. `channels` is an argument of the augmentation."
        )
    if image.dtype.is_floating:
        image = tf.cast(tf.clip_by_value(tf.round(image), 0, 255), tf.uint8)
    if image.dtype != tf.uint8:
        raise ValueError(
            "An image must be encoded (string), uint8, or float in [0, 255], received "
            f"{image.dtype.name}."
        )
    return tf.ensure_shape(image, (None, None, channels))


def _with_channels(rgb, channels):
    if channels not in (1, 3):
        raise ValueError(
            f"A file is decoded to 1 or 3 channels, received `channels`={channels}: pass arrays."
        )
    return rgb if channels == 3 else luma(rgb)


def luma(rgb):
    """Returns uint8 (..., 1) of RGB: ITU-R 601 with the integers of Pillow's `convert("L")`."""
    import tensorflow as tf

    red, green, blue = tf.split(tf.cast(rgb, tf.int32), 3, axis=-1)
    total = 19595 * red + 38470 * green + 7471 * blue + 0x8000
    return tf.cast(tf.bitwise.right_shift(total, 16), tf.uint8)
