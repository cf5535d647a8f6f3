"""The decoder of the masked autoencoder: from the features of visible patches to all pixels."""

import keras
from keras import ops

from keras_convnext import checks
from keras_convnext.layers import ConvNeXtBlock, PointwiseConv, kernel_initializer
from keras_convnext.layers.remat import KeepsItsCall

serializable = keras.saving.register_keras_serializable(package="keras_convnext")


@serializable
class MaskToken(keras.layers.Layer):
    """Puts one trained vector, `token`, in the hidden places of a map.

    Input: `(batch, rows, columns, channels)`, and bool `(batch, rows, columns)`, true in the hidden
    places. Output: as the first input.
    """

    def build(self, inputs_shape, hidden_shape=None):
        self.token = self.add_weight((inputs_shape[-1],), kernel_initializer(), name="token")

    def call(self, inputs, hidden):
        return ops.where(hidden[..., None], ops.cast(self.token, inputs.dtype), inputs)

    def compute_output_spec(self, inputs, hidden):
        return keras.KerasTensor(inputs.shape, self.compute_dtype)


@serializable
class MaskedDecoder(KeepsItsCall, keras.layers.Layer):
    """Predicts the pixels of every patch from the features of the visible ones.

    It is `proj` (a pointwise convolution), `mask_token` (a trained vector in the hidden places),
    `block0` and so on, and `pred` (a pointwise convolution to the pixels of a patch).

    Source: arXiv 2301.00808, section 3.1: a single block of 512 channels is as good as more.

    Args:
        units: numbers of a patch, its pixels times their channels.
        width: number of channels of the blocks.
        depth: number of blocks.
        grn: whether the blocks have Global Response Normalization.

    Input: features `(batch, rows, columns, channels)`, with any finite numbers in the hidden
    places, and a mask, bool `(batch, rows, columns)`, true in the hidden places.
    Output: `(batch, rows, columns, units)`, in the dtype of the weights.

    Raises:
        ValueError: if a number is not a positive integer.
    """

    def __init__(self, units, width=512, depth=1, grn=True, **kwargs):
        super().__init__(**kwargs)
        self.units = checks.integer("units", units, 1)
        self.width = checks.integer("decoder_width", width, 1)
        self.depth = checks.integer("decoder_depth", depth, 1)
        self.grn = grn
        self.proj = self._pointwise(width, "proj")
        self.mask_token = MaskToken(name="mask_token", dtype=self.dtype_policy)
        self.blocks = [
            ConvNeXtBlock(layer_scale=None, grn=grn, name=f"block{n}", dtype=self.dtype_policy)
            for n in range(depth)
        ]
        self.pred = self._pointwise(units, "pred", dtype=self.variable_dtype)

    def _pointwise(self, units, name, dtype=None):
        return PointwiseConv(
            units,
            kernel_initializer=kernel_initializer(),
            name=name,
            dtype=dtype or self.dtype_policy,
        )

    def build(self, inputs_shape, hidden_shape=None):
        self.proj.build(inputs_shape)
        for layer in (self.mask_token, *self.blocks, self.pred):
            layer.build((*inputs_shape[:-1], self.width))

    def call(self, inputs, hidden, training=False):
        x = self.mask_token(self.proj(inputs), hidden)
        for block in self.blocks:
            x = block(x, training=training)
        return self.pred(x)

    def compute_output_spec(self, inputs, hidden, training=False):
        return keras.KerasTensor((*inputs.shape[:-1], self.units), self.variable_dtype)

    def get_config(self):
        own = {name: getattr(self, name) for name in ("units", "width", "depth", "grn")}
        return {**super().get_config(), **own}
