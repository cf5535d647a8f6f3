"""Bicubic resizing with antialiasing, by Pillow, inside tf.data's threads.

Pillow is the reference, and per image it takes less time than the same arithmetic made of
TensorFlow's operations (`benchmarks/input_pipeline.py`); its loops release the interpreter's lock.
"""

import numpy as np
from PIL import Image


def in_numpy(function, tensors, shape, dtype="uint8"):
    """Returns tensors whose values a function of numpy arrays computes when the dataset runs.

    Args:
        function: takes `tensors` as numpy arrays, which it must not change, and returns an array.
        tensors: list of tensors.
        shape, dtype: of what it returns.

    Returns:
        A tensor of that shape and dtype.
    """
    import tensorflow as tf

    return tf.ensure_shape(tf.numpy_function(function, tensors, dtype, stateful=False), shape)


def changed(function, pixels):
    """Returns what a function of Pillow images makes of a uint8 array (h, w, channels).

    The image is passed as a whole, or channel by channel where Pillow has no mode for it.
    """
    if pixels.shape[-1] in (1, 3):
        return from_pillow(function(to_pillow(pixels)))
    planes = [changed(function, plane[..., np.newaxis]) for plane in np.moveaxis(pixels, -1, 0)]
    return np.concatenate(planes, axis=-1)


def resize(image, size):
    """Returns a Pillow image resized to `size` x `size` pixels."""
    if image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.BICUBIC)


def to_pillow(pixels):
    """Returns the Pillow image of a uint8 array (h, w, 1 or 3)."""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def from_pillow(image):
    """Returns the uint8 array (h, w, 1 or 3) of a Pillow image of mode "L" or "RGB"."""
    return np.asarray(image).reshape(image.height, image.width, -1)
