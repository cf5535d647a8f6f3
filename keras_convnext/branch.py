"""What follows the depthwise convolution in a block, in the fastest exact form for each backend.

Norm, product, activation, product, layer scale. All forms are equal to rounding; which one is taken
follows from backend, device and layers alone.
"""

import keras
from keras import ops

from keras_convnext.products import dense
from keras_convnext.runtime import tensorflow_on_cpu


def branch(block, x, inputs=None, training=False):
    """`inputs + gamma(pwconv2(grn(activation(pwconv1(norm(x))))))` with the layers of a block.

    Args:
        block: a built `ConvNeXtBlock`.
        x: `(batch, height, width, channels)`, in the block's compute dtype.
        inputs: as `x`, or `None`: nothing is added.
        training: whether gradients are going to be asked for.

    Returns:
        a tensor of the shape and dtype of `x`.
    """
    if keras.backend.backend() == "torch":
        from keras_convnext import torch_branch

        if torch_branch.takes(block, x):
            return torch_branch.branch(block, x, inputs)
    if keras.backend.backend() == "jax":
        from keras_convnext import jax_branch

        if jax_branch.takes(block, x):
            return jax_branch.branch(block, x, inputs, training)
    return _finished(block, _mlp(block, block.norm(x), _activation(block, training)), inputs)


def plain(block):
    """-> whether the branch is LayerNormalization, product, activation, product, layer scale, with
    weights as they are: what a form that computes all of it at once can read"""
    quantized = block.pwconv1.quantization_mode or block.pwconv2.quantization_mode
    is_layer_norm = isinstance(block.norm, keras.layers.LayerNormalization)
    return is_layer_norm and not block.grn and not quantized


def weights(block):
    """-> the weights of such a branch as tensors; the last is the layer scale, or `None`"""
    norm, up, down = block.norm, block.pwconv1, block.pwconv2
    found = norm.gamma, norm.beta, up.kernel, up.bias, down.kernel, down.bias
    scale = ops.convert_to_tensor(block.gamma.gamma) if block.gamma else None
    return [ops.cast(weight, block.compute_dtype) for weight in found] + [scale]


def _activation(block, training):
    if not (training and tensorflow_on_cpu()):
        return block.activation  # by TensorFlow within the product, if no gradient asks for it
    from keras_convnext import tf_fused

    return tf_fused.activation(block.activation)


def _mlp(block, x, activation):
    """On a matrix with one row per pixel: TensorFlow adds the bias and applies the activation while
    it computes a product of two matrices, and only then."""
    *outer, channels = ops.shape(x)
    x = activation(_dense(block.pwconv1, ops.reshape(x, (-1, channels))))
    if block.grn:
        x = ops.reshape(block.grn(ops.reshape(x, (*outer, x.shape[-1]))), (-1, x.shape[-1]))
    return ops.reshape(_dense(block.pwconv2, x), (*outer, channels))


def _finished(block, x, inputs):
    """Layer scale and sum, which TensorFlow's own kernels would make of one pass each."""
    if block.gamma and tensorflow_on_cpu():
        from keras_convnext import tf_fused

        gamma = ops.convert_to_tensor(block.gamma.gamma)
        if inputs is None:
            return tf_fused.scaled(x, gamma)
        return tf_fused.scaled_sum(inputs, x, gamma)
    x = block.gamma(x) if block.gamma else x
    return x if inputs is None else inputs + x


def _dense(layer, x):
    if layer.quantization_mode:
        return layer(x)
    return dense(x, ops.cast(layer.kernel, x.dtype), ops.cast(layer.bias, x.dtype))
