"""A block in the forms that compute it: equal to the formulas, and so are its gradients."""

import keras
import numpy as np
import pytest
from keras import ops

from keras_convnext import ConvNeXt, Variant, fast
from keras_convnext.fast import conditions
from keras_convnext.layers import ConvNeXtBlock, LayerNormalization, PatchConv2D
from tests import reference
from tests.backends import BACKEND, numpy, randomise

only = {name: pytest.mark.skipif(BACKEND != name, reason=f"of {name}") for name in ("torch", "jax")}
only["tensorflow"] = pytest.mark.skipif(BACKEND != "tensorflow", reason="of tensorflow")
SHAPES = [(2, 7, 7, 8), (3, 3, 5, 4), (1, 1, 1, 8)]
OPTIONS = [
    {},
    {"dilation": 2, "layer_scale": None},
    {"activation": "gelu_tanh"},
    {"activation": "silu", "kernel_size": 5},
    {"norm": "simplenorm", "kernel_size": 3},
    {"grn": True},
    {"grn": True, "layer_scale": None},
]


@pytest.fixture
def in_pieces(monkeypatch):
    """Small tensors go through the pieces that large ones are cut into."""
    if BACKEND == "torch":
        monkeypatch.setattr(fast.forms, "WHOLE", 0)
        monkeypatch.setattr(fast.forms, "ROWS", 16)
    if BACKEND == "tensorflow":  # on all processors, those too where it is not usual
        monkeypatch.setattr(fast.forms, "_has_onednn", lambda: True)


def made(shape, **options):
    """Returns a block with weights that show in its output, and an input."""
    block = ConvNeXtBlock(**options)
    block.build((None, None, None, shape[-1]))
    randomise(block)
    return block, np.random.default_rng(1).normal(size=shape).astype("float32")


def names(block):
    return [weight.path.split("/", 1)[1] for weight in block.trainable_weights]


def exact(block, x, values, **options):
    known = {k: options[k] for k in ("activation", "norm", "dilation") if k in options}
    return reference.block(x, dict(zip(names(block), values, strict=True)), **known)


def computed(block, x, training=False):
    """Returns the output of a block; TensorFlow takes its forms in graphs alone."""
    if BACKEND != "tensorflow":
        return block(x, training=training)
    import tensorflow as tf

    return tf.function(lambda x: block(x, training=training))(tf.constant(x))


def gradients(block, x, factor, training=True):
    """Returns the gradients of `sum(factor * block(x))` with respect to `x` and each weight."""
    weights = block.trainable_variables
    if BACKEND == "jax":
        import jax

        state = [variable.value for variable in block.non_trainable_variables]

        def total(x, values):
            out, _ = block.stateless_call(values, state, x, training=training)
            return (ops.cast(out, "float32") * factor).sum()

        by_x, by_weights = jax.jit(jax.grad(total, (0, 1)))(x, [weight.value for weight in weights])
    elif BACKEND == "tensorflow":
        import tensorflow as tf

        @tf.function
        def compute(x):
            with tf.GradientTape() as tape:
                tape.watch(x)
                total = tf.reduce_sum(factor * ops.cast(block(x, training=training), "float32"))
            return tape.gradient(total, [x, *[weight.value for weight in weights]])

        by_x, *by_weights = compute(tf.constant(x))
    else:
        import torch

        x = torch.tensor(x, requires_grad=True)
        total = (torch.tensor(factor) * block(x, training=training)).sum()
        by_x, *by_weights = torch.autograd.grad(total, [x, *[weight.value for weight in weights]])
    return [numpy(gradient) for gradient in (by_x, *by_weights)]


# without training TensorFlow has another form for each, JAX for plain branches, PyTorch for none
OUTSIDE = {"tensorflow": OPTIONS, "jax": OPTIONS[:1], "torch": []}[BACKEND]


