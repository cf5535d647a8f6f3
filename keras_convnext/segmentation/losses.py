"""The loss of segmentation: cross-entropy of pixels, some of which do not count."""

import keras
from keras import ops

IGNORED = 255
AVERAGES = ("all", "valid")


@keras.saving.register_keras_serializable(package="keras_convnext")
class PixelCrossEntropy(keras.losses.Loss):
    """Mean cross-entropy of the pixels, in float32; pixels with the label `ignore` cost nothing.

    Args:
        average: what the sum is divided by. `"valid"`: the pixels that count (Keras' own losses
            with `ignore_class`). `"all"`: all pixels, so that images with many ignored ones weigh
            less (the code that the paper's segmentation was trained with).
        ignore: the label that is ignored.
        name: of the loss.

    Weights may be given per image `(batch,)` or per pixel `(batch, height, width)`.

    Called with labels `(batch, height, width)`, any int dtype, in [0, classes) or `ignore`, and
    logits `(batch, height, width, classes)`. Any other label makes the loss NaN, so that a wrong
    mask is not learned unnoticed. Where no pixel counts, the loss is 0.

    Raises:
        ValueError: if `average` is unknown, or labels and logits differ in height or width.

    Source: arXiv 2201.03545, Appendix A.3 (the setting).
    """

    def __init__(self, average="valid", ignore=IGNORED, name="pixel_cross_entropy"):
        super().__init__(name=name, dtype="float32")
        if average not in AVERAGES:
            raise ValueError(f"`average` must be one of {AVERAGES}, received {average!r}.")
        self.average, self.ignore = average, ignore

    def __call__(self, y_true, y_pred, sample_weight=None):
        # labels must not become floats on the way, as Keras would have it
        losses = self.call(y_true, y_pred)
        if sample_weight is not None:
            losses = losses * per_pixel(sample_weight, losses)
        return _replica_share(ops.mean(losses))

    def call(self, y_true, y_pred):
        """-> (batch, height, width) float32, whose mean is the loss."""
        labels, logits = ops.cast(y_true, "int32"), ops.cast(y_pred, "float32")
        if len(labels.shape) == 4 and labels.shape[-1] == 1:
            labels = ops.squeeze(labels, -1)
        _check_sides(labels, logits)
        valid = labels != self.ignore
        losses = ops.logsumexp(logits, axis=-1) - _chosen(logits, labels)
        losses = ops.where(valid, losses, ops.zeros_like(losses))
        if self.average == "valid":
            share = ops.mean(ops.cast(valid, "float32"))
            losses = losses / ops.where(share > 0, share, ops.ones_like(share))
        return losses

    def get_config(self):
        return {"average": self.average, "ignore": self.ignore, "name": self.name}


def per_pixel(weight, pixels):
    """-> weights per image or per pixel, with the dtype and the number of axes of `pixels`"""
    weight = ops.cast(weight, pixels.dtype)
    return ops.expand_dims(weight, tuple(range(len(weight.shape), len(pixels.shape))))


def _chosen(logits, labels):
    """-> the logit of each pixel's label; NaN where there is none of that number."""
    classes = logits.shape[-1]
    known = ops.clip(labels, 0, classes - 1)  # PyTorch would raise, or a GPU would break down
    # a product with the one-hot labels: the gradient of gathering is a scattering, slow on GPUs
    chosen = ops.sum(logits * ops.one_hot(known, classes, dtype="float32"), axis=-1)
    return ops.where(known == labels, chosen, ops.full_like(chosen, float("nan")))


def _check_sides(labels, logits):
    sides = [tuple(tensor.shape[1:3]) for tensor in (labels, logits)]
    if len(labels.shape) != 3 or any(
        None not in pair and pair[0] != pair[1] for pair in zip(*sides, strict=True)
    ):
        raise ValueError(
            f"Masks must be (batch, {sides[1][0]}, {sides[1][1]}) like the images, received "
            f"{tuple(labels.shape)}. Resize them with nearest neighbours, or crop both alike."
        )


def _replica_share(loss):
    """The gradients of replicas are added up, so that each has its part of the loss."""
    if keras.backend.backend() != "tensorflow":
        return loss
    import tensorflow as tf

    return loss / tf.distribute.get_strategy().num_replicas_in_sync
