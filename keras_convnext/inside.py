"""The layers inside a model, nested models included, and their outputs.

Models are run as they are, and the call of one layer is watched. So it does not matter whether a
model is a graph, a `Sequential` or subclassed, and how deep the layer is.
"""

import contextlib

import keras
from keras import ops


def layers_of(model):
    """Returns the layers of a model and of the models inside of it, in their order.

    A nested model comes before its layers. The parts of a layer that is no model are not among
    them.
    """
    found = []
    for layer in model.layers:
        found.append(layer)
        if isinstance(layer, keras.Model):
            found += layers_of(layer)
    return found


@contextlib.contextmanager
def watched(layer, replacement=None):
    """Records the outputs of a layer while the block runs.

    Args:
        layer: a Keras layer or model.
        replacement: tensor that the layer gives in place of its output; `None`: its output.

    Yields:
        list to which each call adds the layer's own output.
    """
    seen = []

    def call(compute, *args, **kwargs):
        seen.append(compute(*args, **kwargs))
        return seen[-1] if replacement is None else ops.cast(replacement, seen[-1].dtype)

    with calling(layer, call):
        yield seen


@contextlib.contextmanager
def calling(operation, function):
    """Lets `function(compute, *args, **kwargs)` stand for an operation's call while the block runs.

    `compute` is the call as it was.
    """
    name = "call" if getattr(operation, "quantization_mode", None) is None else "quantized_call"
    compute, own = getattr(operation, name), operation.__dict__
    before = own.get(name)
    own[name] = lambda *args, **kwargs: function(compute, *args, **kwargs)
    try:
        yield
    finally:
        own.pop(name)
        if before is not None:
            own[name] = before


@contextlib.contextmanager
def without_activation(operation):
    """Lets a layer or operation give what its softmax or sigmoid is taken of, while the block runs.

    Args:
        operation: a layer with an `activation`, a `Softmax` layer, an operation of `keras.ops`, or
            `None` for nothing.
    """
    if operation is None:
        yield
    elif hasattr(operation, "activation"):
        activation, operation.activation = operation.activation, keras.activations.linear
        try:
            yield
        finally:
            operation.activation = activation
    else:
        with calling(operation, lambda compute, x, *args, **kwargs: x):
            yield
