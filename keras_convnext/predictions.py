"""From outputs to answers: probabilities, and the names of the best classes of images.

`Predictor` is what a `Classifier` and an exported file have in common; nothing here needs Keras.
"""

import os
from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
from PIL import Image

from keras_convnext import labels as label_sets
from keras_convnext.checks import integer, one_of
from keras_convnext.images import SUFFIXES, ImageError, images_in

ACTIVATIONS = ("none", "softmax", "sigmoid")
TOLERANCE = 1e-2  # of a sum of probabilities, also in half precision
SINGLE = (str, os.PathLike, bytes, bytearray, memoryview, Image.Image)


class Prediction(NamedTuple):
    """A class of an image.

    Fields:
        name: of the class; "class 7" where no names are known.
        probability: in [0, 1].
        index: of the class, from 0.
        id: the WordNet id of an ImageNet class, for example "n02123159", or `None`.

    Example:
        from keras_convnext.classifier import Prediction
        found = Prediction("tabby", probability=0.75, index=281, id="n02123045")
        f"{found.name}: {found.probability:.0%}"  # "tabby: 75%"
    """

    name: str
    probability: float
    index: int
    id: str | None = None


class Predictor:
    """Answers for images, from the probabilities of their classes.

    A subclass has `name`, `batch_size`, `transform`, `classes`, `_channels` (of the images) and
    `_known_names` (`(id or None, name)` of each class, or `None`), and the method `of_pixels`.
    """

    def __call__(self, images, top=5):
        """The best classes of images.

        Args:
            images: an image, that is anything that `load_image` takes; a list of images or an array
                `(n, height, width, channels)`; or the path of a folder, whose images are taken with
                those of the folders below.
            top: how many classes, >= 1; at most all are given.

        Returns:
            For one image a list of `Prediction`s, the best first; for several a list of such lists;
            for a folder a dict from the paths (str) to such lists.

        Raises:
            ImageError: (a ValueError) if an image cannot be read; the message names it.
            ValueError: if a folder has no images.
        """
        integer("top", top, 1)
        if _is_folder(images):
            paths = _images_in(images)
            rows = self.probabilities(paths)
            pairs = zip(paths, rows, strict=True)
            return {str(path): self.best(row, top) for path, row in pairs}
        found = self.probabilities(images)
        return self.best(found, top) if found.ndim == 1 else [self.best(row, top) for row in found]

    def probabilities(self, images):
        """The probabilities of all classes.

        Args:
            images: as above.

        Returns:
            float32 array `(classes,)` for one image, `(n, classes)` for several or for a folder, in
            the order of its sorted paths.

        Raises:
            ImageError, ValueError: as above.
            TypeError: if `images` is none of these.
        """
        if _is_folder(images):
            images = _images_in(images)
        elif _is_single(images):
            return self.of_pixels(self.pixels(images)[None])[0]
        if not isinstance(images, Iterable):
            raise TypeError(
                "`images` must be an image, a list of images or the path of a folder, received "
                f"{type(images).__name__}."
            )
        images = list(images)
        parts = [
            self.of_pixels(self._batch(images, start), fill=len(images) > self.batch_size)
            for start in range(0, len(images), self.batch_size)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.classes), "float32")

    def _batch(self, images, start):
        part = images[start : start + self.batch_size]
        return np.stack([self._numbered(start + n, image) for n, image in enumerate(part)])

    def _numbered(self, number, image):
        try:
            return self.pixels(image)
        except ImageError as error:
            raise ImageError(f"images[{number}]: {error}") from error

    def pixels(self, image):
        """Returns an image as the model takes it, uint8 `(size, size, channels)`.

        Args:
            image: anything that `load_image` takes.

        Raises:
            ImageError: (a ValueError) if it cannot be read.
        """
        pixels = self.transform(image)
        if self._channels == 1:
            return np.asarray(Image.fromarray(pixels).convert("L"))[..., None]
        return pixels

    def _check_finite(self, outputs):
        if not np.isfinite(outputs).all():
            raise ValueError(f"{self.name} gives NaN or infinite outputs: its weights are damaged.")

    def best(self, probabilities, top=5):
        """Returns the `Prediction`s of the largest of `(classes,)` probabilities, best first."""
        return [
            Prediction(self.names[i][1], float(probabilities[i]), i, self.names[i][0])
            for i in label_sets.best_first(probabilities, top)
        ]

    @property
    def labels(self):
        """The names of the classes, a tuple of str in the order of the probabilities."""
        return tuple(name for _, name in self.names)

    @property
    def names(self):
        """`(id or None, name)` of each class; the id is that of WordNet."""
        if self.has_names:
            return self._known_names
        return tuple((None, f"class {index}") for index in range(self.classes))

    @property
    def has_names(self):
        """Whether the names of the classes are known; else their numbers stand for them."""
        return self._known_names is not None and len(self._known_names) == self.classes


def _is_folder(images):
    return isinstance(images, (str, os.PathLike)) and os.path.isdir(images)


def _images_in(folder):
    paths = images_in(folder)
    if not paths:
        raise ValueError(
            f"No images in {os.fspath(folder)!r}: looked for {' '.join(SUFFIXES)}, also in the "
            "folders within."
        )
    return paths


def _is_single(images):
    is_array = hasattr(images, "__array__") and not isinstance(images, (list, tuple))
    return isinstance(images, SINGLE) or (is_array and np.ndim(images) != 4)


def probabilities(outputs, activation):
    """Returns the probabilities that outputs stand for.

    Args:
        outputs: array `(n, classes)`.
        activation: "none", "softmax" or "sigmoid".

    Returns:
        float32 array `(n, classes)`.

    Raises:
        ValueError: if the activation is unknown.
    """
    one_of("activation", activation, ACTIVATIONS)
    outputs = np.asarray(outputs, "float64")
    if activation == "softmax":
        outputs = np.exp(outputs - outputs.max(-1, keepdims=True))
        outputs = outputs / outputs.sum(-1, keepdims=True)
    elif activation == "sigmoid":
        outputs = 0.5 * (1 + np.tanh(0.5 * outputs))  # without overflow
    return outputs.astype("float32")


def of_classes(outputs, activation, classes):
    """Returns the probabilities of all classes, where one output may tell two classes apart.

    Args:
        outputs, activation: as of `probabilities`.
        classes: their number.

    Returns:
        float32 array `(n, classes)`.
    """
    found = probabilities(outputs, activation)
    if found.shape[-1] == 1 and classes == 2:
        return np.concatenate([1 - found, found], -1)
    return found
