"""What a detector is made of: a model, given itself, by a name or by a file; and its classes."""

import os
from pathlib import Path

import keras

from keras_convnext import labels as label_sets
from keras_convnext import whole_models
from keras_convnext.checks import one_of
from keras_convnext.detection import checkpoints
from keras_convnext.detection.class_names import given_classes, of_label_set, with_ids
from keras_convnext.detection.models import CascadeMaskRCNN, DetectionModel, MaskRCNN
from keras_convnext.named_weights import ArgumentsError, NamedWeights
from keras_convnext.variants import VARIANTS

FAMILIES = {"mask_rcnn": MaskRCNN, "cascade_mask_rcnn": CascadeMaskRCNN}


def model_of(source, variant=None):
    """Returns the `DetectionModel` that a source stands for, and the path of its file if that is a
    whole model, else `None`.

    Args:
        source: as the argument `model` of `Detector`.
        variant: name of the architecture of a file of weights; `None`: the file tells it.

    Raises:
        ArgumentsError: (a ValueError) if the variant is given where nothing asks for it.
        ValueError, FileNotFoundError, DownloadError, WeightsError: as `Detector` says.
    """
    if not isinstance(source, (str, os.PathLike)):
        name = str(getattr(source, "name", type(source).__name__))
        if variant is not None:
            raise ArgumentsError(f"{name} is a model, not a file: omit `variant=`.")
        return _checked(source, name), None
    path = whole_models.whole_file(source, variant)
    if path is not None:
        return _checked(whole_models.load_model(path), str(path)), path
    source = os.fspath(source)
    if source.startswith("hf://") or Path(source).is_file():
        file = checkpoints.local_file(source)
        head, found = checkpoints.identify(file)
        architecture = VARIANTS[one_of("variant", variant or found, VARIANTS)]
        return NamedWeights(source, architecture, Path(file), head=head).build(), None
    row = checkpoints.find(source, variant)
    return FAMILIES[row.head](row.variant, weights=row.name), None


def _checked(model, name):
    if isinstance(model, DetectionModel):
        if not whole_models.normalises(model.pyramid):
            raise ValueError(
                f"{name} takes images that are normalised already: build it with "
                "`include_preprocessing=True`, so that it takes images in [0, 255]."
            )
        return model
    if not isinstance(model, keras.Model):
        raise TypeError(
            f"`model` must be a name, a path or a DetectionModel, received {type(model).__name__}."
        )
    raise ValueError(
        f"{name} is no detector: needed is a `DetectionModel`, for example of `MaskRCNN(...)`."
        + whole_models.advice(whole_models.shape_of(model, "output_shape"))
    )


def classes_of(labels, model, path=None):
    """Returns `((category id or None, name), ...)` of a model's classes; empty if none are known.

    Args:
        labels: as of `Detector`; `None`: those that belong to the model.
        model: the `DetectionModel`.
        path: of its file, beside which names may be.

    Raises:
        ValueError: if there is another number of names than of classes.
        OSError: if a file cannot be read.
    """
    found = given_classes(labels)
    if labels is None:
        found = _published(model) or _beside(path)
    if found and len(found) != model.classes:
        place = labels if isinstance(labels, (str, os.PathLike)) else "`labels`"
        raise ValueError(f"{place} names {len(found)} classes, the model has {model.classes}.")
    return found


def _published(model):
    """Returns the classes of the published weights that a model began with, if it has as many."""
    row = next((row for row in checkpoints.rows() if row.name == model.published), None)
    return of_label_set(row.label_set) if row and row.classes == model.classes else ()


def _beside(path):
    file = path and path.parent / whole_models.CLASSES
    return with_ids(label_sets.read_names(file)) if file and file.is_file() else ()
