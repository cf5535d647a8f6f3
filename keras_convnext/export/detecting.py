"""Objects on photos by an exported file alone. Nothing here needs Keras."""

import os

import numpy as np

from keras_convnext.detection.class_names import given_classes
from keras_convnext.detection.photos import CANVASES, PhotoDetector
from keras_convnext.detection.settings import MULTIPLE, SHAPE
from keras_convnext.export import metadata, runners
from keras_convnext.export.metadata import LARGEST_SIDE, DescriptionError

LARGEST_COUNT = 2**20  # of classes
OUTPUTS = {"boxes": (4,), "scores": (), "labels": ()}  # and their axes behind batch and objects


class ExportedDetector(PhotoDetector):
    """A detector in an exported file: photos in, `Detections` out, without Keras.

    Called like a `Detector`, and with the same answers.

    Args:
        path: of a file that `export` has written for a `Detector`; or that file, opened by
            `runners.opened`.
        size, threshold, canvas, labels, upright: as of `Detector`. Default: those of the exported
            one.
        batch_size: photos that the model sees at once, in `batch`.

    Attributes:
        name: the path, for messages.
        names, categories: as of `Detector`.
        description: all that the file says about itself, a dict; see `export/metadata.py`.

    Raises:
        DescriptionError: (a ValueError) if the file does not say what it takes and returns, or is
            no detector.
        ValueError: if an argument is out of its range, or the file cannot be loaded.
        FileNotFoundError: if there is no such file.
        MissingPackageError: (an ImportError) without the package that runs it.

    Example:
        # pip install "keras-convnext[onnx]"
        from keras_convnext.detection import Detector, MaskRCNNConvNeXtTiny
        from keras_convnext.export import ExportedDetector, export
        model = MaskRCNNConvNeXtTiny("coco", masks=False)
        export(Detector(model, size=(320, 533)), "detector.onnx")
        detect = ExportedDetector("detector.onnx")  # in a program without Keras, too
        detect("photo.jpg").draw("photo.jpg").save("seen.png")
    """

    def __init__(
        self,
        path,
        *,
        size=None,
        threshold=None,
        labels=None,
        canvas=None,
        batch_size=1,
        upright=None,
    ):
        self._run = path if callable(path) else runners.opened(path)
        self.name = os.fspath(self._run.path)
        self.description = metadata.of_task(self._run.texts, self.name, "detection", "detector")
        said = self._checked("detector", _is_description)
        self.size = tuple(said["size"] if size is None else size)
        self.threshold = said["threshold"] if threshold is None else threshold
        self.canvas = said["canvas"] if canvas is None else canvas
        self.upright = said["upright"] if upright is None else upright
        self.padding, self.batch_size = tuple(said["padding"]), batch_size
        self.check_arguments()
        self._input = self._checked("input", _is_input)
        self._classes = self._checked("classes", lambda count: 0 < count <= LARGEST_COUNT)
        self.names, self.categories = self._named() if labels is None else self._given(labels)

    def _checked(self, key, holds):
        return metadata.checked(self.description, key, self.name, holds)

    def _named(self):
        """Returns the names and ids of the classes that the file says."""
        count = self._classes
        names = self.description.get("names", [f"class {number}" for number in range(count)])
        ids = self.description.get("categories", [*range(1, count + 1)])
        if len(names) != count or not all(isinstance(name, str) for name in names):
            raise metadata.damaged("names", self.name)
        known = {number for number in ids if type(number) is int and 0 <= number < 2**63}
        if len(ids) != count or len(known) != count:
            raise metadata.damaged("categories", self.name)
        return tuple(names), tuple(ids)

    def _given(self, labels):
        classes = given_classes(labels)
        if len(classes) != self._classes:
            raise ValueError(
                f"`labels` names {len(classes)} classes, the model has {self._classes}."
            )
        ids, names = zip(*classes, strict=True)
        return names, ids if None not in ids else tuple(range(1, len(ids) + 1))

    def outputs_of(self, images, shapes):
        images = metadata.normalised(images, self._input)
        if self._input["dtype"] == "uint8":
            images = np.rint(images)
        found = self._run(images, **{SHAPE: shapes})
        count = found["scores"].shape[1:2] if "scores" in found else ()
        for name, axes in OUTPUTS.items():
            if name not in found or found[name].shape != (len(images), *count, *axes):
                raise DescriptionError(f"{self.name}: it does not return the {name} of a detector.")
        if (found["labels"] >= self._classes).any():
            raise metadata.damaged("classes", self.name)
        return found

    def check_sound(self, boxes):
        if not np.isfinite(boxes).all():
            raise ValueError(f"{self.name} gives boxes that are NaN: it is damaged.")


def _is_description(value):
    """Returns whether an entry "detector" says how photos are prepared."""
    size, padding = value.get("size"), value.get("padding")
    return (
        _are(size, 2, int, MULTIPLE, LARGEST_SIDE)
        and _are(padding, 3, float, 0, 255)
        and _are([value.get("threshold")], 1, (int, float), 0, 1)
        and value.get("canvas") in CANVASES
        and value.get("upright") in (True, False)
    )


def _are(values, count, kind, least, most):
    """Returns whether a value is a list of so many numbers of some kind within limits."""
    return (
        isinstance(values, list)
        and len(values) == count
        and all(isinstance(one, kind) and least <= one <= most for one in values)
    )


def _is_input(value):
    """Returns whether an entry "input" says what images the file takes."""
    fits = (value.get("layout"), value.get("channels")) == ("NHWC", 3)
    if value.get("range") == [0, 255]:
        return fits and value.get("dtype") in ("uint8", "float32") and "mean" not in value
    moments = (value.get(key) for key in ("mean", "std"))
    return (
        fits
        and value.get("dtype") == "float32"
        and all(_are(part, 3, float, -1e6, 1e6) for part in moments)
    )
