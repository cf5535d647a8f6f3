"""The operations of RandAugment on one uint8 image (height, width, channels), as Pillow does them.

Each returns a uint8 image of the same shape. Strengths are float64 scalars, made in Python or drawn
in the graph. The shape must be static.
"""

import math

from keras_convnext.augmentation.crop import luma


def floor(value):
    """float64 -> int32; `value` must not be negative."""
    import tensorflow as tf

    return tf.cast(value, tf.int32)


# ---------------------------------------------------------------- lookups


def auto_contrast(image):
    """Each channel is stretched to [0, 255]; a channel of one value stays."""
    import tensorflow as tf

    low, high = (tf.cast(f(image, (0, 1)), tf.float64) for f in (tf.reduce_min, tf.reduce_max))
    scale = 255 / tf.maximum(high - low, 1)
    levels = tf.range(256, dtype=tf.float64)[:, tf.newaxis]
    table = tf.cast(tf.clip_by_value(levels * scale - low * scale, 0, 255), tf.uint8)
    return tf.where(high > low, _look_up(image, table), image)


def equalize(image):
    """Each channel's histogram is made flat; a channel of fewer than 255 pixels per level stays."""
    import tensorflow as tf

    channels = image.shape[-1]
    histogram = tf.math.bincount(_slots(image), minlength=256 * channels, maxlength=256 * channels)
    histogram = tf.transpose(tf.reshape(histogram, (channels, 256)))
    below = tf.cumsum(histogram, exclusive=True)
    # the count of the highest level that occurs
    last = tf.gather(histogram, tf.cast(tf.reduce_max(image, (0, 1)), tf.int32), axis=0)
    step = (tf.reduce_sum(histogram, 0) - tf.linalg.diag_part(last)) // 255
    table = (step // 2 + below) // tf.maximum(step, 1)
    return tf.where(step > 0, _look_up(image, tf.cast(tf.minimum(table, 255), tf.uint8)), image)


def _look_up(image, table):
    """`table` uint8 (256, channels)"""
    import tensorflow as tf

    return tf.reshape(tf.gather(tf.reshape(tf.transpose(table), (-1,)), _slots(image)), image.shape)


def _slots(image):
    """Where each value stands in the tables of all channels behind one another: int32, flat."""
    import tensorflow as tf

    return tf.reshape(tf.cast(image, tf.int32) + 256 * tf.range(image.shape[-1]), (-1,))


def invert(image):
    return 255 - image


def posterize(image, bits):
    """Keeps the highest `bits` of each value, an int of at most 8; below 1 it counts as 1."""
    import tensorflow as tf

    kept = 256 - tf.bitwise.left_shift(1, 8 - tf.maximum(bits, 1))
    return tf.bitwise.bitwise_and(image, tf.cast(kept, tf.uint8))


def solarize(image, threshold):
    """Inverts the values from `threshold`, an int in [0, 256], on."""
    import tensorflow as tf

    return tf.where(tf.cast(image, tf.int32) < threshold, image, 255 - image)


def solarize_add(image, added):
    """Adds to the values below 128; `added` is an int in [0, 127]."""
    import tensorflow as tf

    return tf.where(image < 128, image + tf.cast(added, tf.uint8), image)


# ---------------------------------------------------------------- blends of two images


def color(image, factor):
    return _blend(_floats(luma(image)), image, factor) if image.shape[-1] == 3 else image


def contrast(image, factor):
    import tensorflow as tf

    grey = luma(image) if image.shape[-1] == 3 else image
    mean = tf.reduce_mean(tf.cast(grey, tf.float64))
    return _blend(tf.cast(floor(mean + 0.5), tf.float32), image, factor)


def brightness(image, factor):
    return _blend(0.0, image, factor)


def sharpness(image, factor):
    import tensorflow as tf

    return _blend(tf.floor(_smooth(_floats(image))), image, factor)


def _smooth(x):
    """The 3 x 3 mean in which the centre counts five times, plus a half; borders stay."""
    import tensorflow as tf

    rows = x[:-2] + x[1:-1] + x[2:]
    inner = rows[:, :-2] + rows[:, 1:-1] + rows[:, 2:] + 4 * x[1:-1, 1:-1]
    inner = inner / 13 + 0.5
    inner = tf.concat([x[1:-1, :1], inner, x[1:-1, -1:]], 1)
    return tf.concat([x[:1], inner, x[-1:]], 0)


def _blend(degenerate, image, factor):
    """`degenerate` float32, broadcast; factor 0 gives it, 1 the image, more goes beyond."""
    import tensorflow as tf

    blended = degenerate + tf.cast(factor, tf.float32) * (_floats(image) - degenerate)
    return tf.cast(tf.clip_by_value(blended, 0, 255), tf.uint8)


def _floats(image):
    import tensorflow as tf

    return tf.cast(image, tf.float32)


# ---------------------------------------------------------------- geometry


def shear_x(image, factor, fill):
    """Row y is taken from `factor * (y + 1/2)` pixels further right."""
    import tensorflow as tf

    rows = tf.range(image.shape[0], dtype=tf.float64) + 0.5
    return _shift_lines(image, factor * rows, 1, fill)


def shear_y(image, factor, fill):
    """Column x is taken from `factor * (x + 1/2)` pixels further down."""
    import tensorflow as tf

    columns = tf.range(image.shape[1], dtype=tf.float64) + 0.5
    return _shift_lines(image, factor * columns, 0, fill)


def translate_x(image, share, fill):
    """Every pixel is taken from `share` of the width further right."""
    import tensorflow as tf

    height, width, _ = image.shape
    return _shift_lines(image, tf.fill([height], tf.cast(share * width, tf.float64)), 1, fill)


def translate_y(image, share, fill):
    """Every pixel is taken from `share` of the height further down."""
    import tensorflow as tf

    height, width, _ = image.shape
    return _shift_lines(image, tf.fill([width], tf.cast(share * height, tf.float64)), 0, fill)


def _shift_lines(image, shifts, axis, fill):
    """Shifts each line along `axis` by its own distance (float64 per line, in pixels)."""
    import tensorflow as tf

    height, width, channels = image.shape
    length = image.shape[axis]
    whole = tf.floor(shifts)
    weights = _cubic_weights(tf.cast(shifts - whole, tf.float32))
    # from one pixel before to two after, for all pixels of a line at once
    reach = tf.range(-1, length + 2) + tf.cast(whole, tf.int32)[:, tf.newaxis]
    reach = tf.clip_by_value(reach, 0, length - 1)
    centre = tf.range(length, dtype=tf.float64) + 0.5 + shifts[:, tf.newaxis]
    inside = (centre >= 0) & (centre < length)
    if axis == 1:
        where = width * tf.range(height)[:, tf.newaxis] + reach
        weights = [weight[:, tf.newaxis, tf.newaxis] for weight in weights]
    else:
        where = tf.transpose(width * reach + tf.range(width)[:, tf.newaxis])
        weights, inside = [weight[:, tf.newaxis] for weight in weights], tf.transpose(inside)
    x = _floats(tf.gather(tf.reshape(image, (-1, channels)), where))
    taps = [x[:, i : i + length] if axis == 1 else x[i : i + length] for i in range(4)]
    total = tf.add_n([weight * tap for weight, tap in zip(weights, taps, strict=True)])
    return _filled(total, inside, fill)


def rotate(image, degrees, fill):
    """Turns the image counterclockwise around its centre."""
    import tensorflow as tf

    height, width, channels = image.shape
    angle = -tf.cast(degrees, tf.float64) * (math.pi / 180)
    cosine, sine = tf.cos(angle), tf.sin(angle)
    down = tf.range(height, dtype=tf.float64)[:, tf.newaxis] + (0.5 - height / 2)
    right = tf.range(width, dtype=tf.float64) + (0.5 - width / 2)
    x = cosine * right + sine * down + width / 2
    y = cosine * down - sine * right + height / 2
    inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
    column, row = tf.floor(x - 0.5), tf.floor(y - 0.5)
    horizontal = _cubic_weights(tf.cast(x - 0.5 - column, tf.float32))
    vertical = _cubic_weights(tf.cast(y - 0.5 - row, tf.float32))
    pixels = tf.reshape(image, (-1, channels))
    columns = [tf.clip_by_value(tf.cast(column, tf.int32) + i, 0, width - 1) for i in range(-1, 3)]
    rows = [tf.clip_by_value(tf.cast(row, tf.int32) + i, 0, height - 1) for i in range(-1, 3)]
    total = tf.add_n(
        [
            (v * h)[..., tf.newaxis] * _floats(tf.gather(pixels, width * r + c))
            for v, r in zip(vertical, rows, strict=True)
            for h, c in zip(horizontal, columns, strict=True)
        ]
    )
    return _filled(total, inside, fill)


def _cubic_weights(d):
    """Of the four pixels around a point at the distance `d` in [0, 1) behind the second; a = -1."""
    square, cube = d * d, d * d * d
    return (-d + 2 * square - cube, 1 - 2 * square + cube, d + square - cube, cube - square)


def _filled(total, inside, fill):
    import tensorflow as tf

    # Pillow cuts off what is behind the point, in double precision: here a flat area of 100 would
    # come out as 99.99999
    pixels = tf.cast(tf.clip_by_value(total + 1e-4, 0, 255), tf.uint8)
    return tf.where(inside[..., tf.newaxis], pixels, tf.constant(fill, tf.uint8))
