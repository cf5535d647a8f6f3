"""`export()`: a model becomes a file that other programs run, proven equal to it."""

import dataclasses
import os
from pathlib import Path

from keras_convnext import checks
from keras_convnext.atomic import replacing
from keras_convnext.export.packages import find

FORMATS = {".onnx": "onnx"}  # by the end of the name


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: of the file, or folder.
        format: "onnx", ...
        bytes: its size.
        difference: the largest difference between the file's and the model's outputs, relative to
            the largest output; `None` where nothing was compared.
        note: why nothing was compared, or `None`.
        metadata: what the file says about itself, `{key: str}`.
    """

    path: Path
    format: str
    bytes: int
    difference: float | None
    note: str | None
    metadata: dict


def export(
    model,
    path,
    *,
    input_shape=None,
    input_dtype=None,
    preprocessing=True,
    softmax=None,
    images=None,
    check=True,
):
    """Writes a model into a file that runs without Keras, and compares the two.

        export(Classifier("convnext_tiny.fb_in1k"), "tiny.onnx")
        export(model, "model.onnx", input_shape=(None, None, 3))

    `.onnx` is written straight from the layers, with the package onnx alone; the file is the same
    from every backend, takes any batch, and any height and width where `input_shape` leaves them
    free. It holds the normalisation of the images, the names of the classes, the transform, and the
    licence of the weights: `keras-convnext run model.onnx photo.jpg` needs nothing else.

    Args:
        model: a `Classifier`; or a functional or sequential `keras.Model` with one input, of the
            layers of this package and of Keras'. Layers that are not known are refused by name.
        path: of the file, whose end says the format. An existing file is replaced, and only once
            the new one is complete.
        input_shape: of one input, without the batch; `None` for sizes that are free:
            `(None, None, 3)`. Default: that of the model.
        input_dtype: `"uint8"` or `"float32"`. Default: uint8 where the model takes images of range
            [0, 255] and normalises them.
        preprocessing: whether the file normalises images; without, it takes normalised ones in
            float32, and says with which mean and std.
        softmax: `True`: the file ends with probabilities; `False`: with logits; `None`: as the
            model does.
        images: array of real images `(n, height, width, channels)` as the model takes them, to
            compare with beside random ones.
        check: whether the file is compared with the model. It needs the package onnxruntime; where
            that is missing, the returned `note` says so.

    Returns:
        An `Exported`.

    Raises:
        ExportError: (a ValueError) if a part of the model cannot be written.
        ProofError: (a ValueError) if the file computes something else. Then nothing is written.
        ValueError: if an argument has a value that is not allowed.
        TypeError: if `model` is none.
        MissingPackageError: (an ImportError) if a package is missing.
        OSError: if the file cannot be written.
    """
    path = Path(os.fspath(path))
    checks.one_of("check", check, (True, False))
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"`path` must end in one of {', '.join(FORMATS)}, received {str(path)!r}.")
    from keras_convnext.export.plan import plan_of  # Keras, once it is needed

    plan = plan_of(model, input_shape, input_dtype, preprocessing, softmax)
    with replacing(path) as draft:
        difference, note = _written(plan, draft, images, check)
        size = draft.stat().st_size
    return Exported(path, FORMATS[path.suffix.lower()], size, difference, note, plan.metadata)


def _written(plan, draft, images, check):
    """Writes a file; returns its difference from the model and why there is none, one of them."""
    from keras_convnext.export import onnx_file, proof, runners

    onnx_file.save(onnx_file.model_of(plan), draft)
    if not check:
        return None, "not compared with the model, as asked for"
    if find("onnxruntime") is None:
        return None, "not compared with the model: `pip install onnxruntime`, which runs the file"
    return proof.proven(plan, runners.opened(draft), images), None
