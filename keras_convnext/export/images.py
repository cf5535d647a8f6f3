"""Images for calibration and comparison, as a model takes them."""

import os

import numpy as np

from keras_convnext.classifier import Classifier
from keras_convnext.images import images_in

MOST = 512  # images of a folder; more change nothing


def as_model_takes_them(model, plan, images):
    """Returns a float32 array `(n, height, width, channels)`.

    Args:
        model: what is exported.
        plan: its `Plan`.
        images: such an array; for a `Classifier` also a list of images, or the path of a folder, of
            whose images at most 512 are taken, evenly spread.

    Raises:
        ValueError: if the shape does not fit, or there are no images.
    """
    if isinstance(model, Classifier) and not hasattr(images, "__array__"):
        found = _listed(images)
        images = np.stack([model.pixels(image) for image in found]) if found else np.zeros(0)
    images = np.asarray(images)
    own = plan.model.input_shape[1:]
    fits = images.ndim == len(own) + 1 and all(
        size in (None, other) for size, other in zip(own, images.shape[1:], strict=True)
    )
    if not fits or not len(images):
        raise ValueError(
            f"The images must be an array of shape {(None, *own)}, or of a `Classifier` a list of "
            f"images or a folder; received shape {images.shape}."
        )
    return images.astype("float32")


def _listed(images):
    if not isinstance(images, (str, os.PathLike)):
        return list(images)
    paths = images_in(images)
    step = max(1, -(-len(paths) // MOST))
    return paths[::step]
