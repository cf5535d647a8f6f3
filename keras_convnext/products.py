"""A matrix product with its bias, in the fastest exact form for each backend."""

import keras
from keras import ops

from keras_convnext.runtime import jax_on_one_cpu, portable


def dense(x, kernel, bias):
    """x `(rows, channels)` @ kernel `(channels, units)` + bias `(units,)`, of one float dtype

    On JAX and PyTorch of several, which promote. Equal to `ops.matmul` and a sum, to rounding.
    """
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        from keras_convnext.tf_bias import bias_add

        return bias_add(tf.matmul(x, kernel), bias)
    if backend == "torch" and x.dtype == kernel.dtype == bias.dtype:
        import torch

        from keras_convnext import torch_products

        ours = torch_products.takes(x, kernel, bias)
        return torch_products.dense(x, kernel, bias) if ours else torch.addmm(bias, x, kernel)
    if backend == "jax" and jax_on_one_cpu() and not portable(x):
        import jax.numpy as jnp

        dtype = jnp.result_type(x, kernel, bias)
        return (wide_product(x, kernel) + bias).astype(dtype)
    return ops.matmul(x, kernel) + bias


def wide_product(a, b):
    """On JAX, in float32 where the factors have half precision: XLA on a CPU multiplies bfloat16 at
    up to twice the speed if it need not round what comes out."""
    import jax.numpy as jnp

    wide = jnp.promote_types(jnp.result_type(a, b), jnp.float32)
    return jnp.matmul(a, b, preferred_element_type=wide)
