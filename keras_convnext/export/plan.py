"""What is going to be written: the model, its input, and what of it is left out."""

import dataclasses

import keras
import numpy as np

from keras_convnext import checks, names, outputs
from keras_convnext.classifier import Classifier
from keras_convnext.detection import DetectionModel, Detector
from keras_convnext.detection.settings import MULTIPLE
from keras_convnext.export.graph.detectors import options_of
from keras_convnext.export.metadata import described, of_detector
from keras_convnext.features import PyramidModel
from keras_convnext.inside import layers_of
from keras_convnext.segmentation import SegmentationModel, checkpoints
from keras_convnext.whole_models import published_row, shape_of

DTYPES = ("uint8", "float32")


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is going to be written.

    Attributes:
        model: the `keras.Model`.
        shape: of one input of the file, without the batch; `None` for a size that is free.
        dtype: of the input, "uint8" or "float32".
        normalization: the `Normalization` layer that is left out, or `None`.
        linear: the layer or operation whose softmax or sigmoid is left out, or `None`.
        added: "softmax" or "sigmoid" where the file ends with one that the model does not have.
        outputs: names of the outputs of the file, in their order.
        metadata: what the file says about itself, `{key: str}`.
    """

    model: keras.Model
    shape: tuple
    dtype: str
    normalization: keras.Layer | None
    linear: object
    added: str | None
    outputs: tuple
    metadata: dict

    @property
    def is_plain(self):
        """Whether the file computes what the model does, of the same inputs."""
        return self.normalization is None and self.linear is None and self.added is None

    @property
    def any_size(self):
        """Whether the file takes other sizes than the model."""
        return self.shape != taken_by(self.model)[1:]

    @property
    def sides(self):
        """Height, width and channels of an image that file and model take, `None` where any do."""
        both = zip(self.shape, taken_by(self.model)[1:], strict=True)
        return tuple(model_s if file_s is None else file_s for file_s, model_s in both)

    @property
    def is_detector(self):
        """Whether the file finds objects, which are not compared number by number."""
        return is_detector(self.model)

    def normalised(self, images):
        """Returns images as the file takes them.

        Args:
            images: array of images as the model takes them.
        """
        if self.normalization is None:
            return images.astype(self.dtype)
        mean, std = moments(self.normalization)
        return ((images - mean) / std).astype("float32")


def plan_of(source, input_shape=None, input_dtype=None, preprocessing=True, softmax=None):
    """Returns the `Plan` of an export; arguments and errors are those of `export`."""
    model = source.model if isinstance(source, (Classifier, Detector)) else source
    _check_model(model)
    checks.one_of("input_dtype", input_dtype, (None, *DTYPES))
    checks.one_of("preprocessing", preprocessing, (True, False))
    checks.one_of("softmax", softmax, (None, True, False))
    if isinstance(model, DetectionModel):
        return _of_detector(source, model, input_shape, input_dtype, preprocessing, softmax)
    classifier = source if isinstance(source, Classifier) else _classifier_of(model)
    normalization = None if preprocessing else _normalization_of(model)
    linear, added, activation = _ending(model, classifier, softmax)
    pixels = preprocessing and (classifier is not None or takes_pixels(model))
    dtype = _dtype(input_dtype, pixels, "uint8" if pixels else "float32")
    shape = _shape(model, input_shape)
    task = _task(model, classifier)
    row = classifier.row if classifier else published_row(model)
    metadata = described(
        classifier,
        model,
        row,
        **(_of_pixels(model, row) if task == "segmentation" else {}),
        task=task,
        input=_input(model, dtype, pixels, normalization),
        activation=activation if task == "classification" else None,
    )
    found = _output_names(model, task, activation)
    return Plan(model, shape, dtype, normalization, linear, added, found, metadata)


def is_detector(source):
    """Returns whether a model finds objects: a `Detector` or a `DetectionModel`."""
    return isinstance(source, (Detector, DetectionModel))


def _of_detector(source, model, input_shape, input_dtype, preprocessing, softmax):
    """Returns the `Plan` of a `Detector` or a `DetectionModel`."""
    if softmax is not None:
        raise ValueError(
            f"{model.name} is a detector, which gives boxes with scores: omit `softmax`."
        )
    pixels = preprocessing and takes_pixels(model)
    dtype = _dtype(input_dtype, pixels, "float32")  # which holds the mean colour beside a photo
    normalization = None if preprocessing else _normalization_of(model)
    row = published_row(model)
    if not isinstance(source, Detector) and takes_pixels(model):
        source = Detector(model)
    metadata = described(
        None,
        model,
        row,
        **(of_detector(source) if isinstance(source, Detector) else {}),
        options=options_of(model.settings),
        task="detection",
        classes=model.classes,
        input=_input(model, dtype, pixels, normalization),
    )
    outputs = tuple(model.compute_output_spec(keras.KerasTensor(taken_by(model))))
    shape = _shape(model, input_shape)
    if any(side is not None and side % MULTIPLE for side in shape[:2]):
        raise ValueError(
            f"The sides of `input_shape` must be multiples of {MULTIPLE} or None, received {shape}."
        )
    return Plan(model, shape, dtype, normalization, None, None, outputs, metadata)


def taken_by(model):
    """Returns the shape of the images that a model takes, `None` where it is not known."""
    return shape_of(model.pyramid if isinstance(model, DetectionModel) else model, "input_shape")


def _dtype(given, pixels, usual):
    if given == "uint8" and not pixels:
        raise ValueError(
            "`input_dtype` must be 'float32': the file would take images that are normalised, "
            "which uint8 cannot hold."
        )
    return given or usual


def _check_model(model):
    if not isinstance(model, keras.Model):
        raise TypeError(
            "`model` must be a Keras model, a Classifier or a Detector, received "
            f"{type(model).__name__}."
        )
    shape = taken_by(model)
    if shape is None:
        advice = "Rebuild it with `keras.Model(inputs, outputs)`."
        if isinstance(model, keras.Sequential):
            advice = "Call it once, or begin it with a `keras.Input`."
        raise ValueError(f"{model.name} is a {type(model).__name__} of no known input. {advice}")
    if not isinstance(shape, tuple):
        raise ValueError(f"{model.name} takes several inputs, {shape}: written are models of one.")


def takes_pixels(model):
    """Returns whether a model, or one inside of it, normalises images of range [0, 255].

    A layer that normalises numbers in [0, 1] has a deviation below 1, and does not count.
    """
    return any(_is_of_pixels(layer) for layer in layers_of(model))


def _is_of_pixels(layer):
    if isinstance(layer, keras.layers.Rescaling):
        return bool(np.max(np.abs(layer.scale)) < 0.1)  # 1 / 255 or 1 / 127.5
    return isinstance(layer, keras.layers.Normalization) and bool(moments(layer)[1].max() > 1)


def _classifier_of(model):
    """Returns the `Classifier` of a model that takes pixels and gives classes, else `None`."""
    shape = shape_of(model, "output_shape")
    if not takes_pixels(model) or not isinstance(shape, tuple) or len(shape) != 2:
        return None
    if getattr(model, "variant", None) is not None and not _ends_with_head(model):
        return None
    try:
        return Classifier(model)
    except ValueError:
        return None


def _ends_with_head(model):
    return any(names.local(layer.name) == names.HEAD for layer in model.layers)


def _normalization_of(model):
    found = [layer for layer in layers_of(model) if isinstance(layer, keras.layers.Normalization)]
    if len(found) != 1:
        raise ValueError(
            f"{model.name} has {len(found) or 'no'} Normalization layers to leave out: omit "
            "`preprocessing=False`."
        )
    return found[0]


def moments(layer):
    """Returns mean and deviation of a Normalization layer, for images in [0, 255], float32."""
    mean, variance = (
        np.asarray(keras.ops.convert_to_numpy(part), "float32").ravel()
        for part in (layer.mean, layer.variance)
    )
    return mean, np.sqrt(variance)


def _input(model, dtype, pixels, normalization):
    first = keras.config.image_data_format() == "channels_first"
    channels = taken_by(model)[1 if first else -1]
    found = {"layout": "NCHW" if first else "NHWC", "dtype": dtype, "channels": channels}
    if pixels:
        found["range"] = [0, 255]
    if normalization is not None:
        mean, std = moments(normalization)
        found |= {"mean": mean.tolist(), "std": std.tolist()}
    return found


def _shape(model, given):
    own = taken_by(model)[1:]
    if given is None:
        return own
    given = tuple(given)
    fits = len(given) == len(own) and all(
        size is None or other in (None, size) for size, other in zip(given, own, strict=True)
    )
    if not fits or given[-1] is None and own[-1] is not None:
        raise ValueError(
            f"`input_shape` must be {own}, that of the model, with None for a size that is free, "
            f"received {given}. For another size build the model with it."
        )
    return given


def _ending(model, classifier, softmax):
    """Returns what is left out at the end, what is added, and what the outputs need then."""
    last = outputs.last_operation(model)
    activation = _activation_of(classifier) if classifier else outputs.activation_of(model)
    if softmax is None:
        return None, None, activation
    if softmax:
        if activation is None:
            raise ValueError(
                f"{model.name} does not tell what its outputs are: pass a `Classifier` of it with "
                "`activation=`, or omit `softmax`."
            )
        return None, (None if activation == "none" else activation), "none"
    kind = outputs.kind_of(last)
    if kind == "linear":
        return None, None, activation
    if kind not in ("softmax", "sigmoid") or isinstance(last, keras.layers.Average):
        raise ValueError(f"{model.name} does not end with a softmax or sigmoid to leave out.")
    return last, None, kind


def _activation_of(classifier):
    """Returns the activation of a `Classifier`; an image is classified if only outputs tell it."""
    if classifier.activation is None:
        classifier.of_pixels(classifier.pixels(np.zeros((8, 8, 3), "uint8"))[None])
    return classifier.activation


def _task(model, classifier):
    if classifier is not None:
        return "classification"
    if isinstance(model, SegmentationModel):
        return "segmentation"
    is_ours = getattr(model, "variant", None) is not None or isinstance(model, PyramidModel)
    return "features" if is_ours and not _ends_with_head(model) else "unknown"


def _of_pixels(model, row):
    """Returns what a file says of a model that gives each pixel a class: classes, names, window."""
    made = model.output["logits"] if isinstance(model.output, dict) else model.output
    classes = max(2, made.shape[-1])  # one output tells two classes apart
    found = {"classes": classes}
    if row is None or row.task != "segmentation":
        return found
    names = checkpoints.class_names(row.label_set)
    named = {"names": list(names)} if len(names) == classes else {}
    return {**found, **named, "window": row.size}


def _output_names(model, task, activation):
    if task == "classification":
        return ("probabilities" if activation == "none" else "logits",)
    if task == "segmentation":
        return ("logits",)
    made = model.output
    if isinstance(made, dict):
        return tuple(made)
    if isinstance(made, (list, tuple)):
        return tuple(f"output{number}" for number in range(len(made)))
    return ("features" if task == "features" else "output",)
