"""From a photograph to the names of what is on it: a model, its transform and its labels together.

classify = keras_convnext.Classifier("convnext_tiny.fb_in1k")
classify("photo.jpg")[0]      # Prediction(name='tiger_cat', probability=0.46, ...)
"""

import dataclasses
import functools
import numbers
import os

import numpy as np

from keras_convnext import labels as label_sets
from keras_convnext import named_weights, outputs, untrusted
from keras_convnext.checks import integer, keywords, one_of
from keras_convnext.named_weights import ArgumentsError
from keras_convnext.predictions import ACTIVATIONS, Predictor, of_classes
from keras_convnext.predictions import Prediction as Prediction
from keras_convnext.preprocessing import EvalTransform, evaluation_transform
from keras_convnext.pretrained import registry
from keras_convnext.whole_models import (
    CLASSES,
    TRANSFORM,
    image_channels,
    image_side,
    load_model,
    published_row,
    shape_of,
    whole_file,
)


class Classifier(Predictor):
    """A model, the transform of its images and the names of its classes.

    Args:
        source: what answers, one of
            name of a published checkpoint: "convnext_tiny.fb_in1k", or "convnext_tiny" for the
            usual one of that architecture;
            "hf://owner/repo[@revision][/file]";
            path of a file of weights, in any published layout;
            path of a `.keras` file, which is loaded without running code from it;
            path of the folder of a training, which has `best.keras` and `classes.json`;
            a `keras.Model` of any kind, from images `(batch, height, width, 3)` in [0, 255], or
            grey ones with 1 channel, to `(batch, classes)`.
        transform: an `EvalTransform`; or a dict of those of its arguments that differ from what is
            usual for the source, for example `{"size": 288}`. `None`: that of `transform.json`
            beside the file, with which a training validated it; else the evaluation of the
            published weights that the model began with, or of the authors of ConvNeXt, at the size
            that the model takes. Unlike there, photos are turned as their EXIF says, unless the
            training took them as they are stored, an `EvalTransform` is given, or
            `{"upright": False}`.
        labels: the names of the classes: a list; a dict from 0, 1, ... to names; the path of a file
            (see `labels.read_names`); or the name of a label set, "imagenet1k". `None`: those of
            the published weights, or of `classes.json` beside the file.
        variant: name of the architecture of a file of weights; `None`: the file tells it.
        activation: what turns the model's outputs into probabilities: "none", "softmax" or
            "sigmoid". `None`: it is recognised. Several logits are taken for classes that exclude
            each other; one logit or one probability is the second of two classes.
        batch_size: images that the model sees at once.

    Attributes:
        name: of the source, for messages.
        model: the `keras.Model`.
        transform: the `EvalTransform`.
        activation: as the argument; `None` until the first outputs where only they tell.
        row: of the registry, for published weights, else `None`.

    Raises:
        ValueError: if the source is no classifier of RGB images, its name is unknown, an argument
            does not fit, or the number of names is another than that of the classes.
        FileNotFoundError: if there is no such file.
        DownloadError: (an OSError) if weights could not be fetched.
        WeightsError: (a ValueError) if a file of weights cannot be read.

    Example:
        from keras_convnext import Classifier
        classify = Classifier("convnext_tiny.fb_in1k")
        best = classify("photo.jpg", top=3)[0]
        print(best.name, best.probability)
    """

    def __init__(
        self,
        source="convnext_tiny",
        *,
        transform=None,
        labels=None,
        variant=None,
        activation=None,
        batch_size=32,
    ):
        one_of("activation", activation, (None, *ACTIVATIONS))
        self.batch_size = integer("batch_size", batch_size, 1)
        self._given = _given_labels(labels)  # a wrong file is noticed before a download
        self._beside = None
        if not isinstance(source, (str, os.PathLike)):
            name = getattr(source, "name", type(source).__name__)
            if variant is not None:
                raise ArgumentsError(f"{name} is a model, not a file: omit `variant=`.")
            self._take_model(source, transform, name)
        elif (path := whole_file(source, variant)) is not None:
            beside = _transform_beside(path) if not isinstance(transform, EvalTransform) else {}
            self._take_model(load_model(path), transform, str(path), beside)
            self._beside = _names_beside(path)
        else:
            self._take_weights(os.fspath(source), transform, variant)
        self.activation = activation or outputs.activation_of(self.model)
        self.classes = self._count()
        named = len(self._given or ())
        if named not in (0, self.classes):
            place = labels if isinstance(labels, (str, os.PathLike)) else "`labels`"
            raise ValueError(f"{place} names {named} classes, {self.name} has {self.classes}.")

    def _count(self):
        """Returns the number of classes; a model with one output tells two apart."""
        shape = shape_of(self.model, "output_shape")
        if shape is None:  # only a call tells
            size = self.transform.size
            shape = np.shape(self.model.predict_on_batch(np.zeros((1, size, size, 3), "uint8")))
        if len(shape) != 2 or not shape[-1]:
            raise ValueError(
                f"{self.name} gives outputs of shape {shape}; needed is (batch, classes)."
            )
        named_alone = self._given is not None and len(self._given) == 1
        return 2 if shape[-1] == 1 and not named_alone else shape[-1]

    def _take_model(self, model, transform, name, usual=None):
        if not callable(model):
            raise TypeError(
                "`source` must be a name, a path or a Keras model, received "
                f"{type(model).__name__}."
            )
        side, self._channels = image_side(model, name), image_channels(model)
        self.name, self.model, self.row = name, model, published_row(model)
        self.transform = _transform(transform, self.row, side, usual)
        if side not in (None, self.transform.size):
            raise ArgumentsError(
                f"{name} takes images of {side} pixels, the transform gives {self.transform.size}."
            )

    def _take_weights(self, source, transform, variant):
        row = named_weights.row_of(source, variant)
        if row is not None and (not row.classes or row.label_set == "clip"):
            kind = "a CLIP embedding" if row.classes else "features"
            raise ValueError(
                f"{row.name} gives {kind}, not classes. "
                "`keras_convnext.pretrained.search(label_set='imagenet1k')` lists classifiers."
            )
        self.transform = _transform(transform, row, None)
        weights = named_weights.weights_of(source, variant)
        if not weights.classes:
            raise ValueError(f"{weights.name} has no classifier, so it cannot predict.")
        size = self.transform.size
        self.name, self.row = weights.name, row
        self._channels = 3
        self.model = weights.build(input_shape=(size, size, 3))

    # ------------------------------------------------------------ answers

    def of_pixels(self, pixels, fill=False):
        """The probabilities of images that went through the transform.

        Args:
            pixels: array `(n, size, size, channels)` in [0, 255], such as of `pixels`;
                n <= `batch_size`.
            fill: whether to fill up to `batch_size`, so that all batches have one shape and are
                compiled once.

        Returns:
            float32 array `(n, classes)`.

        Raises:
            ValueError: if an output is not finite, or it cannot be told what the outputs are.
        """
        count = len(pixels)
        if fill and count < self.batch_size:
            pixels = np.concatenate([pixels, pixels[:1].repeat(self.batch_size - count, 0)])
        found = np.asarray(self.model.predict_on_batch(pixels))[:count]
        self._check_finite(found)
        if self.activation is None:
            self.activation = outputs.activation_of_values(found, self.name)
        return of_classes(found, self.activation, self.classes)

    @functools.cached_property
    def _known_names(self):
        names = self._given or self._beside
        is_whole = self.row and getattr(self.model, "published", None) == self.row.name
        if names is None and is_whole and self.row.classes == self.classes:
            return label_sets.class_names(self.row.label_set)
        return names


