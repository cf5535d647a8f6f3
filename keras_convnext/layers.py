"""The layers of ConvNeXt and ConvNeXt V2. All of them work on channels_last feature maps."""

import keras
from keras import ops

from keras_convnext.activations import ACTIVATIONS
from keras_convnext.branch import branch
from keras_convnext.depthwise import DepthwiseConv2D
from keras_convnext.initialization import kernel_initializer
from keras_convnext.layer_norm import LayerNormalization
from keras_convnext.runtime import tensorflow_on_cpu
from keras_convnext.simple_norm import SimpleNorm

serializable = keras.saving.register_keras_serializable(package="keras_convnext")


NORMS = {"layernorm": LayerNormalization, "simplenorm": SimpleNorm}


def one_of(argument, value, allowed):
    """Returns `value`; raises a ValueError that lists `allowed` if it is not among them."""
    if value not in allowed:
        raise ValueError(f"`{argument}` must be one of {list(allowed)}, received {value!r}.")
    return value


def _wide(layer):
    """float32, or the compute dtype if that is wider: where half precision would lose too much."""
    return keras.backend.result_type(layer.compute_dtype, "float32")


class _SameShape(keras.layers.Layer):
    """A layer whose output has the shape of its input, with one value per channel as weights."""

    def _per_channel(self, name, shape, initializer):
        # autocast=False: 1e-6 has two significant bits left in float16
        return self.add_weight((shape[-1],), initializer, name=name, autocast=False)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)


@serializable
class LayerScale(_SameShape):
    """Multiplies each channel by a trained factor `gamma` that starts small, in float32.

    Source: arXiv 2103.17239; section A.1 of arXiv 2201.03545 (initial value 1e-6).

    Args:
        init_value: initial value of `gamma`, a float > 0. (A network without layer scale has no
            LayerScale; one that starts at 0 would keep its block dead.)

    Input and output: `(..., channels)`, any float dtype; the output has the compute dtype.

    Raises:
        ValueError: if `init_value` is not positive.
    """

    def __init__(self, init_value=1e-6, **kwargs):
        super().__init__(**kwargs)
        if not init_value > 0:
            raise ValueError(
                f"`init_value` must be > 0, received {init_value!r}. "
                "For a block without layer scale pass `layer_scale=None` to the block."
            )
        self.init_value = init_value

    def build(self, input_shape):
        initializer = keras.initializers.Constant(self.init_value)
        self.gamma = self._per_channel("gamma", input_shape, initializer)

    def call(self, inputs):
        x = ops.cast(inputs, _wide(self))
        return ops.cast(x * ops.cast(self.gamma, x.dtype), self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "init_value": self.init_value}


class _ReplicaSeedGenerator(keras.random.SeedGenerator):
    """Gives each replica of `tf.distribute` and each process of PyTorch seeds of its own.

    The state is the same on all of them, so they would all drop the same places of their batches.
    """

    def next(self, ordered=True):
        seed, replica = super().next(ordered), _replica()
        if replica is None:
            return seed
        replica = ops.cast(replica, seed.dtype) * ops.cast(REPLICA_STRIDE, seed.dtype)
        return seed + ops.stack([replica, ops.zeros_like(replica)])


def _replica():
    """-> the number of the replica that asks, or `None` where there is one."""
    if keras.backend.backend() == "tensorflow":
        import tensorflow as tf

        context = tf.distribute.get_replica_context()
        alone = context is None or context.num_replicas_in_sync == 1
        return None if alone else context.replica_id_in_sync_group
    if keras.backend.backend() == "torch":
        from torch import distributed

        if distributed.is_available() and distributed.is_initialized():
            return distributed.get_rank()
    return None  # JAX draws for the whole batch, however it is shared


# Seeds of neighbouring replicas are far apart.
REPLICA_STRIDE = 1_000_003