@pytest.mark.parametrize(
    ("options", "training"), [(o, True) for o in OPTIONS] + [(o, False) for o in OUTSIDE], ids=str
)
def test_gradients_are_those_of_the_formula(options, training, in_pieces):
    """Central differences in float64, along a random direction in each tensor."""
    for shape in SHAPES[: 1 if options else 2 if BACKEND == "jax" else 3]:
        block, x = made(shape, **options)
        random = np.random.default_rng(2)
        factor = random.normal(size=shape).astype("float32")
        found = gradients(block, x, factor, training)
        point = [np.float64(numpy(t)) for t in (x, *block.trainable_variables)]
        np.testing.assert_allclose(
            numpy(computed(block, x, training)), exact(block, *_split(point), **options), atol=1e-5
        )
        for place, gradient in enumerate(found):
            way = random.normal(size=gradient.shape)
            step = [np.zeros_like(tensor) for tensor in point]
            step[place] = 1e-5 * way
            up, down = (
                exact(
                    block,
                    *_split([p + sign * s for p, s in zip(point, step, strict=True)]),
                    **options,
                )
                for sign in (1, -1)
            )
            expected = (factor * (up - down)).sum() / 2e-5
            size = np.abs(gradient * way).sum() + 1e-3
            assert abs((gradient * way).sum() - expected) < 2e-5 * size, (shape, place)


def _split(point):
    return point[0], point[1:]


@pytest.mark.parametrize("options", OPTIONS[:1] + OPTIONS[-1:], ids=str)
@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
def test_half_precision(dtype, options, in_pieces):
    block, x = made((2, 7, 7, 16), **options)
    half = ConvNeXtBlock(**options, dtype=dtype)
    half.build(x.shape)
    for ours, theirs in zip(half.weights, block.weights, strict=True):
        ours.assign(theirs)
    out = computed(half, x, training=True)
    assert keras.backend.standardize_dtype(out.dtype) == "bfloat16"
    expected = numpy(block(x))
    error = np.abs(numpy(ops.cast(out, "float32")) - expected).max()
    assert error < 0.03 * np.abs(expected).max()
    factor = np.random.default_rng(2).normal(size=x.shape).astype("float32")
    # steps of bfloat16 are 0.8 %, and before a norm the sum over all pixels nearly cancels
    pairs = zip(gradients(half, x, factor), gradients(block, x, factor), strict=True)
    for rounded, gradient in pairs:
        assert np.abs(rounded - gradient).max() < 0.1 * np.abs(gradient).max()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("dtype", ["bfloat16", "mixed_bfloat16"])
@pytest.mark.parametrize("options", [OPTIONS[0], OPTIONS[-1]], ids=str)
def test_sums_over_many_pixels_grow_in_half_precision(dtype, options, training):
    """Added up in bfloat16, ones would stay at 256."""
    block = ConvNeXtBlock(**{**options, "layer_scale": None}, dtype=dtype)
    x = np.random.default_rng(1).normal(size=(2, 48, 48, 8)).astype("float32")
    block.build(x.shape)
    ones = np.ones_like(x)
    found = gradients(block, x, ones, training)[1 + names(block).index("pwconv2/bias")]
    np.testing.assert_allclose(np.float32(found), 2 * 48 * 48, rtol=2**-8)


@pytest.mark.parametrize("shape", [(2, 8, 8, 3), (1, 9, 11, 3), (3, 4, 4, 5)], ids=str)
def test_patches_are_a_convolution(shape):
    ours = PatchConv2D(6, 4, 4, data_format="channels_last")
    theirs = keras.layers.Conv2D(6, 4, 4, data_format="channels_last")
    for layer in (ours, theirs):
        layer.build(shape)
    randomise(ours, scale=1.0)
    theirs.set_weights(ours.get_weights())
    x = np.random.default_rng(3).normal(size=shape).astype("float32")
    np.testing.assert_allclose(numpy(ours(x)), numpy(theirs(x)), atol=2e-5)
    # without gradients PyTorch's products are others
    found = keras.Sequential([ours]).predict_on_batch(x)
    np.testing.assert_allclose(found, numpy(theirs(x)), atol=2e-5)


