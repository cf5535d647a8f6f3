"""How kernels begin."""

import contextlib
import contextvars

import keras

_WILL_BE_LOADED = contextvars.ContextVar("kernels will be loaded", default=False)


@contextlib.contextmanager
def kernels_will_be_loaded(condition):
    """Kernels that are made inside begin as zeros if `condition` holds: hundreds of millions of
    random numbers that a file replaces at once would take longer than reading the file."""
    token = _WILL_BE_LOADED.set(condition)
    try:
        yield
    finally:
        _WILL_BE_LOADED.reset(token)


@keras.saving.register_keras_serializable(package="keras_convnext")
class KernelInitializer(keras.initializers.RandomNormal):
    """Normal, with mean 0 and standard deviation `stddev`.

    The reference's "truncated" normal of std 0.02 is cut at +-2, that is at 100 standard
    deviations. (Keras' TruncatedNormal cuts at two of them, which leaves a std of 0.0176.)
    """

    def __call__(self, shape, dtype=None):
        if _WILL_BE_LOADED.get():
            return keras.ops.zeros(shape, dtype)
        return super().__call__(shape, dtype)


def kernel_initializer(scale=1.0):
    """-> the reference's initialiser; `scale` multiplies its standard deviation of 0.02."""
    return KernelInitializer(stddev=0.02 * scale)
