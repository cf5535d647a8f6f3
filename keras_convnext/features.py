"""Pyramid features: the outputs of the stages, for the heads of other packages.

`model.pyramid_outputs` is `{"P2": ..., "P5": ...}`, what KerasHub's detectors and segmenters and
other Keras packages ask an image encoder for: the number is the binary logarithm of the stride.
"""

import dataclasses
import math

import keras

from keras_convnext import names
from keras_convnext.layers.remat import KeepsItsCall
from keras_convnext.variants import Variant


def functional(kind):
    """Registers a class of functional models, so that each of Keras' formats finds it by name.

    The formats of Keras 3 write the registered name; the HDF5 format of Keras 2 (`.h5`) writes the
    name of the class alone and looks it up among the custom objects.

    Args:
        kind: a class derived from `keras.Model`. It is returned, so this is a decorator.

    Example:
        from keras_convnext.features import PyramidModel, functional
        @functional
        class MyModel(PyramidModel): ...  # files with it find it by its name
    """
    keras.saving.get_custom_objects()[kind.__name__] = kind
    return keras.saving.register_keras_serializable(package="keras_convnext")(kind)


@functional
class PyramidModel(KeepsItsCall, keras.Model):
    """A functional model of the layers of `ConvNeXt(...)` that has `pyramid_outputs`.

    Clones, and models loaded from a file, are of this class too. Keras' `clone_model` hands on
    nothing but the layers: a clone has new weights, and neither `published` nor `variant`.

    Attributes:
        published: name of the published weights that the model began with, for example
            "convnext_tiny.fb_in1k", or `None`. It is saved with the model, and tells a `Classifier`
            how images are prepared for it, and what its classes are.
        variant: the `Variant` that `ConvNeXt(...)` built, or `None`. It is saved with the model, so
            that a file with an architecture of its own can be converted and verified.

    Example:
        from keras_convnext import ConvNeXtAtto
        model = ConvNeXtAtto(weights=None)
        type(model).__name__  # "PyramidModel"
        model.pyramid_outputs["P2"].shape  # (None, 56, 56, 40)
        model.get_layer("stage2_block5").name  # "stage2_block5"
    """

    published = None
    variant = None

    def get_config(self):
        variant = self.variant and dataclasses.asdict(self.variant)
        said = {"published": self.published, "variant": variant}
        return super().get_config() | {key: value for key, value in said.items() if value}

    @classmethod
    def from_config(cls, config, custom_objects=None):
        config = dict(config)
        published, variant = config.pop("published", None), config.pop("variant", None)
        model = super().from_config(config, custom_objects=custom_objects)
        model.published, model.variant = published, variant and Variant(**variant)
        return model

    @property
    def pyramid_outputs(self):
        """`{"P2": KerasTensor, ...}`; see `keras_convnext.features.pyramid_outputs`."""
        try:
            return pyramid_outputs(self)
        except ValueError as error:  # so that `hasattr` answers False where there are none
            raise AttributeError(str(error)) from error

    def get_layer(self, name=None, index=None):
        """Returns a layer by its name, with or without the name of the model before it, or index.

        Raises:
            ValueError: if there is no such layer, or several models in this one have it. Of a layer
                of `keras.applications`' models it says which of ours it is.
        """
        known = [layer.name for layer in self.layers]
        if name is not None and name not in known:
            found = [layer for layer in known if names.local(layer) == name]
            if len(found) > 1:
                raise ValueError(f"{self.name} has several layers {name!r}: choose one of {found}.")
            if not found and (here := names.in_keras_applications(name, known)):
                raise ValueError(_renamed(self.name, name, *here))
            name = found[0] if found else name
        return super().get_layer(name, index)


def _renamed(model, name, layer, part):
    """Returns what is said of a name that a layer has in `keras.applications`."""
    where = f"a part of the layer {layer!r}" if part else f"the layer {layer!r}"
    return (
        f"{model} has no layer {name!r}, which is a name in keras.applications' ConvNeXts. What it "
        f'stands for is {where} here: `model.get_layer("{layer}"){part}`.'
    )


