"""From photos to what a detector sees, and from what it finds to `Detections`.

Nothing here needs Keras: what runs the model, Keras or the file of an export, is left to a class
derived from `PhotoDetector`.
"""

from typing import NamedTuple

import numpy as np

from keras_convnext import checks
from keras_convnext.detection.detections import Detections
from keras_convnext.detection.resizing import canvas_of, fitted
from keras_convnext.detection.settings import MULTIPLE
from keras_convnext.images import ImageError, load_image

CANVASES = ("smallest", "fixed")
WAITING = 4  # batches of photos that may wait for others of their size


class _Photo(NamedTuple):
    number: int
    pixels: np.ndarray  # fitted
    size: tuple  # of the photo itself


class PhotoDetector:
    """A detector that is called with photos.

    Attributes:
        size, threshold, canvas, batch_size, upright: as of `Detector`.
        names: of the classes, a tuple of str.
        categories: ids of the classes in files of COCO's format, a tuple of int.
        padding: the colour of what a photo is padded with, three numbers in [0, 255].
    """

    def check_arguments(self):
        """Raises the ValueError of an argument that is out of its range."""
        checks.one_of("canvas", self.canvas, CANVASES)
        checks.one_of("upright", self.upright, (True, False))
        checks.integer("batch_size", self.batch_size, 1)
        checks.number("threshold", self.threshold, least=0, most=1)
        checks.integers("size", self.size, MULTIPLE, 2)

    def outputs_of(self, images, shapes):
        """Returns what the model returns, a dict of arrays; see `in_photo`.

        Args:
            images: float32 `(n, height, width, 3)` in [0, 255], sides that are multiples of 32.
            shapes: float32 `(n, 2)`, their height and width without the padding.
        """
        raise NotImplementedError

    def check_sound(self, boxes):
        """Raises a ValueError if the model is damaged: no boxes were found, or some are NaN."""
        raise NotImplementedError

    def __call__(self, image):
        """The objects on a photo.

        Args:
            image: anything that `keras_convnext.images.load_image` takes.

        Returns:
            `Detections`.

        Raises:
            ImageError: (a ValueError) if it cannot be read.
            ValueError: if weights of the model are NaN or infinite.
        """
        photo = self._photo(0, image)
        return self._detections(self._canvas_of(photo), [photo])[0]

    def batch(self, images):
        """The objects on several photos.

        Photos whose canvases are equal are seen together, `batch_size` at once; the result is that
        of one after the other.

        Args:
            images: an iterable of images, as above.

        Returns:
            list of `Detections`, in the order of the images.

        Raises:
            ImageError: (a ValueError) if one cannot be read; the message has its number.
        """
        found, waiting = {}, {}
        for number, image in enumerate(images):
            try:
                photo = self._photo(number, image)
            except ImageError as error:
                raise ImageError(f"images[{number}]: {error}") from error
            group = waiting.setdefault(self._canvas_of(photo), [])
            group.append(photo)
            full = len(group) == self.batch_size
            if full or sum(map(len, waiting.values())) >= WAITING * self.batch_size:
                canvas = max(waiting, key=lambda canvas: len(waiting[canvas]))
                found |= self._numbered(canvas, waiting.pop(canvas))
        for canvas, photos in waiting.items():
            found |= self._numbered(canvas, photos)
        return [found[number] for number in sorted(found)]

    def prepared(self, image):
        """Returns a photo as the model sees it: what `outputs_of` takes, for n = 1.

        Raises:
            ImageError: (a ValueError) if it cannot be read.
        """
        photo = self._photo(0, image)
        return self._on_canvas(self._canvas_of(photo), [photo])

    def _photo(self, number, image):
        image = load_image(image, self.upright)
        return _Photo(number, fitted(np.asarray(image), self.size), (image.height, image.width))

    def _canvas_of(self, photo):
        return canvas_of(photo.pixels.shape[:2], self.size if self.canvas == "fixed" else None)

    def _on_canvas(self, canvas, photos):
        images = np.broadcast_to(np.float32(self.padding), (len(photos), *canvas, 3)).copy()
        shapes = np.array([photo.pixels.shape[:2] for photo in photos], "float32")
        for image, photo in zip(images, photos, strict=True):
            image[: photo.pixels.shape[0], : photo.pixels.shape[1]] = photo.pixels
        return images, shapes

    def _numbered(self, canvas, photos):
        found = self._detections(canvas, photos)
        return {photo.number: one for photo, one in zip(photos, found, strict=True)}

    def _detections(self, canvas, photos):
        """Returns the `Detections` of photos that are put on canvases of one size."""
        count = len(photos)
        if self.canvas == "fixed":  # another number of photos would be compiled anew
            photos = photos + photos[:1] * (self.batch_size - count)
        images, shapes = self._on_canvas(canvas, photos)
        outputs = self.outputs_of(images, shapes)
        return [
            self.in_photo(
                {name: value[n] for name, value in outputs.items()}, shapes[n], photo.size
            )
            for n, photo in enumerate(photos[:count])
        ]

    def in_photo(self, outputs, shape, size):
        """Returns the `Detections` that a model's outputs for one image stand for.

        Args:
            outputs: dict of arrays: "boxes" (n, 4) in pixels of the model's input, "scores" (n,),
                "labels" (n,) with -1 for what is not there, and "masks" (n, 28, 28) if there are.
            shape: (height, width) of the image in that input, without what it was padded with.
            size: (height, width) of the photo.

        Raises:
            ValueError: if nothing is found, or boxes that are NaN, and weights of the model are NaN
                or infinite.
        """
        factors = np.array([shape[1] / size[1], shape[0] / size[0]] * 2, "float32")
        limits = np.array([size[1], size[0]] * 2, "float32")
        scores, labels = outputs["scores"], outputs["labels"].astype("int32")
        kept = np.flatnonzero((labels >= 0) & (scores >= self.threshold))
        # NaN is above no threshold: nothing would be found, without a word
        if not len(kept) or not np.isfinite(outputs["boxes"][kept]).all():
            self.check_sound(outputs["boxes"][kept])
        labels = labels[kept]
        return Detections(
            boxes=np.clip(outputs["boxes"][kept].astype("float32") / factors, 0, limits),
            scores=scores[kept].astype("float32"),
            labels=labels,
            names=tuple(self.names[label] for label in labels),
            size=tuple(map(int, size)),
            categories=np.array(self.categories, "int64")[labels],
            crops=outputs["masks"][kept].astype("float32") if "masks" in outputs else None,
            upright=self.upright,
        )
