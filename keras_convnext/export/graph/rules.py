"""The rules by which layers are written, and the way to the rule of a layer.

A rule is a function `(graph, layer, *inputs)` to a `Tensor`, registered for a class of layers. It
also holds for classes derived from that one as long as they compute the same: a class with a `call`
of its own needs a rule of its own.
"""

import keras
import numpy as np
from keras import ops

from keras_convnext import names

RULES = {}  # class of layers -> rule
OPERATIONS = {}  # name of an operation of `keras.ops` in a functional model -> rule


class ExportError(ValueError):
    """A model, or a part of it, that cannot be written in this format."""


def rule(*kinds):
    """Registers the decorated function as the rule of classes of layers."""

    def register(function):
        RULES.update(dict.fromkeys(kinds, function))
        return function

    return register


def write(graph, operation, *inputs, **arguments):
    """Writes a layer, a model or an operation into a graph.

    Args:
        graph: the `Graph`.
        operation: a built Keras layer, a functional or sequential model, or an operation of
            `keras.ops` of a functional model.
        *inputs: what it is called with: a `Tensor`, or a list of them; numbers for operations.
        **arguments: of the call; only those of an inference are written.

    Returns:
        a `Tensor`, or what a model returns: a list or dict of them.

    Raises:
        ExportError: (a ValueError) if it is not known how it computes.
    """
    with graph.inside(names.local(operation.name)):
        return write_here(graph, operation, *inputs, **arguments)


def write_here(graph, operation, *inputs, **arguments):
    """Writes as `write`, without the name of the operation in the names of what is made."""
    _check_call(operation, arguments)
    if any(operation is other for other in graph.identity):
        return inputs[0]
    return _rule_of(operation)(graph, operation, *inputs)


def _rule_of(operation):
    if isinstance(operation, keras.Layer):
        check_not_quantized(operation)
        for kind in type(operation).__mro__:
            if kind in RULES and type(operation).call is kind.call:
                return RULES[kind]
        if _is_functional(operation):
            return through_graph
    elif type(operation).__module__.startswith("keras."):
        if function := OPERATIONS.get(type(operation).__name__):
            return function
    raise ExportError(_unknown(operation))


def _is_functional(model):
    """Returns whether a model is a graph of layers, and nothing else computes in it."""
    if not isinstance(model, keras.Function):
        return False
    definer = next(kind for kind in type(model).__mro__ if "call" in vars(kind))
    return definer.__module__.startswith("keras.")


def through_graph(graph, model, inputs):
    """Writes a functional model, each operation in the place where it is called."""

    def writing(operation):
        return lambda *args, **kwargs: write(graph, operation, *args, **kwargs)

    return model._run_through_graph(inputs, operation_fn=writing)


@rule(keras.Sequential)
def in_turn(graph, model, x):
    """Writes a sequential model, or any layer with `layers`, one after the other."""
    for layer in model.layers:
        x = write(graph, layer, x)
    return x


def _check_call(operation, arguments):
    given = {key: value for key, value in arguments.items() if value is not None}
    if given.pop("training", False):
        raise ExportError(
            f"{operation.name} is called with `training=True` in the model: an exported file "
            "computes what the model does outside of training. Leave `training` out of that call."
        )
    if given:
        raise ExportError(
            f"{operation.name} is called with {', '.join(map(repr, given))}, which is not written. "
            "Rebuild the model without."
        )


def check_not_quantized(layer):
    """Raises an ExportError for a layer that Keras quantized: its kernel holds other numbers."""
    if mode := getattr(layer, "quantization_mode", None):
        raise ExportError(
            f"{layer.path} is quantized ({mode}) by Keras, which is not written: export the model "
            "as it was before `quantize`, with `quantize='int8'` and images for the calibration."
        )


def _unknown(operation):
    kind = type(operation).__name__
    advice = (
        "Replace it by layers that are written (convolutions, Dense, norms, pooling, activations, "
        "merging layers, our own), or export the part before it: `keras.Model(model.input, "
        "model.get_layer(NAME).output)`."
    )
    if isinstance(operation, keras.Model):
        advice = (
            "It is neither a functional nor a sequential model, so its layers are called in a way "
            "that cannot be seen. Rebuild it with `keras.Model(inputs, outputs)`."
        )
    what = getattr(operation, "path", None) or operation.name
    return f"{what} is a {kind}, and it is not known here how to write that. {advice}"


# ---------------------------------------------------------------- for the rules


def numbers(variable):
    """Returns a weight, or `None` for none, as a float64 array: rules compute with these."""
    if variable is None:
        return None
    return np.asarray(ops.convert_to_numpy(ops.cast(variable, "float32")), "float64")
