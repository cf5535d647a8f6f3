"""Recognises the outputs of a classifier: probabilities or logits, one class each or many.

The last operation of the model tells it, where the model is a graph: it is found through nested
models, and through layers that only pass numbers on. Where it does not tell, the numbers do.
"""

import keras
import numpy as np

from keras_convnext.predictions import TOLERANCE

PASSING = (
    keras.layers.Dropout,
    keras.layers.Flatten,
    keras.layers.Identity,
    keras.layers.Reshape,
)
PASSING_OPERATIONS = ("Cast", "Reshape", "Squeeze", "Flatten")  # of `keras.ops`, in a graph
# By the name of an activation, layer or operation. Softmax turns logarithms of probabilities into
# the probabilities that they are of.
KINDS = {
    "softmax": "softmax",
    "sigmoid": "sigmoid",
    "hard_sigmoid": "sigmoid",
    "linear": "linear",
    "log_softmax": "linear",
}
DETECTOR = "keras_convnext>DetectionModel"  # its name in files: so it needs no import here


def refuse_detector(model, name):
    """Raises a ValueError if a model gives boxes: neither a class, nor a class for every pixel.

    Args:
        model: a `keras.Model` of any kind.
        name: for the message.
    """
    if keras.saving.get_registered_name(type(model)) == DETECTOR:
        raise ValueError(
            f"{name} is a detector, which gives boxes: it is for `detection.Detector`."
        )


def last_operation(model):
    """Returns the layer or operation that computes a model's output, or `None` where it is unknown.

    It is looked for in nested models too, and before layers that do not change the numbers.

    Args:
        model: a `keras.Model` of any kind.
    """
    made = getattr(model, "outputs", None)  # a subclassed model has none
    tensor = made[0] if made and len(made) == 1 else None
    while getattr(tensor, "_keras_history", None) is not None:
        operation, node_index, tensor_index = tensor._keras_history
        if isinstance(operation, keras.Model):
            inside = getattr(operation, "outputs", None)
            if not inside:
                return None
            tensor = inside[tensor_index]
        elif _passes(operation):
            tensor = operation._inbound_nodes[node_index].input_tensors[0]
        else:
            return operation
    return None


def _passes(operation):
    if isinstance(operation, keras.layers.Activation):
        return operation.activation is keras.activations.linear
    return isinstance(operation, PASSING) or type(operation).__name__ in PASSING_OPERATIONS


def kind_of(operation):
    """Returns "softmax", "sigmoid" or "linear" for an operation's activation, or `None`.

    Args:
        operation: of `last_operation`, or `None`.
    """
    activation = getattr(operation, "activation", None)
    if activation is not None:
        return KINDS.get(getattr(activation, "__name__", None))
    if isinstance(operation, keras.layers.Average):
        makers = {_kind_of_tensor(tensor) for tensor in operation._inbound_nodes[0].input_tensors}
        return makers.pop() if len(makers) == 1 else None
    return KINDS.get(type(operation).__name__.lower())


def _kind_of_tensor(tensor):
    return kind_of(last_operation(_Tensor(tensor)))


class _Tensor:
    """Stands for a model that ends in a tensor."""

    def __init__(self, tensor):
        self.outputs = [tensor]


def activation_of(model):
    """Returns what turns the outputs of a classifier into probabilities, as its structure tells.

    Args:
        model: a `keras.Model` to `(batch, classes)`.

    Returns:
        "none" (they are probabilities already), "softmax", "sigmoid", or `None` where the structure
        does not tell. Several logits are of classes that exclude each other, unless the model is
        compiled with a binary cross-entropy.
    """
    kind = kind_of(last_operation(model))
    if kind is None:
        return None
    if kind != "linear":
        return "none"
    loss = getattr(model, "loss", None)
    name = loss if isinstance(loss, str) else getattr(loss, "name", getattr(loss, "__name__", ""))
    is_binary = str(name).lower().replace("_", "").startswith("binary")
    return "sigmoid" if is_binary or model.outputs[0].shape[-1] == 1 else "softmax"


def activation_of_values(outputs, name):
    """Returns what turns outputs into probabilities, as the numbers tell.

    Args:
        outputs: array `(n, classes)`, n >= 1.
        name: of the model, for the message.

    Returns:
        "none", "softmax" or "sigmoid".

    Raises:
        ValueError: if the numbers do not tell.
    """
    one = outputs.shape[-1] == 1
    if outputs.min() < 0 or outputs.max() > 1 + TOLERANCE:
        return "sigmoid" if one else "softmax"
    if not one and np.allclose(outputs.sum(-1), 1, atol=TOLERANCE):
        return "none"
    raise ValueError(
        f"{name}: the outputs are numbers from {outputs.min():.3g} to {outputs.max():.3g} that do "
        "not add up to 1, and the last layer does not tell what they are. Say it with "
        "`activation=`: 'none' (probabilities already), 'softmax' (logits of classes that exclude "
        "each other) or 'sigmoid' (logits of independent classes)."
    )
