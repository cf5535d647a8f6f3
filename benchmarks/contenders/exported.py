"""Our model as an ONNX file, and the runtimes that take it. Batch and size are fixed.

`python -m benchmarks.contenders.exported CONFIGURATION PATH` writes the file: `model.export` on
Keras' PyTorch backend, always in float32. bfloat16 is what a runtime makes of it.
"""

import contextlib
import json
import sys

from benchmarks.configuration import Configuration, Unsupported
from benchmarks.contenders import images


def write(configuration, path):
    import keras

    import keras_convnext

    size = configuration.size
    model = keras_convnext.ConvNeXt(
        configuration.variant,
        include_preprocessing=False,
        input_shape=(size, size, 3),
        classifier_activation=None,
    )
    spec = keras.InputSpec(shape=(configuration.batch, size, size, 3), dtype="float32")
    model.export(path, format="onnx", verbose=False, input_signature=[spec])


def onnxruntime(configuration):
    if configuration.dtype != "float32":
        raise Unsupported(f"ONNX Runtime has no {configuration.dtype} on CPUs")
    import onnxruntime as library

    session = library.InferenceSession(
        configuration.export, providers=library.get_available_providers()
    )
    x, _ = images.batch(configuration)
    name = session.get_inputs()[0].name
    return lambda: session.run(None, {name: x})[0]


def openvino(configuration):
    import openvino as library

    model = compiled_by_openvino(library.Core(), configuration.export, configuration.dtype)
    x, _ = images.batch(configuration)
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
    with contextlib.redirect_stdout(sys.stderr):
        write(Configuration(**json.loads(sys.argv[1])), sys.argv[2])
    print(json.dumps({"written": sys.argv[2]}))