@pytest.mark.parametrize("options", [{"groups": 2}, {"activation": "relu"}], ids=str)
def test_patches_with_more_than_a_product(options):
    ours = PatchConv2D(6, 2, 2, data_format="channels_last", **options)
    theirs = keras.layers.Conv2D(6, 2, 2, data_format="channels_last", **options)
    x = np.random.default_rng(3).normal(size=(2, 4, 4, 8)).astype("float32")
    for layer in (ours, theirs):
        layer.build(x.shape)
    theirs.set_weights(ours.get_weights())
    np.testing.assert_allclose(numpy(ours(x)), numpy(theirs(x)), atol=1e-5)


@pytest.mark.parametrize("part", ["dwconv", "norm", "pwconv1", "grn", "pwconv2", "gamma"])
def test_a_part_has_a_dtype_of_its_own(part):
    block, x = made((2, 4, 4, 8), dtype="mixed_bfloat16", grn=part == "grn", layer_scale=0.5)
    expected = numpy(ops.cast(block(x), "float32"))
    getattr(block, part).dtype_policy = keras.DTypePolicy("float32")
    found = []
    getattr(block, part).call = _noted(found, getattr(block, part).call)
    out = block(x)
    assert found == ["float32"]
    assert keras.backend.standardize_dtype(out.dtype) == "bfloat16"
    np.testing.assert_allclose(numpy(ops.cast(out, "float32")), expected, rtol=0.05, atol=0.05)


def _noted(dtypes, call):
    """Returns `call`, which then adds the dtype of its result to a list."""

    def noted(x, **kwargs):
        y = call(x, **kwargs)
        dtypes.append(keras.backend.standardize_dtype(y.dtype))
        return y

    return noted


@pytest.mark.parametrize("part", ["dwconv", "norm", "pwconv1", "pwconv2", "gamma"])
def test_the_outputs_of_a_part_can_be_regularized(part):
    block, x = made((2, 4, 4, 8))
    getattr(block, part).activity_regularizer = keras.regularizers.L2(1.0)
    block(x)
    assert [float(numpy(loss)) > 0 for loss in block.losses] == [True]


def test_a_block_of_which_one_product_is_quantized():
    block, x = made((2, 4, 4, 8), dtype="mixed_bfloat16")
    expected = numpy(ops.cast(block(x), "float32"))
    block.pwconv1.quantize("int8")
    np.testing.assert_allclose(numpy(ops.cast(block(x), "float32")), expected, atol=0.1)


@pytest.mark.parametrize("grn", [False, True])
def test_a_batch_of_none(grn):
    block, x = made((2, 4, 4, 8), grn=grn)
    assert tuple(block(x[:0], training=True).shape) == (0, 4, 4, 8)
    by_x, *by_weights = gradients(block, x[:0], np.float32(1))
    assert by_x.shape == (0, 4, 4, 8)
    assert not any(gradient.any() for gradient in by_weights)


@pytest.mark.parametrize("training", [True, False])
def test_several_images_are_a_piece(training, in_pieces):
    block, x = made((4, 2, 4, 8))
    exactly = exact(block, np.float64(x), [np.float64(numpy(w)) for w in block.trainable_variables])
    np.testing.assert_allclose(numpy(block(x, training=training)), exactly, atol=1e-5)


@pytest.mark.parametrize("training", [True, False])
def test_low_rank_adaptation(training, monkeypatch):
    """`Dense.enable_lora`, after which the kernel is a sum and no variable."""
    block, x = made((2, 4, 4, 8))
    before = numpy(block(x, training=training))
    block.pwconv1.enable_lora(2)
    block.pwconv2.enable_lora(2)
    randomise(block)
    ours = numpy(block(x, training=training))
    monkeypatch.setenv(conditions.PIN, "portable")
    np.testing.assert_allclose(ours, numpy(block(x, training=training)), atol=1e-5)
    assert np.abs(ours - before).max() > 1e-3


