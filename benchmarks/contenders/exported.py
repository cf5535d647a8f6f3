"""Our model and the peers' as ONNX files, and the runtimes that take them.

`python -m benchmarks.contenders.exported CONFIGURATION KIND` writes a file into the folder that the
configuration names: "ours", by `keras_convnext.export`; "int8", the same in int8, calibrated on
random images; "transformers" and "timm", by PyTorch's exporter. All take images that are
normalised, in any number, and return logits. bfloat16 is what a runtime makes of float32.
"""

import contextlib
import json
import sys
from pathlib import Path

from benchmarks.configuration import Configuration, Unsupported
from benchmarks.contenders import images, pytorch_models

CALIBRATION = 32  # images
PEERS = ("transformers", "timm")


def file_of(configuration, kind):
    """Returns the path of the ONNX file of that kind."""
    name = f"{kind}-{configuration.variant}-{configuration.size}-{configuration.batch}.onnx"
    return Path(configuration.folder) / name


def _ours(configuration, path, **options):
    import keras_convnext
    from keras_convnext.export import export

    size = configuration.size
    model = keras_convnext.ConvNeXt(
        configuration.variant,
        include_preprocessing=False,
        input_shape=(size, size, 3),
        classifier_activation=None,
    )
    return export(model, path, check=False, **options)


def _int8(configuration, path):
    import numpy as np

    shape = (CALIBRATION, configuration.size, configuration.size, 3)
    calibration = np.random.default_rng(1).standard_normal(shape, "float32")
    made = _ours(configuration, path, quantize="int8", calibration=calibration)
    if left := made.agreement.left_in_float:
        path.unlink()
        raise Unsupported(f"these blocks stayed in float: {', '.join(left)}")


def _transformers(configuration, path):
    import torch

    class Logits(torch.nn.Module):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, images):
            return self.model(images).logits

    _by_pytorch(Logits(pytorch_models.transformers_model(configuration)), configuration, path)


def _timm(configuration, path):
    _by_pytorch(pytorch_models.timm_model(configuration), configuration, path)


def _by_pytorch(model, configuration, path):
    """Writes a `torch.nn.Module` as an ONNX file with a free batch and channels first."""
    import torch

    size = configuration.size
    images = torch.zeros(2, 3, size, size)
    free = ({0: torch.export.Dim.DYNAMIC},)
    torch.onnx.export(model.eval(), (images,), str(path), dynamo=True, dynamic_shapes=free)


WRITERS = {"ours": _ours, "int8": _int8, "transformers": _transformers, "timm": _timm}


def onnxruntime(configuration, kind):
    if configuration.dtype != "float32":
        raise Unsupported(f"ONNX Runtime has no {configuration.dtype} on CPUs")
    import onnxruntime as library

    session = library.InferenceSession(
        str(file_of(configuration, kind)), providers=library.get_available_providers()
    )
    x, _ = images.batch(configuration, channels_first=kind in PEERS)
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})[0]


def openvino(configuration, kind):
    import openvino as library

    path = file_of(configuration, kind)
    model = compiled_by_openvino(library.Core(), path, configuration.dtype)
    x, _ = images.batch(configuration, channels_first=kind in PEERS)
    return lambda: model(x)[0]


def compiled_by_openvino(core, model, dtype):
    """Returns an OpenVINO model, given a model or its file, compiled for one request at a time.

    Raises:
        Unsupported: if it cannot compute in that dtype here.
    """
    precision = {"float32": "f32", "bfloat16": "bf16"}.get(dtype)
    settings = {"INFERENCE_PRECISION_HINT": precision, "PERFORMANCE_HINT": "LATENCY"}
    if precision is None:
        raise Unsupported(f"OpenVINO has no {dtype} on CPUs")
    compiled = core.compile_model(model, "CPU", settings)
    taken = compiled.get_property("INFERENCE_PRECISION_HINT").get_type_name()
    if taken != precision:
        raise Unsupported(f"OpenVINO takes {taken} in place of {precision} on this processor")
    return compiled


if __name__ == "__main__":
    wanted, kind = Configuration(**json.loads(sys.argv[1])), sys.argv[2]
    with contextlib.redirect_stdout(sys.stderr):
        WRITERS[kind](wanted, file_of(wanted, kind))
    print(json.dumps({"written": kind}))
