"""`export()`: a model becomes a file that other programs run, proven equal to it."""

import dataclasses
import os
import tempfile
from pathlib import Path

from keras_convnext import checks
from keras_convnext.export import placing
from keras_convnext.export.packages import find

OURS = {".onnx": "ONNX", ".xml": "OpenVINO"}  # by the end of the name
OF_KERAS = {".tflite": "LiteRT", ".pt2": "PyTorch", "": "SavedModel"}  # whose exporters write them
FORMATS = OURS | OF_KERAS
ENDS = f"{', '.join(filter(None, FORMATS))}, or nothing for the folder of a SavedModel"
RUNS = {".onnx": "onnxruntime", ".xml": "openvino"}  # what runs the file
DTYPES = ("float32", "float16")
NOT_ASKED = "not compared with the model, as asked for"
ROUGH = "not compared: the model computes in half precision, which moves boxes; the file does not"


@dataclasses.dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        path: of the file or folder.
        format: "ONNX", "OpenVINO", "LiteRT", "PyTorch" or "SavedModel".
        bytes: its size, with all files that belong to it.
        difference: the largest difference between the file's and the model's outputs, relative to
            the largest output; `None` where nothing was compared. Of a detector it is that of the
            detections that are equal, which all but a few are. Of a quantized file it is that of
            the file before the quantization.
        note: why nothing was compared, or `None`.
        agreement: of a quantized file with the file before the quantization, an `Agreement`; else
            `None`.
        metadata: what the file says about itself, `{key: str}`.

    Example:
        # pip install "keras-convnext[onnx]"
        from keras_convnext import ConvNeXtTiny
        from keras_convnext.export import export
        done = export(ConvNeXtTiny(), "tiny.onnx")
        done.format  # "ONNX"
        done.difference < 1e-4  # True
    """

    path: Path
    format: str
    bytes: int
    difference: float | None
    note: str | None
    agreement: object
    metadata: dict


def export(
    model,
    path,
    *,
    input_shape=None,
    input_dtype=None,
    preprocessing=True,
    softmax=None,
    dtype="float32",
    quantize=None,
    calibration=None,
    images=None,
    check=True,
):
    """Writes a model into a file that runs without Keras, and compares the two.

        export(Classifier("convnext_tiny.fb_in1k"), "tiny.onnx")
        export(model, "model.onnx", input_shape=(None, None, 3))
        export(classifier, "small.onnx", quantize="int8", calibration="photos/")
        export(Detector("mask_rcnn_convnext_tiny"), "detector.onnx")

    `.onnx` is written straight from the layers, with the package onnx alone; the file is the same
    from every backend, takes any batch, and any height and width where `input_shape` leaves them
    free. It holds the normalisation of the images, the names of the classes, the transform, and the
    licence of the weights: `keras-convnext run model.onnx photo.jpg` needs nothing else. `.xml` is
    the same for OpenVINO, by the package openvino; its numbers are in a `.bin` beside it.

    `.tflite` (LiteRT), `.pt2` (PyTorch) and a folder (SavedModel) are written by Keras' exporters,
    as the model is, with a free batch, and for float32 images. They need TensorFlow, or PyTorch; on
    another backend a process of its own does it. They hold neither the transform nor the classes.

    A detector becomes an `.onnx` or `.xml` file in float32. It takes images of any size that is a
    multiple of 32 and returns what `DetectionModel` returns. Two more inputs, which may be left out
    in ONNX, are "image_shape" `(batch, 2)`, height and width of each image without its padding, and
    "score_threshold" `(1,)`, by default that of the model's settings.

    Args:
        model: a `Classifier` or `Detector`; a `DetectionModel`; or a functional or sequential
            `keras.Model` with one input, of the layers of this package and of Keras'. Layers that
            are not known are refused by name.
        path: of the file; the end of its name says the format. An existing file is replaced,
            together with the numbers beside it, and only once the new one is complete.
        input_shape: of one input, without the batch; `None` for sizes that are free:
            `(None, None, 3)`. Default: that of the model.
        input_dtype: `"uint8"` or `"float32"`. Default: uint8 where the model takes images of range
            [0, 255] and normalises them; float32 for detectors, whose images are padded with the
            mean colour.
        preprocessing: whether the file normalises images; without, it takes normalised ones in
            float32, and says with which mean and std.
        softmax: `True`: the file ends with probabilities; `False`: with logits; `None`: as the
            model does.
        dtype: `"float32"`, or `"float16"`, half as large. Input and outputs stay as they are.
        quantize: `None`, or `"int8"`: products and convolutions are computed in int8, which makes
            the file smaller. Blocks that would change the answers too often stay in float. For
            `.xml` it needs the package nncf.
        calibration: with `quantize`: 100 to 500 images like those that will come; array `(n,
            height, width, channels)` as the model takes them, for a `Classifier` also a list of
            images or a folder.
        images: real images, given as for `calibration`: the file and the model are compared on
            these as well as on random ones, and a quantized file is compared on these in place of
            `calibration`. Of a folder with a folder per class, called by its name or WordNet id,
            the accuracy is measured as well. For a `Detector`, a list of images or a folder.
        check: whether the file is compared with the model. It needs the package that runs it;
            where that is missing, the returned `note` says so.

    Returns:
        An `Exported`.

    Raises:
        ExportError: (a ValueError) if a part of the model cannot be written.
        ProofError: (a ValueError) if the file computes something else. Then nothing is written.
        ValueError: if an argument has a value that is not allowed.
        TypeError: if `model` is no Keras model, `Classifier` or `Detector`.
        MissingPackageError: (an ImportError) if a package is missing.
        FileExistsError: (an OSError) if the file of numbers (`.bin`, `.onnx.data`) exists without
            its model, or a SavedModel is to go where a file, or a folder of other files, is.
        OSError: if the file cannot be written.

    Example:
        # pip install "keras-convnext[onnx]"
        from keras_convnext import Classifier
        from keras_convnext.export import export
        done = export(Classifier("convnext_tiny.fb_in1k"), "tiny.onnx")
        print(done.path, done.difference)
    """
    path = Path(os.fspath(path))
    check_arguments(path, dtype, quantize, calibration)
    if path.suffix.lower() in OF_KERAS:
        check_plain(path, input_dtype, preprocessing, softmax, dtype, quantize)
    checks.one_of("check", check, (True, False))
    placing.check(path)
    from keras_convnext.export import images as taken  # Keras, once it is needed
    from keras_convnext.export.plan import plan_of

    plan = plan_of(model, input_shape, input_dtype, preprocessing, softmax)
    if plan.is_detector:
        check_detector(path, dtype, quantize)
    truth = taken.classes_in(model, calibration if images is None else images)
    images = None if images is None else taken.as_model_takes_them(model, plan, images)
    if calibration is not None:
        calibration = taken.as_model_takes_them(model, plan, calibration)
    work = _Work(plan, dtype, calibration, images, check, truth)
    with placing.drafts(path) as draft:
        (work.write if path.suffix.lower() in OURS else work.write_by_keras)(draft)
        size = placing.size_of(draft)
    facts = size, work.difference, work.note, work.agreement
    return Exported(path, FORMATS[path.suffix.lower()], *facts, plan.metadata)


def check_arguments(path, dtype, quantize, calibration):
    """Raises the ValueError of arguments that contradict each other; see `export`."""
    if path.suffix.lower() not in FORMATS:
        raise ValueError(f"`path` must end in {ENDS}; received {str(path)!r}.")
    checks.one_of("dtype", dtype, DTYPES)
    checks.one_of("quantize", quantize, (None, "int8"))
    if (quantize is None) != (calibration is None):
        raise ValueError(
            "`quantize='int8'` and `calibration`, images that give the ranges of numbers, belong "
            "together: give both, or none of them."
        )
    if quantize and dtype != "float32":
        raise ValueError("`quantize='int8'` begins from float32: omit `dtype='float16'`.")


def check_plain(path, input_dtype, preprocessing, softmax, dtype, quantize):
    """Raises the ValueError of arguments that Keras' own exporters have no way to follow."""
    given = {
        "input_dtype": input_dtype == "uint8",
        "preprocessing": preprocessing is not True,
        "softmax": softmax is not None,
        "dtype": dtype != "float32",
        "quantize": quantize is not None,
    }
    if names := [f"`{name}`" for name, is_given in given.items() if is_given]:
        raise ValueError(
            f"{path.name}: Keras writes a {OF_KERAS[path.suffix.lower()]} as the model is, with "
            f"float32 images: omit {', '.join(names)}, or write one of {', '.join(OURS)}."
        )


