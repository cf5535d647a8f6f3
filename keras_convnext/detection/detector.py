"""From a photo to the objects on it: a detector, the resizing of its images and its names together.

detect = Detector(MaskRCNNConvNeXtTiny("coco"))
found = detect("photo.jpg")
found.draw("photo.jpg").save("seen.png")
"""

import dataclasses

import numpy as np
from keras import ops

from keras_convnext.detection import sources
from keras_convnext.detection.photos import PhotoDetector
from keras_convnext.detection.settings import SHAPE


@dataclasses.dataclass(frozen=True)
class Detector(PhotoDetector):
    """From a photo to `Detections`, with a model's boxes, scores, labels and masks.

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

    Example:
        from keras_convnext.detection import Detector, MaskRCNNConvNeXtTiny
        detect = Detector(MaskRCNNConvNeXtTiny("coco"), size=(320, 533))
        found = detect("photo.jpg")  # boxes and masks in pixels of the photo
        found.draw("photo.jpg").save("seen.png")
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
        self.check_arguments()
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

    @property
    def padding(self):
        """The colour of what a photo is padded with, float32 (3,) in [0, 255]: the mean colour."""
        return np.float32(self.model.variant.mean) * 255

    def outputs_of(self, images, shapes):
        outputs = self.model.predict_on_batch({"images": images, SHAPE: shapes})
        return {name: np.asarray(value) for name, value in outputs.items()}

    def check_sound(self, boxes):
        if not self._weights_are_finite():
            raise ValueError(f"{self.model.name} has NaN or infinite weights: they are damaged.")

    def _weights_are_finite(self):
        return all(
            bool(ops.convert_to_numpy(ops.all(ops.isfinite(weight.value))))
            for weight in self.model.weights
            if "float" in weight.dtype
        )
