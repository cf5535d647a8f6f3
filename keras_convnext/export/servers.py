"""Folders of model servers: NVIDIA Triton's, and the OpenVINO Model Server's."""

import json

from keras_convnext.export.exporting import export
from keras_convnext.export.packages import need

TYPES = {1: "TYPE_FP32", 2: "TYPE_UINT8", 6: "TYPE_INT32", 7: "TYPE_INT64", 9: "TYPE_BOOL"}
BATCH, FREE = "batch", -1
QUOTED = '"\\'
MOST = 32  # images that Triton puts into one batch


class OpenVinoModelServer:
    """`1/model.xml` with its numbers."""

    FORMAT = "OpenVINO Model Server"
    FILES = {"1/model.xml", "1/model.bin"}

    @staticmethod
    def write(model, folder, **options):
        """Writes the model into an empty folder; returns an `Exported`. See `export_for`."""
        _refuse_detector(model)
        (folder / "1").mkdir()
        return export(model, folder / "1" / "model.xml", **options)


class Triton:
    """`config.pbtxt`, `labels.txt` and `1/model.onnx`."""

    FORMAT = "Triton"
    FILES = {"config.pbtxt", "labels.txt", "1/model.onnx", "1/model.onnx.data"}

    @staticmethod
    def write(model, folder, **options):
        """Writes the model into an empty folder; returns an `Exported`. See `export_for`."""
        _refuse_detector(model)
        (folder / "1").mkdir()
        made = export(model, folder / "1" / "model.onnx", **options)
        names = json.loads(made.metadata.get("names", "[]"))
        if names:  # one a line, whatever they hold
            lines = "".join(f"{' '.join(name.split())}\n" for name in names)
            (folder / "labels.txt").write_text(lines, encoding="utf-8")
        onnx = need("onnx", "An ONNX file")
        graph = onnx.load(made.path, load_external_data=False).graph
        text = configuration(folder.name, graph, len(names))
        (folder / "config.pbtxt").write_text(text, encoding="utf-8")
        return made


def _refuse_detector(model):
    from keras_convnext.export.plan import is_detector  # Keras, once it is needed

    if is_detector(model):
        raise ValueError(
            "The folder of a model server is for models of images of one size, and this is a "
            "detector: write an .onnx file, and let the server run `ExportedDetector` or ONNX "
            "Runtime."
        )


def configuration(name, graph, names=0):
    """Returns the text of Triton's `config.pbtxt`.

    Args:
        name: of the model, that of its folder.
        graph: the `onnx.GraphProto`.
        names: how many names `labels.txt` has; 0: there is no such file.
    """
    tensors = {"input": graph.input, "output": graph.output}
    sizes = [_sizes(tensor) for found in tensors.values() for tensor in found]
    batched = all(len(shape) > 1 and shape[0] == BATCH for shape in sizes)
    lines = [f"name: {_quoted(name)}", 'backend: "onnxruntime"']
    lines += [f"max_batch_size: {MOST if batched else 0}"]
    for kind, found in tensors.items():
        for tensor in found:
            lines += [f"{kind} {{", *_described(tensor, batched, kind == "output" and names), "}"]
    return "\n".join([*lines, *(["dynamic_batching { }"] if batched else [])]) + "\n"


def _described(tensor, batched, names):
    dims = [FREE if isinstance(size, str) else size for size in _sizes(tensor)[batched:]]
    yield f"  name: {_quoted(tensor.name)}"
    yield f"  data_type: {TYPES[tensor.type.tensor_type.elem_type]}"
    yield f"  dims: [ {', '.join(map(str, dims))} ]"
    if names and dims == [names]:
        yield '  label_filename: "labels.txt"'


def _sizes(tensor):
    """Returns the sizes of a tensor; a name, or no text, for those that are free."""
    axes = tensor.type.tensor_type.shape.dim
    return [axis.dim_value if axis.HasField("dim_value") else axis.dim_param for axis in axes]


def _quoted(text):
    """Returns a text as the text format of protocol buffers has it; other bytes are octal."""
    plain = (chr(byte) for byte in text.encode())
    return f'"{"".join(c if " " <= c <= "~" and c not in QUOTED else _octal(c) for c in plain)}"'


def _octal(character):
    return f"\\{ord(character):03o}"
