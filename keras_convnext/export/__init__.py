"""Models as files that other programs run: written, proven equal to the model, and run.

from keras_convnext.export import ExportedClassifier, export

export(classifier, "tiny.onnx")
ExportedClassifier("tiny.onnx")("photo.jpg")   # without Keras
"""

from keras_convnext.export.exporting import Exported, export
from keras_convnext.export.packages import MissingPackageError

__all__ = ["Exported", "ExportedClassifier", "MissingPackageError", "export"]


def __getattr__(name):
    if name != "ExportedClassifier":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from keras_convnext.export.running import ExportedClassifier  # Pillow, once it is needed

    return ExportedClassifier
