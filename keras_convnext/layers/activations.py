"""The activation functions that a row of `variants.py` may name."""

import keras
from keras import ops

from keras_convnext import fast

serializable = keras.saving.register_keras_serializable(package="keras_convnext")


@serializable
def gelu(x):
    """Returns the exact GELU of a tensor, computed with the error function."""
    y = fast.gelu(x)
    return ops.gelu(x, approximate=False) if y is None else y


@serializable
def gelu_tanh(x):
    """Returns the tanh approximation of the GELU of a tensor."""
    return ops.gelu(x, approximate=True)


ACTIVATIONS = {"gelu": gelu, "gelu_tanh": gelu_tanh, "silu": keras.activations.silu}
