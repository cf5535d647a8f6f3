"""Bicubic resizing with antialiasing, as Pillow resizes."""


def resize(pixels, size, channels, mirrored=False):
    """uint8 (h, w, channels) -> uint8 (size, size, channels), bicubic (a = -0.5), antialiased."""
    import tensorflow as tf

    scale = size / tf.shape(pixels)[:2]
    resampled = tf.raw_ops.ScaleAndTranslate(
        images=pixels[tf.newaxis],
        size=[size, size],
        scale=tf.cast(scale, tf.float32),
        translation=[0.0, 0.0],
        kernel_type="keyscubic",
        antialias=True,
    )[0]
    pixels = tf.cast(tf.clip_by_value(tf.round(resampled), 0, 255), tf.uint8)
    mirrored = tf.convert_to_tensor(mirrored)
    pixels = tf.cond(mirrored, lambda: tf.reverse(pixels, [1]), lambda: pixels)
    return tf.ensure_shape(pixels, (size, size, channels))
