"""The loss of segmentation: cross-entropy of pixels, some of which do not count."""

import keras
from keras import ops

from keras_convnext.checks import one_of
from keras_convnext.segmentation.targets import class_numbers, per_pixel

IGNORED = 255
AVERAGES = ("all", "valid")


@keras.saving.register_keras_serializable(package="keras_convnext")
class PixelCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy of the pixels, in float32; pixels with the label `ignore` cost nothing.

    Args:
        average: what the sum is divided by. `"valid"`: the number of pixels that count (Keras'
            own losses with `ignore_class`). `"all"`: the number of all pixels, so that images with
            many ignored ones weigh less (the code that the paper's segmentation was trained with).
        ignore: the label that is ignored.
        name: of the loss.

    Called with labels `(batch, height, width)` or `(batch, height, width, 1)`, any int dtype or
    floats that are whole numbers, in [0, classes) or `ignore`; or one-hot `(batch, height, width,
    classes)`, where zeros alone mean `ignore`. Logits are `(batch, height, width, classes)`. Any
    other label makes the loss NaN, so that a wrong mask is not learned unnoticed. Where no pixel
    counts, the loss is 0.

    The objects of black and white masks (0 and 255) would be ignored: divide them by 255 first.

    Weights may be given per image `(batch,)` or per pixel `(batch, height, width)`.

    Raises:
        ValueError: if `average` is unknown, if labels and logits differ in height or width, or if
            there are fewer than two logits per pixel.

    Source: arXiv 2201.03545, Appendix A.3 (the setting).

    Example:
        import numpy as np
        from keras_convnext.segmentation import PixelCrossEntropy
        labels = np.array([[[0, 1], [1, 255]]])
        logits = np.zeros((1, 2, 2, 2), "float32")
        float(PixelCrossEntropy()(labels, logits))  # 0.693
    """

    def __init__(self, average="valid", ignore=IGNORED, name="pixel_cross_entropy"):
        super().__init__(name=name, dtype="float32")
        self.average, self.ignore = one_of("average", average, AVERAGES), ignore

    def __call__(self, y_true, y_pred, sample_weight=None):
        # Keras' own `__call__` would convert the labels to floats.
        losses = self.call(y_true, y_pred)
        if sample_weight is not None:
            losses = losses * per_pixel(sample_weight, losses)
        return _replica_share(ops.mean(losses))

    def call(self, y_true, y_pred):
        """Returns float32 (batch, height, width), whose mean is the loss."""
        logits = ops.cast(y_pred, "float32")
        classes = logits.shape[-1]
        if classes == 1:
            raise ValueError(
                "The loss needs a logit for each class, two or more, received one: build the model "
                "with classes=2, or use keras.losses.BinaryCrossentropy(from_logits=True)."
            )
        normalizer = ops.logsumexp(logits, axis=-1)
        labels = class_numbers(y_true, normalizer, classes, self.ignore)
        valid = labels != self.ignore
        losses = normalizer - _chosen(logits, labels)
        losses = ops.where(valid, losses, ops.zeros_like(losses))
        if self.average == "valid":
            share = ops.mean(ops.cast(valid, "float32"))
            losses = losses / ops.where(share > 0, share, ops.ones_like(share))
        return losses

    def get_config(self):
        return {"average": self.average, "ignore": self.ignore, "name": self.name}


def _chosen(logits, labels):
    """Returns the logit of each pixel's label; NaN where there is no class of that number."""
    classes = logits.shape[-1]
    known = ops.clip(labels, 0, classes - 1)  # PyTorch would raise, on GPUs beyond recovery
    # A product with one-hot labels, because the gradient of gathering is a scatter, slow on GPUs.
    chosen = ops.sum(logits * ops.one_hot(known, classes, dtype="float32"), axis=-1)
    return ops.where(known == labels, chosen, ops.full_like(chosen, float("nan")))


def _replica_share(loss):
    """Returns the loss divided by the number of replicas, whose gradients are summed."""
    if keras.backend.backend() != "tensorflow":
        return loss
    import tensorflow as tf

    return loss / tf.distribute.get_strategy().num_replicas_in_sync