def test_a_stateless_call_computes_in_the_dtype_of_the_policy():
    block, x = made((2, 4, 4, 8), dtype="mixed_bfloat16")
    values = [variable.value for variable in block.trainable_variables]
    state = [variable.value for variable in block.non_trainable_variables]
    out, _ = block.stateless_call(values, state, ops.cast(x, "bfloat16"))
    assert keras.backend.standardize_dtype(out.dtype) == "bfloat16"


def test_the_portable_forms_can_be_pinned(monkeypatch):
    block, x = made((2, 4, 4, 8))
    expected = numpy(block(x))
    monkeypatch.setenv(conditions.PIN, "portable")
    assert not conditions.own_kernel(ops.convert_to_tensor(x))
    np.testing.assert_allclose(numpy(block(x)), expected, atol=1e-5)
    monkeypatch.setenv(conditions.PIN, "magic")
    with pytest.raises(ValueError, match="must be 'portable'"):
        conditions.portable(ops.convert_to_tensor(x))


# ---------------------------------------------------------------- what a backend adds


@only["torch"]
@pytest.mark.parametrize("grn", [False, True])
def test_a_gradient_of_the_gradient(grn, in_pieces):
    import torch

    block, x = made((2, 4, 4, 8), grn=grn)
    x, weight = torch.tensor(x, requires_grad=True), block.pwconv1.kernel.value

    def penalty():
        (by_x,) = torch.autograd.grad(block(x).square().sum(), x, create_graph=True)
        return by_x.square().sum()

    (found,) = torch.autograd.grad(penalty(), weight)
    way = torch.randn_like(weight)
    with torch.no_grad():
        weight += 1e-3 * way
    up = penalty().item()
    with torch.no_grad():
        weight -= 2e-3 * way
    assert (found * way).sum().item() == pytest.approx((up - penalty().item()) / 2e-3, rel=2e-2)


def processor(monkeypatch, is_intel, width):
    import torch

    monkeypatch.setattr(fast.forms, "_is_intel", lambda: is_intel)
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: width)


@only["torch"]
@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize(
    ("is_intel", "width"), [(True, "AVX512"), (False, "AVX512"), (False, "AVX2")]
)
def test_products_of_both_libraries_are_exact(monkeypatch, in_pieces, options, is_intel, width):
    import torch

    processor(monkeypatch, is_intel, width)
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    expected = both and not is_intel and width == "AVX512"
    assert fast.forms._by_onednn(torch.float32) == expected
    block, x = made((2, 7, 7, 16), **options)
    values = [np.float64(numpy(w)) for w in block.trainable_variables]
    exactly = exact(block, np.float64(x), values, **options)
    with torch.no_grad():
        np.testing.assert_allclose(numpy(block(x)), exactly, atol=1e-5)
    np.testing.assert_allclose(numpy(block(x)), exactly, atol=1e-5)
    found = gradients(block, x, np.ones_like(x))
    monkeypatch.setenv(conditions.PIN, "portable")
    for ours, theirs in zip(found, gradients(block, x, np.ones_like(x)), strict=True):
        np.testing.assert_allclose(ours, theirs, atol=2e-5 * max(1, np.abs(theirs).max()))


@only["torch"]
@pytest.mark.parametrize("bias", ["strided", "expanded"])
def test_a_bias_may_be_a_view(monkeypatch, bias):
    import torch

    processor(monkeypatch, is_intel=False, width="AVX512")
    x, kernel, pairs = (torch.randn(shape) for shape in ((30, 48), (48, 20), (20, 2)))
    view = pairs[:, 0] if bias == "strided" else pairs[0, :1].expand(20)
    found = fast.forms._dense(x, kernel, view).double()
    expected = x.double() @ kernel.double() + view.double()
    assert (found - expected).abs().max() < 1e-4


