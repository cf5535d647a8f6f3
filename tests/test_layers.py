"""Properties that every layer has, and what each of them computes."""

import json

import keras
import numpy as np
import pytest
from keras import ops

from keras_convnext import (
    ConvNeXtBlock,
    GlobalResponseNormalization,
    LayerScale,
    SimpleNorm,
    StochasticDepth,
)
from tests import reference
from tests.backends import BACKEND, gradients, numpy, randomise

SHAPE = (2, 5, 6, 8)
BLOCKS = {
    "v1": {},
    "v2": {"layer_scale": None, "grn": True},
    "rms": {"norm": "simplenorm", "activation": "silu", "kernel_size": 3, "epsilon": 1e-5},
    "dilated": {"dilation": 2, "kernel_size": 5, "activation": "gelu_tanh", "expansion": 2},
}
LAYERS = {
    "layer_scale": lambda **kwargs: LayerScale(0.5, **kwargs),
    "stochastic_depth": lambda **kwargs: StochasticDepth(0.5, seed=3, **kwargs),
    "grn": GlobalResponseNormalization,
    "simple_norm": SimpleNorm,
    **{
        f"block_{name}": lambda fields=fields, **kwargs: ConvNeXtBlock(
            drop_path_rate=0.5, seed=3, **fields, **kwargs
        )
        for name, fields in BLOCKS.items()
    },
}
each_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


def images(shape=SHAPE, scale=1.0, seed=0):
    return (scale * np.random.default_rng(seed).standard_normal(shape)).astype("float32")


@each_layer
def test_shapes(make):
    layer = make()
    assert tuple(layer(images()).shape) == SHAPE
    assert tuple(layer.compute_output_shape(SHAPE)) == SHAPE
    symbolic = layer(keras.Input((None, None, 8)))
    assert tuple(symbolic.shape) == (None, None, None, 8)


@pytest.mark.parametrize("name", [name for name in LAYERS if name != "stochastic_depth"])
def test_another_number_of_channels_is_refused(name):
    """One channel would be broadcast to all of them."""
    layer = LAYERS[name]()
    layer(images())
    with pytest.raises(ValueError, match="axis -1 of input shape"):
        layer(images((2, 5, 6, 1)))


@each_layer
def test_config_is_complete(make):
    layer = make(name="a_layer")
    layer(images())
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(layer)))
    assert config["registered_name"].startswith("keras_convnext>")
    twin = keras.saving.deserialize_keras_object(config)
    assert twin.get_config() == layer.get_config()
    twin(images())
    assert [w.shape for w in twin.weights] == [w.shape for w in layer.weights]
    twin.set_weights(randomise(layer).get_weights())
    np.testing.assert_array_equal(numpy(twin(images())), numpy(layer(images())))


@each_layer
@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16", "float64"])
def test_policies_keep_the_compute_dtype(make, policy):
    if policy == "float64" and BACKEND == "jax":
        pytest.skip("JAX has no float64 unless it is enabled for the whole process")
    layer = make(dtype=policy)
    x = images().astype("float64" if policy == "float64" else "float32")
    for training in (False, True):
        kwargs = {"training": training} if layer._call_has_training_arg else {}
        output = layer(x, **kwargs)
        assert keras.backend.standardize_dtype(output.dtype) == layer.compute_dtype
        assert np.isfinite(numpy(ops.cast(output, "float32"))).all()
    assert {w.dtype for w in layer.weights} <= {layer.variable_dtype}


@each_layer
def test_gradients_are_finite_at_zero(make):
    layer = make()
    zeros = np.zeros(SHAPE, "float32")
    layer(zeros)
    (gradient,) = gradients(layer, zeros)
    assert np.isfinite(gradient).all()


@each_layer
def test_inside_time_distributed(make):
    layer = make()
    clips = images((2, 3, 5, 6, 8))
    wrapped = keras.layers.TimeDistributed(layer)
    output = numpy(wrapped(clips))
    frames = np.stack([numpy(layer(clips[:, t])) for t in range(3)], axis=1)
    np.testing.assert_allclose(output, frames, rtol=1e-5, atol=1e-6)
    assert numpy(wrapped(clips, training=True)).shape == clips.shape


def random_block(fields, scale, weight_scale=0.1):
    """Returns a block, an image, and the block's weights by their paths."""
    block = ConvNeXtBlock(**fields)
    x = images(scale=scale)
    block(x)
    randomise(block, scale=weight_scale)
    block.dwconv.bias.assign(0 * block.dwconv.bias)  # so that `scale` reaches the norm
    return block, x, {weight.path.split("/", 1)[1]: numpy(weight) for weight in block.weights}


