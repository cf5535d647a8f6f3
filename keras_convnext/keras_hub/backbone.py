"""A ConvNeXt up to its last stage, as a backbone of KerasHub."""

import contextlib
import dataclasses

import keras
from keras_hub.models import FeaturePyramidBackbone

from keras_convnext import features
from keras_convnext.checks import one_of
from keras_convnext.keras_hub.presets import WeightsLoader, load, published
from keras_convnext.models import ConvNeXt
from keras_convnext.variants import Variant, variant_of


@keras.saving.register_keras_serializable(package="keras_convnext")
class ConvNeXtBackbone(FeaturePyramidBackbone):
    """A ConvNeXt without its classifier and the norm before that.

    As KerasHub's other backbones it takes images that are normalised already, which
    `ConvNeXtImageConverter` does; `pyramid_outputs` is what KerasHub's detectors and segmenters
    build on.

    Args:
        variant: name of a row of `keras_convnext.VARIANTS`, a `Variant`, or a dict of its fields.
        drop_path_rate: rate of stochastic depth in the last block, in [0, 1).
        output_stride: 8, 16 or 32: input pixels per output pixel, as of `ConvNeXt`.
        image_shape: `(height, width, channels)`, in the order of `data_format`; height and width
            may be `None`. Default: any height and width, 3 channels.
        data_format: "channels_last" or "channels_first". `None`: Keras' own setting.
        dtype: a dtype policy of floats, its name or its configuration, such as "bfloat16" or
            "mixed_bfloat16", in which all layers compute. `None`: Keras' own setting.
        **kwargs: `name` and `trainable`.

    Called with `(batch, height, width, channels)`; returns the output of the last stage, `(batch,
    height / 32, width / 32, dims[-1])`, rounded down, in the compute dtype. `pyramid_outputs` are
    those of all stages, `{"P2": ..., "P5": ...}`. All are in the order of `data_format`.

    Raises:
        ValueError: if an argument is out of its range, or the policy is one of quantized layers.

    Example:
        # pip install "keras-convnext[keras-hub]"
        from keras_convnext.keras_hub import ConvNeXtBackbone
        backbone = ConvNeXtBackbone.from_preset("convnext_tiny.fb_in1k", dtype="bfloat16")
        list(backbone.pyramid_outputs)  # ['P2', 'P3', 'P4', 'P5']
    """

    def __init__(
        self,
        variant,
        drop_path_rate=0.0,
        output_stride=None,
        image_shape=None,
        data_format=None,
        dtype=None,
        **kwargs,
    ):
        variant = Variant(**variant) if isinstance(variant, dict) else variant_of(variant)
        data_format = data_format or keras.config.image_data_format()
        policy = _policy_of_floats(dtype)
        with settings(policy, data_format):
            model = ConvNeXt(
                variant,
                include_top=False,
                include_preprocessing=False,
                input_shape=image_shape and tuple(image_shape),
                drop_path_rate=drop_path_rate,
                output_stride=output_stride,
            )
            outputs = _in_order(features.pyramid_outputs(model), data_format)
        last = list(outputs.values())[-1]
        super().__init__(inputs=model.input, outputs=last, dtype=policy, **kwargs)
        self.variant = variant
        self.drop_path_rate = drop_path_rate
        self.output_stride = output_stride
        self.image_shape = tuple(model.input.shape[1:])
        self.data_format = data_format
        self.pyramid_outputs = outputs

    def get_config(self):
        return super().get_config() | {
            "variant": dataclasses.asdict(self.variant),
            "drop_path_rate": self.drop_path_rate,
            "output_stride": self.output_stride,
            "image_shape": list(self.image_shape),
            "data_format": self.data_format,
            "dtype": keras.dtype_policies.serialize(_as_read_again(self.dtype_policy)),
        }

    presets = published("classification")

    @classmethod
    def from_preset(cls, preset, load_weights=True, **kwargs):
        """Returns the backbone of a preset.

        Args:
            preset: name of published weights ("convnext_tiny.fb_in1k", or "convnext_tiny" for the
                usual ones); a folder that `save_to_preset` has written; the path of a file of
                weights in any published layout; "hf://owner/repo", of a preset of KerasHub or of
                such a file; or another address that KerasHub knows.
            load_weights: whether the weights are loaded; else they are random.
            **kwargs: arguments of the class in place of the preset's, such as `dtype`.

        Raises:
            ValueError: if no preset has that name, or it cannot be read.
            DownloadError: (an OSError) if weights could not be fetched.
        """
        keras_hubs = super().from_preset
        how = WeightsLoader.load_backbone
        return load(how, cls, keras_hubs, preset, load_weights, **kwargs)


@contextlib.contextmanager
def settings(policy, data_format):
    """Sets the dtype policy and the order of axes of the layers that are made inside."""
    before = keras.config.dtype_policy(), keras.config.image_data_format()
    try:
        keras.config.set_dtype_policy(policy)
        keras.config.set_image_data_format(data_format)
        yield
    finally:
        keras.config.set_dtype_policy(before[0])
        keras.config.set_image_data_format(before[1])


def _policy_of_floats(dtype):
    """Returns the dtype policy that an argument stands for.

    Raises:
        ValueError: if it is of quantized layers: the blocks compute with their kernels themselves,
            and would take the integers for floats.
    """
    policy = keras.config.dtype_policy() if dtype is None else keras.dtype_policies.get(dtype)
    is_map = isinstance(policy, keras.dtype_policies.DTypePolicyMap)
    if is_map and not policy:
        policy, is_map = keras.dtype_policies.get(policy.default_policy), False
    if is_map or policy.quantization_mode is not None:
        raise ValueError(
            f"`dtype` must be a policy of floats, such as 'bfloat16', received {dtype!r}. Weights "
            "of 8 bits are for exported files: `export.export(model, path, quantize='int8')`."
        )
    return policy


def _as_read_again(policy):
    """Returns a policy in the form in which KerasHub reads it from a task's file.

    It takes the name of a policy for that of a dtype, which "mixed_bfloat16" is not.
    """
    is_mixed = policy.compute_dtype != policy.variable_dtype
    return keras.dtype_policies.DTypePolicyMap(policy) if is_mixed else policy


def _in_order(outputs, data_format):
    """Returns the outputs of stages, which are channels_last, in an order of axes."""
    one_of("data_format", data_format, ("channels_last", "channels_first"))
    if data_format == "channels_last":
        return outputs
    to_first = {
        level: keras.layers.Permute((3, 1, 2), name=f"{level}_channels_first".lower())
        for level in outputs
    }
    return {level: to_first[level](output) for level, output in outputs.items()}
