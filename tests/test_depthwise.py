"""The forms of the depthwise convolution are one function, with one gradient."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_convnext import fast
from keras_convnext.fast import conditions
from keras_convnext.layers import DepthwiseConv2D
from tests.backends import BACKEND

# batch, height, width, channels, side of the kernel, dilation: what the family uses, and odd ones
SHAPES = [
    (2, 14, 14, 24, 7, 1),
    (1, 7, 7, 16, 7, 1),
    (2, 8, 8, 8, 5, 1),
    (2, 4, 4, 8, 3, 1),
    (1, 1, 1, 4, 7, 1),
    (2, 3, 5, 4, 7, 1),
    (1, 9, 6, 4, 7, 2),
    (1, 6, 7, 4, 4, 1),
    (1, 9, 9, 2, 2, 3),
]
RNG = np.random.default_rng(0)


def reference(x, kernel, dilation):
    """In float64, from the definition."""
    _, height, width, _ = x.shape
    side = kernel.shape[0]
    before = (side - 1) * dilation // 2
    behind = (side - 1) * dilation - before
    padded = np.pad(x, [(0, 0), (before, behind), (before, behind), (0, 0)])
    return sum(
        padded[:, r * dilation :, c * dilation :][:, :height, :width] * kernel[r, c, :, 0]
        for r in range(side)
        for c in range(side)
    )


def gradients(x, kernel, factor, dilation):
    """Of `sum(factor * depthwise_conv(x, kernel))`, from the definition: it is linear in each."""
    by_kernel = np.zeros_like(kernel)
    for place in np.ndindex(kernel.shape[:2]):
        tap = np.zeros_like(kernel)
        tap[place] = 1
        by_kernel[place][:, 0] = (factor * reference(x, tap, dilation)).sum((0, 1, 2))
    by_x = np.zeros_like(x)
    for y, z in np.ndindex(x.shape[1:3]):
        one = np.zeros_like(x)
        one[:, y, z] = 1
        by_x[:, y, z] = (factor * reference(one, kernel, dilation)).sum((1, 2))
    return by_x, by_kernel


def data(shape, side):
    return RNG.normal(size=shape), RNG.normal(size=(side, side, shape[-1], 1))


def convolved(x, kernel, dilation=1, bias=None, training=False):
    """Returns what the layer computes with this kernel."""
    layer = DepthwiseConv2D(
        kernel.shape[0],
        padding="same",
        data_format="channels_last",
        dilation_rate=dilation,
        use_bias=bias is not None,
        dtype=keras.backend.standardize_dtype(x.dtype),
    )
    layer.built = True
    layer.kernel, layer.bias = ops.convert_to_tensor(kernel), bias
    return layer.call(ops.convert_to_tensor(x), training=training)


def computed_gradients(x, kernel, factor, dilation, training=False):
    x, kernel, factor = (np.float32(values) for values in (x, kernel, factor))
    if BACKEND == "jax":
        import jax

        total = lambda x, k: (factor * convolved(x, k, dilation)).sum()  # noqa: E731
        return jax.grad(total, (0, 1))(x, kernel)
    if BACKEND == "tensorflow":
        import tensorflow as tf

        x, kernel = tf.constant(x), tf.constant(kernel)
        with tf.GradientTape() as tape:
            tape.watch([x, kernel])
            bias = tf.zeros(x.shape[-1:])
            y = convolved(x, kernel, dilation, bias, training)
            total = tf.reduce_sum(factor * y)
        return tape.gradient(total, [x, kernel])
    x, kernel = (ops.convert_to_tensor(v).requires_grad_() for v in (x, kernel))
    factor = ops.convert_to_tensor(factor)
    (factor * convolved(x, kernel, dilation)).sum().backward()
    return x.grad, kernel.grad


@pytest.fixture(params=["portable", ""])
def pinned(request, monkeypatch):
    monkeypatch.setenv(conditions.PIN, request.param)
    return request.param


@pytest.fixture(params=[False, True] if BACKEND == "torch" else [False])
def one_by_one(request, monkeypatch):
    """PyTorch's gradients take large images one after the other."""
    if request.param:
        monkeypatch.setattr(fast.forms, "SMALL", 0)


