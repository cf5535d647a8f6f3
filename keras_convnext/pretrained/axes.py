"""Turns the arrays of other libraries into the shapes and the order of axes of our weights."""

import re

import numpy as np

# The first dense layer behind the pooling of a box. Its inputs are flattened maps of 7 x 7 pixels,
# in PyTorch (channels, 7, 7), here (7, 7, channels).
BEHIND_POOLING, POOLED_SIDE = re.compile(r"box_head\d+/dense0/kernel"), 7


def conversion(path, theirs, ours, keras_axes):
    """Returns the function from their array to ours, `None` if the shapes do not fit.

    Args:
        path: of our weight.
        theirs, ours: shapes.
        keras_axes: whether theirs has Keras' order of axes; otherwise it is PyTorch's.
    """
    if len(ours) == 1:
        fits = max(theirs, default=1) == ours[0] == int(np.prod(theirs, dtype=object))
        return (lambda array: np.reshape(array, ours)) if fits else None
    if BEHIND_POOLING.fullmatch(path) and not keras_axes:
        fits = theirs == ours[::-1] and ours[0] % POOLED_SIDE**2 == 0
        return _channels_last_inputs if fits else None
    axes = _axes(path, theirs, ours, keras_axes)
    if axes is None:
        return None
    shape = tuple(theirs[axis] for axis in axes)
    if shape == ours:
        return lambda array: array.transpose(axes)
    if len(ours) == 2 and shape[-2:] == ours and set(shape[:-2]) == {1}:  # a 1x1 convolution
        return lambda array: array.transpose(axes).reshape(ours)
    stem = path in ("stem/conv/kernel", "stem/conv1/kernel")
    if stem and shape[2] == 3 and (*shape[:2], shape[3]) == (*ours[:2], ours[3]):
        return lambda array: _adapt_stem(array.transpose(axes), ours[2])
    return None


def _channels_last_inputs(kernel):
    """Returns PyTorch's kernel (units, channels * 7 * 7) as ours, (7 * 7 * channels, units)."""
    side, (units, inputs) = POOLED_SIDE, kernel.shape
    return kernel.reshape(units, -1, side, side).transpose(2, 3, 1, 0).reshape(inputs, units)


def channels_first_inputs(kernel):
    """Returns our kernel (7 * 7 * channels, units) as PyTorch's, (units, channels * 7 * 7)."""
    side, (inputs, units) = POOLED_SIDE, kernel.shape
    return kernel.reshape(side, side, -1, units).transpose(3, 2, 0, 1).reshape(units, inputs)


def packed(array, step=64):
    """Returns a copy of the array in contiguous memory of its own.

    It is always a copy: the array may be the mapped bytes of a file, JAX keeps the memory that it
    is given, and a model must not change when the file does. It is written in strips that the
    processor's cache holds, which takes a third of the time of `np.ascontiguousarray` for large
    transposed matrices.
    """
    if array.flags.c_contiguous:
        return array.copy()
    packed = np.empty(array.shape, array.dtype)
    for start in range(0, array.shape[-1], step):
        packed[..., start : start + step] = array[..., start : start + step]
    return packed


def _axes(path, theirs, ours, keras_axes):
    """Returns which axis of theirs becomes each of ours, `None` if they differ in number."""
    if keras_axes:
        # keras.applications has its depthwise kernels as (k, k, 1, channels)
        grouped = "dwconv" in path and len(theirs) == 4 and theirs[2] == 1 != theirs[3]
        if len(theirs) != len(ours):
            return None
        return (0, 1, 3, 2) if grouped else tuple(range(len(theirs)))
    if len(theirs) == 4:  # (out, in, height, width); depthwise (channels, 1, height, width)
        return (2, 3, 0, 1) if "dwconv" in path else (2, 3, 1, 0)
    return (1, 0) if len(theirs) == len(ours) == 2 else None


def _adapt_stem(kernel, channels):
    """Returns an RGB kernel (h, w, 3, out) for other channels, with a response of equal scale."""
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    return np.take(kernel, np.arange(channels) % 3, axis=2) * (3 / channels)
