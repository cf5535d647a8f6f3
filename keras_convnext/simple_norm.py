"""timm's `SimpleNorm`, in the place of LayerNormalization in its `zepto_rms` models."""

import keras
from keras import ops


@keras.saving.register_keras_serializable(package="keras_convnext")
class SimpleNorm(keras.layers.Layer):
    """`x / sqrt(variance + epsilon) * gamma`, with the unbiased variance over the channels and
    without subtracting their mean. Computed in float32.

    Input and output: `(..., channels)`, any float dtype; the output has the compute dtype.

    Raises:
        ValueError: if there are fewer than 2 channels, which have no unbiased variance.
    """

    def __init__(self, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        if input_shape[-1] < 2:
            raise ValueError(f"SimpleNorm needs at least 2 channels, received {input_shape}.")
        self.gamma = self.add_weight(
            name="gamma", shape=(input_shape[-1],), initializer="ones", autocast=False
        )

    def call(self, inputs):
        x = ops.cast(inputs, keras.backend.result_type(self.compute_dtype, "float32"))
        centred = x - ops.mean(x, axis=-1, keepdims=True)
        variance = ops.sum(centred * centred, axis=-1, keepdims=True) / (x.shape[-1] - 1)
        x = x * ops.rsqrt(variance + self.epsilon) * ops.cast(self.gamma, x.dtype)
        return ops.cast(x, self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}
