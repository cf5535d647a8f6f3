"""The rules of operations of `keras.ops` in functional models, such as `x + y`."""

import numpy as np
from keras import ops

from keras_convnext.export.graph.builder import Tensor
from keras_convnext.export.graph.rules import OPERATIONS, ExportError

ARITHMETIC = {
    "Add": "Add",
    "Subtract": "Sub",
    "Multiply": "Mul",
    "TrueDivide": "Div",
    "Divide": "Div",
    "Maximum": "Max",
    "Minimum": "Min",
}
REDUCTIONS = {"Mean": "ReduceMean", "Max": "ReduceMax", "Sum": "ReduceSum"}


def _arithmetic(graph, operation, *operands):
    kind = ARITHMETIC[type(operation).__name__]
    ranks = {operand.rank for operand in operands if isinstance(operand, Tensor)}
    if all(isinstance(operand, Tensor) for operand in operands) and len(ranks) == 1:
        return graph.each(kind, *operands)
    found = [_name_and_rank(graph, operand) for operand in operands]
    made = graph.node(kind, *(name for name, _ in found))
    return Tensor(graph, max(rank for _, rank in found), made)


def _name_and_rank(graph, operand):
    if isinstance(operand, Tensor):
        return operand.name, operand.rank
    array = np.asarray(ops.convert_to_numpy(ops.cast(operand, "float32")))
    return graph.constant(array), array.ndim


def _reduction(graph, operation, x):
    kind = REDUCTIONS[type(operation).__name__]
    if operation.axis is None:
        raise ExportError(f"{operation.name} reduces all axes, the batch too: say which `axis`.")
    axes = [operation.axis] if isinstance(operation.axis, int) else operation.axis
    return graph.reduced(kind, x, axes, operation.keepdims)


OPERATIONS.update(dict.fromkeys(ARITHMETIC, _arithmetic))
OPERATIONS.update(dict.fromkeys(REDUCTIONS, _reduction))