@pytest.fixture(params=[False, True] if BACKEND == "tensorflow" else [False])
def training(request):
    """TensorFlow's gradients are ours in training."""
    return request.param


def assert_close(found, expected):
    found = ops.convert_to_numpy(ops.cast(found, "float32"))
    np.testing.assert_allclose(found, expected, atol=3e-6 * max(1, np.abs(expected).max()))


@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_each_form_is_the_convolution(case, pinned):
    *shape, side, dilation = case
    x, kernel = data(shape, side)
    found = convolved(np.float32(x), np.float32(kernel), dilation)
    assert_close(found, reference(x, kernel, dilation))


@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_each_form_has_its_gradients(case, pinned, one_by_one, training):
    *shape, side, dilation = case
    x, kernel = data(shape, side)
    factor = RNG.normal(size=shape)
    found = computed_gradients(x, kernel, factor, dilation, training)
    for ours, expected in zip(found, gradients(x, kernel, factor, dilation), strict=True):
        assert_close(ours, expected)


def test_a_kernel_that_is_not_finite(pinned):
    """On JAX the sum of shifted images is a case of its own, that of finite kernels."""
    x, kernel = (np.float32(values) for values in data((2, 8, 8, 4), 7))
    kernel[0, 0, 0] = np.inf
    found = ops.convert_to_numpy(convolved(x, kernel))
    assert not np.isfinite(found[:, 3:, 3:, 0]).any()  # what this tap reads of the image
    assert_close(found[..., 1:], reference(x, kernel, 1)[..., 1:])


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(dtype, pinned):
    """Shifted sums are added up in float32; some native forms add in half precision."""
    x, kernel = data((1, 8, 8, 4), 7)
    x, kernel = (ops.cast(values, dtype) for values in (x, kernel))
    found = convolved(x, kernel)
    assert keras.backend.standardize_dtype(found.dtype) == dtype
    exact = reference(*(ops.convert_to_numpy(ops.cast(v, "float32")) for v in (x, kernel)), 1)
    error = np.abs(ops.convert_to_numpy(ops.cast(found, "float32")) - exact).max()
    unit = {"bfloat16": 2**-8, "float16": 2**-10}[dtype]
    added_up_in_half = pinned or BACKEND != "jax"
    assert error <= np.abs(exact).max() * unit * (8 if added_up_in_half else 1)


@pytest.mark.skipif(BACKEND != "torch", reason="of PyTorch's own functions")
@pytest.mark.parametrize("small", [0, 2**15])
def test_gradients_have_gradients(small, monkeypatch):
    import torch

    monkeypatch.setattr(fast.forms, "SMALL", small)
    arrays = (RNG.normal(size=size) for size in ((2, 3, 5, 6), (3, 1, 5, 5), (3,)))
    tensors = tuple(torch.tensor(array, requires_grad=True) for array in arrays)
    convolve = lambda *tensors: fast.forms._DepthwiseConv.apply(*tensors, 2)  # noqa: E731
    assert torch.autograd.gradgradcheck(convolve, tensors)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow's own functions")