def check_detector(path, dtype, quantize):
    """Raises the ValueError of what is not written of a detector."""
    kind = path.suffix.lower()
    if kind in OF_KERAS:
        raise ValueError(
            f"{path.name}: a detector is not written as {OF_KERAS[kind]}, whose exporters cannot "
            f"follow its boxes: write one of {', '.join(OURS)}."
        )
    if quantize is not None or dtype != "float32":
        raise ValueError(
            f"{path.name}: a detector is written in float32, as smaller numbers move its boxes: "
            "omit `quantize`, `calibration` and `dtype`."
        )


@dataclasses.dataclass
class _Work:
    """The steps from a plan to a file, and what they find out: see `Exported`."""

    plan: object
    dtype: str
    calibration: object
    images: object
    check: bool
    truth: object
    difference: float | None = None
    note: str | None = None
    agreement: object = None

    def write(self, draft):
        """Writes the file at `draft`, and compares it."""
        with tempfile.TemporaryDirectory(dir=draft.parent.parent) as folder:
            if self.calibration is None:
                self._write_float(draft, Path(folder))
                self._prove(draft)
            else:
                self._quantize(draft, Path(folder))

    def _write_float(self, path, folder, keeps_products=False):
        """Writes the file as it is without a quantization, with the help of a folder."""
        from keras_convnext.export import onnx_file

        source = folder / path.with_suffix(".onnx").name
        onnx_file.save(self._onnx_model(path, keeps_products), source)
        if path.suffix.lower() == ".xml":
            from keras_convnext.export import openvino_file

            openvino_file.save(source, path, self.plan.metadata, self.dtype == "float16")
        elif path != source:
            self._move(source, path)

    @staticmethod
    def _move(source, target):
        numbers = placing.companion(source)
        if numbers.exists():
            os.replace(numbers, placing.companion(target))
        os.replace(source, target)

    def _onnx_model(self, draft, keeps_products):
        from keras_convnext.export import onnx_file
        from keras_convnext.export.float16 import in_float16
        from keras_convnext.export.graph.rules import ExportError

        # OpenVINO would take what may be left out for constants
        optional = draft.suffix.lower() == ".onnx"
        model = onnx_file.model_of(self.plan, optional, keeps_products)
        in_half = self.dtype == "float16" and draft.suffix.lower() == ".onnx"  # OpenVINO does it
        if (in_half or self.calibration is not None) and onnx_file.is_large(model):
            raise ExportError(
                f"{self.plan.model.name} has more than 2 GB of numbers, from which neither float16 "
                "nor int8 is made here: write it in float32, or as `.xml` with `dtype='float16'`."
            )
        return in_float16(model) if in_half else model

    def write_by_keras(self, draft):
        """Writes the file at `draft` by Keras' own exporter, and compares it."""
        from keras_convnext.export import proof, through_keras

        plan, images = dataclasses.replace(self.plan, dtype="float32"), None
        if self.check:
            images = proof.images_for(self.plan, self.images)
        made = through_keras.save(plan.model, draft, plan.shape, images)
        if images is None:
            self.note = NOT_ASKED
            return
        found = dict(zip(sorted(plan.outputs), made, strict=True))
        found = {name: found[name] for name in plan.outputs}
        self.difference = proof.within(plan, found, proof.outputs_of_model(plan, images))

    def _prove(self, path):
        package = RUNS[path.suffix.lower()]
        if not self.check:
            self.note = NOT_ASKED
        elif find(package) is None:
            self.note = f"not compared with the model: `pip install {package}`, which runs the file"
        else:
            self._compare(path)

    def _compare(self, path):
        """Compares the file with the model."""
        from keras_convnext.export import matching, proof, runners

        if not self.plan.is_detector:
            bound = proof.FLOAT16_BOUND if self.dtype == "float16" else None
            self.difference = proof.proven(self.plan, runners.opened(path), self.images, bound)
        elif proof.is_rough(self.plan.model):
            self.note = ROUGH
        else:
            self.difference = matching.proven(self.plan, runners.opened(path), self.images)

    def _quantize(self, draft, folder):
        """Writes the int8 form of the file at `draft`, and compares both.

        It is made from products, which are faster in int8, and compared with the float file that
        one would have else, of convolutions.
        """
        from keras_convnext.export import quantization

        images = self.calibration if self.images is None else self.images
        ranges, compared = map(self.plan.normalised, (self.calibration, images))
        has_classes = self.plan.metadata["task"] in ("classification", "segmentation")
        kinds = ("float", "products", "int8")
        whole, products, target = (folder / f"{kind}{draft.suffix}" for kind in kinds)
        self._write_float(whole, folder)
        self._write_float(products, folder, keeps_products=True)
        self._prove(whole)
        left = quantization.quantize(products, target, ranges, compared, has_classes)
        self._move(target, draft)
        files = whole, draft
        self.agreement = quantization.agreement(*files, compared, has_classes, left, self.truth)