def _transform(given, row, side, usual=None):
    """Returns the `EvalTransform`: as given, or what is usual with the given fields changed.

    `usual` has fields with which the model was validated, where that is known.
    """
    if isinstance(given, EvalTransform):
        return given
    if not isinstance(given, (dict, type(None))):
        raise TypeError(
            "`transform` must be an EvalTransform, a dict of its arguments or None, received "
            f"{type(given).__name__}."
        )
    arguments = [field.name for field in dataclasses.fields(EvalTransform)]
    keywords("EvalTransform", given or {}, arguments)
    fields = {"size": side, "upright": True, **_unless_changed(usual or {}, given or {})}
    if row is not None and fields["size"] == row.size:
        fields["size"] = None
    return evaluation_transform(row, **fields)


def _unless_changed(usual, given):
    """Returns the fields of both; another crop or way to resize replaces the usual ones."""
    geometry = "crop_pct", "resize", "resize_size"
    if any(name in given for name in geometry):
        usual = {name: value for name, value in usual.items() if name not in geometry}
    return {**usual, **given}


def _given_labels(labels):
    """Returns the (id or None, name) of classes that were given, `None` for none."""
    if labels is None:
        return None
    if isinstance(labels, (str, os.PathLike)):
        if labels not in registry.LABEL_SETS:
            return label_sets.read_names(labels)
        if labels not in label_sets.NAMED:
            raise ValueError(f"The names of the classes of {labels} are not known here.")
        return label_sets.class_names(labels)
    if isinstance(labels, dict):
        if all(isinstance(value, numbers.Integral) for value in labels.values()):
            labels = {index: name for name, index in labels.items()}
        labels = {str(index): name for index, name in labels.items()}
    return label_sets.checked_names(labels if isinstance(labels, dict) else list(labels))


def _names_beside(path):
    """Returns the names of the classes in the folder of a training that a model lies in."""
    file = path.parent / CLASSES
    return label_sets.read_names(file) if file.is_file() else None


def _transform_beside(path):
    """Returns the fields of the transform with which a training validated the model in its folder.

    Raises:
        ValueError: if the file says something else.
    """
    file = path.parent / TRANSFORM
    if not file.is_file():
        return {}
    try:
        fields = untrusted.json_of(untrusted.text_of(file))
        EvalTransform(**fields)
    except (ValueError, TypeError) as error:
        raise ValueError(
            f"{file}: is no transform ({error}). A training writes it beside its model; without "
            "the file, photos are prepared in the usual way."
        ) from None
    return fields