@pytest.mark.parametrize("batch", [0, 3])
@pytest.mark.parametrize("jit_compile", [False, True])
def test_sizes_that_are_known_late(batch, jit_compile):
    """In `fit` the batch is; and a replica may be given no image."""
    import tensorflow as tf

    x, kernel = (np.float32(values) for values in data((batch, 5, 6, 4), 7))
    bias = tf.zeros(4)

    @tf.function(jit_compile=jit_compile)
    def by_kernel(x, kernel):
        with tf.GradientTape() as tape:
            tape.watch(kernel)
            total = tf.reduce_sum(convolved(x, kernel, 1, bias, True) ** 2)
        return tape.gradient(total, kernel)

    wide = by_kernel.get_concrete_function(
        tf.TensorSpec((None, None, None, 4)), tf.TensorSpec(kernel.shape)
    )
    _, expected = gradients(x, kernel, 2 * reference(x, kernel, 1), 1)
    assert_close(wide(tf.constant(x), tf.constant(kernel)), expected)


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow's own functions")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_the_gradient_of_a_bias_is_summed_in_float32(dtype):
    """TensorFlow's own sums stop growing in half precision."""
    import tensorflow as tf

    shapes = (8, 56, 56, 96), (3, 3, 96, 1), (96,)
    x, kernel, bias = (tf.ones(shape, dtype) for shape in shapes)
    with tf.GradientTape() as tape:
        tape.watch(bias)
        y = convolved(x, kernel, 1, bias, True)
        total = tf.reduce_sum(tf.cast(y, "float32"))
    np.testing.assert_allclose(
        tf.cast(tape.gradient(total, bias), "float32"), 8 * 56 * 56, rtol=2**-8
    )


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of TensorFlow's own functions")
def test_gradients_of_gradients():
    import tensorflow as tf

    x, kernel = (tf.constant(np.float32(values)) for values in data((2, 5, 6, 3), 5))

    def second(training):
        with tf.GradientTape() as outer:
            outer.watch([x, kernel])
            with tf.GradientTape() as tape:
                tape.watch([x, kernel])
                y = convolved(x, kernel, 1, tf.zeros(3), training)
                total = tf.reduce_sum(y**3)
            first = tape.gradient(total, [x, kernel])
            total = sum(tf.reduce_sum(gradient**2) for gradient in first)
        return outer.gradient(total, [x, kernel])

    for ours, theirs in zip(second(True), second(False), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-3, atol=1e-5 * np.abs(theirs).max())


@pytest.mark.skipif(BACKEND != "jax", reason="of JAX's symbolic sizes")
def test_symbolic_sizes_get_the_operation_of_keras():
    import jax
    from jax import export

    kernel = np.zeros((3, 3, 4, 1), "float32")
    assert (
        fast.depthwise_conv(np.zeros((1, 8, 8, 4), "float32"), kernel, None, 1, False) is not None
    )
    x = jax.ShapeDtypeStruct(export.symbolic_shape("b, 8, 8, 4"), "float32")
    assert fast.depthwise_conv(x, kernel, None, 1, False) is None


@pytest.mark.skipif(BACKEND != "jax", reason="XLA's program")
def test_a_constant_kernel_leaves_the_sum_a_case_of_its_own():
    """As a part of what surrounds it, XLA computes it on one core or tears it apart."""
    import jax

    x, kernel = (np.float32(values) for values in data((2, 8, 8, 4), 7))
    program = jax.jit(lambda x: convolved(x, kernel)).lower(x).compile()
    assert "conditional(" in program.as_text()


def test_the_operation_of_keras_can_be_pinned(monkeypatch):
    x, kernel = (ops.convert_to_tensor(np.float32(values)) for values in data((1, 4, 4, 2), 3))

    def refuse(*_):
        raise AssertionError("ours")

    monkeypatch.setattr(fast.forms, "depthwise_conv", refuse)
    with pytest.raises(AssertionError, match="ours"):
        convolved(x, kernel, 1, ops.zeros(2), True)
    monkeypatch.setenv(conditions.PIN, "portable")
    convolved(x, kernel, 1, ops.zeros(2), True)


def test_an_unknown_form_is_refused(monkeypatch):
    monkeypatch.setenv(conditions.PIN, "magic")
    x, kernel = (np.float32(values) for values in data((1, 2, 2, 1), 3))
    with pytest.raises(ValueError, match="must be 'portable', or unset"):
        convolved(x, kernel)
