"""Answers from an exported file alone, by what it says about itself. Nothing here needs Keras."""

import os

from keras_convnext.checks import integer
from keras_convnext.export import metadata, runners
from keras_convnext.export.metadata import DescriptionError
from keras_convnext.labels import checked_names
from keras_convnext.predictions import ACTIVATIONS, Predictor, of_classes
from keras_convnext.preprocessing import EvalTransform

LARGEST_COUNT = 2**24  # of classes


class ExportedClassifier(Predictor):
    """A classifier in an exported file: photos in, names of classes out, without Keras.

    Called like a `Classifier`, and with the same answers.

    Args:
        path: of a file that `export` has written for a `Classifier`; or that file, opened by
            `runners.opened`.
        batch_size: images that the model sees at once.

    Attributes:
        name: the path, for messages.
        transform: the `EvalTransform`.
        classes: their number.
        description: all that the file says about itself, a dict; see `export/metadata.py`.

    Raises:
        DescriptionError: (a ValueError) if the file does not say what it takes and returns, or is
            no classifier.
        ValueError: if the file cannot be loaded.
        FileNotFoundError: if there is no such file.
        MissingPackageError: (an ImportError) without the package that runs it.

    Example:
        # pip install "keras-convnext[onnx]"
        from keras_convnext import Classifier
        from keras_convnext.export import ExportedClassifier, export
        export(Classifier("convnext_tiny.fb_in1k"), "tiny.onnx")
        answer = ExportedClassifier("tiny.onnx")  # in a program without Keras, too
        print(answer("photo.jpg")[0].name)
    """

    def __init__(self, path, *, batch_size=32):
        self.batch_size = integer("batch_size", batch_size, 1)
        self._run = path if callable(path) else runners.opened(path)
        self.name = os.fspath(self._run.path)
        found = self._run.texts, self.name
        self.description = metadata.of_task(*found, "classification", "classifier")
        if len(self._run.names) != 1:
            raise DescriptionError(
                f"{self.name} returns {len(self._run.names)} outputs: a classifier returns one."
            )
        self.transform = self._transform()
        self.classes = self._checked("classes", self._is_count)
        self._activation = self._checked("activation", ACTIVATIONS.__contains__)
        self._input = self._checked("input", _is_input)
        self._channels = self._input["channels"]
        self._known_names = self._names()

    def _checked(self, key, holds):
        return metadata.checked(self.description, key, self.name, holds)

    def _damaged(self, key):
        return metadata.damaged(key, self.name)

    @staticmethod
    def _is_count(value):
        return 0 < value <= LARGEST_COUNT

    def _transform(self):
        given = self._checked("transform", bool)
        try:
            transform = EvalTransform(**given)
        except (TypeError, ValueError):
            raise self._damaged("transform") from None
        if max(transform.size, transform.short_side) > metadata.LARGEST_SIDE:
            raise self._damaged("transform")
        return transform

    def _names(self):
        names, ids = self.description.get("names"), self.description.get("ids")
        if names is None:
            return None
        pairs = zip(ids or [None] * len(names), names, strict=False)
        try:
            found = checked_names([list(pair) for pair in pairs])
        except ValueError:
            raise self._damaged("names") from None
        if len(found) != self.classes:
            raise self._damaged("names")
        return found

    def of_pixels(self, pixels, fill=False):
        """The probabilities of images that went through the transform.

        Args:
            pixels: array `(n, size, size, channels)` in [0, 255], such as of `pixels`.
            fill: has no effect: the file takes any number of images.

        Returns:
            float32 array `(n, classes)`.

        Raises:
            ValueError: if an output is not finite, or there are others than of the classes.
        """
        pixels = metadata.normalised(pixels, self._input)
        if self._input["layout"] == "NCHW":
            pixels = pixels.transpose(0, 3, 1, 2)
        (found,) = self._run(pixels).values()
        self._check_finite(found)
        found = of_classes(found, self._activation, self.classes)
        if found.shape != (len(pixels), self.classes):
            raise self._damaged("classes")
        return found


def _is_input(value):
    """Returns whether an entry "input" says what images the file takes."""
    channels = value.get("channels")
    known = channels in (1, 3) and value.get("layout") in ("NHWC", "NCHW")
    if value.get("range") == [0, 255]:
        return known and "mean" not in value and "std" not in value
    moments = value.get("mean"), value.get("std")
    return known and all(
        isinstance(part, list)
        and len(part) == channels
        and all(isinstance(number, float) for number in part)
        for part in moments
    )
