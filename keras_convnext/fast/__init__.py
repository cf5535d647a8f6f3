"""Faster forms of what the layers compute, one file per backend; equal to Keras' operations.

The layers ask here. Each function returns its result, or `None` where Keras' own operations are as
good: the caller then computes with these. All forms are equal to rounding, and which one is taken
follows from backend, device and shapes alone; see `conditions.py`.
"""

import importlib

import keras

from keras_convnext.fast import conditions

BACKENDS = ("jax", "tensorflow", "torch")
_backend = keras.backend.backend()
forms = importlib.import_module(f"{__name__}.{_backend if _backend in BACKENDS else 'none'}")


def residual_branch(block, x, inputs, training):
    """Computes a `ConvNeXtBlock` from the output of its depthwise convolution to its layer scale.

    Args:
        block: a built `ConvNeXtBlock`.
        x: output of `block.dwconv`, `(batch, height, width, channels)`, in the compute dtype.
        inputs: what is added to the branch, of the same shape and dtype, or `None`.
        training: whether gradients are going to be asked for.

    Returns:
        `inputs + gamma(pwconv2(grn(activation(pwconv1(norm(x))))))`, or `None`.
    """
    return None if conditions.pinned() else forms.residual_branch(block, x, inputs, training)


def depthwise_conv(x, kernel, bias, dilation, training):
    """Convolves each channel with a kernel of its own: stride 1, zero padding, same size.

    Args:
        x: `(batch, height, width, channels)`, any float dtype.
        kernel: `(side, side, channels, 1)`, of the same dtype.
        bias: `(channels,)`, of the same dtype, or `None`.
        dilation: distance of neighbouring taps in pixels, an int >= 1.
        training: whether gradients are going to be asked for.

    Returns:
        a tensor of the shape and dtype of `x`, or `None`.
    """
    return (
        None if conditions.pinned() else forms.depthwise_conv(x, kernel, bias, dilation, training)
    )


def dense(x, kernel, bias):
    """Returns x `(rows, channels)` @ kernel `(channels, units)` + bias `(units,)`, or `None`."""
    return None if conditions.pinned() else forms.dense(x, kernel, bias)


def layer_norm(x, gamma, beta, epsilon, training):
    """Returns x `(..., channels)`, normalised over the last axis in float32, or `None`."""
    return None if conditions.pinned() else forms.layer_norm(x, gamma, beta, epsilon, training)


def gelu(x):
    """Returns the exact GELU of `x`, or `None`."""
    return None if conditions.pinned() else forms.gelu(x)


def multiplies_patches(x):
    """Returns whether patches of `x` that do not overlap are convolved faster as one product."""
    return forms.MULTIPLIES_PATCHES and not conditions.portable(x)


def left_to_xla():
    """Returns whether XLA computes a whole block at least as fast as the backend's own kernels."""
    return not conditions.tensorflow_on_cpu()
