"""A convolution, batch normalization and ReLU: the module that published dense heads are made of.

Sources: T. Xiao et al., arXiv 1807.10221 (UperNet); Z. Cai and N. Vasconcelos, arXiv 1906.09756
(the heads of Cascade R-CNN), both as they are configured for ConvNeXt.
"""

import keras
from keras import ops

from keras_convnext.layers.composite import Composite
from keras_convnext.layers.initializers import he_of_outputs

# As published: PyTorch's momentum of 0.1 is Keras' 0.9; Keras' own defaults are 0.99 and 1e-3.
NORM_MOMENTUM, NORM_EPSILON = 0.9, 1e-5
LEAST_SHARE = 1e-12  # of the pixels that count: where none does, mean and variance are 0


class _BatchNormalization(keras.layers.BatchNormalization):
    """Keras' layer with the variance computed around the mean, and with a mask synchronised, too.

    Keras 3.15 computes the variance as a difference of two large numbers on PyTorch, and on
    TensorFlow where it is synchronised. For the few pixels of a pooled map that may be negative by
    rounding, and its root is NaN. With a mask it synchronises nothing.
    """

    def _moments(self, inputs, mask):
        if mask is not None:
            return self._masked_moments(inputs, ops.cast(mask, "bool")[..., None])
        mean, variance = super()._moments(inputs, None)
        if keras.backend.backend() == "jax":  # it computes the variance around the mean already
            return mean, variance
        rest, variance = super()._moments(inputs - mean, None)
        return mean + rest, ops.maximum(variance, 0.0)

    def _masked_moments(self, inputs, mask):
        share = ops.maximum(self._mean(ops.cast(mask, inputs.dtype)), LEAST_SHARE)
        mean = self._mean(ops.where(mask, inputs, 0.0)) / share
        squares = ops.square(ops.where(mask, inputs - mean, 0.0))
        return mean, self._mean(squares) / share

    def _mean(self, x):
        """Returns the mean of each channel, over all replicas where the layer is synchronised."""
        if self.synchronized:
            return ops.moments(x, self._reduction_axes, synchronized=True)[0]
        return ops.mean(x, self._reduction_axes)


@keras.saving.register_keras_serializable(package="keras_convnext")
class ConvNormReLU(Composite):
    """`conv` (stride 1, same padding, without bias), `bn`, ReLU.

    `bn` takes its statistics over the whole batch where Keras can: the replicas of `tf.distribute`
    share them, and JAX computes on the whole batch. On PyTorch, where Keras cannot, each process
    takes them over its own part.

    Args:
        filters: channels of the output.
        kernel_size: side of the kernel.

    Input: `(batch, h, w, channels)`; output: `(batch, h, w, filters)`. In training, `used` of shape
    `(batch,)` tells which samples the statistics are taken over; `None`: all of them.

    Example:
        import keras
        from keras_convnext.layers import ConvNormReLU
        ConvNormReLU(16, 3)(keras.ops.ones((1, 8, 8, 4))).shape  # (1, 8, 8, 16)
    """

    def __init__(self, filters, kernel_size, **kwargs):
        super().__init__(**kwargs)
        self.filters, self.kernel_size = filters, kernel_size
        self.conv = self.inner_layer(
            keras.layers.Conv2D(
                filters,
                kernel_size,
                padding="same",
                use_bias=False,
                data_format="channels_last",
                kernel_initializer=he_of_outputs(),
                name="conv",
                dtype=self.dtype_policy,
            )
        )
        self.bn = self.inner_layer(
            _BatchNormalization(
                axis=-1,
                momentum=NORM_MOMENTUM,
                epsilon=NORM_EPSILON,
                synchronized=keras.backend.backend() == "tensorflow",
                name="bn",
                dtype=self.dtype_policy,
            )
        )

    def build(self, input_shape):
        self.conv.build(input_shape)
        self.bn.build(self.compute_output_shape(input_shape))

    def call(self, inputs, training=False, used=None):
        x = self.conv(inputs)
        if used is not None and training:
            used = ops.broadcast_to(used[:, None, None], ops.shape(x)[:-1])
        return ops.relu(self.bn(x, training=training, mask=used if training else None))

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.filters)

    def get_config(self):
        fields = {"filters": self.filters, "kernel_size": self.kernel_size}
        return {**super().get_config(), **fields}
