"""Bicubic resizing with antialiasing, by Pillow, inside of tf.data's threads.

Pillow is not only the reference. Per image it takes less time than the same arithmetic made of
TensorFlow's operations (`benchmarks/input_pipeline.py`), and its loops let go of the interpreter's
lock.
"""

import numpy as np
from PIL import Image


def in_numpy(function, tensors, shape, dtype="uint8"):
    """Calls a function of numpy arrays when the dataset runs.

    Args:
        function: gets `tensors` as numpy arrays, which it must not change; returns an array.
        tensors: list of tensors.
        shape, dtype: of what it returns.

    Returns:
        tensor of that shape and dtype.
    """
    import tensorflow as tf

    return tf.ensure_shape(tf.numpy_function(function, tensors, dtype, stateful=False), shape)


def changed(function, pixels):
    """uint8 array (h, w, channels) -> what a function of Pillow images makes of it, the same way.

    The image is passed as a whole, or channel by channel where Pillow has no mode for it.
    """
    if pixels.shape[-1] in (1, 3):
        return from_pillow(function(to_pillow(pixels)))
    planes = [changed(function, plane[..., np.newaxis]) for plane in np.moveaxis(pixels, -1, 0)]
    return np.concatenate(planes, axis=-1)


def resize(image, size):
    """Pillow image -> Pillow image of `size` x `size` pixels"""
    if image.size == (size, size):
        return image
    return image.resize((size, size), Image.Resampling.BICUBIC)


def to_pillow(pixels):
    """uint8 array (h, w, 1 or 3) -> Pillow image"""
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def from_pillow(image):
    """Pillow image of mode "L" or "RGB" -> uint8 array (h, w, 1 or 3)"""
    return np.asarray(image).reshape(image.height, image.width, -1)