@only["torch"]
@pytest.mark.parametrize("activation", ["gelu", "gelu_tanh", "silu"])
def test_bfloat16_without_gradients(activation):
    import torch

    block, x = made((2, 7, 7, 16), activation=activation)
    half = ConvNeXtBlock(activation=activation, dtype="bfloat16")
    half.build(x.shape)
    half.set_weights(block.get_weights())
    x = numpy(torch.tensor(x).bfloat16().float())
    with torch.no_grad():
        found = half(x)
    assert found.dtype == torch.bfloat16
    branch = numpy(block(x)) - x  # what the inputs would hide
    assert np.abs(numpy(found.float()) - x - branch).max() < 0.03 * np.abs(branch).max()


@only["torch"]
@pytest.mark.parametrize("grad", [True, False])
def test_patches_of_other_dtypes(grad):
    import torch

    layer = PatchConv2D(6, 4, 4, data_format="channels_last", autocast=False)
    layer.build((1, 8, 8, 3))
    x = torch.randint(256, (1, 8, 8, 3), dtype=torch.uint8)
    with torch.set_grad_enabled(grad):
        np.testing.assert_allclose(numpy(layer.call(x)), numpy(layer.call(x.float())), atol=1e-3)


@only["torch"]
def test_a_checkpoint_computes_the_same_gradients():
    import torch
    from torch.utils.checkpoint import checkpoint

    block, x = made((2, 7, 7, 16))
    expected = gradients(block, x, np.ones_like(x))[0]
    x = torch.tensor(x, requires_grad=True)
    (found,) = torch.autograd.grad(checkpoint(block, x, use_reentrant=False).sum(), x)
    np.testing.assert_allclose(numpy(found), expected, atol=1e-5)


@only["torch"]
@pytest.mark.parametrize("trainable", [True, False])
def test_the_activated_hidden_layer_is_kept_for_weights_alone(trainable):
    import torch

    block, x = made((2, 7, 7, 16))
    block.trainable = trainable
    sizes = []

    def pack(tensor):
        sizes.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        block(torch.tensor(x, requires_grad=True))
    assert sizes.count(4 * x.size) == (2 if trainable else 1)


@only["torch"]
def test_transformations_get_the_plain_form():
    import torch

    block, x = made((2, 4, 4, 8))
    x = torch.tensor(x)
    plain = numpy(block(x))
    per_image = torch.func.vmap(lambda image: block(image[None])[0])(x)
    np.testing.assert_allclose(numpy(per_image), plain, atol=1e-5)
    _, along = torch.func.jvp(lambda x: block(x).sum(), (x,), (torch.ones_like(x),))
    by_x = torch.func.grad(lambda x: block(x).sum())(x)
    assert along.item() == pytest.approx(by_x.sum().item(), rel=1e-4)


@only["torch"]
def test_frozen_weights_have_no_gradient_and_inputs_have():
    import torch

    block, x = made((2, 4, 4, 8))
    expected = gradients(block, x, np.ones_like(x))[0]
    block.trainable = False
    x = torch.tensor(x, requires_grad=True)
    (found,) = torch.autograd.grad(block(x).sum(), x)
    np.testing.assert_allclose(numpy(found), expected, atol=1e-5)


@only["tensorflow"]
def test_autograph_can_convert_the_activation():
    import tensorflow as tf

    assert tf.autograph.to_graph(fast.forms.gelu)(tf.zeros(2)) is None


@only["tensorflow"]
def test_tensorflow_on_cpus_is_not_left_to_xla():
    block, x = made((2, 4, 4, 8))
    model = keras.Sequential([keras.Input(x.shape[1:]), block])
    model.compile("sgd", "mse")
    assert model.jit_compile is False


