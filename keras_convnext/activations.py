"""The activations that a row of `variants.py` may name."""

import keras
from keras import ops

serializable = keras.saving.register_keras_serializable(package="keras_convnext")


@serializable
def gelu(x):
    """The exact GELU, with erf."""
    return ops.gelu(x, approximate=False)


@serializable
def gelu_tanh(x):
    """The tanh approximation of GELU."""
    return ops.gelu(x, approximate=True)


ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "silu": keras.activations.silu}
