"""Activation functions as nodes: Keras' own and ours."""

import keras
import numpy as np

from keras_convnext.export.graph.builder import Tensor
from keras_convnext.export.graph.rules import OPERATIONS, ExportError, rule
from keras_convnext.layers import ACTIVATIONS


def _relu(graph, x, negative_slope=0.0, max_value=None, threshold=0.0):
    if threshold:
        raise ExportError(f"A ReLU with the threshold {threshold} is not written: take 0.")
    if negative_slope and max_value is not None:
        raise ExportError("A ReLU with a negative slope and a largest value is not written.")
    if negative_slope:
        return graph.each("LeakyRelu", x, alpha=float(negative_slope))
    if max_value is None:
        return graph.each("Relu", x)
    return _clipped(graph, x, 0.0, float(max_value))


def _clipped(graph, x, low, high):
    ends = (graph.constant(np.float32(end)) for end in (low, high))
    if x.in_planes:
        return Tensor(graph, x.rank, planes=graph.node("Clip", x.planes, *ends))
    return Tensor(graph, x.rank, graph.node("Clip", x.name, *ends))


def _silu(graph, x):
    return graph.each("Mul", x, graph.each("Sigmoid", x))


def _normalised(kind):
    """Returns the function for "Softmax" or "LogSoftmax", over the last axis."""

    def function(graph, x):
        return Tensor(graph, x.rank, graph.node(kind, x.name, axis=-1))

    return function


def _gelu(graph, x, approximate=False):
    return graph.each("Gelu", x, approximate="tanh" if approximate else "none")


def _single(kind, **attributes):
    return lambda graph, x: graph.each(kind, x, **attributes)


# By the function of Keras or of ours.
FUNCTIONS = {
    keras.activations.linear: lambda graph, x: x,
    keras.activations.relu: _relu,
    keras.activations.relu6: lambda graph, x: _relu(graph, x, max_value=6.0),
    keras.activations.leaky_relu: _single("LeakyRelu", alpha=0.2),
    keras.activations.elu: _single("Elu", alpha=1.0),
    keras.activations.selu: _single("Selu"),
    keras.activations.softplus: _single("Softplus"),
    keras.activations.softsign: _single("Softsign"),
    keras.activations.silu: _silu,
    keras.activations.gelu: _gelu,
    keras.activations.tanh: _single("Tanh"),
    keras.activations.sigmoid: _single("Sigmoid"),
    keras.activations.exponential: _single("Exp"),
    keras.activations.hard_sigmoid: _single("HardSigmoid", alpha=1 / 6, beta=0.5),
    keras.activations.hard_silu: _single("HardSwish"),
    keras.activations.mish: _single("Mish"),
    keras.activations.softmax: _normalised("Softmax"),
    keras.activations.log_softmax: _normalised("LogSoftmax"),
    ACTIVATIONS["gelu"]: _gelu,
    ACTIVATIONS["gelu_tanh"]: lambda graph, x: _gelu(graph, x, approximate=True),
}


def activate(graph, layer, x):
    """Returns a `Tensor` after the activation of a layer, unless the graph leaves that out.

    Raises:
        ExportError: if the activation is not known here.
    """
    return x if layer is graph.linear else function_of(layer.activation, layer)(graph, x)


def function_of(activation, layer):
    """Returns the function `(graph, Tensor)` that writes an activation of a layer."""
    if activation is None:
        return FUNCTIONS[keras.activations.linear]
    if activation in FUNCTIONS:
        return FUNCTIONS[activation]
    # of a loaded model it is another function of the same registered name
    registered = keras.saving.get_registered_name(activation)
    if registered.startswith("keras_convnext>"):
        return FUNCTIONS[ACTIVATIONS[registered.partition(">")[2]]]
    known = sorted(function.__name__ for function in FUNCTIONS)
    raise ExportError(
        f"{layer.path} has the activation {getattr(activation, '__name__', activation)!r}, which "
        f"is not written; known are {', '.join(known)}. Replace it by one of these."
    )


@rule(keras.layers.Activation)
def _activation(graph, layer, x):
    return activate(graph, layer, x)


@rule(keras.layers.ReLU)
def _relu_layer(graph, layer, x):
    slope, largest = float(layer.negative_slope), layer.max_value
    return _relu(graph, x, slope, largest, float(layer.threshold))


@rule(keras.layers.LeakyReLU)
def _leaky_relu_layer(graph, layer, x):
    return graph.each("LeakyRelu", x, alpha=float(layer.negative_slope))


@rule(keras.layers.ELU)
def _elu_layer(graph, layer, x):
    return graph.each("Elu", x, alpha=float(layer.alpha))


@rule(keras.layers.Softmax)
def _softmax_layer(graph, layer, x):
    return x if layer is graph.linear else _softmax(graph, x, layer.axis, layer.name)


def _softmax(graph, x, axis, name):
    if axis not in (-1, x.rank - 1):
        raise ExportError(f"{name} is a softmax of the axis {axis}; the last one is written only.")
    return FUNCTIONS[keras.activations.softmax](graph, x)


def _operation(function):
    """Returns the rule of an operation, which is left out where the graph says so."""

    def written(graph, operation, x):
        return x if operation is graph.linear else function(graph, operation, x)

    return written


def _as_activation(name):
    function = FUNCTIONS[getattr(keras.activations, name)]
    return _operation(lambda graph, operation, x: function(graph, x))


for _kind in ("Relu", "Relu6", "Sigmoid", "Tanh", "Silu", "Softplus"):
    OPERATIONS[_kind] = _as_activation(_kind.lower())
OPERATIONS["Gelu"] = _operation(lambda graph, op, x: _gelu(graph, x, op.approximate))
OPERATIONS["Softmax"] = _operation(lambda graph, op, x: _softmax(graph, x, op.axis, op.name))