@only["tensorflow"]
def test_a_gradient_of_a_fused_gradient():
    import tensorflow as tf

    x = tf.constant([0.3, -1.2])
    with tf.GradientTape() as outer:
        outer.watch(x)
        with tf.GradientTape() as inner:
            inner.watch(x)
            y = fast.forms.fused(lambda x: x**3)(x)
        first = inner.gradient(y, x)
    np.testing.assert_allclose(first, 3 * x**2, rtol=1e-6)
    np.testing.assert_allclose(outer.gradient(first, x), 6 * x, rtol=1e-6)


@pytest.fixture(scope="module")
def mini():
    variant = Variant("mini", depths=(1, 1), dims=(8, 12))
    return ConvNeXt(variant, include_top=False, pooling="avg", input_shape=(None, None, 3))


def compiled_by_xla(model, shape, training):
    """Returns how many functions of the model's graph XLA must compile."""
    import tensorflow as tf

    function = tf.function(lambda x: model(x, training=training), autograph=False)
    graph = function.get_concrete_function(tf.TensorSpec(shape)).graph.as_graph_def()
    return sum(one.attr["_XlaMustCompile"].b for one in graph.library.function)


@only["tensorflow"]
def test_xla_compiles_in_a_training_of_known_size_alone(mini):
    free = compiled_by_xla(mini, (None, None, None, 3), True)
    assert compiled_by_xla(mini, (None, 16, 16, 3), True) > free + 3
    assert free <= 1  # the norm behind the pooling, which knows no size of an image
    for shape in ((None, 16, 16, 3), (None, None, None, 3), (2, 16, 16, 3)):
        assert compiled_by_xla(mini, shape, False) == 0


@only["tensorflow"]
def test_an_exported_model_needs_no_xla(mini, tmp_path):
    from tensorflow.core.protobuf import saved_model_pb2

    mini.export(str(tmp_path), verbose=False)
    content = saved_model_pb2.SavedModel()
    content.ParseFromString((tmp_path / "saved_model.pb").read_bytes())
    graph = content.meta_graphs[0].graph_def
    functions = graph.library.function
    assert functions and not any(one.attr["_XlaMustCompile"].b for one in functions)
    kinds = {node.op for one in functions for node in one.node_def}
    assert "DepthwiseConv2dNative" in kinds and "FusedBatchNormV3" not in kinds


@only["tensorflow"]
def test_a_call_without_a_graph_compiles_nothing(monkeypatch):
    block, x = made((1, 4, 4, 8))

    def refuse(*_):
        raise AssertionError("compiled")

    for name in ("_activation", "_layer_norm"):
        monkeypatch.setattr(fast.forms, name, refuse)
    block(x)
    block(x, training=True)
    with pytest.raises(AssertionError, match="compiled"):
        computed(block, x, training=True)


@only["tensorflow"]
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", [(2, 5, 6, 16), (3, 16), (0, 4, 4, 16)], ids=str)
def test_the_norm_of_a_prediction_is_exact(shape, dtype, monkeypatch):
    """In a step of Keras TensorFlow replaces it by one operation of oneDNN."""
    taken = []
    form = fast.forms._onednn_layer_norm
    monkeypatch.setattr(fast.forms, "_has_onednn", lambda: True)
    monkeypatch.setattr(fast.forms, "_onednn_layer_norm", lambda *a: taken.append(a) or form(*a))
    layer = LayerNormalization(epsilon=1e-6, dtype=dtype)
    model = keras.Sequential([keras.Input(shape[1:], dtype=dtype), layer])
    randomise(model)
    x = np.random.default_rng(0).normal(1, 3, size=shape).astype("float32")
    found = np.float32(model.predict_on_batch(ops.cast(x, dtype)))
    assert taken
    expected = np.float32(numpy(ops.cast(layer(ops.cast(x, dtype)), "float32")))
    np.testing.assert_allclose(found, expected, atol=1e-5 if dtype == "float32" else 0.05)


