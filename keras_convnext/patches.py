"""Convolutions of patches that do not overlap: the stem and the downsampling."""

import keras
from keras import ops

from keras_convnext.products import dense
from keras_convnext.runtime import portable


@keras.saving.register_keras_serializable(package="keras_convnext")
class PatchConv2D(keras.layers.Conv2D):
    """Keras' layer of that name, channels_last; as one product where strides equal the kernel.

    On PyTorch and JAX that is faster than their convolutions, which first bring an image of few
    channels into a layout of their own. Rows and columns that fill no patch are left out, as by the
    convolution.
    """

    def call(self, inputs):
        if keras.backend.backend() == "tensorflow" or not self._is_product or portable(inputs):
            return super().call(inputs)
        batch, height, width, channels = inputs.shape
        side = self.kernel_size[0]
        kernel = ops.reshape(ops.convert_to_tensor(self.kernel), (-1, self.filters))
        height, width = height // side, width // side
        x = inputs[:, : height * side, : width * side]
        x = ops.reshape(x, (batch, height, side, width, side, channels))
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, side * side * channels))
        x = dense(x, kernel, ops.convert_to_tensor(self.bias))
        return ops.reshape(x, (batch, height, width, self.filters))

    @property
    def _is_product(self):
        return self.kernel_size == self.strides and self.padding == "valid" and self.use_bias
