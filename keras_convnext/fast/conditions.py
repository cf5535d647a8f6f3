"""The one question of this folder: may a kernel of our own compute here?

It may not while somebody traces the model to export or to transform it: what leaves the process is
made of operations that everything reads. The environment variable KERAS_CONVNEXT_FORMS=portable
answers no everywhere, which helps to find a fault: the layers then are Keras' own operations.
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

    So it is where sizes are unknown or somebody traces the model. On TensorFlow the batch may be
    unknown, but nothing is taken while it computes eagerly: our kernels would have to be compiled
    for each new size of a stream of photos.

    Raises:
        ValueError: if the environment variable has an unknown value.
    """
    backend = keras.backend.backend()
    first = 1 if backend == "tensorflow" else 0
    if pinned() or not all(isinstance(size, int) for x in tensors for size in x.shape[first:]):
        return True
    if backend == "tensorflow":
        return _eager_or_watched_by_tensorflow()
    return backend == "torch" and _traced_by_torch(tensors)


def pinned():
    """Returns whether the environment variable asks for the portable forms."""
    value = os.environ.get(PIN, "")
    if value not in ("", "portable"):
        raise ValueError(f"{PIN} must be 'portable', or unset, received {value!r}.")
    return bool(value)


def _traced_by_torch(tensors):
    import torch

    return (
        not all(type(x) in (torch.Tensor, torch.nn.Parameter) for x in tensors)
        or any(map(torch._C._functorch.is_legacy_batchedtensor, tensors))
        or torch.compiler.is_compiling()
        or torch.jit.is_tracing()
        or torch.is_autocast_enabled(tensors[0].device.type)
        or torch._C._are_functorch_transforms_active()
        or torch.autograd.forward_ad._current_level >= 0
    )


def _eager_or_watched_by_tensorflow():
    """Returns whether TensorFlow computes eagerly, or is told to look at each operation, as by
    `tf.debugging.enable_check_numerics`: XLA cannot compile what it adds for that."""
    import tensorflow as tf
    from tensorflow.python.eager import context

    return tf.executing_eagerly() or bool(context.context().op_callbacks)


def in_step_of_keras():
    """Returns whether TensorFlow traces a step of `fit`, `evaluate` or `predict`.

    Nobody exports such a graph. Keras has no name for this; its steps are told by the names of
    their functions. If these change, the portable forms are taken.
    """
    import tensorflow as tf

    graph = None if tf.executing_eagerly() else tf.compat.v1.get_default_graph()
    while graph is not None:
        if "_step_on_" in getattr(graph, "name", ""):
            return True
        graph = getattr(graph, "outer_graph", None)
    return False


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

    It is LayerNormalization, product, activation, GRN, product, layer scale then, with weights as
    they are, not quantized. (A block whose layers differ in dtype does not ask.)
    """
    return isinstance(block.norm, keras.layers.LayerNormalization) and not any(
        layer.quantization_mode for layer in (block.pwconv1, block.pwconv2)
    )


def weights(block):
    """Returns the weights of such a branch as tensors; the last are the layer scale, and gamma and
    beta of GRN, each `None` where there is none."""
    ops = keras.ops
    norm, up, down = block.norm, block.pwconv1, block.pwconv2
    found = norm.gamma, norm.beta, up.kernel, up.bias, down.kernel, down.bias
    scale = ops.convert_to_tensor(block.gamma.gamma) if block.gamma else None
    grn = (block.grn.gamma, block.grn.beta) if block.grn else ()
    grn = [ops.convert_to_tensor(weight) for weight in grn] or [None, None]
    return [ops.cast(weight, block.compute_dtype) for weight in found] + [scale, *grn]
