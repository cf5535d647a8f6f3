"""The activations that a row of `variants.py` may name."""

import keras
from keras import ops

serializable = keras.saving.register_keras_serializable(package="keras_convnext")


@serializable
def gelu(x):
    """The exact GELU, with erf."""
    if keras.backend.backend() != "jax":
        return ops.gelu(x, approximate=False)
    # by erf, as the other backends have it: on CPUs JAX's own, by erfc, takes a third longer
    wide = ops.cast(x, keras.backend.result_type(x.dtype, "float32"))
    return ops.cast(wide * (0.5 + 0.5 * ops.erf(wide * 0.5**0.5)), x.dtype)


@serializable
def gelu_tanh(x):
    """The tanh approximation of GELU."""
    return ops.gelu(x, approximate=True)


ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "silu": keras.activations.silu}
