"""The classifier that `predict` asks, and what belongs to it."""

import dataclasses
import os

from keras_convnext import labels
from keras_convnext.cli import console, naming, transforms
from keras_convnext.cli.flags import UsageError
from keras_convnext.pretrained import download, registry


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A model and what belongs to it.

    Attributes:
        name: for messages.
        model: from uint8 images (N, size, size, 3) to (N, classes).
        transform: the `EvalTransform` of its images.
        label_set: whose classes these are, or `None`.
        is_softmaxed: whether probabilities come out, and not logits.
    """

    name: str
    model: object
    transform: object
    label_set: str | None = None
    is_softmaxed: bool = True

    def probabilities(self, images):
        import numpy as np

        outputs = np.asarray(self.model.predict_on_batch(images), "float64")
        if self.is_softmaxed:
            return outputs
        outputs = np.exp(outputs - outputs.max(-1, keepdims=True))
        return outputs / outputs.sum(-1, keepdims=True)


def classifier_of(arguments):
    """-> the `Classifier` that `predict` was asked for; downloads if need be."""
    if arguments.model.endswith(".keras") and os.path.isfile(arguments.model):
        return _whole_model(arguments)
    row = naming.row_of(arguments.model, arguments.variant)
    if row is not None and (not row.classes or row.label_set == "clip"):
        kind = "a CLIP embedding" if row.classes else "features"
        raise ValueError(
            f"{row.name} gives {kind}, not classes. `keras-convnext list --label-set imagenet1k` "
            "shows classifiers."
        )
    transform = transforms.transform_of(arguments, row)
    weights = naming.weights_of(arguments.model, arguments.variant)
    if not weights.classes:
        raise ValueError(f"{weights.name} has no classifier, so it cannot predict.")
    model = weights.build(input_shape=(transform.size, transform.size, 3))
    return Classifier(weights.name, model, transform, row.label_set if row else None)


def _whole_model(arguments):
    """A `.keras` file with its own architecture."""
    import keras

    path = arguments.model
    model = loaded(path, arguments.variant)
    transform = transforms.transform_of(arguments, size=_side(path, model, arguments.size))
    activation = getattr(model.layers[-1], "activation", None)
    probable = (keras.activations.softmax, keras.activations.sigmoid)
    return Classifier(path, model, transform, is_softmaxed=activation in probable)


def loaded(path, variant=None):
    """-> the model of a `.keras` file, loaded in Keras' safe mode."""
    import keras

    import keras_convnext.segmentation  # noqa: F401  registers all layers

    if variant:
        raise UsageError("A .keras file says its architecture itself: leave --variant away.")
    try:
        return keras.saving.load_model(path, compile=False)
    except Exception as error:  # of a damaged file, or of an unknown layer, it may be any
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"{path}: Keras cannot load this model: {reason[0]} Only layers of Keras and of "
            "keras_convnext are known here, and none that hold code."
        ) from error


def _side(path, model, size):
    """-> side of the images of a model of unknown origin."""
    shapes = model.input_shape, model.output_shape
    if not all(isinstance(shape, tuple) for shape in shapes) or list(map(len, shapes)) != [4, 2]:
        raise ValueError(
            f"{path}: goes from {shapes[0]} to {shapes[1]}; needed is a classifier, from "
            "(batch, height, width, 3) to (batch, classes)."
        )
    _, height, width, channels = shapes[0]
    if channels != 3 or height != width:
        raise ValueError(f"{path}: takes images of {shapes[0][1:]}, needed are square RGB images.")
    if size and height and size != height:
        raise UsageError(f"{path} takes images of {height} pixels, --size says {size}.")
    return height or size


def names_of(given, classifier):
    """-> [(id or None, name)] of the classes.

    Args:
        given: a file, a label set, or `None` for the classifier's own label set.
        classifier: whose number of classes it must be.
    """
    classes = classifier.model.output_shape[-1]
    place = given or classifier.label_set
    is_file = given is not None and given not in registry.LABEL_SETS
    names = labels.read_names(place) if is_file else _published_names(place)
    if names is None:
        return [(None, f"class {index}") for index in range(classes)]
    if len(names) != classes:
        raise ValueError(f"{place} names {len(names)} classes, {classifier.name} has {classes}.")
    return names


def _published_names(label_set):
    try:
        return labels.class_names(label_set)
    except download.DownloadError as error:
        reason = str(error).splitlines()
        console.say(
            f"Note: {reason[0]} {' '.join(reason[2:4]).strip()}. The classes are shown by their "
            "number; `--labels FILE` gives names."
        )
        return None
