"""Helpers for what differs between the backends and has no common name in Keras."""

import keras
import numpy as np
import pytest

BACKEND = keras.backend.backend()


on_one_backend = pytest.mark.skipif(BACKEND != "torch", reason="the same on every backend")


EXHAUSTIVE = (pytest.mark.slow, pytest.mark.exhaustive)


def proven_on_one(test):
    """Marks a proof on PyTorch that is exhaustive elsewhere, where others show its parts."""
    if BACKEND != "torch":
        test = pytest.mark.exhaustive(test)
    return pytest.mark.slow(test)


def fast_on_one(test):
    """Marks a test that is exhaustive but on PyTorch, as others show what differs elsewhere."""
    return test if BACKEND == "torch" else proven_on_one(test)


def compiles_long(test):
    """Marks a test that takes JAX and TensorFlow long to compile: among the proofs there."""
    return test if BACKEND == "torch" else pytest.mark.slow(test)


def gradients(function, *arrays):
    """Returns the gradients of the sum of `function(*arrays)` with respect to each array."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        tensors = [tf.convert_to_tensor(array) for array in arrays]
        with tf.GradientTape() as tape:
            for tensor in tensors:
                tape.watch(tensor)
            total = tf.reduce_sum(function(*tensors))
        return [gradient.numpy() for gradient in tape.gradient(total, tensors)]
    if BACKEND == "jax":
        import jax

        total = lambda *tensors: function(*tensors).sum()  # noqa: E731
        found = jax.grad(total, argnums=tuple(range(len(arrays))))(*arrays)
        return [np.asarray(gradient) for gradient in found]
    import torch

    tensors = [torch.tensor(np.asarray(array), requires_grad=True) for array in arrays]
    return [g.numpy() for g in torch.autograd.grad(function(*tensors).sum(), tensors)]


def numpy(tensor):
    return keras.ops.convert_to_numpy(tensor)


def randomise(model, seed=0, scale=0.1):
    """Gives every weight, layer scale and norms included, a value that shows in the output."""
    random = np.random.default_rng(seed)
    for weight in model.weights:
        centre = 1.0 if weight.path.endswith("gamma") else 0.0
        weight.assign(centre + scale * random.standard_normal(weight.shape).astype("float32"))
    return model
