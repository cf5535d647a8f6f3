"""Masks and weights in every usual form, brought to one value per pixel for loss and metrics."""

import keras
import numpy as np
from keras import ops

WRONG = -(2**30)  # a label that is no class and that nobody ignores


def class_numbers(y_true, predicted, classes, ignore):
    """Returns the labels as int32 in the shape of `predicted`.

    Args:
        y_true: integers of any dtype, or floats that are whole numbers, in the shape of
            `predicted` or with one more axis of length 1; or one-hot with one more axis of length
            `classes`, where zeros alone mean a pixel that does not count.
        predicted: a tensor with one value per pixel, such as (batch, height, width).
        classes: number of classes.
        ignore: the label of pixels that do not count; may be `None`.

    Returns:
        int32 tensor. What is no whole number, and what is not one-hot, is `WRONG`.

    Raises:
        ValueError: if the shapes do not fit.
    """
    labels = ops.convert_to_tensor(_narrow(y_true))
    given = tuple(labels.shape)
    is_one_hot = False
    if len(given) == len(predicted.shape) + 1:
        if given[-1] == 1:
            labels = ops.squeeze(labels, -1)
        elif given[-1] == classes:
            is_one_hot = True
            labels = _of_one_hot(labels, ignore)
    _check_shapes(labels, predicted, given, classes)
    return labels if is_one_hot else _whole(labels)


def is_wrong(labels, classes, ignore):
    """Returns where labels are neither in [0, classes) nor ignored: a bool tensor."""
    wrong = (labels < 0) | (labels >= classes)
    return wrong if ignore is None else wrong & (labels != ignore)


def per_pixel(weight, pixels):
    """Returns weights per image or per pixel with the dtype and the number of axes of `pixels`."""
    weight = ops.cast(weight, pixels.dtype)
    if len(weight.shape) == len(pixels.shape) + 1 and weight.shape[-1] == 1:
        weight = ops.squeeze(weight, -1)
    return ops.expand_dims(weight, tuple(range(len(weight.shape), len(pixels.shape))))


def _narrow(y_true):
    """Returns NumPy's 64-bit numbers with 32 bits: JAX has no others and warns."""
    if not isinstance(y_true, np.ndarray) or y_true.dtype.itemsize < 8:
        return y_true
    return y_true.astype("float32" if y_true.dtype.kind == "f" else "int32")


def _of_one_hot(labels, ignore):
    scores = ops.cast(labels, "float32")
    low, high, total = (reduce(scores, axis=-1) for reduce in (ops.min, ops.max, ops.sum))
    nothing = WRONG if ignore is None else ignore
    empty = ops.where((low == 0) & (high == 0), nothing, WRONG)
    is_class = (low >= 0) & (high == 1) & (total == 1)
    chosen = ops.cast(ops.argmax(scores, axis=-1), "int32")
    return ops.where(is_class, chosen, ops.cast(empty, "int32"))


def _whole(labels):
    numbers = ops.cast(labels, "int32")
    if "float" not in keras.backend.standardize_dtype(labels.dtype):
        return numbers
    # Masks that were divided by 255 would otherwise become class 0 everywhere.
    return ops.where(ops.cast(numbers, labels.dtype) == labels, numbers, WRONG)


def _check_shapes(labels, predicted, given, classes):
    shapes = tuple(labels.shape), tuple(predicted.shape)
    fits = len(shapes[0]) == len(shapes[1]) and all(
        None in pair or pair[0] == pair[1] for pair in zip(*shapes, strict=True)
    )
    if not fits:
        wanted = ", ".join("any" if side is None else str(side) for side in shapes[1][1:])
        raise ValueError(
            f"Masks must be (batch, {wanted}) like the images, may have a last axis of 1, or be "
            f"one-hot with a last axis of {classes}; received {given}. Resize masks with nearest "
            "neighbours, or crop both alike."
        )
