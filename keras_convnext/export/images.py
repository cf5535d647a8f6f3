"""Images for calibration and comparison, as a model takes them."""

import os
from collections import Counter
from pathlib import Path

import numpy as np

from keras_convnext.classifier import Classifier
from keras_convnext.detection import Detector
from keras_convnext.export.plan import taken_by
from keras_convnext.images import images_in

MOST = 512  # images of a folder; more change nothing
DETECTED = 8  # photos that a detector looks at twice, which takes it a while


def as_model_takes_them(model, plan, images):
    """Returns a float32 array `(n, height, width, channels)`; of a detector a list of pairs of such
    an array, and height and width of the images in it, `(n, 2)`.

    Args:
        model: what is exported.
        plan: its `Plan`.
        images: such an array; for a `Classifier` or a `Detector` also a list of images, or the path
            of a folder, of whose images at most 512 are taken, evenly spread.

    Raises:
        ValueError: if the shape does not fit, or there are no images.
    """
    if isinstance(model, Detector) and not hasattr(images, "__array__"):
        return [model.prepared(image) for image in _listed(images)[:DETECTED]]
    if isinstance(model, Classifier) and not hasattr(images, "__array__"):
        found = _listed(images)
        images = np.stack([model.pixels(image) for image in found]) if found else np.zeros(0)
    images = np.asarray(images)
    own = taken_by(plan.model)[1:]
    fits = images.ndim == len(own) + 1 and all(
        size in (None, other) for size, other in zip(own, images.shape[1:], strict=True)
    )
    if not fits or not len(images):
        raise ValueError(
            f"The images must be an array of shape {(None, *own)}, or of a `Classifier` or a "
            f"`Detector` a list of images or a folder; received shape {images.shape}."
        )
    images = images.astype("float32")
    if plan.is_detector:
        some = images[:DETECTED]
        return [(some, np.float32([some.shape[1:3]] * len(some)))]
    return images


def classes_in(model, images):
    """Returns the class of each image of a folder, int array `(n,)`, or `None` where none is told.

    Args:
        model: what is exported.
        images: as above. Classes are told by a folder for each, called by the name of the class or
            its WordNet id, of a `Classifier` that knows these.
    """
    if not isinstance(model, Classifier) or not isinstance(images, (str, os.PathLike)):
        return None
    folders = [path.relative_to(images).parts[0] for path in _listed(images)]
    known = enumerate(model.names if model.has_names else ())
    told = [(name, number) for number, names in known for name in dict.fromkeys(names) if name]
    counts = Counter(name for name, _ in told)  # a name of two classes tells neither
    numbers = {name: number for name, number in told if counts[name] == 1}
    found = [numbers.get(folder) for folder in folders]
    return None if None in found or not found else np.array(found)


def _listed(images):
    if not isinstance(images, (str, os.PathLike)):
        return list(images)
    paths = images_in(Path(images))
    step = max(1, -(-len(paths) // MOST))
    return paths[::step]
