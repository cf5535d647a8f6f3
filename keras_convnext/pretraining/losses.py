"""The loss of the masked autoencoder: the error of the pixels that it did not see."""

from keras import ops

EPSILON = 1e-6


def patchify(images, side):
    """Returns the pixels of each patch as one vector, in the order row, column, channel.

    Args:
        images: `(batch, height, width, channels)`, multiples of `side`.
        side: of a patch, in pixels.

    Returns:
        `(batch, height / side, width / side, side * side * channels)`.
    """
    height, width, channels = images.shape[1:]
    rows, columns = height // side, width // side
    x = ops.reshape(images, (-1, rows, side, columns, side, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows, columns, side * side * channels))


def unpatchify(patches, side):
    """Returns the images of patches, as `patchify` was given them."""
    rows, columns, size = patches.shape[1:]
    channels = size // side**2
    x = ops.reshape(patches, (-1, rows, columns, side, side, channels))
    x = ops.transpose(x, (0, 1, 3, 2, 4, 5))
    return ops.reshape(x, (-1, rows * side, columns * side, channels))


def moments(patches):
    """Returns mean and standard deviation of each patch, of the last axis, which is kept.

    The variance is the unbiased one, plus 1e-6.
    """
    mean = ops.mean(patches, axis=-1, keepdims=True)
    centred = patches - mean
    size = patches.shape[-1]
    variance = ops.sum(centred * centred, axis=-1, keepdims=True) / max(size - 1, 1)
    return mean, ops.sqrt(variance + EPSILON)


def reconstruction_loss(images, prediction, hidden, normalized=True, weights=None):
    """Returns the mean squared error over the pixels of the hidden patches, a scalar in float32.

    Source: arXiv 2301.00808, section 3.1; arXiv 2111.06377, section 3 (normalised pixels).

    Args:
        images: `(batch, height, width, channels)`, as the encoder sees them, before the mask.
        prediction: `(batch, rows, columns, pixels of a patch)`, as `patchify` orders them.
        hidden: bool `(batch, rows, columns)`, true where a patch was hidden, equally often in every
            image.
        normalized: whether the target is each patch with its own mean subtracted and divided by its
            own standard deviation.
        weights: `(batch,)`: the loss is the mean over the images of their errors times these.
    """
    side = images.shape[1] // hidden.shape[1]
    target = patchify(ops.cast(images, "float32"), side)
    if normalized:
        mean, deviation = moments(target)
        target = (target - mean) / deviation
    error = ops.mean(ops.square(ops.cast(prediction, "float32") - target), axis=-1)
    hidden = ops.cast(hidden, "float32")
    error = ops.sum(error * hidden, axis=(1, 2)) / ops.maximum(ops.sum(hidden, axis=(1, 2)), 1)
    return ops.mean(error if weights is None else error * ops.cast(weights, "float32"))
