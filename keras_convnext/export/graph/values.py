"""Arithmetic on the values of a graph, where nothing is a map: each operator writes a node."""

import numpy as np

FLOAT, INT32, INT64 = 1, 6, 7  # types of ONNX


class Value:
    """A value of a graph by its name, with the operators of arrays.

    Python's floats become float32, its integers int64; other numbers are arrays of numpy.

    Args:
        graph: the `Graph`.
        name: of the value.
    """

    def __init__(self, graph, name):
        self.graph, self.name = graph, name

    def then(self, kind, *others, **attributes):
        """Returns the `Value` of an operator whose first input this is.

        Args:
            kind: name of the operator.
            *others: its other inputs: `Value`s, arrays or numbers; `""` for one that is left out.
            **attributes: of the operator.
        """
        names = [name_of(self.graph, other) for other in others]
        return Value(self.graph, self.graph.node(kind, self.name, *names, **attributes))

    def parts(self, kind, count, *others, **attributes):
        """Returns the `count` `Value`s of an operator with several outputs; see `then`."""
        names = [name_of(self.graph, other) for other in others]
        made = self.graph.outputs_of(kind, count, self.name, *names, **attributes)
        return [Value(self.graph, name) for name in made]

    def __add__(self, other):
        return self.then("Add", other)

    def __sub__(self, other):
        return self.then("Sub", other)

    def __mul__(self, other):
        return self.then("Mul", other)

    def __truediv__(self, other):
        return self.then("Div", other)

    def __gt__(self, other):
        return self.then("Greater", other)

    def __ge__(self, other):
        return self.then("GreaterOrEqual", other)

    def __and__(self, other):
        return self.then("And", other)

    def equals(self, other):
        """Returns where this is `other`, bool."""
        return self.then("Equal", other)

    def where(self, one, other):
        """Returns `one` where this holds, and `other` elsewhere."""
        return self.then("Where", one, other)

    def cast(self, to):
        """Returns the same numbers as another type of ONNX."""
        return self.then("Cast", to=to)

    def reshaped(self, *shape):
        """Returns the same numbers in another shape; a size of -1 is what is left, 0 the same."""
        return self.then("Reshape", np.int64(shape))

    def expanded(self, *axes):
        """Returns the same with new axes of size 1, at these places of the result."""
        return self.then("Unsqueeze", np.int64(axes))

    def slice(self, axis, first, last):
        """Returns the part from `first` up to, without, `last` along an axis."""
        return self.then("Slice", *(np.int64([number]) for number in (first, last, axis)))

    def taken(self, indices, axis=0):
        """Returns what is at indices along an axis."""
        return self.then("Gather", indices, axis=axis)

    def size(self, axis):
        """Returns the length of an axis, int64 of shape `(1,)`."""
        return self.then("Shape", start=axis, end=axis + 1)

    def rows(self, index):
        """Returns the rows `index` `(batch, k)` of this `(batch, n, ...)`, `(batch, k, ...)`."""
        return self.then("GatherND", index.expanded(-1), batch_dims=1)

    def put(self, index, rows):
        """Returns this with other `rows` `(m, ...)` at the places `index` `(m, axes)`."""
        return self.then("ScatterND", index, rows)


def name_of(graph, value):
    """Returns the name of a `Value`, of an array or of a number in a graph."""
    if isinstance(value, Value):
        return value.name
    if isinstance(value, str):
        return value
    return graph.constant(np.float32(value) if isinstance(value, float) else np.asarray(value))


def joined(values, axis):
    """Returns the `Value` of several along an axis."""
    first, *others = values
    return first.then("Concat", *others, axis=axis)


def filled(graph, shape, number):
    """Returns a float32 `Value` of one number.

    Args:
        graph: the `Graph`.
        shape: list of sizes, ints or `Value`s `(1,)`.
        number: a float.
    """
    sizes = [size if isinstance(size, Value) else np.int64([size]) for size in shape]
    names = [name_of(graph, size) for size in sizes]
    shape = Value(graph, graph.node("Concat", *names, axis=0))
    return shape.then("ConstantOfShape", value=graph.tensor(np.float32([number])))


def counting(graph, length):
    """Returns 0, 1, ... up to, without, `length`, int64.

    Args:
        graph: the `Graph`.
        length: a `Value`, int64 `(1,)`.
    """
    zero = Value(graph, name_of(graph, np.int64(0)))
    return zero.then("Range", length.then("Squeeze"), np.int64(1))
