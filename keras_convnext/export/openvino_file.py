"""OpenVINO: an ONNX file becomes an `.xml` with its `.bin`."""

import json
import os

from keras_convnext.export.packages import need

KEY = "keras_convnext"  # where in OpenVINO's own metadata ours are, as one JSON text


def save(source, path, texts, in_half):
    """Writes an ONNX file as an OpenVINO model: `path`, and the numbers in a `.bin` beside it.

    Args:
        source: path of the ONNX file.
        path: of the `.xml`.
        texts: what the file says about itself, `{key: str}`.
        in_half: whether the numbers are kept in float16.

    Raises:
        MissingPackageError: (an ImportError) without the package openvino.
    """
    openvino = need("openvino", "An OpenVINO model")
    save_model(openvino.convert_model(os.fspath(source)), path, texts, in_half)


def save_model(model, path, texts, in_half):
    """Writes an `openvino.Model`; arguments and errors are those of `save`."""
    openvino = need("openvino", "An OpenVINO model")
    model.set_rt_info(json.dumps(texts), [KEY])
    openvino.save_model(model, os.fspath(path), compress_to_fp16=in_half)
