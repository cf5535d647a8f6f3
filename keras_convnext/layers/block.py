"""The residual block of ConvNeXt and ConvNeXt V2, on channels_last feature maps."""

import keras
from keras import ops

from keras_convnext import fast
from keras_convnext.checks import one_of
from keras_convnext.layers.activations import ACTIVATIONS
from keras_convnext.layers.composite import Composite
from keras_convnext.layers.convolutions import DepthwiseConv2D, PointwiseConv
from keras_convnext.layers.initializers import kernel_initializer
from keras_convnext.layers.norms import NORMS, GlobalResponseNormalization
from keras_convnext.layers.residual import LayerScale, StochasticDepth


@keras.saving.register_keras_serializable(package="keras_convnext")
class ConvNeXtBlock(Composite):
    """Adds a residual branch to its input: a large depthwise convolution, then an MLP per pixel.

    The branch is `dwconv` (depthwise), `norm`, `pwconv1` (to `expansion` times the channels),
    `activation`, `grn` (ConvNeXt V2), `pwconv2` (back), `gamma` (layer scale) and `drop_path`
    (stochastic depth).

    Source: arXiv 2201.03545, Figure 4; arXiv 2301.00808, Figure 5.

    Args:
        kernel_size: side of the depthwise kernel.
        expansion: width of the hidden layer as a multiple of the channels.
        activation: `"gelu"` (exact), `"gelu_tanh"` or `"silu"`.
        norm: `"layernorm"` or `"simplenorm"`.
        epsilon: of the norm.
        layer_scale: initial value of the layer scale, or `None` for none.
        grn: whether Global Response Normalization follows the activation.
        drop_path_rate: rate of stochastic depth, in [0, 1).
        dilation: of the depthwise convolution.
        seed: of stochastic depth; see `StochasticDepth`.

    The arguments are attributes of the layer; `norm` and `grn` are the inner layers, `activation`
    is the function. What is changed in the inner layers is kept, see `Composite`.

    Input and output: `(batch, height, width, channels)`; the number of channels is taken from the
    first input, height and width may vary. With `patches`, a `pretraining.VisiblePatches`, they are
    packed visible patches; the convolution then sees zeros where patches are hidden.

    Attributes:
        remat: whether a training keeps the block's input alone and computes the rest once more for
            the gradients (gradient checkpointing). False, unless a `keras.RematScope` around the
            block's making asks for it; it is not saved. See `keras_convnext.rematerialize`.

    Raises:
        ValueError: if an argument has a value that is not allowed, or the input has no static
            number of channels.

    Example:
        import keras
        from keras_convnext import ConvNeXtBlock
        block = ConvNeXtBlock(layer_scale=None, grn=True)  # of ConvNeXt V2
        block(keras.ops.ones((2, 8, 8, 16))).shape  # (2, 8, 8, 16)
    """

    def __init__(
        self,
        kernel_size=7,
        expansion=4,
        activation="gelu",
        norm="layernorm",
        epsilon=1e-6,
        layer_scale=1e-6,
        grn=False,
        drop_path_rate=0.0,
        dilation=1,
        seed=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        self.kernel_size, self.dilation = kernel_size, dilation
        self.expansion, self.epsilon = expansion, epsilon
        self.layer_scale, self.drop_path_rate, self.seed = layer_scale, drop_path_rate, seed
        self.activation = ACTIVATIONS[one_of("activation", activation, ACTIVATIONS)]
        self.remat = False
        self.supports_jit = fast.left_to_xla()  # what `jit_compile="auto"` asks
        self.dwconv = self._inner(
            DepthwiseConv2D,
            "dwconv",
            kernel_size=kernel_size,
            padding="same",
            dilation_rate=dilation,
            data_format="channels_last",
            depthwise_initializer=kernel_initializer(),
        )
        self.norm = self._inner(NORMS[one_of("norm", norm, NORMS)], "norm", epsilon=epsilon)
        self.grn = self._inner(GlobalResponseNormalization, "grn") if grn else None
        scaled = layer_scale is not None
        self.gamma = self._inner(LayerScale, "gamma", init_value=layer_scale) if scaled else None
        self.drop_path = self._inner(StochasticDepth, "drop_path", rate=drop_path_rate, seed=seed)

    def build(self, input_shape):
        channels = input_shape[-1]
        if channels is None:
            raise ValueError(f"ConvNeXtBlock needs the number of channels, received {input_shape}.")
        self.input_spec = keras.layers.InputSpec(ndim=4, axes={-1: channels})
        width = int(channels * self.expansion)
        self.pwconv1, self.pwconv2 = self._dense(width, "pwconv1"), self._dense(channels, "pwconv2")
        outer = (self.dwconv, self.norm, self.pwconv1, self.gamma, self.drop_path)
        for layer in filter(None, outer):
            layer.build(input_shape)
        for layer in filter(None, (self.grn, self.pwconv2)):
            layer.build((*input_shape[:-1], width))

    def _dense(self, units, name):
        return self._inner(
            PointwiseConv, name, units=units, kernel_initializer=kernel_initializer()
        )

    def _inner(self, kind, name, **arguments):
        with keras.RematScope(mode=None):  # a block is computed again as a whole
            return self.inner_layer(kind(**arguments, name=name, dtype=self.dtype_policy))

    def call(self, inputs, training=False, patches=None):
        inputs = ops.cast(inputs, self.compute_dtype)
        is_uniform = self._is_uniform()
        # the kernels add the inputs themselves where nothing comes between
        adds = is_uniform and not (training and self.drop_path.rate)

        def compute(inputs):
            x = self._convolved(inputs, is_uniform, training, patches)
            return self._mixed(x, inputs if adds else None, is_uniform, training)

        if training and self.remat and is_uniform:
            compute = keras.remat(compute)
        x = compute(inputs)
        if adds:
            return x
        # what is dropped is drawn out here: computed again, it would be drawn again
        x = self.drop_path(x, training=training)
        return inputs + ops.cast(x, self.compute_dtype)

    def _convolved(self, inputs, is_uniform, training, patches):
        # not `self.dwconv(...)`, whose bookkeeping takes a tenth of a small step
        convolve = self.dwconv.call if is_uniform else self.dwconv
        if patches is None:
            return convolve(inputs, training=training)
        return patches.pack(convolve(patches.unpack(inputs), training=training))

    def _mixed(self, x, inputs, is_uniform, training):
        """Returns the branch from its norm to its layer scale; `inputs`, if any, are added."""
        if is_uniform:
            outputs = fast.residual_branch(self, x, inputs, training)
            if outputs is not None:  # the same numbers, by a kernel that computes this at once
                return outputs
        x = self.norm(x)
        x = self.activation(self.pwconv1(x))
        x = self.grn(x) if self.grn else x
        x = self.pwconv2(x)
        x = self.gamma(x) if self.gamma else x
        return x if inputs is None else inputs + x

    def rematerialized_call(self, layer_call, *args, **kwargs):
        """Keras asks for this where there was a `keras.RematScope`; `call` itself does what it
        wants. Keras would trace `training`, which JAX and TensorFlow refuse, and drop other samples
        when it computes again."""
        if super().rematerialized_call(layer_call, *args, **kwargs) is not layer_call:
            self.remat = True
        return layer_call

    def _is_uniform(self):
        """Returns whether all inner layers compute in the dtype of the block and only pass on what
        they compute, as they are made; otherwise each has to be called."""
        inner = self.dwconv, self.norm, self.pwconv1, self.grn, self.pwconv2, self.gamma
        dtype = self.compute_dtype
        return all(
            layer.compute_dtype == dtype and layer.activity_regularizer is None
            for layer in filter(None, (*inner, self.drop_path))
        )

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        plain = "kernel_size expansion epsilon layer_scale drop_path_rate dilation seed".split()
        return {
            **super().get_config(),
            **{name: getattr(self, name) for name in plain},
            "activation": _key(ACTIVATIONS, self.activation),
            "norm": _key(NORMS, type(self.norm)),
            "grn": self.grn is not None,
        }


def _key(table, value):
    """Returns the key of a value in a table."""
    return next(key for key, entry in table.items() if entry is value)
