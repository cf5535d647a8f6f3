"""Normalization over the channels: LayerNormalization, SimpleNorm, and ConvNeXt V2's GRN."""

import keras
from keras import ops

from keras_convnext import fast
from keras_convnext.layers.remat import KeepsItsCall

serializable = keras.saving.register_keras_serializable(package="keras_convnext")


@serializable
class LayerNormalization(KeepsItsCall, keras.layers.LayerNormalization):
    """Keras' layer of the same name, over the last axis.

    Input and output: `(..., channels)`, any float dtype; the output has the compute dtype.

    Example:
        import keras
        from keras_convnext.layers import LayerNormalization
        LayerNormalization(epsilon=1e-6)(keras.ops.convert_to_tensor([[1.0, 3.0]]))  # [[-1.0, 1.0]]
    """

    def __init__(self, axis=-1, **kwargs):
        # `build` makes a list of a number; as a list, the config is the same before and after
        super().__init__(axis=[axis] if isinstance(axis, int) else axis, **kwargs)

    def call(self, inputs, training=False):
        outputs = None
        if self.axis == [-1] and self.gamma is not None and self.beta is not None:
            gamma, beta = map(ops.convert_to_tensor, (self.gamma, self.beta))
            outputs = fast.layer_norm(inputs, gamma, beta, self.epsilon, training)
        return super().call(inputs) if outputs is None else ops.cast(outputs, self.compute_dtype)


class _ChannelWeights(keras.layers.Layer):
    """A layer that keeps the shape of its input and has one value per channel as weights."""

    def _per_channel(self, name, shape, initializer):
        self.input_spec = keras.layers.InputSpec(axes={-1: shape[-1]})  # no broadcast
        # autocast=False: a value of 1e-6 has only two significant bits in float16
        return self.add_weight((shape[-1],), initializer, name=name, autocast=False)

    def _wide(self):
        """Returns float32, or the compute dtype where that is wider."""
        return keras.backend.result_type(self.compute_dtype, "float32")

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


@serializable
class SimpleNorm(_ChannelWeights):
    """timm's `SimpleNorm`, which takes LayerNormalization's place in its `zepto_rms` models.

    `x / sqrt(variance + epsilon) * gamma`, with the unbiased variance over the channels and
    without subtracting their mean. Computed in float32.

    Args:
        epsilon: added to the variance, > 0.

    Input and output: `(..., channels)`, any float dtype; the output has the compute dtype.

    Raises:
        ValueError: if there are fewer than 2 channels, which have no unbiased variance.

    Example:
        import keras
        from keras_convnext import SimpleNorm
        SimpleNorm()(keras.ops.convert_to_tensor([[1.0, 2.0, 3.0]]))  # [[1.0, 2.0, 3.0]]
    """

    def __init__(self, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        if input_shape[-1] < 2:
            raise ValueError(f"SimpleNorm needs at least 2 channels, received {input_shape}.")
        self.gamma = self._per_channel("gamma", input_shape, "ones")

    def call(self, inputs):
        x = ops.cast(inputs, self._wide())
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.sum(centred * centred, axis=-1, keepdims=True) / (x.shape[-1] - 1)
        x = x * ops.rsqrt(variance + self.epsilon) * ops.cast(self.gamma, x.dtype)
        return ops.cast(x, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


@serializable
class GlobalResponseNormalization(_ChannelWeights):
    """Lets the channels of a feature map compete (ConvNeXt V2).

    `x + gamma * x * n + beta` with `n = g / (mean over channels of g + epsilon)` and `g` the L2
    norm of each channel over the map. `gamma` and `beta` start at 0, so that the layer starts as
    the identity. Computed in float32. The root is taken of the sum plus `epsilon ** 2`: the norm's
    gradient stays finite on a channel that is zero everywhere.

    Source: arXiv 2301.00808, section 3.3.

    Args:
        epsilon: added to the mean over the channels, and squared to the sum, > 0.

    Input and output: `(batch, height, width, channels)`, any float dtype; the output has the
    compute dtype.

    Example:
        import keras
        from keras_convnext import GlobalResponseNormalization
        norm = GlobalResponseNormalization()
        norm(keras.ops.ones((2, 8, 8, 16))).shape  # (2, 8, 8, 16)
    """

    def __init__(self, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.gamma = self._per_channel("gamma", input_shape, "zeros")
        self.beta = self._per_channel("beta", input_shape, "zeros")

    def call(self, inputs):
        x = ops.cast(inputs, self._wide())
        norm = ops.sqrt(ops.sum(x * x, axis=(1, 2), keepdims=True) + self.epsilon**2)
        norm = norm / (ops.mean(norm, axis=-1, keepdims=True) + self.epsilon)
        gamma, beta = ops.cast(self.gamma, x.dtype), ops.cast(self.beta, x.dtype)
        return ops.cast(x + gamma * (x * norm) + beta, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


NORMS = {"layernorm": LayerNormalization, "simplenorm": SimpleNorm}
