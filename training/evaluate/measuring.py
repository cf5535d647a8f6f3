"""Measures a classifier on labelled images: one pass, class by class."""

import dataclasses
import time

import numpy as np

from keras_convnext.whole_models import image_channels

from ..data import stream
from ..data.dataset import DataError
from ..data.listing import counted
from .assessment import assess
from .progress import shown


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What came of it.

    Attributes:
        assessment: an `Assessment`, in the order of the model's classes.
        class_names: in the same order.
        seconds: of the pass, decoding included, compilation not.
    """

    assessment: object
    class_names: tuple
    seconds: float

    @property
    def images_per_second(self):
        return self.assessment.images / self.seconds


def matched(classifier, class_names):
    """Returns (classes,) the model's class of each class of the data, and the names in its order.

    Raises:
        ValueError: if number or names differ.
    """
    if classifier.classes != len(class_names):
        raise ValueError(
            f"{classifier.name} has {classifier.classes} classes, the data has {len(class_names)} "
            f"({', '.join(class_names[:3])}, ...): they cannot be compared."
        )
    kinds = _kinds_of_names(classifier)
    if not kinds:
        return np.arange(classifier.classes), tuple(class_names)
    for names in kinds:
        if tuple(names) == tuple(class_names):
            return np.arange(classifier.classes), kinds[-1]
        places = {name: place for place, name in enumerate(names)}
        if len(places) == len(names) and set(places) == set(class_names):
            return np.array([places[name] for name in class_names]), kinds[-1]
    known = {name for names in kinds for name in names}
    unknown = [name for name in class_names if name not in known] or class_names
    raise ValueError(
        f"The data's classes are not those of {classifier.name}, which does not know "
        f"{', '.join(map(repr, unknown[:5]))}{', ...' if len(unknown) > 5 else ''}."
    )


def _kinds_of_names(classifier):
    """Returns the names of the classes, a tuple for each kind: WordNet ids, English names."""
    kinds = zip(*classifier.names, strict=True) if classifier.has_names else ()
    return [kind for kind in kinds if None not in kind]


def evaluate(classifier, split, class_names, batch_size=64):
    """Measures a `Classifier` on `split`, whose labels have these names; returns the Evaluation.

    Raises:
        DataError: (a ValueError) if an image cannot be read; it is named.
        ValueError: if the classes or the images are not such as the model takes.
    """
    places, class_names = matched(classifier, class_names)
    batches = stream.evaluation_batches(split, transform_for(classifier, split), batch_size)
    spec = batches.element_spec[0]
    classifier.model.predict_on_batch(np.zeros(spec.shape, spec.dtype.as_numpy_dtype))  # compiles
    parts = shown(batches, len(batches))
    relabelled = ((x.numpy(), places[y.numpy()], w.numpy()) for x, y, w in parts)
    start = time.perf_counter()
    with stream.sentences(split):
        assessment = assess(classifier.of_pixels, relabelled, classifier.classes)
    return Evaluation(assessment, class_names, time.perf_counter() - start)


def transform_for(classifier, split):
    """Returns the transform of the images of a split.

    It is `None` for images that have the model's size: they are taken as they are, as they were for
    the training.

    Raises:
        DataError: if the model cannot take such images.
    """
    height, width, channels = split.image_shape
    size, expected = classifier.transform.size, image_channels(classifier.model)
    if channels not in (None, expected):
        raise DataError(
            f"The images of {split.name!r} have {counted(channels, 'channel')}, "
            f"{classifier.name} takes {expected}."
        )
    if (height, width) == (size, size):
        return None
    if expected != 3:
        raise DataError(
            f"The images of {split.name!r} are {height} x {width}, {classifier.name} takes "
            f"{size} x {size}; only RGB images can be resized here."
        )
    # the split gives them as they are to be seen
    return dataclasses.replace(classifier.transform, upright=getattr(split, "upright", False))
