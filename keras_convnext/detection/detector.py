"""From a photo to the objects on it: a detector, the resizing of its images and its names together.

detect = Detector(MaskRCNNConvNeXtTiny("coco"))
found = detect("photo.jpg")
found.draw("photo.jpg").save("seen.png")
"""

import dataclasses
from typing import NamedTuple

import numpy as np
from keras import ops

from keras_convnext import checks
from keras_convnext.detection import sources
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


@dataclasses.dataclass(frozen=True)
class Detector:
    """From a photo to `Detections`, with a model's boxes, scores, labels and masks.

        detect = Detector(MaskRCNNConvNeXtTiny("coco"))
        found = detect("photo.jpg")             # boxes and masks in pixels of the photograph

    Args:
        model: what detects, one of
            a `DetectionModel`, such as of `MaskRCNN(...)`;
            name of published weights, for example "mask_rcnn_convnext_tiny.fb_in1k_ft_coco";
            "hf://owner/repo[@revision][/file]", or the path of a file of weights;
            path of a `.keras` file, which is loaded without running code from it;
            path of the folder of a training, which has `best.keras` and `classes.json`.
        size: limits of the image's short and long side in pixels, in any order, >= 32. The image
            is resized, its ratio kept, until it reaches one of them.
        threshold: objects with lower scores are left out; in [0, 1]. The model itself finds none
            below `model.settings.score_threshold`, 0.05.
        labels: the names of the classes: a list of names or of `[category id, name]`; a dict from
            0, 1, ... to those; the path of a file (see `labels.read_names`); or "coco". `None`:
            those of the published weights, or of `classes.json` beside the file.
        canvas: what the resized image is padded to, with the mean colour: "smallest": multiples of
            32, as in the published evaluation; "fixed": one of two sizes, for images that lie and
            that stand, so that JAX and TensorFlow compile twice and not for each size of a photo.
        batch_size: photos that the model sees at once, in `batch`.
        variant: name of the architecture of a file of weights; `None`: the file tells it.
        upright: whether a photo is turned as its EXIF says. With `False` it is taken as it is
            stored, which is how the objects in files of annotations are counted.

    Attributes:
        model: the `DetectionModel`.
        names: of the classes, a tuple of str; "class 0", ... where none are known.
        categories: ids of the classes in files of COCO's format, a tuple of int; 1, 2, ... where
            none are known.

    Raises:
        ValueError: if an argument is out of its range, the model is no detector, a name is
            unknown, or the number of names is another than that of the classes.
        FileNotFoundError: if there is no such file.
        DownloadError: (an OSError) if weights could not be fetched.
        WeightsError: (a ValueError) if a file of weights cannot be read.
    """

    model: object
    size: tuple = (800, 1333)
    threshold: float = 0.05
    labels: object = None
    canvas: str = "smallest"
    batch_size: int = 1
    variant: str | None = None
    upright: bool = True
    names: tuple = dataclasses.field(default=(), init=False, repr=False)
    categories: tuple = dataclasses.field(default=(), init=False, repr=False)

    def __post_init__(self):
        checks.one_of("canvas", self.canvas, CANVASES)
        checks.one_of("upright", self.upright, (True, False))
        checks.integer("batch_size", self.batch_size, 1)
        checks.number("threshold", self.threshold, least=0, most=1)
        checks.integers("size", self.size, MULTIPLE, 2)
        sources.given_classes(self.labels)  # a wrong file is noticed before a download
        model, path = sources.model_of(self.model, self.variant)
        classes = sources.classes_of(self.labels, model, path)
        names = tuple(name for _, name in classes)
        ids = tuple(number for number, _ in classes)
        found = {
            "model": model,
            "labels": classes or None,  # so that a copy with another threshold needs no file
            "variant": None,
            "names": names or tuple(f"class {number}" for number in range(model.classes)),
            "categories": ids if ids and None not in ids else tuple(range(1, model.classes + 1)),
        }
        for field, value in found.items():
            object.__setattr__(self, field, value)

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

    def _photo(self, number, image):
        image = load_image(image, self.upright)
        return _Photo(number, fitted(np.asarray(image), self.size), (image.height, image.width))

    def _canvas_of(self, photo):
        return canvas_of(photo.pixels.shape[:2], self.size if self.canvas == "fixed" else None)

    def _numbered(self, canvas, photos):
        found = self._detections(canvas, photos)
        return {photo.number: one for photo, one in zip(photos, found, strict=True)}

    def _detections(self, canvas, photos):
        """Returns the `Detections` of photos that are put on canvases of one size."""
        count = len(photos)
        if self.canvas == "fixed":  # another number of photos would be compiled anew
            photos = photos + photos[:1] * (self.batch_size - count)
        mean = np.float32(self.model.variant.mean) * 255
        images = np.broadcast_to(mean, (len(photos), *canvas, 3)).astype("float32")
        shapes = np.array([photo.pixels.shape[:2] for photo in photos], "float32")
        for image, photo in zip(images, photos, strict=True):
            image[: photo.pixels.shape[0], : photo.pixels.shape[1]] = photo.pixels
        outputs = self.model.predict_on_batch({"images": images, "image_shape": shapes})
        outputs = {name: np.asarray(value) for name, value in outputs.items()}
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
        sound = len(kept) and np.isfinite(outputs["boxes"][kept]).all()
        if not sound and not self._weights_are_finite():
            raise ValueError(f"{self.model.name} has NaN or infinite weights: they are damaged.")
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

    def _weights_are_finite(self):
        return all(
            bool(ops.convert_to_numpy(ops.all(ops.isfinite(weight.value))))
            for weight in self.model.weights
            if "float" in weight.dtype
        )
