"""From a file's content or an array to uint8 pixels of the training size."""

import math

from keras_convnext.augmentation.randomness import integers_below
from keras_convnext.augmentation.resampling import resize
from keras_convnext.preprocessing import tf_decode

ATTEMPTS = 10  # as in torchvision, before the centre is taken
DRAWS = 2 * ATTEMPTS + 2


def random_resized_crop(image, size, channels, scale, ratio, uniform, mirrored):
    """A random part of the image, resized bicubically and antialiased, and perhaps mirrored.

    Source: arXiv 1409.4842, section 6; attempts and rounding are torchvision's.

    Args:
        image: scalar string tensor (a file's content) or tensor (h, w, channels), uint8, or float
            in [0, 255].
        size: height and width of the result in pixels.
        channels: of the result.
        scale: `(low, high)`, the crop's area divided by the image's, uniform.
        ratio: `(low, high)`, the crop's width divided by its height, uniform in the logarithm.
        uniform: float64 tensor (DRAWS,) of uniforms in [0, 1).
        mirrored: bool tensor, whether left and right are exchanged.

    Returns:
        uint8 tensor (size, size, channels).
    """
    pixels = cropped(image, channels, lambda h, w: random_box(h, w, scale, ratio, uniform))
    return resize(pixels, size, channels, mirrored)


def random_box(height, width, scale, ratio, uniform):
    """int32 scalars height and width of an image -> int32 (top, left, height, width) of a crop."""
    import tensorflow as tf

    low, high = math.log(ratio[0]), math.log(ratio[1])
    sides = tf.cast(tf.stack([height, width]), tf.float64)
    area = tf.reduce_prod(sides) * (scale[0] + (scale[1] - scale[0]) * uniform[:ATTEMPTS])
    aspect = tf.exp(low + (high - low) * uniform[ATTEMPTS : 2 * ATTEMPTS])
    boxes = tf.round(tf.sqrt(tf.stack([area / aspect, area * aspect], axis=1)))
    fits = tf.reduce_all((boxes <= sides) & (boxes >= 1), axis=1)
    box = tf.where(tf.reduce_any(fits), boxes[tf.argmax(fits)], _clamped(sides, ratio))
    spare = sides - box
    corner = tf.where(tf.reduce_any(fits), tf.floor(uniform[-2:] * (spare + 1)), spare // 2)
    return tf.unstack(tf.cast(tf.concat([corner, box], 0), tf.int32))


def _clamped(sides, ratio):
    """The whole image, its longer side cut down to the nearest allowed ratio."""
    import tensorflow as tf

    height, width = tf.unstack(sides)
    wide = tf.minimum(width, tf.round(height * ratio[1]))
    high = tf.minimum(height, tf.round(width / ratio[0]))
    return tf.maximum(tf.stack([high, wide]), 1)


def padded_crop(image, size, channels, padding, uniform, mirrored):
    """A random `size` x `size` part of the image within a black frame of `padding` pixels.

    `uniform` float64 (2,) in [0, 1), `mirrored` a bool tensor; -> uint8 (size, size, channels).
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
    pixels = tf.cond(mirrored, lambda: tf.reverse(pixels, [1]), lambda: pixels)
    return tf.ensure_shape(pixels, (size, size, channels))


# ---------------------------------------------------------------- sources


def cropped(image, channels, box):
    """The part of the image that `box(height, width)` returns, as uint8 (h, w, channels)."""
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
    """Only the blocks that the crop needs are decoded."""
    import tensorflow as tf

    shape = tf.image.extract_jpeg_shape(data)
    # the accurate transform, as in Pillow; the default is a level off
    return tf.image.decode_and_crop_jpeg(
        data, box(shape[0], shape[1]), channels=3, dct_method="INTEGER_ACCURATE"
    )


def _slice(pixels, box):
    import tensorflow as tf

    shape = tf.shape(pixels)
    top, left, height, width = box(shape[0], shape[1])
    return pixels[top : top + height, left : left + width]


def decoded(image, channels):
    """A file's content or an array -> uint8 tensor (h, w, channels)."""
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
    """uint8 (..., 3) -> uint8 (..., 1), ITU-R 601 with the integers of Pillow's `convert("L")`."""
    import tensorflow as tf

    red, green, blue = tf.split(tf.cast(rgb, tf.int32), 3, axis=-1)
    total = 19595 * red + 38470 * green + 7471 * blue + 0x8000
    return tf.cast(tf.bitwise.right_shift(total, 16), tf.uint8)
