"""Metrics of segmentation: mean IoU, pixel accuracy, a table of the classes.

`fit_metrics` returns metrics to watch a training with; `Scores` are the numbers to report, counted
exactly over all pixels of a set.
"""

import dataclasses
import functools

import keras
import numpy as np
from keras import ops

from keras_convnext.segmentation.losses import IGNORED
from keras_convnext.segmentation.targets import class_numbers, is_wrong, per_pixel

# Counts after a wrong label, because integers have no NaN; replicas' counts are added up.
SPOILED = -(2**26)


def fit_metrics(classes, ignore=IGNORED):
    """Returns `[PixelAccuracy, MeanIoU]`, for `compile(metrics=...)`.

    Both take labels as `PixelCrossEntropy` does and logits `(batch, height, width, classes)`;
    pixels with the label `ignore` do not count, nor do classes that neither occur nor are
    predicted. A label that is no class makes both NaN.

    Args:
        classes: number of classes.
        ignore: the label that does not count, an int.

    Example:
        from keras_convnext.segmentation import fit_metrics
        [metric.name for metric in fit_metrics(classes=3)]  # ["pixel_accuracy", "mean_iou"]
    """
    options = {"ignore_class": ignore, "sparse_y_pred": False, "name": "mean_iou"}
    # Keras counts in int32 by default, which an epoch of two thousand million pixels overflows
    return [PixelAccuracy(ignore), MeanIoU(classes, dtype="float32", **options)]


@keras.saving.register_keras_serializable(package="keras_convnext")
class MeanIoU(keras.metrics.MeanIoU):
    """Keras' metric of that name, counted in one operation: on PyTorch Keras' own counts pixel by
    pixel.

    Takes labels as `PixelCrossEntropy` does and, with `sparse_y_pred=False`, scores of the classes
    on the last axis. A label that is neither a class nor `ignore_class` makes the result NaN,
    unless its weight is 0. The result is a float32 scalar in [0, 1].

    Args:
        num_classes: number of classes.
        name, dtype, sparse_y_true, sparse_y_pred, axis: as of `keras.metrics.MeanIoU`.
        ignore_class: the label that does not count, an int, or `None`.

    Example:
        import numpy as np
        from keras_convnext.segmentation import MeanIoU
        metric = MeanIoU(num_classes=2, ignore_class=255)
        metric.update_state(np.array([[0, 1, 1, 255]]), np.array([[0, 1, 0, 0]]))
        float(metric.result())  # 0.5
    """

    def update_state(self, y_true, y_pred, sample_weight=None):
        classes = self.num_classes
        predicted = y_pred if self.sparse_y_pred else ops.argmax(y_pred, axis=self.axis)
        predicted = ops.cast(predicted, "int32")
        labels = class_numbers(y_true, predicted, classes, self.ignore_class)
        counted = (labels >= 0) & (labels < classes)
        if self.ignore_class is not None:
            counted = counted & (labels != self.ignore_class)
        cell = ops.where(counted, labels * classes + predicted, classes**2)
        weight = ops.ones_like(cell)  # int32: a sum of float32 stops at 2**24 ones
        if sample_weight is not None:
            weight = ops.cast(weight, self.dtype)
            weight = weight * per_pixel(sample_weight, weight)
        counts = ops.segment_sum(ops.ravel(weight), ops.ravel(cell), classes**2 + 1)
        counts = ops.cast(ops.reshape(counts[:-1], (classes, classes)), self.dtype)
        is_spoiled = ops.any(is_wrong(labels, classes, self.ignore_class) & (weight > 0))
        is_spoiled = is_spoiled | ops.any(self.total_cm < 0)
        total = self.total_cm + counts
        self.total_cm.assign(ops.where(is_spoiled, ops.full_like(total, SPOILED), total))

    def result(self):
        score = super().result()
        return ops.where(ops.any(self.total_cm < 0), ops.full_like(score, float("nan")), score)


