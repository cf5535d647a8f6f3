"""How good a segmentation is: mean IoU, pixel accuracy, a table of the classes.

`for_fit` gives metrics to watch a training with; `Scores` are the figures to report, counted in
whole numbers over all pixels of a set.
"""

import dataclasses
import functools

import keras
import numpy as np
from keras import ops

from keras_convnext.segmentation.losses import IGNORED, per_pixel


def for_fit(classes, ignore=IGNORED):
    """-> `[PixelAccuracy, MeanIoU]`, for `compile(metrics=...)`.

    Both take labels `(batch, height, width)` and logits `(batch, height, width, classes)`; pixels
    with the label `ignore` do not count, nor do classes that are neither there nor predicted.
    """
    mean_iou = MeanIoU(classes, ignore_class=ignore, sparse_y_pred=False, name="mean_iou")
    return [PixelAccuracy(ignore), mean_iou]


@keras.saving.register_keras_serializable(package="keras_convnext")
class MeanIoU(keras.metrics.MeanIoU):
    """Keras' metric of that name, counted at once: on PyTorch Keras' own counts pixel by pixel.

    Takes integer labels and, with `sparse_y_pred=False`, scores of the classes on the last axis.
    Labels that are no class do not count.
    """

    def update_state(self, y_true, y_pred, sample_weight=None):
        classes = self.num_classes
        labels = ops.cast(y_true, "int32")
        predicted = y_pred if self.sparse_y_pred else ops.argmax(y_pred, axis=self.axis)
        counted = (labels >= 0) & (labels < classes)
        if self.ignore_class is not None:
            counted = counted & (labels != self.ignore_class)
        cell = ops.where(counted, labels * classes + ops.cast(predicted, "int32"), classes**2)
        weight = ops.ones_like(cell, dtype=self.dtype)
        if sample_weight is not None:
            weight = weight * per_pixel(sample_weight, weight)
        counts = ops.segment_sum(ops.ravel(weight), ops.ravel(cell), classes**2 + 1)
        self.total_cm.assign(self.total_cm + ops.reshape(counts[:-1], (classes, classes)))


@keras.saving.register_keras_serializable(package="keras_convnext")
class PixelAccuracy(keras.metrics.Mean):
    """Share of the pixels whose class was predicted; those with the label `ignore` do not count."""

    def __init__(self, ignore=IGNORED, name="pixel_accuracy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.ignore = ignore

    def update_state(self, y_true, y_pred, sample_weight=None):
        labels = ops.cast(y_true, "int32")
        valid = ops.cast(labels != self.ignore, self.dtype)
        if sample_weight is not None:
            valid = valid * per_pixel(sample_weight, valid)
        hits = ops.cast(labels == ops.cast(ops.argmax(y_pred, axis=-1), "int32"), self.dtype)
        return super().update_state(hits, valid)

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype, "ignore": self.ignore}


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Counts of pixels, and what follows from them. Add the scores of images up with `+`.

    Attributes:
        confusion: (classes, classes) int64; rows are the classes of the pixels, columns the
            predicted ones.
    """

    confusion: np.ndarray

    def __add__(self, other):
        return Scores(self.confusion + other.confusion)

    @functools.cached_property
    def iou(self):
        """(classes,) float64 in [0, 1], NaN for a class that is neither there nor predicted."""
        hits = np.diag(self.confusion)
        return _ratio(hits, self.confusion.sum(0) + self.confusion.sum(1) - hits)

    @functools.cached_property
    def accuracy(self):
        """(classes,) float64: share of a class' pixels that was found, NaN without pixels."""
        return _ratio(np.diag(self.confusion), self.confusion.sum(1))

    @property
    def mean_iou(self):
        """Mean of `iou` over the classes that have one, in [0, 1]; NaN where no pixel counts."""
        return _mean(self.iou)

    @property
    def mean_accuracy(self):
        """Mean of `accuracy` over the classes that have one, in [0, 1]."""
        return _mean(self.accuracy)

    @property
    def pixel_accuracy(self):
        """Share of all pixels whose class was predicted, in [0, 1]."""
        return float(_ratio(np.trace(self.confusion), self.confusion.sum()))

    def table(self, class_names):
        """-> one dict per class: `class`, `iou`, `accuracy` (`None` where there is none) and
        `share`, its part of the pixels.

        Raises:
            ValueError: if there is another number of names than of classes.
        """
        shares = _ratio(self.confusion.sum(1), self.confusion.sum())
        columns = zip(class_names, self.iou, self.accuracy, shares, strict=True)
        return [
            {"class": name} | dict(zip(("iou", "accuracy", "share"), map(_json, row), strict=True))
            for name, *row in columns
        ]


def scores(labels, predicted, classes, ignore=IGNORED):
    """Compares a mask with a prediction.

    Args:
        labels: int array of any shape, in [0, classes) or `ignore`.
        predicted: int array of the same shape, in [0, classes).
        classes: number of classes.
        ignore: the label that does not count.

    Returns:
        `Scores`.

    Raises:
        ValueError: if the shapes differ, or a value is out of its range.
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    if labels.shape != predicted.shape:
        raise ValueError(
            f"Mask and prediction must have one shape, received {labels.shape} and "
            f"{predicted.shape}. Predict at the size of the mask."
        )
    valid = labels != ignore
    labels, predicted = labels[valid].astype("int64"), predicted[valid].astype("int64")
    for name, values in (("label", labels), ("prediction", predicted)):
        odd = values[(values < 0) | (values >= classes)]
        if len(odd):
            raise ValueError(
                f"A {name} must be in 0 to {classes - 1}{f' or {ignore}' * (name == 'label')}, "
                f"received {odd[0]}."
            )
    counts = np.bincount(labels * classes + predicted, minlength=classes**2)
    return Scores(counts.reshape(classes, classes))


def _ratio(part, whole):
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(part, "float64") / np.asarray(whole, "float64")


def _mean(values):
    values = values[~np.isnan(values)]
    return float(values.mean()) if len(values) else float("nan")


def _json(value):
    return None if np.isnan(value) else float(value)
