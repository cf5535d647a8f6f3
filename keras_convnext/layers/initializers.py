"""The initial values of kernels."""

import contextlib
import contextvars
import math

import keras
import numpy as np

STDDEV = 0.02
_WILL_BE_LOADED = contextvars.ContextVar("kernels will be loaded", default=False)


@contextlib.contextmanager
def kernels_will_be_loaded(condition):
    """Lets the kernels that are made inside start as zeros if `condition` holds.

    Hundreds of millions of random numbers that a file replaces at once would take longer than
    reading the file.

    Args:
        condition: whether they start as zeros, a bool. Other initializers than `KernelInitializer`
            are left alone.

    Example:
        import keras
        from keras_convnext.layers import kernel_initializer, kernels_will_be_loaded
        layer = keras.layers.Dense(2, kernel_initializer=kernel_initializer())
        with kernels_will_be_loaded(True):
            layer.build((None, 1))
        layer.kernel  # [[0.0, 0.0]]
    """
    token = _WILL_BE_LOADED.set(condition)
    try:
        yield
    finally:
        _WILL_BE_LOADED.reset(token)


@keras.saving.register_keras_serializable(package="keras_convnext")
class KernelInitializer(keras.initializers.RandomNormal):
    """Draws from a normal distribution with mean 0 and standard deviation `stddev`.

    The reference's "truncated" normal of std 0.02 is cut at +-2, that is at 100 standard
    deviations. (Keras' TruncatedNormal cuts at two of them, which leaves a std of 0.0176.)

    On JAX a `seed` that is an int draws with numpy: JAX would compile a generator for every shape,
    which took most of the time of building a model.

    Args:
        mean: as of `keras.initializers.RandomNormal`.
        stddev: standard deviation, >= 0.
        seed: int, `None` or a `keras.random.SeedGenerator`.

    Example:
        from keras_convnext.layers import KernelInitializer
        KernelInitializer(stddev=0.02, seed=0)((3, 3, 8, 16)).shape  # (3, 3, 8, 16)
    """

    def __call__(self, shape, dtype=None):
        if _WILL_BE_LOADED.get():
            return keras.ops.zeros(shape, dtype)
        if keras.backend.backend() == "jax" and isinstance(self.seed, int):
            return keras.ops.cast(self._drawn_by_numpy(shape), dtype or keras.config.floatx())
        return super().__call__(shape, dtype)

    def _drawn_by_numpy(self, shape):
        random = np.random.default_rng(self.seed % 2**64)  # a seed may be negative
        return random.standard_normal(shape, "float32") * self.stddev + self.mean


def kernel_initializer(scale=1.0):
    """Returns the reference's initialiser; `scale` multiplies its standard deviation of 0.02.

    Example:
        from keras_convnext.layers import kernel_initializer
        kernel_initializer(scale=0.001).stddev  # 0.00002
    """
    return KernelInitializer(stddev=STDDEV * scale)


def he_of_outputs():
    """Returns He's initialiser by the number of outputs, as published dense heads have it."""
    return keras.initializers.VarianceScaling(2.0, "fan_out", "untruncated_normal")


def scale_to_inputs(model, gain):
    """Changes the kernels of a new model to a standard deviation of `gain / sqrt(inputs)`.

    The reference's 0.02 suits sums of some thousand inputs. In a network of tens of channels it
    makes branches start near zero, and a short training spends its first epochs on that.

    Args:
        model: a model with the kernels that it was made with. Those of `kernel_initializer` change,
            and keep a scale that they were given (`head_init_scale`); others are left alone.
        gain: > 0; 1 keeps the variance of a sum like that of its inputs.

    Example:
        from keras_convnext import ConvNeXt, Variant
        from keras_convnext.layers import scale_to_inputs
        model = ConvNeXt(Variant("mine", (1, 1, 1, 1), (8, 16, 32, 64)), classes=10)
        scale_to_inputs(model, gain=1.0)
    """
    for layer in model._flatten_layers(include_self=False):
        depthwise = isinstance(layer, keras.layers.DepthwiseConv2D)
        initializer = getattr(layer, f"{'depthwise' if depthwise else 'kernel'}_initializer", None)
        if isinstance(initializer, KernelInitializer):
            inputs = math.prod(layer.kernel.shape[: 2 if depthwise else -1])
            layer.kernel.assign(layer.kernel * (gain / (STDDEV * math.sqrt(inputs))))
