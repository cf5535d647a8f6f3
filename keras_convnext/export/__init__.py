"""Models as files that other programs run: written, proven equal to the model, and run.

    from keras_convnext.export import ExportedClassifier, ExportedDetector, export

    export(classifier, "tiny.onnx")
    ExportedClassifier("tiny.onnx")("photo.jpg")   # without Keras

    export(Detector("mask_rcnn_convnext_tiny"), "detector.onnx")
    ExportedDetector("detector.onnx")("photo.jpg")

In a program that has neither this package nor Keras:

    import json, onnxruntime

    session = onnxruntime.InferenceSession("tiny.onnx")
    said = session.get_modelmeta().custom_metadata_map  # what these are: export/metadata.py
    (outputs,) = session.run(None, {"image": pixels})  # uint8 (n, 224, 224, 3)
    answers = [json.loads(said["names"])[best] for best in outputs.argmax(-1)]

See `export/exporting.py`. `export_for` writes whole folders: a web page that classifies photos, or
what a model server takes; see `export/folders.py`.
"""

import importlib

from keras_convnext.export.exporting import Exported, export
from keras_convnext.export.folders import export_for
from keras_convnext.export.packages import MissingPackageError

LATER = {"ExportedClassifier": "running", "ExportedDetector": "detecting"}  # which need Pillow

__all__ = ["Exported", *LATER, "MissingPackageError", "export", "export_for"]


def __getattr__(name):
    if name not in LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{LATER[name]}"), name)
