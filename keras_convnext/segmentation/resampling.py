"""Resizing and pooling of maps, as in PyTorch; sizes may be unknown while a graph is traced."""

import keras
from keras import ops

serializable = keras.saving.register_keras_serializable(package="keras_convnext")


def resize_to(x, height, width):
    """Returns the map `(batch, h, w, channels)` as `(batch, height, width, channels)`, of the same
    dtype.

    Bilinear, half-pixel centres, without antialiasing (`align_corners=False`).
    """
    size = (height, width)
    if not all(isinstance(side, int) for side in size):
        return _resize_in_graph(x, size)
    if size == tuple(x.shape[1:3]):
        return x
    return ops.image.resize(x, size, interpolation="bilinear", data_format="channels_last")


def _resize_in_graph(x, size):
    """Returns the map resized by TensorFlow itself: Keras (3.15) checks that the size is positive,
    which is unknown until the graph runs."""
    import tensorflow as tf

    return tf.cast(tf.image.resize(x, tf.stack(size), "bilinear"), x.dtype)


@serializable
class ResizeTo(keras.layers.Layer):
    """Resizes a map to the height and width of another tensor.

    Called with `[x, reference]`: `(batch, h, w, channels)`, and any tensor whose axes
    `spatial_axes` are the wanted height and width. Returns `(batch, height, width, channels)`.
    """

    def __init__(self, spatial_axes=(1, 2), **kwargs):
        super().__init__(**kwargs)
        self.spatial_axes = tuple(spatial_axes)

    def call(self, inputs):
        x, reference = inputs
        shape = ops.shape(reference)
        return resize_to(x, *(shape[axis] for axis in self.spatial_axes))

    def compute_output_shape(self, input_shape):
        shape, reference = input_shape
        return (shape[0], *(reference[axis] for axis in self.spatial_axes), shape[-1])

    def get_config(self):
        return {**super().get_config(), "spatial_axes": self.spatial_axes}


@serializable
class AdaptiveAveragePooling(keras.layers.Layer):
    """Means over `size` x `size` regions that cover the map, whatever its size.

    Row i of the result is the mean of rows floor(i * h / size) up to, without,
    ceil((i + 1) * h / size): where `size` does not divide the height, regions overlap by a row, and
    a map smaller than `size` repeats its pixels. Computed in float32, as two products with constant
    matrices.

    Takes `(batch, h, w, channels)` and returns `(batch, size, size, channels)`.
    """

    def __init__(self, size, **kwargs):
        super().__init__(**kwargs)
        self.size = size

    def call(self, inputs):
        _, height, width, _ = ops.shape(inputs)
        x = ops.cast(inputs, "float32")
        x = ops.einsum("ih,bhwc->biwc", _means(height, self.size), x)
        x = ops.einsum("jw,biwc->bijc", _means(width, self.size), x)
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return (input_shape[0], self.size, self.size, input_shape[-1])

    def get_config(self):
        return {**super().get_config(), "size": self.size}


def _means(length, size):
    """Returns float32 (size, length); the product with it takes the means."""
    region = ops.reshape(ops.arange(size, dtype="int32"), (-1, 1))
    start = region * length // size
    end = ((region + 1) * length + size - 1) // size
    place = ops.reshape(ops.arange(length, dtype="int32"), (1, -1))
    inside = ops.cast(ops.logical_and(place >= start, place < end), "float32")
    return inside / ops.cast(end - start, "float32")
