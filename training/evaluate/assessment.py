"""Assesses a classifier on a split: scores per class and over all, and the worst mistakes."""

import dataclasses
import functools

import numpy as np

from .kept import Kept
from .places import places_of

CONFUSION_CLASSES = 2000  # above, the matrix alone would be hundreds of MB
TOP5_CLASSES = 6  # among five, one of the best five is always right
SUM_TOLERANCE = 2e-2  # the sum of 1000 probabilities in bfloat16 is off by less


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One image with what was predicted.

    Attributes:
        image: uint8 (height, width, channels), as the model saw it.
        label: its class.
        predicted: the class of the highest probability.
        confidence: that probability, in [0, 1].
        place: of the image in the split's fixed order, from 0.
    """

    image: np.ndarray
    label: int
    predicted: int
    confidence: float
    place: int


@dataclasses.dataclass(frozen=True, eq=False)
class Assessment:
    """Each image counts once.

    Attributes:
        images: number of images.
        top1: share of images whose class was predicted, in [0, 1].
        top5: share of images whose class was among the best five; `None` below 6 classes.
        loss: mean cross-entropy in nats, without label smoothing.
        counts: (classes,) int64, images of each class.
        predictions: (classes,) int64, how often each class was predicted.
        hits: (classes,) int64, how often each class was predicted rightly.
        confusion: (classes, classes) int64, rows are the classes of the images, columns the
            predicted ones; `None` above 2000 classes.
        mistakes: `Example`s that were predicted wrongly, the most confident first.
        right: `Example`s that were predicted rightly, a sample that every image has the same
            chance to be in.
    """

    images: int
    top1: float
    top5: float | None
    loss: float
    counts: np.ndarray
    predictions: np.ndarray
    hits: np.ndarray
    confusion: np.ndarray | None
    mistakes: tuple
    right: tuple

    @functools.cached_property
    def recall(self):
        """(classes,) float64: part of a class' images that was found, NaN without images."""
        return _ratio(self.hits, self.counts)

    @functools.cached_property
    def precision(self):
        """(classes,) float64: part of a class' predictions that is right, NaN without any."""
        return _ratio(self.hits, self.predictions)


def assess(predict, batches, classes, keep=40):
    """One pass over a split.

    Args:
        predict: images -> probabilities, (N, classes).
        batches: iterable of (images (N, height, width, channels) with values in [0, 255], labels
            (N,) int, weights (N,)), such as `stream.evaluation_batches`. All should have the same
            N, as one shape is one compilation. Images of weight 0 fill up and are not counted.
        classes: number of classes.
        keep: how many `mistakes`, and `right` ones, are kept at most.

    Returns:
        the Assessment.

    Raises:
        ValueError: if there is no image, a label is none of the classes', or what the model
            returns are not probabilities of so many classes.
    """
    tally = _Tally(classes, keep)
    for images, labels, weights in batches:
        images = np.asarray(images)
        probabilities = np.asarray(predict(images), "float32")
        _check_probabilities(probabilities, (len(images), classes))
        tally.add(images, np.asarray(labels), probabilities, np.asarray(weights) > 0)
    return tally.result()


class _Tally:
    """The sums of a pass."""

    def __init__(self, classes, keep):
        self.classes = classes
        self.images, self.among_five, self.loss = 0, 0, 0.0
        self.counts, self.predictions, self.hits = np.zeros((3, classes), "int64")
        has_matrix = classes <= CONFUSION_CLASSES
        self.confusion = np.zeros((classes, classes), "int64") if has_matrix else None
        self.mistakes, self.right = Kept(keep), Kept(keep)
        self.random = np.random.default_rng(0)

    def add(self, images, labels, probabilities, valid):
        images, labels, probabilities = images[valid], labels[valid], probabilities[valid]
        _check_labels(labels, self.classes)
        predicted = probabilities.argmax(-1)
        self._count(labels, predicted, probabilities)
        self._keep(images, labels, predicted, probabilities.max(-1))
        self.images += len(labels)

    def _count(self, labels, predicted, probabilities):
        chances = np.take_along_axis(probabilities, labels[:, None], axis=1)
        self.among_five += int((places_of(probabilities, labels) < 5).sum())
        smallest = np.finfo("float32").tiny  # a probability that is too small for its type
        self.loss -= float(np.log(np.maximum(chances, smallest), dtype="float64").sum())
        for sums, values in (
            (self.counts, labels),
            (self.predictions, predicted),
            (self.hits, labels[labels == predicted]),
        ):
            sums += np.bincount(values, minlength=self.classes)
        if self.confusion is not None:
            np.add.at(self.confusion, (labels, predicted), 1)

    def _keep(self, images, labels, predicted, confidences):
        def example(index):
            return Example(
                np.rint(images[index]).astype("uint8"),
                int(labels[index]),
                int(predicted[index]),
                float(confidences[index]),
                self.images + int(index),
            )

        is_right = predicted == labels
        self.mistakes.add(confidences, np.flatnonzero(~is_right), example)
        self.right.add(self.random.random(len(labels)), np.flatnonzero(is_right), example)

    def result(self):
        if not self.images:
            raise ValueError("There is no image to assess the model with.")
        return Assessment(
            images=self.images,
            top1=int(self.hits.sum()) / self.images,
            top5=self.among_five / self.images if self.classes >= TOP5_CLASSES else None,
            loss=self.loss / self.images,
            counts=self.counts,
            predictions=self.predictions,
            hits=self.hits,
            confusion=self.confusion,
            mistakes=self.mistakes.examples(),
            right=self.right.examples(),
        )


def _ratio(part, whole):
    return np.divide(part, whole, out=np.full(len(whole), np.nan), where=whole > 0)


def _check_probabilities(values, shape):
    if values.shape != shape:
        raise ValueError(
            f"The model gives an array of shape {values.shape} for {shape[0]} images of a set "
            f"with {shape[1]} classes; needed is {shape}."
        )
    if not np.isfinite(values).all():
        raise ValueError("The model gives NaN or infinite values.")
    if values.min() < 0 or np.abs(values.sum(-1) - 1).max() > SUM_TOLERANCE:
        raise ValueError(
            "The model gives values that are not probabilities: they must be >= 0 and sum to 1. "
            "Build it with `classifier_activation='softmax'`."
        )


def _check_labels(labels, classes):
    if len(labels) and not 0 <= labels.min() <= labels.max() < classes:
        raise ValueError(
            f"Labels must be from 0 to {classes - 1}, received {labels.min()} to {labels.max()}."
        )