@only["tensorflow"]
@pytest.mark.parametrize("onednn", [False, True])
def test_the_kernel_gradient_of_every_processor(onednn, monkeypatch):
    monkeypatch.setattr(fast.forms, "_has_onednn", lambda: onednn)
    for side in (3, 4, 7):
        block, x = made((3, 5, 6, 4), kernel_size=side)
        factor = np.random.default_rng(2).normal(size=x.shape).astype("float32")
        found = gradients(block, x, factor)
        monkeypatch.setenv(conditions.PIN, "portable")
        for ours, theirs in zip(found, gradients(block, x, factor), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=2e-5 * max(1, np.abs(theirs).max()))
        monkeypatch.delenv(conditions.PIN)
        of_none = gradients(block, x[:0], np.float32(1))
        assert not any(gradient.any() for gradient in of_none)


@only["tensorflow"]
@pytest.mark.parametrize("options", [{}, {"grn": True, "activation": "silu"}], ids=str)
def test_images_are_predicted_one_by_one(options, monkeypatch):
    """Large ones, in a step of Keras without oneDNN; never where gradients may be asked for."""
    import tensorflow as tf

    taken = []
    loop = tf.map_fn
    monkeypatch.setattr(tf, "map_fn", lambda *a, **k: taken.append(a) or loop(*a, **k))
    monkeypatch.setattr(fast.forms, "_has_onednn", lambda: False)
    monkeypatch.setattr(fast.forms, "IMAGE", 7 * 7 * 32)
    block, x = made((3, 7, 7, 8), **options)
    inputs = keras.Input(x.shape[1:])
    model = keras.Model(inputs, block(inputs, training=False))
    model.compile("sgd", "mse")
    expected = exact(block, x, [np.float64(w) for w in block.get_weights()], **options)
    np.testing.assert_allclose(model.predict_on_batch(x), expected, atol=1e-5)
    assert len(taken) == 1
    assert model.test_on_batch(x, x) == pytest.approx(np.square(expected - x).mean(), rel=1e-4)
    assert model.predict_on_batch(x[:0]).shape == (0, 7, 7, 8)
    looped = len(taken)
    model.train_on_batch(x, x)
    model.predict_on_batch(x[:, :5])
    assert len(taken) == looped


@only["tensorflow"]
def test_numerics_can_be_checked():
    import tensorflow as tf

    block, x = made((2, 4, 4, 8))
    model = keras.Sequential([keras.Input(x.shape[1:]), block])
    model.compile("sgd", "mse")
    tf.debugging.enable_check_numerics()
    try:
        model.train_on_batch(x, x)
        model.predict_on_batch(x)
    finally:
        tf.debugging.disable_check_numerics()


@only["torch"]
def test_bfloat16_where_pytorch_has_no_onednn(monkeypatch):
    import torch

    block = ConvNeXtBlock(dtype="bfloat16")
    block.build((1, 4, 4, 8))
    randomise(block)
    x = torch.ones((1, 4, 4, 8), dtype=torch.bfloat16)
    with torch.no_grad():
        expected = block(x).float()
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
        monkeypatch.setattr(torch.ops, "mkldnn", None)
        found = block(x).float()
    np.testing.assert_allclose(found, expected, atol=0.02 * expected.abs().max().item())


@only["torch"]
def test_gradients_of_the_gradients_of_no_image():
    import torch

    block, x = made((2, 4, 4, 8), grn=True)
    x = torch.tensor(x[:0], requires_grad=True)
    (by_x,) = torch.autograd.grad(block(x, training=True).sum(), x, create_graph=True)
    assert by_x.shape == (0, 4, 4, 8)


@only["torch"]
@pytest.mark.parametrize("of", ["jacobian", "hessian"])
def test_vectorized_jacobians(of, in_pieces):
    import torch

    block, x = made((1, 2, 2, 8))
    x = torch.tensor(x)
    total = block if of == "jacobian" else (lambda x: block(x).square().sum())
    find = getattr(torch.autograd.functional, of)
    expected = find(total, x)
    found = find(total, x, vectorize=True)
    np.testing.assert_allclose(numpy(found), numpy(expected), atol=1e-4)