@serializable
class StochasticDepth(_SameShape):
    """Drops whole samples of a residual branch while training, and scales up the others.

    Each sample (entry of the first axis) becomes zero with probability `rate`, else it is divided
    by `1 - rate`. Outside of training it does nothing. Each layer draws from its own
    `keras.random.SeedGenerator`, whose state is saved with the layer.

    Source: arXiv 1603.09382.

    Args:
        rate: probability in [0, 1) with which a sample is dropped.
        seed: int, or `None` for one drawn when the layer is made
            (`keras.utils.set_random_seed` fixes it).

    Input and output: `(batch, ...)`, any float dtype, which is kept.

    Raises:
        ValueError: if `rate` is outside [0, 1).
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        if not 0 <= rate < 1:
            raise ValueError(f"`rate` must be in [0, 1), received {rate!r}.")
        self.rate, self.seed = rate, seed
        if rate:
            self.seed_generator = _ReplicaSeedGenerator(seed, name="seed_generator")

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        # drawn in float32: in bfloat16 the rate itself would be rounded
        kept = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator) >= self.rate
        return inputs * ops.cast(ops.cast(kept, "float32") / (1 - self.rate), inputs.dtype)

    # Keras leaves seed generators out of the weights files; a run could not be resumed exactly.
    def save_own_variables(self, store):
        if self.rate:
            store["seed_generator_state"] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store):
        if self.rate and "seed_generator_state" in store.keys():
            self.seed_generator.state.assign(store["seed_generator_state"])

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}


@serializable
class GlobalResponseNormalization(_SameShape):
    """Lets the channels of a feature map compete (ConvNeXt V2).

    `x + gamma * x * n + beta` with `n = g / (mean over channels of g + epsilon)` and `g` the L2
    norm of each channel over the map. `gamma` and `beta` start at 0, so that the layer starts as
    the identity. Computed in float32. The root is taken of the sum plus `epsilon ** 2`: the norm's
    gradient stays finite on a channel that is zero everywhere.

    Source: arXiv 2301.00808, section 3.3.

    Input and output: `(batch, height, width, channels)`, any float dtype; the output has the
    compute dtype.
    """

    def __init__(self, epsilon=1e-6, **kwargs):
        super().__init__(**kwargs)
        self.epsilon = epsilon

    def build(self, input_shape):
        self.gamma = self._per_channel("gamma", input_shape, "zeros")
        self.beta = self._per_channel("beta", input_shape, "zeros")

    def call(self, inputs):
        x = ops.cast(inputs, _wide(self))
        norm = ops.sqrt(ops.sum(x * x, axis=(1, 2), keepdims=True) + self.epsilon**2)
        norm = norm / (ops.mean(norm, axis=-1, keepdims=True) + self.epsilon)
        gamma, beta = ops.cast(self.gamma, x.dtype), ops.cast(self.beta, x.dtype)
        return ops.cast(x + gamma * (x * norm) + beta, self.compute_dtype)

    def get_config(self):
        return {**super().get_config(), "epsilon": self.epsilon}


@serializable
class ConvNeXtBlock(_SameShape):
    """The residual block: `x + StochasticDepth(LayerScale(MLP(norm(depthwise(x)))))`.

    `dwconv` (depthwise, large kernel), `norm`, `pwconv1` (to `expansion` times the channels),
    activation, `grn` (V2), `pwconv2` (back), `gamma` (layer scale), `drop_path`.

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

    Input and output: `(batch, height, width, channels)`; the number of channels is taken from the
    first input, height and width may vary.

    Raises:
        ValueError: if an argument has a value that is not allowed, or the input has no static
            number of channels.
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
        # fmt: off
        self.fields = {
            "kernel_size": kernel_size, "expansion": expansion, "activation": activation,
            "norm": norm, "epsilon": epsilon, "layer_scale": layer_scale, "grn": grn,
            "drop_path_rate": drop_path_rate, "dilation": dilation, "seed": seed,
        }
        # fmt: on
        # What `jit_compile="auto"` asks: TensorFlow's own kernels convolve better than XLA on CPUs.
        self.supports_jit = not tensorflow_on_cpu()
        dtype = self.dtype_policy
        scaled = layer_scale is not None
        self.activation = ACTIVATIONS[one_of("activation", activation, ACTIVATIONS)]
        self.dwconv = DepthwiseConv2D(
            kernel_size,
            padding="same",
            dilation_rate=dilation,
            data_format="channels_last",
            depthwise_initializer=kernel_initializer(),
            name="dwconv",
            dtype=dtype,
        )
        self.norm = NORMS[one_of("norm", norm, NORMS)](epsilon=epsilon, name="norm", dtype=dtype)
        self.grn = GlobalResponseNormalization(name="grn", dtype=dtype) if grn else None
        self.gamma = LayerScale(layer_scale, name="gamma", dtype=dtype) if scaled else None
        self.drop_path = StochasticDepth(drop_path_rate, seed, name="drop_path", dtype=dtype)

    def build(self, input_shape):
        channels = input_shape[-1]
        if channels is None:
            raise ValueError(f"ConvNeXtBlock needs the number of channels, received {input_shape}.")
        width = int(channels * self.fields["expansion"])
        self.pwconv1, self.pwconv2 = self._dense(width, "pwconv1"), self._dense(channels, "pwconv2")
        outer = (self.dwconv, self.norm, self.pwconv1, self.gamma, self.drop_path)
        for layer in filter(None, outer):
            layer.build(input_shape)
        for layer in filter(None, (self.grn, self.pwconv2)):
            layer.build((*input_shape[:-1], width))

    def _dense(self, units, name):
        return keras.layers.Dense(
            units, kernel_initializer=kernel_initializer(), name=name, dtype=self.dtype_policy
        )

    def call(self, inputs, training=False):
        inputs = ops.cast(inputs, self.compute_dtype)
        # without the bookkeeping of __call__, a tenth of a small step
        x = self.dwconv.call(inputs, training=training)
        if training and self.drop_path.rate:
            x = branch(self, x, training=training)
            return inputs + self.drop_path(x, training=training)
        return branch(self, x, inputs, training)

    def get_config(self):
        return {**super().get_config(), **self.fields}
