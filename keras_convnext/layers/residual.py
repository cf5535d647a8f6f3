"""The parts of a residual branch: layer scale and stochastic depth."""

import keras
from keras import ops

from keras_convnext import checks
from keras_convnext.layers.remat import KeepsItsCall

serializable = keras.saving.register_keras_serializable(package="keras_convnext")

REPLICA_STRIDE = 1_000_003  # keeps the seeds of neighbouring replicas far apart


@serializable
class LayerScale(keras.layers.Layer):
    """Multiplies each channel by a trained factor `gamma` that starts small, in float32.

    Source: arXiv 2103.17239; section A.1 of arXiv 2201.03545 (initial value 1e-6).

    Args:
        init_value: initial value of `gamma`, a float > 0. (A network without layer scale has no
            LayerScale; one that starts at 0 would keep its block dead.)

    Input and output: `(..., channels)`, any float dtype; the output has the compute dtype.

    Raises:
        ValueError: if `init_value` is not positive.

    Example:
        import keras
        from keras_convnext import LayerScale
        LayerScale(0.5)(keras.ops.ones((1, 2)))  # [[0.5, 0.5]]
    """

    def __init__(self, init_value=1e-6, **kwargs):
        super().__init__(**kwargs)
        note = "For a block without layer scale pass `layer_scale=None` to the block."
        self.init_value = checks.number("init_value", init_value, above=0, note=note)

    def build(self, input_shape):
        initializer = keras.initializers.Constant(self.init_value)
        # autocast=False: a value of 1e-6 has only two significant bits in float16
        self.gamma = self.add_weight((input_shape[-1],), initializer, name="gamma", autocast=False)
        self.input_spec = keras.layers.InputSpec(axes={-1: input_shape[-1]})  # no broadcast

    def call(self, inputs):
        x = ops.cast(inputs, keras.backend.result_type(self.compute_dtype, "float32"))
        return ops.cast(x * ops.cast(self.gamma, x.dtype), self.compute_dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "init_value": self.init_value}


class ReplicaSeedGenerator(keras.random.SeedGenerator):
    """Gives each replica of `tf.distribute` and each process of PyTorch seeds of its own.

    The state is the same on all of them, so they would all drop the same places of their batches.

    Example:
        import keras
        from keras_convnext.layers import ReplicaSeedGenerator
        seeds = ReplicaSeedGenerator(0)
        keras.random.uniform((2, 3), seed=seeds).shape  # (2, 3)
    """

    def next(self, ordered=True):
        seed, replica = super().next(ordered), _replica()
        if replica is None:
            return seed
        replica = ops.cast(replica, seed.dtype) * ops.cast(REPLICA_STRIDE, seed.dtype)
        return seed + ops.stack([replica, ops.zeros_like(replica)])


def _replica():
    """Returns the number of the replica that asks, or `None` where there is only one."""
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


class Seeded(keras.layers.Layer):
    """A layer that draws random numbers and saves the state of its `seed_generator`, if it has one.

    Keras leaves seed generators out of the files of weights; a run could not be resumed exactly.

    Example:
        import keras
        from keras_convnext.layers import ReplicaSeedGenerator, Seeded
        class Noise(Seeded):
            def __init__(self, seed=None, **kwargs):
                super().__init__(**kwargs)
                self.seed_generator = ReplicaSeedGenerator(seed)

            def call(self, x):
                return x + keras.random.normal(x.shape, seed=self.seed_generator)
        Noise(0)(keras.ops.zeros((2, 3))).shape  # (2, 3)
    """

    seed_generator = None

    def save_own_variables(self, store):
        if self.seed_generator is not None:
            store["seed_generator_state"] = ops.convert_to_numpy(self.seed_generator.state)

    def load_own_variables(self, store):
        if self.seed_generator is not None and "seed_generator_state" in store.keys():
            self.seed_generator.state.assign(store["seed_generator_state"])


@serializable
class StochasticDepth(KeepsItsCall, Seeded):
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

    Example:
        import keras
        from keras_convnext import StochasticDepth
        drop_path = StochasticDepth(0.5, seed=0)
        branch = keras.ops.ones((4, 2))
        drop_path(branch, training=True)  # each row is [0, 0] or [2, 2]
    """

    def __init__(self, rate, seed=None, **kwargs):
        super().__init__(**kwargs)
        self.rate, self.seed = checks.number("rate", rate, least=0, below=1), seed
        if rate:
            self.seed_generator = ReplicaSeedGenerator(seed, name="seed_generator")

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        shape = (ops.shape(inputs)[0],) + (1,) * (len(inputs.shape) - 1)
        # drawn in float32: in bfloat16 the rate itself would be rounded
        kept = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator) >= self.rate
        return inputs * ops.cast(ops.cast(kept, "float32") / (1 - self.rate), inputs.dtype)

    def compute_output_shape(self, input_shape):
        return tuple(input_shape)

    def get_config(self):
        return {**super().get_config(), "rate": self.rate, "seed": self.seed}
