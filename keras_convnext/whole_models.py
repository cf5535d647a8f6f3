"""Whole models, of a `.keras` file or of a user's own: loaded, and asked what they take."""

import os
from pathlib import Path

import keras

from keras_convnext import names, outputs
from keras_convnext.errors import first_line
from keras_convnext.features import PyramidModel
from keras_convnext.inside import layers_of
from keras_convnext.named_weights import ArgumentsError
from keras_convnext.pretrained import registry

BEST, CONFIG, CLASSES = "best.keras", "config.json", "classes.json"  # in a training's folder
TRANSFORM = "transform.json"


def whole_file(source, variant=None):
    """Returns the path of the `.keras` file that a source stands for, `None` for all else.

    Args:
        source: path of a `.keras` file, or of the folder of a training; or anything else.
        variant: name of an architecture, which such a file does not need.

    Raises:
        FileNotFoundError: if the folder has no model of a finished training.
        ArgumentsError: if there is a variant.
    """
    path = Path(source)
    if os.fspath(source) and path.is_dir():  # an empty name is no folder, though its Path is "."
        path = _best_of(path)
    elif path.suffix != ".keras" or not path.is_file():
        return None
    if variant:
        raise ArgumentsError("A .keras file says its architecture itself: omit `variant=`.")
    return path


def _best_of(folder):
    """Returns the model in the folder of a training."""
    best = folder / BEST
    if best.is_file():
        return best
    allowed = f"Name the folder of a training (with {BEST}), a .keras file or a checkpoint."
    if (folder / CONFIG).is_file():
        why = f"the training in it has written no {BEST} yet: finish it first"
    elif (folder / "saved_model.pb").is_file():
        why = "it holds a SavedModel, which is not read here: save the model as a .keras file"
    else:
        why = f"no {BEST} is in it"
    raise FileNotFoundError(f"{str(folder)!r} is a folder, and {why}. {allowed}")


def load_model(path):
    """Returns the model of a `.keras` file, loaded in Keras' safe mode, not compiled.

    Raises:
        ValueError: if Keras cannot load it.
    """
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # of a damaged file, or of an unknown layer, it may be any
        raise ValueError(
            f"{path}: Keras cannot load this model: {first_line(error).rstrip('.')}. Only layers "
            "of Keras and of keras_convnext are known here, and none that hold code."
        ) from error


def image_side(model, name):
    """Returns the side of the images that a classifier takes, `None` where any will do.

    Args:
        model: a `keras.Model`; of a subclassed one nothing is known before it is called.
        name: for the message.

    Raises:
        ValueError: if it does not go from square RGB or grey images in [0, 255] to classes.
    """
    outputs.refuse_detector(model, name)
    if hasattr(model, "preprocess_samples") and model.preprocessor is not None:
        raise ValueError(
            f"{name} is a task of KerasHub, which prepares images itself: its `predict` takes them "
            "as they are."
        )
    shapes = shape_of(model, "input_shape"), shape_of(model, "output_shape")
    if None in shapes:
        return None
    if not all(isinstance(shape, tuple) for shape in shapes) or list(map(len, shapes)) != [4, 2]:
        raise ValueError(
            f"{name}: goes from {shapes[0]} to {shapes[1]}; needed is a classifier, from "
            "(batch, height, width, 3) to (batch, classes)." + advice(shapes[1])
        )
    _, height, width, channels = shapes[0]
    if channels not in (1, 3) or height != width:
        raise ValueError(
            f"{name}: takes images of {shapes[0][1:]}, needed are square RGB or grey images, "
            "channels last."
        )
    if isinstance(model, PyramidModel) and not normalises(model):
        raise ValueError(
            f"{name} takes images that are normalised already: build it with "
            "`include_preprocessing=True`, so that it takes images in [0, 255]."
        )
    return height


def image_channels(model):
    """Returns the number of channels that a classifier takes: 3 where it does not say."""
    shape = shape_of(model, "input_shape")
    return 3 if shape is None else shape[-1]


def advice(shape):
    """Returns a sentence, with a space before it, on what answers for models of an output shape.

    Args:
        shape: as `shape_of` gives it, a list where there are several outputs; or `None`.
    """
    axes = {len(one or ()) for one in (shape if isinstance(shape, list) else [shape])}
    if axes == {4}:
        return " A model with an output per pixel is for `segmentation.Segmenter`."
    return " A model with an output per class is for `Classifier`." if axes == {2} else ""


def shape_of(model, attribute):
    """Returns `model.input_shape` or `.output_shape`, `None` for a model that is no graph."""
    try:
        return getattr(model, attribute)
    except (AttributeError, ValueError):
        return None


def normalises(model):
    """Returns whether anything is between a ConvNeXt's input and its stem."""
    stems = [layer for layer in model.layers if names.local(layer.name) == names.STEM]
    return not stems or not isinstance(
        stems[0].input._keras_history.operation, keras.layers.InputLayer
    )


def published_row(model):
    """Returns the registry's row of the weights that a model, or one inside of it, began with.

    `None` where it does not say, or the row is unknown here.
    """
    known = {row.name: row for task in set(registry.TASKS.values()) for row in registry.rows(task)}
    parts = (model, *layers_of(model)) if isinstance(model, keras.Model) else ()
    found = (known.get(getattr(part, "published", None)) for part in parts)
    return next(filter(None, found), None)
