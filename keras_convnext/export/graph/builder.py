"""The nodes and numbers of an ONNX graph, and the tensors between the nodes.

Keras' maps are `(batch, height, width, channels)`, the convolutions of ONNX take `(batch, channels,
height, width)`. A `Tensor` is one map in either order, and is transposed when it is first asked for
in the other one, once. So a block costs two transpositions, wherever it stands.
"""

import collections
import contextlib
import hashlib

import numpy as np

from keras_convnext.export.packages import need

OPSET, IR_VERSION = 20, 9  # the first with Gelu, and the form of files that came with it
TO_PLANES, TO_PIXELS = (0, 3, 1, 2), (0, 2, 3, 1)


class Graph:
    """Collects nodes and numbers, in the order in which they are made.

    Attributes:
        nodes: list of `onnx.NodeProto`.
        arrays: `{name: array}`, the numbers.
        identity: layers and operations that only pass their input on, a list.
        linear: the layer whose activation is left out, or `None`.
        any_size: whether the file takes other sizes than the model was built for.
        options: `{name: array}`, the inputs that may be left out, with what then holds.
        keeps_products: whether products of maps stay products, which are faster in int8; else they
            are 1x1 convolutions, which are faster in float.
    """

    def __init__(self, identity=(), linear=None, any_size=False, keeps_products=False):
        self.nodes, self.arrays = [], {}
        self.identity, self.linear, self.any_size = list(identity), linear, any_size
        self.keeps_products = keeps_products
        self.options = {}
        self._onnx = need("onnx", "An ONNX file")
        self._scope, self._counts, self._known = [], collections.Counter(), {}

    @contextlib.contextmanager
    def inside(self, name):
        """Puts `name` before the names of all nodes and numbers that the `with` block makes."""
        self._scope.append(name)
        try:
            yield
        finally:
            self._scope.pop()

    def node(self, kind, *inputs, **attributes):
        """Adds a node and returns the name of its output.

        Args:
            kind: name of the operator.
            *inputs: names; `""` for an optional input that is left out.
            **attributes: of the operator; `None` for one that is left out.
        """
        return self.outputs_of(kind, 1, *inputs, **attributes)[0]

    def outputs_of(self, kind, count, *inputs, **attributes):
        """Adds a node of several outputs and returns their names; arguments as above."""
        name = self._unique(kind)
        names = [name, *(f"{name}.{number}" for number in range(1, count))]
        attributes = {key: value for key, value in attributes.items() if value is not None}
        made = self._onnx.helper.make_node(kind, list(inputs), names, name=name, **attributes)
        self.nodes.append(made)
        return names

    def tensor(self, array):
        """Returns an array as attributes of nodes hold it."""
        return self._onnx.numpy_helper.from_array(array)

    def option(self, name, default):
        """Adds an input that may be left out, and returns its name.

        Args:
            name: of the input.
            default: float32 array, what then holds. Of a matrix, there may be another number of
                rows.
        """
        self.options[name] = np.asarray(default, "float32")
        return name

    def constant(self, array, name="constant"):
        """Returns the name of an array among the numbers of the graph; equal ones are kept once.

        Args:
            array: numpy array of any dtype but float64, or a list; of a number that is a Python
                float, float32 is kept.
            name: for people.
        """
        array = np.asarray(array)
        array = array.astype("float32") if array.dtype == "float64" else array
        array = np.ascontiguousarray(array).reshape(array.shape)
        key = (array.dtype.str, array.shape, hashlib.sha256(array.tobytes()).digest())
        if key not in self._known:
            self._known[key] = name = self._unique(name)
            self.arrays[name] = array
        return self._known[key]

    def _unique(self, name):
        path = "/".join((*self._scope, name))
        self._counts[path] += 1
        return path if self._counts[path] == 1 else f"{path}_{self._counts[path]}"

    # ------------------------------------------------------------ tensors

    def each(self, kind, *tensors, **attributes):
        """Returns the `Tensor` of an elementwise operator on tensors of one rank."""
        rank = tensors[0].rank
        if all(tensor.in_planes for tensor in tensors):
            planes = self.node(kind, *(tensor.planes for tensor in tensors), **attributes)
            return Tensor(self, rank, planes=planes)
        name = self.node(kind, *(tensor.name for tensor in tensors), **attributes)
        return Tensor(self, rank, name)

    def reduced(self, kind, tensor, axes, keepdims):
        """Returns the `Tensor` that an operator such as "ReduceMean" makes of some axes."""
        axes = sorted(axis % tensor.rank for axis in axes)
        rank = tensor.rank if keepdims else tensor.rank - len(axes)
        if tensor.in_planes and (keepdims or axes == [1, 2]):
            there = [{0: 0, 1: 2, 2: 3, 3: 1}[axis] for axis in axes]
            made = self.node(
                kind, tensor.planes, self.constant(np.int64(there)), keepdims=int(keepdims)
            )
            return Tensor(self, rank, planes=made) if keepdims else Tensor(self, rank, made)
        made = self.node(kind, tensor.name, self.constant(np.int64(axes)), keepdims=int(keepdims))
        return Tensor(self, rank, made)


class Tensor:
    """A value of the graph: an array with Keras' order of axes, and maps in ONNX' order too.

    Two steps wait until somebody asks for their result, because a convolution does them at no cost:
    a factor and a summand per channel, and a border of zeros.

    Args:
        graph: the `Graph`.
        rank: number of axes.
        name: of the value with Keras' order of axes, or `None`.
        planes: name of the value with the last axis in the second place, or `None`.

    Attributes:
        waiting: `("affine", tensor, factor, summand)`, `("border", tensor, (top, left, bottom,
            right))`, or `None`.
    """

    def __init__(self, graph, rank, name=None, planes=None, waiting=None):
        self.graph, self.rank, self.waiting = graph, rank, waiting
        self._name, self._planes = name, planes

    @property
    def in_planes(self):
        """Whether a map is at hand with its channels in the second place."""
        return self._planes is not None or (
            self.waiting is not None and self.waiting[0] != "affine"
        )

    @property
    def name(self):
        """The name of the value with Keras' order of axes."""
        self._compute()
        if self._name is None:
            self._name = self.graph.node("Transpose", self._planes, perm=TO_PIXELS)
        return self._name

    @property
    def planes(self):
        """The name of a map `(batch, channels, height, width)`."""
        self._compute()
        if self._planes is None:
            self._planes = self.graph.node("Transpose", self._name, perm=TO_PLANES)
        return self._planes

    def _compute(self):
        if self.waiting is None or (self._name or self._planes):
            return
        kind, source, *how = self.waiting
        if kind == "border":
            self._planes = with_border(self.graph, source.planes, *how)
        else:
            factor, summand = map(self.graph.constant, how)
            scaled = self.graph.node("Mul", source.name, factor)
            self._name = self.graph.node("Add", scaled, summand)


def with_border(graph, planes, border):
    """Returns the name of a map with a border of zeros around it.

    Args:
        graph: the `Graph`.
        planes: name of a map `(batch, channels, height, width)`.
        border: its widths `(top, left, bottom, right)`.
    """
    top, left, bottom, right = border
    pads = np.int64([0, 0, top, left, 0, 0, bottom, right])
    return graph.node("Pad", planes, graph.constant(pads, "pads"))
