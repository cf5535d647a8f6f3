"""Measures a detector on a COCO-format set: COCO's scores, and the worst mistakes."""

import dataclasses
import itertools
import time

import numpy as np

from keras_convnext.detection.metrics import average_precision
from keras_convnext.images import ImageError, load_image

from ..data.dataset import DataError
from .detection_mistakes import WorstMistakes
from .progress import shown

AT_ONCE = 8  # batches of photographs that are read ahead


@dataclasses.dataclass(frozen=True)
class DetectionEvaluation:
    """What came of it.

    Attributes:
        box: `DetectionScores` of the boxes.
        mask: those of the masks; `None` where the set or the detector has none.
        mistakes: `{"missed" | "wrong" | "loose": tuple of Mistakes}`, the worst first.
        results: the detections in COCO's results format, a list of dicts.
        other_classes: names of the detector's classes that the set does not have; what was detected
            of them does not count.
        seconds: of the pass, decoding included.
    """

    box: object
    mask: object
    mistakes: dict
    results: list
    other_classes: tuple
    seconds: float

    @property
    def images_per_second(self):
        return self.box.images / self.seconds


def label_of(detector, photos):
    """Returns `{id of a category: label}`: which of the detector's classes a category is.

    Equal names are equal classes. Categories of the set without objects need no class. Where the
    detector's classes have no names, they are the categories in the order of their ids.

    Raises:
        ValueError: if the detector does not know a class that the set has objects of, if several
            categories have its name, or, without names, if there is another number of them.
    """
    categories = photos.categories
    if detector.labels is None:
        if len(categories) != len(detector.names):
            raise ValueError(
                f"{photos.name} has {len(categories)} categories, the detector has "
                f"{len(detector.names)} classes without names: they cannot be compared."
            )
        return {key: label for label, key in enumerate(categories)}
    labels = {name: label for label, name in enumerate(detector.names)}
    used = [name for key, name in categories.items() if photos.counts[key]]
    unknown = [name for name in used if name not in labels]
    if unknown:
        raise ValueError(
            f"The detector does not know {', '.join(map(repr, unknown[:5]))}"
            f"{', ...' if len(unknown) > 5 else ''} of {photos.name}; it knows "
            f"{', '.join(map(repr, detector.names[:5]))}{', ...' * (len(detector.names) > 5)}."
        )
    known = {labels[name]: key for key, name in categories.items() if name in labels}
    known |= {labels[name]: key for key, name in categories.items() if photos.counts[key]}
    if len(set(used)) < len(used):
        raise ValueError(
            f"{photos.name} has objects of several categories of one name: rename them."
        )
    return {key: label for label, key in known.items()}


def evaluate(detector, photos, keep=6, labels=None):
    """Measures a detector on a set; returns the DetectionEvaluation.

    Args:
        detector: a `Detector`.
        photos: a `CocoSet`.
        keep: how many mistakes of each kind are kept at most.
        labels: `{id of a category: label}`; by default as `label_of` says.

    Raises:
        DataError: (a ValueError) if an image cannot be read, or has another size than the
            annotation file says.
        ValueError: if the classes are not such as the detector knows.
    """
    labels = label_of(detector, photos) if labels is None else labels
    category_of = {label: key for key, label in labels.items()}
    mistakes, results, has_masks = WorstMistakes(keep), [], photos.has_masks
    start = time.perf_counter()
    for key, image, found in shown(_detected(detector, photos), len(photos.paths)):
        found = found[np.isin(found.labels, list(category_of))]
        has_masks = has_masks and found.crops is not None
        ids = np.array([category_of[int(label)] for label in found.labels], "int64")
        results += dataclasses.replace(found, categories=ids).to_coco(key)
        objects = photos.objects(key, found.size, labels)
        mistakes.add(str(photos.paths[key]), image, objects, found)
    seconds = time.perf_counter() - start
    return DetectionEvaluation(
        average_precision(photos.content, results),
        average_precision(photos.content, results, "mask") if has_masks else None,
        mistakes.result(),
        results,
        tuple(name for label, name in enumerate(detector.names) if label not in category_of),
        seconds,
    )


def _detected(detector, photos):
    """Yields (id, Pillow image, `Detections`) of each photograph."""
    left = iter(photos.paths.items())
    while part := list(itertools.islice(left, AT_ONCE * detector.batch_size)):
        images = [_image(photos, key, path) for key, path in part]
        found = detector.batch(images)
        for (key, _), image, one in zip(part, images, found, strict=True):
            yield key, image, one


def _image(photos, key, path):
    try:
        image = load_image(path)
    except ImageError as error:
        raise DataError(f"{path}: {error}") from error
    size = photos.sizes[key]
    if size is not None and size != (image.height, image.width):
        raise DataError(
            f"{path} has {image.height} x {image.width} pixels (height x width), {photos.name} "
            f"says {size[0]} x {size[1]}: its objects are of another image."
        )
    return image
