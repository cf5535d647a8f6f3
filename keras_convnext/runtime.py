"""What computes: the questions by which `branch.py` and `depthwise.py` choose their forms."""

import keras


def portable(x):
    """-> `True` where `x` wants operations that every exporter, compiler and transformation reads.

    `False` where sizes are known and nobody traces the model: our own forms may compute with it.
    """
    if not all(isinstance(size, int) for size in x.shape):
        return True
    return keras.backend.backend() == "torch" and _traced_by_torch(x)


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
    if keras.backend.backend() != "tensorflow":
        return False
    import tensorflow as tf

    return all(device.device_type == "CPU" for device in tf.config.list_logical_devices())