@pytest.mark.parametrize("fields", BLOCKS.values(), ids=BLOCKS)
# a variance of 1e-6 in front of the norm shows every change of epsilon
@pytest.mark.parametrize("scale", [1.0, 1e-3])
def test_block_equals_the_formulas(fields, scale):
    block, x, weights = random_block(fields, scale)
    used = {k: v for k, v in fields.items() if k in ("activation", "norm", "epsilon", "dilation")}
    expected = reference.block(x.astype("float64"), weights, **used)
    np.testing.assert_allclose(numpy(block(x)), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("wrong", "scale", "weight_scale"),
    [({"epsilon": 1e-5}, 1e-3, 0.1), ({"activation": "gelu_tanh"}, 1.0, 0.5)],
)
def test_the_formulas_tell_epsilons_and_gelus_apart(wrong, scale, weight_scale):
    """The comparison above can fail: these are the mistakes that it must see."""
    block, x, weights = random_block({}, scale, weight_scale)
    output = numpy(block(x))
    np.testing.assert_allclose(
        output, reference.block(x.astype("float64"), weights), rtol=1e-4, atol=1e-5
    )
    mistaken = reference.block(x.astype("float64"), weights, **wrong)
    assert not np.allclose(output, mistaken, rtol=1e-4, atol=1e-5)


def test_layer_scale_multiplies_in_float32_under_float16():
    layer = LayerScale(1e-6, dtype="mixed_float16")
    # 1e-6 in float16 is off by 1.4 %, 1e4 * 1e-6 in float32 is rounded once at the end
    output = numpy(layer(np.full((1, 2), 1e4, "float16")))
    np.testing.assert_array_equal(output, np.full((1, 2), np.float16(np.float32(1e4) * 1e-6)))


def test_grn_starts_as_the_identity_and_survives_float16_sums():
    layer = GlobalResponseNormalization(dtype="mixed_float16")
    x = np.full((1, 64, 64, 2), 30.0, "float16")  # the sum of squares is 3.7e6, above float16
    np.testing.assert_array_equal(numpy(layer(x)), x)
    layer.gamma.assign([1.0, 1.0])
    np.testing.assert_array_equal(numpy(layer(x)), 2 * x)


def test_stochastic_depth_drops_whole_samples_at_its_rate():
    layer = StochasticDepth(0.25, seed=0)
    x = np.ones((4000, 2, 2, 3), "float32")
    output = numpy(layer(x, training=True))
    per_sample = output.reshape(4000, -1)
    assert set(np.unique(output).tolist()) == {0.0, np.float32(1 / 0.75)}
    assert (per_sample == per_sample[:, :1]).all()
    # five standard deviations of a binomial
    assert abs((per_sample[:, 0] == 0).mean() - 0.25) < 5 * (0.25 * 0.75 / 4000) ** 0.5
    np.testing.assert_array_equal(numpy(layer(x)), x)
    assert StochasticDepth(0.0)(x, training=True) is not None


def test_equal_seeds_give_equal_masks_and_layers_are_independent():
    x = np.ones((64, 1, 1, 1), "float32")
    masks = [numpy(StochasticDepth(0.5, seed)(x, training=True)) for seed in (1, 1, 2)]
    np.testing.assert_array_equal(masks[0], masks[1])
    assert (masks[0] != masks[2]).any()
    keras.utils.set_random_seed(0)
    unseeded = [numpy(StochasticDepth(0.5)(x, training=True)) for _ in range(2)]
    keras.utils.set_random_seed(0)
    again = [numpy(StochasticDepth(0.5)(x, training=True)) for _ in range(2)]
    assert (unseeded[0] != unseeded[1]).any()
    np.testing.assert_array_equal(unseeded, again)
    layer = StochasticDepth(0.5, seed=1)
    assert (numpy(layer(x, training=True)) != numpy(layer(x, training=True))).any()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: LayerScale(0.0), "layer_scale=None"),
        (lambda: StochasticDepth(1.0), r"\[0, 1\)"),
        (lambda: StochasticDepth(-0.1), r"\[0, 1\)"),
        (lambda: ConvNeXtBlock(activation="relu"), "gelu_tanh"),
        (lambda: ConvNeXtBlock(norm="batchnorm"), "simplenorm"),
        (lambda: ConvNeXtBlock()(keras.Input((4, 4, None))), "number of channels"),
    ],
)
def test_wrong_arguments_say_what_is_allowed(make, message):
    with pytest.raises(ValueError, match=message):
        make()
