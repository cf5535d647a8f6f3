"""The convolutions of the family, each in the fastest exact form that `fast` knows for it."""

import keras
from keras import ops

from keras_convnext import fast

serializable = keras.saving.register_keras_serializable(package="keras_convnext")


@serializable
class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Keras' layer of the same name, with stride 1, "same" padding and channels last.

    Input and output: `(batch, height, width, channels)`, any float dtype; the output has the
    compute dtype.

    Example:
        import keras
        from keras_convnext.layers import DepthwiseConv2D
        convolution = DepthwiseConv2D(7, padding="same")
        convolution(keras.ops.ones((1, 8, 8, 4))).shape  # (1, 8, 8, 4)
    """

    def call(self, inputs, training=False):
        kernel = ops.cast(self.kernel, self.compute_dtype)
        bias = ops.cast(self.bias, self.compute_dtype) if self.use_bias else None
        dilation = self.dilation_rate[0]
        outputs = fast.depthwise_conv(inputs, kernel, bias, dilation, training)
        if outputs is not None:
            return outputs
        outputs = ops.depthwise_conv(
            inputs, kernel, padding="same", data_format="channels_last", dilation_rate=dilation
        )
        return outputs if bias is None else outputs + bias


class PointwiseConv(keras.layers.Dense):
    """A convolution with a kernel of 1 x 1 pixel: Keras' `Dense`, on the channels.

    Input: `(..., channels)`; output: `(..., units)`.

    Example:
        import keras
        from keras_convnext.layers import PointwiseConv
        PointwiseConv(16)(keras.ops.ones((1, 8, 8, 4))).shape  # (1, 8, 8, 16)
    """

    def call(self, inputs, training=None):
        kernel, bias = map(ops.convert_to_tensor, (self.kernel, self.bias))
        rows = ops.reshape(inputs, (-1, kernel.shape[0]))
        outputs = fast.dense(rows, kernel, bias)
        if outputs is None:
            return super().call(inputs, training=training)
        return ops.reshape(outputs, (*ops.shape(inputs)[:-1], self.units))

    def quantize(self, mode=None, type_check=True, config=None):
        # Keras' check refuses subclasses, which may compute otherwise; this one does not
        return super().quantize(mode, type_check=False, config=config)


@serializable
class PatchConv2D(keras.layers.Conv2D):
    """Keras' layer of the same name, channels last; the stem and the downsampling are made of it.

    Where the strides equal the kernel, patches do not overlap, and the convolution is one matrix
    product. On PyTorch and JAX that is faster than their convolutions, which first bring an image
    of few channels into a layout of their own. As in the convolution, rows and columns that do not
    fill a patch are left out.

    Raises:
        ValueError: if an image is smaller than one patch. (JAX would return an output without
            pixels, whose mean is NaN.)

    Example:
        import keras
        from keras_convnext.layers import PatchConv2D
        PatchConv2D(16, 4, strides=4)(keras.ops.ones((1, 32, 32, 3))).shape  # (1, 8, 8, 16)
    """

    def call(self, inputs):
        self._check_size(*inputs.shape[1:3])
        if not (self._is_product and fast.multiplies_patches(inputs)):
            return super().call(inputs)
        batch, height, width, channels = inputs.shape
        side = self.kernel_size[0]
        kernel = ops.reshape(ops.convert_to_tensor(self.kernel), (-1, self.filters))
        bias = ops.convert_to_tensor(self.bias)
        height, width = height // side, width // side
        x = inputs[:, : height * side, : width * side]
        x = ops.reshape(x, (batch, height, side, width, side, channels))
        x = ops.reshape(ops.transpose(x, (0, 1, 3, 2, 4, 5)), (-1, side * side * channels))
        y = fast.dense(x, kernel, bias)
        y = ops.matmul(x, kernel) + bias if y is None else y
        return ops.reshape(y, (batch, height, width, self.filters))

    def _check_size(self, *sides):
        """Refuses sides that are known and hold no patch; other padding makes room for one."""
        patch = [(n - 1) * d + 1 for n, d in zip(self.kernel_size, self.dilation_rate, strict=True)]
        too_small = any(
            isinstance(side, int) and side < least for side, least in zip(sides, patch, strict=True)
        )
        if self.padding == "valid" and too_small:
            raise ValueError(
                f"{self.path} reads patches of {patch[0]} x {patch[1]} and received a map of "
                f"{sides[0]} x {sides[1]}: the image is smaller than the stride of the model. "
                "Enlarge the images, or build the model with a smaller `stem_stride`."
            )

    @property
    def _is_product(self):
        height, width = self.kernel_size
        return (
            self.strides == (height, width)
            and height == width
            and self.groups == 1
            and self.padding == "valid"
            and self.use_bias
            and self.activation is keras.activations.linear
        )