@keras.saving.register_keras_serializable(package="keras_convnext")
class PixelAccuracy(keras.metrics.Mean):
    """Share of the pixels whose class was predicted; those with the label `ignore` do not count.

    Takes labels as `PixelCrossEntropy` does, and scores of the classes on the last axis. A label
    that is neither a class nor `ignore` makes the result NaN, unless its weight is 0. The result is
    a float32 scalar in [0, 1].

    Args:
        ignore: the label that does not count, an int.
        name: of the metric.
        **kwargs: the other arguments of `keras.metrics.Mean`.

    Example:
        import numpy as np
        from keras_convnext.segmentation import PixelAccuracy
        metric = PixelAccuracy()
        labels = np.array([[[0, 1], [1, 255]]])
        metric.update_state(labels, np.eye(2)[[[[0, 1], [0, 0]]]])
        float(metric.result())  # 0.667
    """

    def __init__(self, ignore=IGNORED, name="pixel_accuracy", **kwargs):
        super().__init__(name=name, **kwargs)
        self.ignore = ignore

    def update_state(self, y_true, y_pred, sample_weight=None):
        classes = y_pred.shape[-1]
        predicted = ops.cast(ops.argmax(y_pred, axis=-1), "int32")
        labels = class_numbers(y_true, predicted, classes, self.ignore)
        valid = ops.cast(labels != self.ignore, self.dtype)
        if sample_weight is not None:
            valid = valid * per_pixel(sample_weight, valid)
        hits = ops.cast(labels == predicted, self.dtype)
        wrong = is_wrong(labels, classes, self.ignore) & (valid > 0)
        hits = ops.where(wrong, ops.cast(float("nan"), self.dtype), hits)
        return super().update_state(hits, valid)

    def get_config(self):
        return {"name": self.name, "dtype": self.dtype, "ignore": self.ignore}


@dataclasses.dataclass(frozen=True, eq=False)
class Scores:
    """Counts of pixels, and scores computed from them. `+` adds up the scores of images.

    Attributes:
        confusion: (classes, classes) int64; rows are the classes of the pixels, columns the
            predicted ones.

    Example:
        import numpy as np
        from keras_convnext.segmentation import Scores
        found = Scores(np.array([[3, 1], [0, 4]]))
        found.iou  # [0.75, 0.8]
        found.pixel_accuracy  # 0.875
    """

    confusion: np.ndarray

    def __add__(self, other):
        return Scores(self.confusion + other.confusion)

    @functools.cached_property
    def iou(self):
        """float64 (classes,) in [0, 1], NaN for a class that neither occurs nor is predicted."""
        hits = np.diag(self.confusion)
        return _ratio(hits, self.confusion.sum(0) + self.confusion.sum(1) - hits)

    @functools.cached_property
    def accuracy(self):
        """float64 (classes,): share of each class' pixels that was found, NaN without pixels."""
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
        """Returns one dict per class: `class`, `iou`, `accuracy` (`None` where there is none) and
        `share`, its part of the pixels.

        Raises:
            ValueError: if the number of names differs from the number of classes.
        """
        shares = _ratio(self.confusion.sum(1), self.confusion.sum())
        columns = zip(class_names, self.iou, self.accuracy, shares, strict=True)
        return [
            {"class": name} | dict(zip(("iou", "accuracy", "share"), map(_json, row), strict=True))
            for name, *row in columns
        ]


def scores(labels, predicted, classes, ignore=IGNORED):
    """Compares a mask with a prediction and returns the `Scores`.

    Args:
        labels: int array of any shape, in [0, classes) or `ignore`.
        predicted: int array of the same shape, in [0, classes).
        classes: number of classes.
        ignore: the label that does not count.

    Raises:
        ValueError: if the shapes differ, or a value is out of its range.

    Example:
        import numpy as np
        from keras_convnext.segmentation import scores
        found = scores(np.array([0, 1, 1, 255]), np.array([0, 1, 0, 0]), classes=2)
        found.mean_iou  # 0.5
    """
    labels, predicted = np.asarray(labels), np.asarray(predicted)
    if labels.shape != predicted.shape:
        raise ValueError(
            f"Mask and prediction must have one shape, received {labels.shape} and "
            f"{predicted.shape}. Predict at the size of the mask."
        )
    for name, values in (("label", labels), ("prediction", predicted)):
        if values.dtype.kind == "f" and (values % 1 != 0).any():
            raise ValueError(f"A {name} must be a whole number, received fractions or NaN.")
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
