"""Static quantization of one file, by ONNX Runtime and, of an OpenVINO model, by NNCF."""

import contextlib
import io
import json
import logging

from keras_convnext.export import openvino_file
from keras_convnext.export.packages import need

BATCH = 8  # images that are calibrated at once


class OnnxWriter:
    """Quantizes an ONNX file: its products and convolutions, per channel.

    Args:
        source: path of the float file.
        path: of the new one.
        calibration: array of images, as the file takes them.

    Attributes:
        nodes: names of what is quantized; they begin with the layer that they belong to.

    Raises:
        MissingPackageError: (an ImportError) without the package onnxruntime.
    """

    KINDS = ("MatMul", "Conv")

    def __init__(self, source, path, calibration):
        self._library = need("onnxruntime.quantization", "An ONNX file in int8")
        self._onnx = need("onnx", "An ONNX file in int8")
        self._source, self._path, self._calibration = source, path, calibration
        model = self._onnx.load(source)
        self._input = model.graph.input[0].name
        self._texts = {entry.key: entry.value for entry in model.metadata_props}
        self.nodes = [node.name for node in model.graph.node if node.op_type in self.KINDS]

    def write(self, excluded):
        """Writes the file, with the nodes of these names left in float."""
        with _without_advice():
            self._library.quantize_static(
                self._source,
                self._path,
                _reader(self._library, self._input, self._calibration),
                quant_format=self._library.QuantFormat.QDQ,
                op_types_to_quantize=list(self.KINDS),
                per_channel=True,
                nodes_to_exclude=excluded,
                calibration_cache_path=self._path.with_name("ranges.json"),
            )
        model = self._onnx.load(self._path)
        self._onnx.helper.set_model_props(model, self._texts)
        self._onnx.save(model, self._path)


class OpenVinoWriter:
    """Quantizes an OpenVINO model, as NNCF does for a processor; as `OnnxWriter`.

    Raises:
        MissingPackageError: (an ImportError) without the package nncf.
    """

    KINDS = ("MatMul", "Convolution", "GroupConvolution")

    def __init__(self, source, path, calibration):
        self._nncf = need("nncf", "An OpenVINO model in int8")
        self._core = need("openvino", "An OpenVINO model in int8").Core()
        self._source, self._path = source, path
        starts = range(0, len(calibration), BATCH)
        self._batches = [calibration[start : start + BATCH] for start in starts]
        model = self._model()
        self._texts = json.loads(model.get_rt_info([openvino_file.KEY]).astype(str))
        found = [op for op in model.get_ordered_ops() if op.get_type_name() in self.KINDS]
        self.nodes = [op.get_friendly_name() for op in found]

    def _model(self):
        return self._core.read_model(str(self._source))

    def write(self, excluded):
        """Writes the file, with the nodes of these names left in float."""
        nncf = self._nncf
        with _without_advice():
            model = nncf.quantize(
                self._model(),
                nncf.Dataset(self._batches),
                target_device=nncf.TargetDevice.CPU,
                subset_size=len(self._batches),
                ignored_scope=nncf.IgnoredScope(names=excluded) if excluded else None,
            )
        openvino_file.save_model(model, self._path, self._texts, in_half=False)


WRITERS = {".onnx": OnnxWriter, ".xml": OpenVinoWriter}


@contextlib.contextmanager
def _without_advice():
    """Silences bars and advice, such as to fuse operators, which a graph of ours has no need of."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            yield
    finally:
        logging.disable(before)


def _reader(library, name, images):
    class Reader(library.CalibrationDataReader):
        def __init__(self):
            starts = range(0, len(images), BATCH)
            self._batches = iter([images[start : start + BATCH] for start in starts])

        def get_next(self):
            batch = next(self._batches, None)
            return None if batch is None else {name: batch}

    return Reader()
