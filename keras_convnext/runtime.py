"""What computes: the questions by which the layers choose their forms.

All forms are equal to rounding. The environment variable KERAS_CONVNEXT_FORMS=portable has all of
them be Keras' own operations, to find a fault, or for what only these can do: JAX's forward mode
(`jax.jvp`, `jax.hessian`), PyTorch's batched gradients.
"""

import os

import keras

PIN = "KERAS_CONVNEXT_FORMS"


def portable(x):
    """-> `True` where `x` wants operations that every exporter, compiler and transformation reads.

    `False` where sizes are known and nobody traces the model: our own forms may compute with it.

    Raises:
        ValueError: if the environment variable has another value.
    """
    if pinned() or not all(isinstance(size, int) for size in x.shape):
        return True
    return keras.backend.backend() == "torch" and _traced_by_torch(x)


def pinned():
    """-> whether the environment variable asks for the portable forms."""
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
    """-> whether TensorFlow computes, and has nothing but CPUs."""
    if keras.backend.backend() != "tensorflow" or pinned():
        return False
    import tensorflow as tf

    return all(device.device_type == "CPU" for device in tf.config.list_logical_devices())


def jax_on_one_cpu():
    """-> whether JAX computes on a CPU, and has not divided it into devices."""
    if keras.backend.backend() != "jax":
        return False
    import jax

    return jax.default_backend() == "cpu" and jax.device_count() == 1