def pyramid_outputs(model):
    """Returns the symbolic outputs of a model's stages.

    Args:
        model: a `ConvNeXt(...)`, with or without classifier, or a `feature_model` of one.

    Returns:
        `{"P2": KerasTensor, ...}`, from fine to coarse: `"P2"` has one pixel for 2**2 x 2**2 of the
        input, and is `(batch, height / 4, width / 4, dims[0])`, rounded down, channels last. Where
        stages share a stride (`output_stride=8` or 16), the last of them stands for it. These are
        the outputs of the last blocks, behind the norms `norm0` to `norm3` where the model has
        them (`feature_model(..., norms=True)`).

    Raises:
        ValueError: if the model has no ConvNeXt blocks or those of several models, or a stride is
            no power of two.

    Example:
        from keras_convnext import ConvNeXtAtto
        from keras_convnext.features import pyramid_outputs
        outputs = pyramid_outputs(ConvNeXtAtto(weights=None))
        list(outputs)  # ["P2", "P3", "P4", "P5"]
        outputs["P5"].shape  # (None, 7, 7, 320)
    """
    return {f"P{_level(stride)}": output for _, stride, output in _stages(model)}


def feature_model(model, levels=None, norms=False):
    """Returns a model from images to the outputs of some stages, for heads such as a U-Net's.

    Args:
        model: a `ConvNeXt(...)`, with or without classifier. The layers are shared: training one
            model trains both.
        levels: the keys of `pyramid_outputs` that are wanted; `None`: all. Layers that only the
            other levels need are not part of the model.
        norms: whether each stage's output goes through a norm of its own, `norm0` to `norm3`, which
            does not feed the next stage (the published detection and segmentation models).

    Returns:
        A model of the same input, of any size where the input's is `(None, None)`, to
        `{level: (batch, height', width', channels)}`.

    Raises:
        ValueError: if a level is unknown, the model has no ConvNeXt blocks, or has norms already.

    Example:
        from keras_convnext import ConvNeXtAtto, feature_model
        encoder = ConvNeXtAtto(weights=None, include_top=False)
        pyramid = feature_model(encoder, ["P2", "P5"])
        pyramid.output["P2"].shape  # (None, None, None, 40)
        pyramid.output["P5"].shape  # (None, None, None, 320)
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
    layers, prefix = _layers(model)
    if _has_norms(layers):
        raise ValueError(f"{model.name} has norms behind its stages already: omit `norms`.")
    outputs = {}
    for stage, stride, output in _stages(model):
        like = layers[names.block(stage, 0)].norm
        name = names.in_model(prefix, names.norm(stage))
        norm = type(like)(epsilon=like.epsilon, name=name)
        outputs[f"P{_level(stride)}"] = norm(output)
    return outputs


def _stages(model):
    """Yields (number, stride, output) of each stage in the model, or of those that have norms."""
    layers, _ = _layers(model)
    stride, has_norms = 1, _has_norms(layers)
    for stage, depth in names.depth_by_stage(layers).items():
        stride *= _stride_of(layers[names.downsample(stage) if stage else names.STEM])
        name = names.norm(stage) if has_norms else names.block(stage, depth - 1)
        if name in layers:
            yield stage, stride, layers[name].output


def _layers(model):
    """Returns the layers of the ConvNeXt in a model by their bare names, and its prefix."""
    prefixes = {names.model_of(layer.name) for layer in model.layers if names.is_block(layer.name)}
    if not prefixes:
        raise ValueError(f"The model {model.name!r} has no layers named 'stage0_block0' and so on.")
    if len(prefixes) > 1:
        raise ValueError(
            f"The model {model.name!r} has the layers of several ConvNeXts, "
            f"{', '.join(sorted(map(repr, prefixes)))}: ask each of these models."
        )
    (prefix,) = prefixes
    inside = (layer for layer in model.layers if names.model_of(layer.name) == prefix)
    return {names.local(layer.name): layer for layer in inside}, prefix


def _has_norms(layers):
    return any(place and place.kind == "norm" for place in map(names.parse, layers))


def _stride_of(chain):
    convolutions = (layer for layer in chain.layers if isinstance(layer, keras.layers.Conv2D))
    return math.prod(convolution.strides[0] for convolution in convolutions)


def _level(stride):
    if stride & (stride - 1):
        raise ValueError(f"Levels are for strides that are powers of two, received {stride}.")
    return stride.bit_length() - 1
