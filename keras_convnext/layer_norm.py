"""LayerNormalization over the channels, in its fastest exact form for each backend."""

import keras
from keras import ops

from keras_convnext.runtime import tensorflow_on_cpu


@keras.saving.register_keras_serializable(package="keras_convnext")
class LayerNormalization(keras.layers.LayerNormalization):
    """Keras' layer of that name, over the last axis."""

    def call(self, inputs):
        if not tensorflow_on_cpu():
            return super().call(inputs)
        from keras_convnext.tf_fused import layer_norm

        gamma, beta = map(ops.convert_to_tensor, (self.gamma, self.beta))
        return layer_norm(self.epsilon)(inputs, gamma, beta)
