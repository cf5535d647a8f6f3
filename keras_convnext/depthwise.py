"""The large-kernel depthwise convolution, in its fastest exact form for each backend and device.

Which form is taken follows from backend, device and shape alone, see `form`. All forms are equal to
rounding. The environment variable KERAS_CONVNEXT_DEPTHWISE pins one, to find a fault: "native",
Keras' own operation in both directions, or on JAX "shifted".
"""

import os

import keras
from keras import ops

from keras_convnext.runtime import jax_on_one_cpu, pinned, portable, tensorflow_on_cpu

PIN = "KERAS_CONVNEXT_DEPTHWISE"
FORMS = ("native", "shifted")


def depthwise_conv(x, kernel, dilation=1, bias=None, training=False):
    """Convolves each channel with a kernel of its own; stride 1, zero padding, same size.

    Args:
        x: `(batch, height, width, channels)`, any float dtype.
        kernel: `(side, side, channels, 1)`, of the same dtype.
        dilation: distance of neighbouring taps in pixels, an int >= 1.
        bias: `(channels,)`, of the same dtype, or `None`.
        training: whether gradients are going to be asked for.

    Returns:
        a tensor of the shape and dtype of `x`.
    """
    native = _pinned_form() == "native"
    if keras.backend.backend() == "torch" and kernel.shape[0] % 2 and not (native or _keras_own()):
        return _torch_conv(x, kernel, dilation, bias)
    ours = training and dilation == 1 and bias is not None and not native
    if ours and tensorflow_on_cpu():
        from keras_convnext import tf_depthwise

        return tf_depthwise.depthwise_conv(x, kernel, bias)
    if form(x) == "shifted":
        from keras_convnext.shifted_sums import shifted_sums

        outputs = shifted_sums(x, kernel[..., 0], dilation)
    else:
        outputs = ops.depthwise_conv(
            x, kernel, padding="same", data_format="channels_last", dilation_rate=dilation
        )
    return outputs if bias is None else outputs + bias


def _keras_own():
    """-> whether PyTorch is to take Keras' operation: `torch.compile` cannot order the strides of
    ours where sizes are symbolic, and `torch.vmap` cannot map Keras'."""
    import torch

    return pinned() or torch.compiler.is_compiling()


def _torch_conv(x, kernel, dilation, bias):
    """Keras copies what PyTorch can read as it is: a channels_last image."""
    from keras_convnext import torch_depthwise

    x, kernel = ops.transpose(x, (0, 3, 1, 2)), ops.transpose(kernel, (2, 3, 0, 1))
    x = torch_depthwise.depthwise_conv(x, kernel, bias, dilation)
    return ops.transpose(x, (0, 2, 3, 1))


def form(x):
    """-> which of `FORMS` convolves `x`, where it is not one of PyTorch's or TensorFlow's files.

    `"shifted"` on JAX on a CPU, where XLA's own form is naive. Not where a dimension is symbolic,
    so that what is exported is the one operation that everything reads; and not where the CPU is
    divided into devices, which would have to gather a batch that they share to read its rows.

    Raises:
        ValueError: if the environment variable has another value.
    """
    pinned = _pinned_form()
    if keras.backend.backend() != "jax" or portable(x):
        return "native"
    if pinned:
        return pinned
    return "shifted" if jax_on_one_cpu() else "native"


def _pinned_form():
    """-> that of `FORMS` which the environment variable names, or `""`"""
    value = os.environ.get(PIN, "")
    if value and value not in FORMS:
        raise ValueError(f"{PIN} must be one of {FORMS}, or unset, received {value!r}.")
    return value


class DepthwiseConv2D(keras.layers.DepthwiseConv2D):
    """Keras' layer of that name with stride 1 and padding "same", by `depthwise_conv`."""

    def call(self, inputs, training=False):
        kernel = ops.cast(self.kernel, self.compute_dtype)
        bias = ops.cast(self.bias, self.compute_dtype) if self.use_bias else None
        return depthwise_conv(inputs, kernel, self.dilation_rate[0], bias, training)
