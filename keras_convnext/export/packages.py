"""Packages that an export needs and the rest of the library does not."""

import importlib

EXTRAS = {"onnx": "onnx", "onnxruntime": "onnx", "openvino": "openvino", "nncf": "openvino"}


class MissingPackageError(ImportError):
    """A package that this format or this step needs is not installed.

    Example:
        from keras_convnext import ConvNeXtTiny
        from keras_convnext.export import MissingPackageError, export
        try:
            export(ConvNeXtTiny(), "tiny.onnx")
        except MissingPackageError as error:
            print(error)  # names the package, and how it is installed
    """


def need(module, purpose):
    """Returns an imported module of a package that may be missing.

    Args:
        module: its name, for example "onnxruntime.quantization".
        purpose: what it is needed for, the beginning of a sentence: "An ONNX file".

    Raises:
        MissingPackageError: (an ImportError) if the package is not installed.
    """
    package = module.partition(".")[0]
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] != package:
            raise
        extra = EXTRAS.get(package)
        ours = f', or `pip install "keras_convnext[{extra}]"`' if extra else ""
        raise MissingPackageError(
            f"{purpose} needs the package {package!r}, which is not installed: "
            f"`pip install {package}`{ours}."
        ) from None


def find(module):
    """Returns an imported module, or `None` where its package is not installed."""
    try:
        return need(module, "This")
    except MissingPackageError:
        return None