@only["torch"]
def test_a_batch_of_gradients_reaches_the_weights(in_pieces):
    import torch

    block, x = made((2, 4, 4, 8))
    y = block(torch.tensor(x))
    weights = [weight.value for weight in block.trainable_variables]
    ones = torch.ones_like(y)
    expected = torch.autograd.grad(y, weights, ones, retain_graph=True)
    found = torch.autograd.grad(y, weights, torch.stack([ones, 2 * ones]), is_grads_batched=True)
    for ours, theirs in zip(found, expected, strict=True):
        size = 1e-4 * max(1, theirs.abs().max().item())
        np.testing.assert_allclose(numpy(ours[0]), numpy(theirs), atol=size)
        np.testing.assert_allclose(numpy(ours[1]), numpy(2 * theirs), atol=2 * size)


@only["jax"]
@pytest.mark.parametrize("training", [True, False])
def test_both_modes_of_jax(training, in_pieces):
    """Forward mode, alone and over reverse mode; gradients of each image; under `jit` too."""
    import jax

    block, x = made((2, 2, 3, 4))
    tensors = [variable.value for variable in block.trainable_variables]

    def total(tensors, x):
        return (block.stateless_call(tensors, [], x, training=training)[0] ** 2).sum()

    state = [variable.value for variable in block.non_trainable_variables]
    assert not state
    by_x = jax.grad(total, 1)(tensors, x)
    _, along = jax.jvp(jax.jit(lambda x: total(tensors, x)), (x,), (x,))
    np.testing.assert_allclose(along, (by_x * x).sum(), rtol=1e-4)
    _, product = jax.jvp(jax.grad(total, 1), (tensors, x), (tensors, x))
    _, pulled = jax.vjp(jax.grad(total, 1), tensors, x)
    _, along_x = pulled(x)
    half = jax.jvp(lambda x: jax.grad(total, 1)(tensors, x), (x,), (x,))[1]
    np.testing.assert_allclose(half, along_x, atol=1e-3 * np.abs(along_x).max())
    assert np.isfinite(product).all()
    each = jax.vmap(jax.grad(lambda t, x: total(t, x[None])), (None, 0))(tensors, x)
    for ours, whole in zip(each, jax.grad(total)(tensors, x), strict=True):
        size = 1e-4 * max(1, np.abs(whole).max())
        np.testing.assert_allclose(ours.sum(0), whole, atol=size)


@only["jax"]
@pytest.mark.parametrize("grn", [False, True])
def test_a_gradient_in_half_precision_may_be_transposed(grn):
    """XLA multiplies bfloat16 to a result in rows alone, and knows too late that columns are
    wanted: without a layout that is told, this ends in an error on CPUs that multiply bfloat16.
    An exported gradient has no such layout."""
    import jax

    block = ConvNeXtBlock(dtype="mixed_bfloat16", grn=grn)
    block.build((2, 7, 7, 16))
    randomise(block)
    tensors = [variable.value for variable in block.trainable_variables]
    x = np.random.default_rng(1).normal(size=(2, 7, 7, 16)).astype("float32")

    def total(tensors):
        return block.stateless_call(tensors, [], x, training=True)[0].astype("float32").sum()

    as_they_are = jax.jit(jax.grad(total))(tensors)
    transposed = jax.jit(lambda tensors: [g.T for g in jax.grad(total)(tensors)])
    for ours, theirs in zip(transposed(tensors), as_they_are, strict=True):
        np.testing.assert_array_equal(ours.T, theirs)
    exported = jax.export.deserialize(jax.export.export(transposed)(tensors).serialize())
    for ours, theirs in zip(exported.call(tensors), as_they_are, strict=True):
        np.testing.assert_allclose(ours.T, theirs, atol=0.02 * np.abs(theirs).max())
