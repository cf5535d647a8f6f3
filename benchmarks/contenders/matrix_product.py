"""The product of two large square matrices: the rate that bounds every model on this machine."""

import numpy as np

from benchmarks.configuration import Unsupported
from benchmarks.contenders import device
from benchmarks.contenders.exported import compiled_by_openvino


def operations(configuration):
    """Returns the number of floating-point operations of a step."""
    return 2 * configuration.side**3


def _matrices(configuration):
    random = np.random.default_rng(0)
    shape = 2, configuration.side, configuration.side
    return random.standard_normal(shape, "float32")


def numpy(configuration):
    if configuration.dtype == "bfloat16":
        raise Unsupported("NumPy has no bfloat16")
    a, b = _matrices(configuration)
    return lambda: (a @ b)[0, 0]


def _tensors(configuration):
    import torch as library

    device.set_precision(configuration.dtype)
    where = "cuda" if library.cuda.is_available() else "cpu"
    dtype = getattr(library, _name(configuration))
    return [library.from_numpy(x).to(where, dtype) for x in _matrices(configuration)]


def torch(configuration):
    a, b = _tensors(configuration)
    return lambda: (a @ b)[0, 0].item()


def torch_conv(configuration):
    """PyTorch sends it to another library than a product: the rows of `a` become pixels."""
    import torch as library

    a, b = _tensors(configuration)
    pixels = a.T.reshape(1, configuration.side, -1, 32)
    pixels = pixels.contiguous(memory_format=library.channels_last)
    kernel = b.T.reshape(*b.shape, 1, 1).contiguous(memory_format=library.channels_last)

    def step():
        with library.inference_mode():
            return library.nn.functional.conv2d(pixels, kernel)[0, 0, 0, 0].item()

    return step


def tensorflow(configuration):
    import tensorflow as library

    device.set_precision(configuration.dtype)
    a, b = (library.cast(x, _name(configuration)) for x in _matrices(configuration))
    return lambda: (a @ b)[0, 0].numpy()


def jax(configuration):
    import jax as library

    device.set_precision(configuration.dtype)
    a, b = (library.numpy.asarray(x, _name(configuration)) for x in _matrices(configuration))
    product = library.jit(library.numpy.matmul)
    return lambda: product(a, b).block_until_ready()[0, 0]


def openvino(configuration):
    import openvino as library

    a, b = _matrices(configuration)
    inputs = library.opset13.parameter(a.shape, np.float32)
    product = library.opset13.matmul(inputs, library.opset13.constant(b), False, False)
    model = library.Model([product], [inputs])
    model = compiled_by_openvino(library.Core(), model, configuration.dtype)
    return lambda: model(a)[0][0, 0]


def _name(configuration):
    return "bfloat16" if configuration.dtype == "bfloat16" else "float32"
