"""ONNX: a model becomes a file straight from its layers, the same one on every backend.

Batch, height and width are free where the plan leaves them free. The numbers are float32. A file
of protocol buffers holds 2 GB; the numbers of larger models are in a second one, `NAME.onnx.data`.
"""

from pathlib import Path

import keras

from keras_convnext.export import placing
from keras_convnext.export.graph import Graph, Tensor, write_here
from keras_convnext.export.graph.builder import IR_VERSION, OPSET
from keras_convnext.export.packages import need
from keras_convnext.version import __version__

LARGEST = 2**31 - 2**20  # bytes of one file, less some room for the nodes
TYPES = {"float32": 1, "uint8": 2, "int32": 6}  # of ONNX


def model_of(plan, optional=True, keeps_products=False):
    """Returns the `onnx.ModelProto` of a `Plan`.

    Args:
        plan: the `Plan`.
        optional: whether the inputs that the plan has options for may be left out.
        keeps_products: see `Graph`.

    Raises:
        ExportError: (a ValueError) if a layer cannot be written.
        MissingPackageError: (an ImportError) without the package onnx.
    """
    onnx = need("onnx", "An ONNX file")
    identity = [] if plan.normalization is None else [plan.normalization]
    graph = Graph(identity, plan.linear, plan.any_size, keeps_products)
    source = "image" if len(plan.shape) == 3 else "input"
    x = Tensor(graph, len(plan.shape) + 1, source)
    if plan.dtype != "float32":
        x = graph.each("Cast", x, to=TYPES["float32"])
    found = _as_dict(write_here(graph, plan.model, x), plan.outputs)
    if plan.added:
        kind = plan.added.capitalize()
        axis = {"axis": -1} if kind == "Softmax" else {}
        found = {name: graph.each(kind, tensor, **axis) for name, tensor in found.items()}
    nodes = _named(graph, {name: tensor.name for name, tensor in found.items()}, source)
    nodes, arrays = _needed(nodes, graph.arrays, list(found))
    arrays |= graph.options if optional else {}
    helper = onnx.helper
    made = helper.make_graph(
        nodes,
        plan.model.name,
        [
            helper.make_tensor_value_info(source, TYPES[plan.dtype], _input_axes(plan.shape)),
            *_option_infos(helper, graph.options),
        ],
        _output_infos(helper, plan, found),
        [onnx.numpy_helper.from_array(array, name) for name, array in arrays.items()],
    )
    opset = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(made, opset_imports=opset, ir_version=IR_VERSION)
    model.producer_name, model.producer_version = "keras_convnext", __version__
    helper.set_model_props(model, plan.metadata)
    return model


def is_large(model):
    """Returns whether the numbers of an `onnx.ModelProto` need a file of their own."""
    return sum(len(array.raw_data) for array in model.graph.initializer) > LARGEST


def save(model, path):
    """Writes an `onnx.ModelProto`, checked; equal models become equal files.

    Args:
        model: of `model_of`; of a large one the numbers move to the second file.
        path: of the file; whoever calls sees to it that it is replaced as a whole.
    """
    onnx = need("onnx", "An ONNX file")
    path = Path(path)
    if is_large(model):
        numbers = placing.companion(path).name
        onnx.external_data_helper.convert_model_to_external_data(model, location=numbers)
        onnx.external_data_helper.write_external_data_tensors(model, str(path.parent))
    path.write_bytes(model.SerializeToString(deterministic=True))
    onnx.checker.check_model(str(path))


def _as_dict(made, outputs):
    """Returns `{name: Tensor}` of what a model returns."""
    if isinstance(made, dict):
        return {name: made[name] for name in outputs}
    made = made if isinstance(made, (list, tuple)) else [made]
    return dict(zip(outputs, made, strict=True))


def _named(graph, wanted, source):
    """Returns the nodes with the outputs of the file under their own names.

    Args:
        graph: the `Graph`.
        wanted: `{name of an output of the file: name of the value in the graph}`.
        source: name of the input.
    """
    values = list(wanted.values())
    made = {name for node in graph.nodes for name in node.output}
    for name, value in wanted.items():
        if values.count(value) > 1 or value not in made or value == source:
            copy = graph.node("Identity", value)
            wanted = {**wanted, name: copy}
    new = {value: name for name, value in wanted.items()}
    for node in graph.nodes:
        for names in (node.input, node.output):
            names[:] = [new.get(name, name) for name in names]
    return graph.nodes


def _needed(nodes, arrays, outputs):
    """Returns the nodes and arrays that the outputs are computed from, in their order."""
    wanted, kept = set(outputs), []
    for node in reversed(nodes):
        if wanted & set(node.output):
            kept.append(node)
            wanted |= set(node.input)
    return kept[::-1], {name: array for name, array in arrays.items() if name in wanted}


def _input_axes(shape):
    """Returns the sizes of the input; those that are free have names."""
    free = {1: "dim1", 2: "dim2", 3: "dim3"}
    if len(shape) == 3:
        first = keras.config.image_data_format() == "channels_first"
        free = {2: "height", 3: "width"} if first else {1: "height", 2: "width"}
    named = [free.get(axis) if size is None else size for axis, size in enumerate(shape, 1)]
    return ["batch", *named]


def _option_infos(helper, options):
    """Returns what the file says of the inputs that may be left out, which have a value in it."""
    shapes = {
        name: [f"{name}s", *array.shape[1:]] if array.ndim > 1 else array.shape
        for name, array in options.items()
    }
    return [
        helper.make_tensor_value_info(name, TYPES["float32"], shape)
        for name, shape in shapes.items()
    ]


def _output_infos(helper, plan, found):
    """Returns what the file says of the shapes of its outputs, for an input of its own shape."""
    image = keras.KerasTensor((None, *plan.shape), dtype="float32")
    tensors = _as_dict(plan.model.compute_output_spec(image), plan.outputs)
    return [
        helper.make_tensor_value_info(
            name,
            TYPES["int32" if tensors[name].dtype == "int32" else "float32"],
            ["batch", *tensors[name].shape[1:]],
        )
        for name in found
    ]
