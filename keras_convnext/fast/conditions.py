"""The one question of this folder: may a kernel of our own compute here?

The environment variable KERAS_CONVNEXT_FORMS=portable answers no everywhere, which helps to find a
fault: the layers then are Keras' own operations.
"""

import os

import keras

PIN = "KERAS_CONVNEXT_FORMS"


def own_kernel(*tensors):
    """Returns whether a kernel of our own, written for CPUs, may compute with `tensors`.

    It may where they are on the CPU and need not be `portable`. `None` stands for no tensor.

    Raises:
        ValueError: if the environment variable has an unknown value.
    """
    tensors = [tensor for tensor in tensors if tensor is not None]
    on_cpu = {
        "jax": lambda: jax_on_one_cpu(),
        "tensorflow": lambda: tensorflow_on_cpu(),
        "torch": lambda: all(tensor.device.type == "cpu" for tensor in tensors),
    }
    return on_cpu[keras.backend.backend()]() and not portable(*tensors)


def portable(*tensors):
    """Returns whether only operations that every exporter and transformation can read may be taken.

    They may not be where sizes are unknown or somebody traces the model.

    Raises:
        ValueError: if the environment variable has an unknown value.
    """
    if pinned() or not all(isinstance(size, int) for x in tensors for size in x.shape):
        return True
    return keras.backend.backend() == "torch" and any(map(_traced_by_torch, tensors))


def pinned():
    """Returns whether the environment variable asks for the portable forms."""
    value = os.environ.get(PIN, "")
    if value not in ("", "portable"):
        raise ValueError(f"{PIN} must be 'portable', or unset, received {value!r}.")
    return bool(value)


def _traced_by_torch(x):
    import torch

    return (
        type(x) not in (torch.Tensor, torch.nn.Parameter)
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch.is_autocast_enabled(x.device.type)
        or torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
    )


def tensorflow_on_cpu():
    """Returns whether TensorFlow computes, and has only CPUs."""
    if keras.backend.backend() != "tensorflow" or pinned():
        return False
    import tensorflow as tf

    return all(device.device_type == "CPU" for device in tf.config.list_logical_devices())


def jax_on_one_cpu():
    """Returns whether JAX computes on a CPU and has not divided it into devices."""
    import jax

    return jax.default_backend() == "cpu" and jax.device_count() == 1


def reads_as_one(block):
    """Returns whether a kernel can compute the block's residual branch as a whole.

    It is LayerNormalization, product, activation, product, layer scale then, in one compute dtype,
    with weights as they are: neither GRN nor quantization.
    """
    dense = block.pwconv1, block.pwconv2
    return (
        isinstance(block.norm, keras.layers.LayerNormalization)
        and not block.grn
        and not any(layer.quantization_mode for layer in dense)
        and all(layer.compute_dtype == block.compute_dtype for layer in (block.norm, *dense))
    )


def weights(block):
    """Returns the weights of such a branch as tensors; the last is the layer scale, or `None`."""
    ops = keras.ops
    norm, up, down = block.norm, block.pwconv1, block.pwconv2
    found = norm.gamma, norm.beta, up.kernel, up.bias, down.kernel, down.bias
    scale = ops.convert_to_tensor(block.gamma.gamma) if block.gamma else None
    return [ops.cast(weight, block.compute_dtype) for weight in found] + [scale]
