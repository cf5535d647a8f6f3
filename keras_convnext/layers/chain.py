"""Several layers as one layer with a name of its own: the stem and the downsampling."""

import keras


@keras.saving.register_keras_serializable(package="keras_convnext")
class Chain(keras.layers.Layer):
    """Applies `layers` one after the other.

    Unlike in a `keras.Sequential`, the weights keep their paths (`stem/conv/kernel`) when a model
    is loaded again.

    Args:
        layers: list of layers, or of their serialized configurations.

    Input and output: those of the first and of the last layer.

    Example:
        import keras
        from keras_convnext.layers import Chain
        stem = Chain([keras.layers.Conv2D(8, 4, 4), keras.layers.LayerNormalization()])
        stem(keras.ops.ones((1, 32, 32, 3))).shape  # (1, 8, 8, 8)
    """

    def __init__(self, layers, **kwargs):
        super().__init__(**kwargs)
        self.layers = [
            _deserialized(layer) if isinstance(layer, dict) else layer for layer in layers
        ]

    def build(self, input_shape):
        for layer in self.layers:
            layer.build(input_shape)
            input_shape = layer.compute_output_shape(input_shape)

    def call(self, inputs):
        for layer in self.layers:
            inputs = layer(inputs)
        return inputs

    def compute_output_shape(self, input_shape):
        for layer in self.layers:
            input_shape = layer.compute_output_shape(input_shape)
        return input_shape

    def get_config(self):
        layers = [keras.saving.serialize_keras_object(layer) for layer in self.layers]
        return {**super().get_config(), "layers": layers}


def _deserialized(config):
    """Returns a layer that is built with its chain: built before, its weights had other paths."""
    config = {key: value for key, value in config.items() if key != "build_config"}
    return keras.saving.deserialize_keras_object(config)
