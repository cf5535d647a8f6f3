"""Exported files, opened by the libraries that run them."""

import json
from pathlib import Path

import numpy as np

from keras_convnext.errors import first_line
from keras_convnext.export.metadata import DescriptionError, damaged, parsed
from keras_convnext.export.openvino_file import KEY
from keras_convnext.export.packages import need


class OnnxFile:
    """An ONNX file, run by ONNX Runtime on the processor.

    Args:
        path: of the file.
        threads: how many to take; `None`: as ONNX Runtime chooses.

    Attributes:
        path: of the file.
        texts: what the file says about itself, `{key: str}`.
        names: of the outputs.
        shape: of the input, a tuple with `None` for sizes that are free.
        options: names of the inputs that may be left out.

    Raises:
        MissingPackageError: (an ImportError) without the package onnxruntime.
        ValueError: if ONNX Runtime cannot load the file.
    """

    def __init__(self, path, threads=None):
        runtime = need("onnxruntime", "Running an ONNX file")
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"No file {str(path)!r}.")
        options = runtime.SessionOptions()
        options.log_severity_level = 3  # errors
        if threads is not None:
            options.intra_op_num_threads = options.inter_op_num_threads = threads
        try:
            self._session = runtime.InferenceSession(
                str(path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # the classes of its errors are not public
            raise ValueError(f"{path}: ONNX Runtime cannot load it: {first_line(error)}") from None
        inputs, outputs = self._session.get_inputs(), self._session.get_outputs()
        _check_counts(path, inputs, outputs)
        (source,) = inputs
        self._input, self._dtype = source.name, _DTYPES.get(source.type, "float32")
        self.shape = tuple(n if isinstance(n, int) else None for n in source.shape)
        self.options = [part.name for part in self._session.get_overridable_initializers()]
        self.texts = dict(self._session.get_modelmeta().custom_metadata_map)
        self.names = [output.name for output in outputs]

    def __call__(self, images, **options):
        """Returns the outputs for an array of images, `{name: array}`.

        Args:
            images: array, of the shape that the file takes.
            **options: arrays for some of the inputs that may be left out.

        Raises:
            ValueError: if ONNX Runtime cannot run the file on them.
        """
        images = np.ascontiguousarray(images, self._dtype)
        more = {name: np.asarray(value, "float32") for name, value in options.items()}
        try:
            made = self._session.run(None, {self._input: images, **more})
        except Exception as error:  # as above
            raise _cannot_run(self.path, "ONNX Runtime", images, error) from None
        return dict(zip(self.names, made, strict=True))


class OpenVinoFile:
    """An OpenVINO model, run on the processor in float32; as `OnnxFile`.

    Raises:
        MissingPackageError: (an ImportError) without the package openvino.
        ValueError: if OpenVINO cannot load the file.
    """

    def __init__(self, path, threads=None):
        openvino = need("openvino", "Running an OpenVINO model")
        self.path = Path(path)
        if not self.path.is_file():
            raise FileNotFoundError(f"No file {str(path)!r}.")
        settings = {"INFERENCE_PRECISION_HINT": "f32", "PERFORMANCE_HINT": "LATENCY"}
        if threads is not None:
            settings["INFERENCE_NUM_THREADS"] = threads
        core = openvino.Core()
        try:
            model = core.read_model(str(path))
            self.texts = _texts(model, path)
            self._defaults = _defaults(self.texts, path)
            self.options = list(self._defaults)
            self._model = core.compile_model(model, "CPU", settings)
            others = [part for part in model.inputs if part.get_names() & set(self.options)]
            _check_counts(path, model.inputs[len(others) :], model.outputs)
            self._input = model.input(0).get_any_name()
            self._dtype = self._model.input(0).get_element_type().to_dtype()
            sizes = self._model.input(0).get_partial_shape()
            self.shape = tuple(None if n.is_dynamic else n.get_length() for n in sizes)
            self.names = [output.get_any_name() for output in model.outputs]
        except RuntimeError as error:
            raise ValueError(f"{path}: OpenVINO cannot load it: {first_line(error)}") from None

    def __call__(self, images, **options):
        """Returns the outputs for an array of images, `{name: array}`; as `OnnxFile`.

        Raises:
            ValueError: if OpenVINO cannot run the file on them.
        """
        images = np.ascontiguousarray(images, self._dtype)
        more = {
            name: np.asarray(value, "float32") for name, value in (self._defaults | options).items()
        }
        try:
            made = self._model({self._input: images, **more})
        except RuntimeError as error:
            raise _cannot_run(self.path, "OpenVINO", images, error) from None
        return {name: made[number].copy() for number, name in enumerate(self.names)}


def _texts(model, path):
    """Returns what an OpenVINO model says about itself, `{key: str}`."""
    if not model.has_rt_info([KEY]):
        return {}
    try:
        found = json.loads(model.get_rt_info([KEY]).astype(str))
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict) or not all(isinstance(x, str) for x in found.values()):
        raise DescriptionError(f"{path}: its description is damaged.")
    return found


def _defaults(texts, path):
    """Returns what holds for the inputs beside the images, `{name: array}`."""
    if "options" not in texts:
        return {}
    said = parsed({key: texts[key] for key in ("keras_convnext", "options") if key in texts}, path)
    try:
        return {name: np.asarray(value, "float32") for name, value in said["options"].items()}
    except (TypeError, ValueError):
        raise damaged("options", path) from None


_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(float16)": "float16"}
RUNNERS = {".onnx": OnnxFile, ".xml": OpenVinoFile}


def opened(path, **arguments):
    """Returns an exported file that is ready to run.

    Raises:
        ValueError: if its name does not end as that of a format that is run here.
    """
    kind = RUNNERS.get(Path(path).suffix.lower())
    if kind is None:
        raise ValueError(f"{path}: the name must end in one of {', '.join(RUNNERS)}.")
    return kind(path, **arguments)


def _check_counts(path, inputs, outputs):
    if len(inputs) != 1 or not outputs:
        raise ValueError(
            f"{path}: it takes {len(inputs)} inputs and returns {len(outputs)} outputs; files with "
            "one input, the images, and with outputs are run here."
        )


def _cannot_run(path, runtime, images, error):
    shape = "x".join(map(str, images.shape))
    return ValueError(
        f"{path}: {runtime} cannot run it on {images.dtype} images of shape {shape}: "
        f"{first_line(error)}"
    )
