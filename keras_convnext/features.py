"""Pyramid features: the outputs of the stages, for other people's heads.

`model.pyramid_outputs` is `{"P2": ..., "P5": ...}`, what KerasHub's detectors and segmenters and
other Keras packages ask an image encoder for: the number is the binary logarithm of the stride.
"""

import math
import re

import keras

from keras_convnext.layers import NORMS

BLOCK, NORM = re.compile(r"stage(\d+)_block(\d+)"), re.compile(r"norm\d+")


@keras.saving.register_keras_serializable(package="keras_convnext")
class PyramidModel(keras.Model):
    """A functional model of `ConvNeXt(...)`'s layers that answers `pyramid_outputs`.

    Clones, and models loaded from a `.keras` file, are of this class too.

    Attributes:
        published: name of the published weights that the model began with, for example
            "convnext_tiny.fb_in1k", or `None`. It is saved with the model, and tells a `Classifier`
            how images are prepared for it, and what its classes are.
    """

    published = None

    def get_config(self):
        config = super().get_config()
        return config if self.published is None else {**config, "published": self.published}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        published = config.pop("published", None)
        model = super().from_config(config, custom_objects=custom_objects)
        model.published = published
        return model

    @property
    def pyramid_outputs(self):
        """`{"P2": KerasTensor, ...}`; see `keras_convnext.features.pyramid_outputs`."""
        try:
            return pyramid_outputs(self)
        except ValueError as error:  # so that `hasattr` says what is so
            raise AttributeError(str(error)) from error


def pyramid_outputs(model):
    """The symbolic outputs of a model's stages.

    Args:
        model: a `ConvNeXt(...)`, with or without classifier, or a `feature_model` of one.

    Returns:
        `{"P2": KerasTensor, ...}`, from fine to coarse: `"P2"` has one pixel for 2**2 x 2**2 of the
        input, and is `(batch, height / 4, width / 4, dims[0])`, rounded down, channels last. Where
        stages share a stride (`output_stride=8` or 16), the last of them stands for it. These are
        the outputs of the last blocks, behind the norms `norm0` to `norm3` where the model has
        them (`feature_model(..., norms=True)`).

    Raises:
        ValueError: if the model has no ConvNeXt blocks, or a stride is no power of two.
    """
    return {f"P{_level(stride)}": output for _, stride, output in _stages(model)}


def feature_model(model, levels=None, norms=False):
    """A model from images to the outputs of some stages, for U-Net-like heads.

        pyramid = feature_model(ConvNeXtTiny(include_top=False), ["P2", "P5"])
        maps = pyramid(images)   # {"P2": (batch, h / 4, w / 4, 96), "P5": (..., 768)}

    Args:
        model: a `ConvNeXt(...)`, with or without classifier. The layers are shared: training one
            model trains both.
        levels: the keys of `pyramid_outputs` that are wanted; `None`: all. What only others need is
            left out of the model.
        norms: whether each stage's output goes through a norm of its own, `norm0` to `norm3`, which
            does not feed the next stage (the published detection and segmentation models).

    Returns:
        A model of the same input, of any size where the input's is `(None, None)`, to
        `{level: (batch, height', width', channels)}`.

    Raises:
        ValueError: if a level is unknown, the model has no ConvNeXt blocks, or has norms already.
    """
    outputs = pyramid_outputs(model)
    wanted = list(outputs if levels is None else levels)
    if not wanted or not set(wanted) <= set(outputs):
        raise ValueError(
            f"`levels` of {model.name} must be some of {list(outputs)}, received {levels!r}."
        )
    if norms:
        outputs = _normalised(model)
    features = PyramidModel(
        model.input, {level: outputs[level] for level in wanted}, name=model.name
    )
    features.published = getattr(model, "published", None)
    return features


def _normalised(model):
    layers = _layers(model)
    if any(map(NORM.fullmatch, layers)):
        raise ValueError(f"{model.name} has norms behind its stages already: leave `norms` away.")
    outputs = {}
    for stage, stride, output in _stages(model):
        fields = layers[f"stage{stage}_block0"].fields
        norm = NORMS[fields["norm"]](epsilon=fields["epsilon"], name=f"norm{stage}")
        outputs[f"P{_level(stride)}"] = norm(output)
    return outputs


def _stages(model):
    """Yields (number, stride, output) of each stage in the model, or of those that have norms."""
    layers, stride = _layers(model), 1
    depths = {}
    for match in filter(None, map(BLOCK.fullmatch, layers)):
        depths[int(match[1])] = max(int(match[2]) + 1, depths.get(int(match[1]), 0))
    if not depths:
        raise ValueError(f"The model {model.name!r} has no layers named 'stage0_block0' and so on.")
    has_norms = any(map(NORM.fullmatch, layers))
    for stage in sorted(depths):
        stride *= _stride_of(layers[f"downsample{stage}" if stage else "stem"])
        name = f"norm{stage}" if has_norms else f"stage{stage}_block{depths[stage] - 1}"
        if name in layers:
            yield stage, stride, layers[name].output


def _layers(model):
    return {layer.name: layer for layer in model.layers}


def _stride_of(chain):
    convolutions = (layer for layer in chain.layers if isinstance(layer, keras.layers.Conv2D))
    return math.prod(convolution.strides[0] for convolution in convolutions)


def _level(stride):
    if stride & (stride - 1):
        raise ValueError(f"Levels are of strides that are powers of two, received {stride}.")
    return stride.bit_length() - 1
