"""Properties of every model of the family, on small networks, and which mistakes they reveal."""

import dataclasses
import functools
import inspect
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

import keras_convnext
from keras_convnext import VARIANTS, ConvNeXt, Variant
from keras_convnext.detection import MaskRCNN
from keras_convnext.pretrained.saving import save_weights
from keras_convnext.segmentation import UperNet
from tests import reference
from tests.backends import BACKEND, EXHAUSTIVE, numpy, on_one_backend, randomise
from tests.families import FAMILIES, V1

ROOT = Path(__file__).resolve().parents[1]
PHOTOS = ROOT.parent / "shared" / "golden" / "eval_pipeline.npz"
POLICIES = ("float32", "mixed_bfloat16", "mixed_float16")
TOLERANCE = 1e-4  # of the largest magnitude: float32 against float64, or another order of summation
FORMULAS = 2e-6  # of the largest magnitude: measured 6e-7 and less
SAME = 1e-6  # of the largest magnitude: the same operations, perhaps on other threads
MATCHING = {
    "input_shape": (16, 16, 3),
    "classifier_activation": None,
    "include_preprocessing": False,
}
LOGITS = {"include_preprocessing": False, "classes": 5, "classifier_activation": None}
FOUR_STAGES = Variant("four_stages", (1, 2, 1, 1), (8, 8, 8, 8))

each_family = pytest.mark.parametrize("family", FAMILIES)


def build(variant, **changes):
    """A small classifier with weights that show; the arguments are those of `ConvNeXt`."""
    arguments = {"input_shape": (16, 16, 3), **LOGITS, **changes}
    return randomise(ConvNeXt(FAMILIES.get(variant, variant), **arguments))


def images(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape or (2, 16, 16, 3)).astype("float32")


def pixels(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, "uint8")


def error(computed, expected):
    """Returns the largest difference, relative to the largest magnitude."""
    computed, expected = np.asarray(computed, "float64"), np.asarray(expected, "float64")
    assert computed.shape == expected.shape
    return np.abs(computed - expected).max() / np.abs(expected).max()


def outputs(model, x, **kwargs):
    return numpy(model(x, **kwargs))


def twin_of(model, twin):
    twin.set_weights(model.get_weights())
    return twin


def blocks(variant):
    return [f"stage{s}_block{b}" for s, depth in enumerate(variant.depths) for b in range(depth)]


@pytest.fixture
def set_policy():
    before = keras.config.dtype_policy()
    yield keras.config.set_dtype_policy
    keras.config.set_dtype_policy(before)


@pytest.fixture
def set_image_data_format():
    before = keras.config.image_data_format()
    yield keras.config.set_image_data_format
    keras.config.set_image_data_format(before)


@pytest.fixture
def golden():
    """The helpers of the golden tests."""
    from tests import test_golden

    return test_golden


# ---------------------------------------------------------------- the formulas


def formulas(variant, weights, x, without=None):
    """The logits in numpy; the block named `without` is replaced by the identity.

    `weights`: {path in the model: array}.
    """
    norm = functools.partial(normalised, variant, weights)
    conv = functools.partial(convolution, weights)
    x = stem(variant, conv, x.astype("float64"))
    x = norm(x, "stem/norm") if variant.stem_norm else x
    for stage, depth in enumerate(variant.depths):
        if stage:
            x = conv(norm(x, f"downsample{stage}/norm"), f"downsample{stage}/conv", 2)
        for block in range(depth):
            name = f"stage{stage}_block{block}"
            x = x if name == without else block_of(variant, weights, x, name)
    first, last = lambda x: norm(x, "head_norm"), lambda x: x.mean((1, 2))
    x = last(first(x)) if variant.head_norm_first else first(last(x))
    if variant.head_hidden:
        x = getattr(reference, variant.activation)(dense(weights, x, "head_hidden"))
    return dense(weights, x, "head")


def stem(variant, conv, x):
    if variant.stem == "patch":
        return conv(x, "stem/conv", variant.stem_stride)
    first, second = {1: (1, 1), 2: (2, 1), 4: (2, 2)}[variant.stem_stride]
    x = conv(x, "stem/conv1", first, padding=1)
    if variant.stem == "overlap_act":
        x = getattr(reference, variant.activation)(x)
    return conv(x, "stem/conv2", second, padding=1)


def convolution(weights, x, name, stride, padding=0):
    kernel, bias = weights[f"{name}/kernel"], weights[f"{name}/bias"]
    padded = np.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, kernel.shape[:2], axis=(1, 2))
    return np.einsum("nhwcij,ijco->nhwo", windows[:, ::stride, ::stride], kernel) + bias


def block_of(variant, weights, x, name):
    inside = {
        path[len(name) + 1 :]: w for path, w in weights.items() if path.startswith(f"{name}/")
    }
    fields = {field: getattr(variant, field) for field in ("activation", "norm", "epsilon")}
    return reference.block(x, inside, **fields)


def normalised(variant, weights, x, name):
    if variant.norm == "simplenorm":
        return reference.simple_norm(x, weights[f"{name}/gamma"], variant.epsilon)
    gamma, beta = weights[f"{name}/gamma"], weights[f"{name}/beta"]
    return reference.layer_norm(x, gamma, beta, variant.epsilon)


def dense(weights, x, name):
    return x @ weights[f"{name}/kernel"] + weights[f"{name}/bias"]


def weights_of(model):
    return {weight.path: numpy(weight).astype("float64") for weight in model.weights}


def mistakes(variant):
    """Returns `{name: arguments of formulas}`."""
    other_gelu = "gelu" if variant.activation == "silu" else "gelu_tanh"
    fields = {
        "head order": {"head_norm_first": not variant.head_norm_first},
        "epsilon": {"epsilon": 1e-3},
        "gelu": {"activation": other_gelu},
    }
    return {
        **{name: {"without": name} for name in blocks(variant)},
        **{k: {"variant": dataclasses.replace(variant, **v)} for k, v in fields.items()},
    }


@each_family
def test_equals_the_formulas_and_tells_every_mistake(family):
    variant = FAMILIES[family]
    model = randomise(build(family), scale=0.3)  # where the two GELUs and epsilons differ by most
    x, weights = images(), weights_of(model)
    computed = outputs(model, x)
    assert error(computed, formulas(variant, weights, x)) < FORMULAS
    errors = {
        name: error(computed, formulas(**{"variant": variant, "weights": weights, "x": x, **wrong}))
        for name, wrong in mistakes(variant).items()
    }
    assert min(errors.values()) > 10 * FORMULAS, errors


def norms_of(model, variant):
    for name in ("stem", *(f"downsample{s}" for s in range(1, len(variant.depths)))):
        if name != "stem" or variant.stem_norm:
            inner = {layer.name: layer for layer in model.get_layer(name).layers}
            yield f"{name}/norm", inner["norm"]
    for name in blocks(variant):
        yield f"{name}/norm", model.get_layer(name).norm
    yield "head_norm", model.get_layer("head_norm")


@each_family
@pytest.mark.parametrize("epsilon", [1e-6, 1e-5])
def test_every_norm_has_the_epsilon_of_its_row(family, epsilon):
    """On a variance of 1e-6; in a whole network the signal hides the difference."""
    variant = dataclasses.replace(FAMILIES[family], epsilon=epsilon)
    wrong = dataclasses.replace(variant, epsilon=1.1e-5 - epsilon)
    model = build(variant)
    weights = weights_of(model)
    for name, norm in norms_of(model, variant):
        x = 1e-3 * images(1, 2, 2, weights[f"{name}/gamma"].size)
        computed, wide = numpy(norm(x)), x.astype("float64")
        assert error(computed, normalised(variant, weights, wide, name)) < TOLERANCE, name
        assert error(computed, normalised(wrong, weights, wide, name)) > 0.01, name


# ---------------------------------------------------------------- the peers' outputs as witnesses

WITNESSES = ("official_v1", "official_v2", "official_isotropic", "timm_hnf")


def witness(golden, name):
    """Returns the row, a model with the file's weights, its input and the peers' output."""
    if name not in golden.CLASSIFIERS:
        pytest.skip(f"no case {name} in {golden.GOLDEN}")
    row, expected = golden.CLASSIFIERS[name], golden.expected_of(name)
    model = golden.build(row, expected["output"].ndim)
    return row, model, expected["input"], expected["output"]


@pytest.mark.parametrize("name", WITNESSES)
def test_the_golden_files_tell_a_deleted_block(golden, name):
    row, model, x, expected = witness(golden, name)
    for block in blocks(golden.variant_of(row)):
        last = model.get_layer(block).pwconv2
        kept = last.get_weights()
        last.set_weights([np.zeros_like(weight) for weight in kept])
        found = golden.relative_error(outputs(model, x), expected)
        last.set_weights(kept)
        assert found > 10 * golden.TOLERANCE, block
    assert golden.relative_error(outputs(model, x), expected) < golden.TOLERANCE


def mistaken(model, variant, **wrong):
    """Returns a classifier with the weights of `model` and other fields of its row."""
    arguments = {**LOGITS, "classes": model.output_shape[-1], "input_shape": (None, None, 3)}
    return twin_of(model, ConvNeXt(dataclasses.replace(variant, **wrong), **arguments))


@pytest.mark.parametrize("name", WITNESSES)
def test_the_golden_files_tell_head_order_and_gelu(golden, name):
    row, model, x, expected = witness(golden, name)
    variant = golden.variant_of(row)
    swapped = mistaken(model, variant, head_norm_first=not variant.head_norm_first)
    assert golden.relative_error(outputs(swapped, x), expected) > 10 * golden.TOLERANCE
    # 1e-4 to 2e-4, just above the tolerance there; `formulas` tell the two GELUs with certainty
    other_gelu = mistaken(model, variant, activation="gelu_tanh")
    right = golden.relative_error(outputs(model, x), expected)
    assert golden.relative_error(outputs(other_gelu, x), expected) > 10 * right


@pytest.mark.skipif(not PHOTOS.exists(), reason=f"no {PHOTOS}")
def test_photographs_give_the_official_logits():
    """With the model's own normalisation: std in the place of variance would show here."""
    model = ConvNeXt(
        Variant("official", (1, 2, 3, 1), (16, 24, 32, 40)),
        weights=PHOTOS.with_name("official_v1.pth"),
        classifier_activation=None,
    )
    with np.load(PHOTOS) as archive:
        names = [key.removesuffix("/logits224") for key in archive if key.endswith("/logits224")]
        crops = np.stack([archive[f"{name}/224"] for name in names])
        expected = np.stack([archive[f"{name}/logits224"] for name in names])
    assert names and crops.dtype == "uint8"
    for name, computed, logits in zip(names, outputs(model, crops), expected, strict=True):
        assert error(computed, logits) < TOLERANCE, name


# ---------------------------------------------------------------- shapes and arguments


@each_family
def test_output_shapes(family):
    variant = FAMILIES[family]
    dim, side = variant.dims[-1], 16 // variant.stride
    expected = {
        (True, None): (5,),
        (False, None): (side, side, dim),
        (False, "avg"): (dim,),
        (False, "max"): (dim,),
    }
    found = {}
    for include_top, pooling in expected:
        model = build(family, include_top=include_top, pooling=pooling)
        found[include_top, pooling] = outputs(model, images())
        assert model.output_shape == (None, *expected[include_top, pooling])
        assert found[include_top, pooling].shape == (2, *expected[include_top, pooling])
    assert error(found[False, "avg"], found[False, "max"]) > 0.01


@each_family
def test_pooling_and_norm_come_in_the_order_of_the_row(family):
    variant = FAMILIES[family]
    plain = build(family, include_top=False)
    last = plain.get_layer(blocks(variant)[-1]).output
    x, weights = images(), weights_of(plain)
    features, raw = map(numpy, keras.Model(plain.input, [plain.output, last])(x))
    norm = functools.partial(normalised, variant, weights, name="head_norm")
    assert error(features, norm(raw)) < TOLERANCE
    for pooling, pool in {"avg": np.mean, "max": np.max}.items():
        first = variant.head_norm_first
        expected = pool(norm(raw), (1, 2)) if first else norm(pool(raw, (1, 2)))
        pooled = twin_of(plain, build(family, include_top=False, pooling=pooling))
        assert error(outputs(pooled, x), expected) < TOLERANCE


@each_family
def test_dynamic_sizes_equal_static_ones(family):
    dynamic = build(family, input_shape=(None, None, 3))
    for height, width in ((16, 16), (37, 50)):
        static = twin_of(dynamic, build(family, input_shape=(height, width, 3)))
        x = images(2, height, width, 3)
        assert error(outputs(dynamic, x), outputs(static, x)) < SAME


def test_defaults():
    model = ConvNeXt(V1)
    assert (model.name, model.input_shape) == ("small_v1", (None, 224, 224, 3))
    assert model.output_shape == (None, 1000)
    assert model.get_layer("head").activation is keras.activations.softmax
    assert [layer.name for layer in model.layers][1] == "preprocessing"
    assert ConvNeXt(V1, include_top=False).input_shape == (None, None, None, 3)
    assert ConvNeXt(V1, name="mine").name == "mine"


@pytest.mark.parametrize(("output_stride", "first"), [(32, 0), (16, 0), (8, 1)])
def test_output_stride_computes_the_same_features_more_densely(output_stride, first):
    """Dilation reads the pixels that the stride would have kept: every so many features agree.

    (They start at 1 at stride 8, because the dilated 2x2 convolution is padded on all sides.)
    """
    shape = {"input_shape": (64, 96, 3), "include_top": False}
    plain = build(FOUR_STAGES, **shape)
    dense_model = build(FOUR_STAGES, output_stride=output_stride, **shape)
    x, step = images(1, 64, 96, 3), 32 // output_stride
    dense_features = outputs(twin_of(plain, dense_model), x)
    assert dense_features.shape == (1, 64 // output_stride, 96 // output_stride, 8)
    assert dense_model.output_shape == (None, *dense_features.shape[1:])
    assert error(dense_features[:, first::step, first::step], outputs(plain, x)) < TOLERANCE


@pytest.mark.parametrize(
    ("family", "stem_stride"),
    [("v1", 1), ("v1", 2), ("isotropic", 4), ("rms_ols", 2), ("ols_hnf", 1)],
)
def test_stems_for_small_images(family, stem_stride):
    """With the formulas of the wide stride's stem, at another stride, and all else as it was."""
    variant = FAMILIES[family].with_stem_stride(stem_stride)
    model = randomise(build(family, input_shape=(8, 8, 3), stem_stride=stem_stride), scale=0.3)
    assert model.get_layer("stage0_block0").output.shape[1:3] == (8 // stem_stride,) * 2
    x = images(2, 8, 8, 3)
    assert error(outputs(model, x), formulas(variant, weights_of(model), x)) < FORMULAS
    names = [weight.path for weight in model.weights]
    assert names == [weight.path for weight in build(family).weights]


def test_a_stem_stride_is_kept_by_files(tmp_path):
    model = build(V1, stem_stride=2)
    model.save_weights(tmp_path / "two.weights.h5")
    same = ConvNeXt(V1, stem_stride=2, weights=tmp_path / "two.weights.h5", **MATCHING)
    assert error(outputs(same, images()), outputs(model, images())) < SAME
    with pytest.raises(ValueError, match="not of stride 4: build the model with the `stem_stride`"):
        ConvNeXt(V1, weights=tmp_path / "two.weights.h5", **MATCHING)


def test_published_weights_keep_their_stem_stride():
    """Refused before anything is downloaded."""
    message = "stride 4, asked for is `stem_stride=2`.* enlarge the images 2 times"
    with pytest.raises(ValueError, match=message):
        keras_convnext.ConvNeXtAtto(stem_stride=2)
    with pytest.raises(ValueError, match="stride 16, .* 16 times"):
        keras_convnext.ConvNeXtIsotropicSmall(stem_stride=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"variant": "convnext_tinny"}, "convnext_tiny"),
        *(({"stem_stride": stride}, r"\[1, 2, 4\]") for stride in (0, 3, 8, True, "2")),
        ({"pooling": "mean"}, "'avg', 'max'"),
        *(({"classes": classes}, "an integer >= 1") for classes in (0, -1, "10", True, 2.0)),
        ({"drop_path_rate": 1.0}, r"\[0, 1\)"),
        ({"drop_path_rate": -0.1}, r"\[0, 1\)"),
        ({"variant": FOUR_STAGES, "input_shape": (64, 64, 3), "output_stride": 4}, "8, 16, 32"),
        ({"variant": FOUR_STAGES, "input_shape": (64, 64, 3), "output_stride": 64}, "8, 16, 32"),
        ({"output_stride": 16}, r"\[None, 8\]"),  # this one has 8 by itself
        ({"variant": FOUR_STAGES}, "at least 32 x 32"),
        ({"input_shape": (16, 4, 3)}, "at least 8 x 8"),
        ({"input_shape": (16, 16)}, "3 axes"),
        ({"input_shape": (1, 16, 16, 3)}, "3 axes"),
        ({"input_shape": (16, 16, None)}, "channels must be known"),
        ({"input_shape": (3, 16, 16)}, r"\(3, 16, 16\); the data format is channels_last"),
        ({"classifier_activation": "softmx"}, "`classifier_activation` must be .* 'softmx'"),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)
def test_wrong_arguments_say_what_is_allowed(arguments, message):
    arguments = {"variant": V1, "input_shape": (16, 16, 3), **arguments}
    with pytest.raises(ValueError, match=message):
        ConvNeXt(**arguments)


def test_a_missing_file_of_weights_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.safetensors"):
        ConvNeXt(V1, weights=tmp_path / "nowhere.safetensors")


# ---------------------------------------------------------------- preprocessing

COLOURS = {"mean": (0.1, 0.5, 0.7), "std": (0.2, 0.3, 0.4)}


@pytest.mark.parametrize(
    ("channels", "mean", "std"),
    [
        (3, *COLOURS.values()),
        (1, (1.3 / 3,), (0.3,)),
        (5, (0.1, 0.5, 0.7, 0.1, 0.5), (0.2, 0.3, 0.4, 0.2, 0.3)),
    ],
)
def test_preprocessing_takes_bytes(channels, mean, std):
    variant = dataclasses.replace(V1, **COLOURS)
    shape = {"input_shape": (16, 16, channels)}
    model = build(variant, **{**LOGITS, "include_preprocessing": True}, **shape)
    x = pixels(2, 16, 16, channels)
    assert not model.get_layer("preprocessing").weights
    np.testing.assert_array_equal(outputs(model, x), outputs(model, x.astype("float32")))
    plain = twin_of(model, build(variant, **shape))
    by_hand = ((x / 255 - mean) / std).astype("float32")
    assert error(outputs(model, x), outputs(plain, by_hand)) < TOLERANCE


@pytest.mark.parametrize("policy", POLICIES[1:])
def test_preprocessing_is_exact_under_mixed_precision(set_policy, policy):
    set_policy(policy)
    model = build(V1, include_preprocessing=True)
    x = pixels(2, 16, 16, 3)
    normalised_x = outputs(keras.Model(model.input, model.get_layer("preprocessing").output), x)
    by_hand = (x / 255 - np.array(V1.mean)) / np.array(V1.std)
    assert error(normalised_x, by_hand) < SAME


def test_channels_first(set_image_data_format):
    kinds = [{"include_preprocessing": True}, {"include_top": False}]
    kinds.append({"include_top": False, "pooling": "avg"})
    last = [build("v2", **kind) for kind in kinds]
    x = images(2, 16, 24, 3)[:, :, :16]
    expected = [outputs(model, x) for model in last]
    set_image_data_format("channels_first")
    assert ConvNeXt(V1).input_shape == (None, 3, 224, 224)
    first = [build("v2", **kind, input_shape=(3, None, None)) for kind in kinds]
    found = [outputs(model, x.transpose(0, 3, 1, 2)) for model in first]
    assert first[1].output_shape == (None, 16, None, None)
    found[1] = found[1].transpose(0, 2, 3, 1)
    assert max(map(error, found, expected)) < SAME


# ---------------------------------------------------------------- saving


@each_family
def test_config_round_trip(family):
    model = build(family, include_preprocessing=True, drop_path_rate=0.3)
    config = json.loads(json.dumps(keras.saving.serialize_keras_object(model)))
    for twin in (
        keras.saving.deserialize_keras_object(config),
        keras.Model.from_config(model.get_config()),
        keras.models.clone_model(model),
    ):
        assert [w.path for w in twin.weights] == [w.path for w in model.weights]
        assert [getattr(layer, "fields", None) for layer in twin.layers] == [
            getattr(layer, "fields", None) for layer in model.layers
        ]
    x = pixels(2, 16, 16, 3)
    assert error(outputs(twin_of(model, twin), x), outputs(model, x)) < SAME


LOADER = """
import sys
from pathlib import Path

import keras_convnext
import keras
import numpy as np

folder = Path(sys.argv[1])
x = np.load(folder / "input.npy")
for file in sorted(folder.glob("*.keras")):
    model = keras.saving.load_model(file)
    output = keras.ops.convert_to_numpy(model(x, training=True))
    weights = {weight.path: keras.ops.convert_to_numpy(weight) for weight in model.weights}
    np.savez(file.with_suffix(".npz"), output=output, **weights)
"""


def test_keras_files_in_a_fresh_process(tmp_path):
    """Equal outputs while training: the states of the seed generators come along."""
    x = pixels(4, 16, 16, 3)
    np.save(tmp_path / "input.npy", x)
    models = {
        family: build(family, include_preprocessing=True, drop_path_rate=0.5) for family in FAMILIES
    }
    for family, model in models.items():
        outputs(model, x, training=True)  # the states move on
        model.save(tmp_path / f"{family}.keras")
    environment = {**os.environ, "KERAS_BACKEND": BACKEND}
    command = [sys.executable, "-c", LOADER, str(tmp_path)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300)
    for family, model in models.items():
        with np.load(tmp_path / f"{family}.npz") as archive:
            loaded = dict(archive)
        output = outputs(model, x, training=True)
        assert error(loaded.pop("output"), output) < SAME, family
        assert list(loaded) == [weight.path for weight in model.weights]
        for weight in model.weights:
            np.testing.assert_array_equal(numpy(weight), loaded[weight.path])
        assert error(outputs(model, x), output) > 0.01, family  # the masks matter


@each_family
def test_weights_files(tmp_path, family):
    model = build(family, drop_path_rate=0.5)
    outputs(model, images(), training=True)
    model.save_weights(tmp_path / "model.weights.h5")
    twin = randomise(build(family, drop_path_rate=0.5), seed=1)
    twin.load_weights(tmp_path / "model.weights.h5")
    for training in (False, True):
        kwargs = {"training": training}
        assert error(outputs(twin, images(), **kwargs), outputs(model, images(), **kwargs)) < SAME


@pytest.mark.skipif(BACKEND != "tensorflow", reason="the SavedModel is TensorFlow's own format")
@each_family
def test_export_to_saved_model(tmp_path, family):
    import tensorflow as tf

    model = build(family, include_preprocessing=True, input_shape=(None, None, 3))
    model.export(str(tmp_path), verbose=False)
    served = tf.saved_model.load(str(tmp_path))
    for shape in ((1, 16, 16, 3), (3, 37, 50, 3)):
        x = pixels(*shape).astype("float32")
        assert error(numpy(served.serve(x)), outputs(model, x)) < TOLERANCE


# ---------------------------------------------------------------- training


def fit_cases():
    """Every family, policy and `jit_compile`; those that compile long are `slow`, and all but the
    plain one of a family `exhaustive`."""
    quick_jit = {("v2", policy) for policy in POLICIES} if BACKEND == "jax" else {("v2", "float32")}
    quick_plain = set() if BACKEND == "jax" else None  # None: all
    for family, policy, jit in itertools.product(FAMILIES, POLICIES, (False, True)):
        if BACKEND == "torch" and jit and (family, policy) != ("v1", "float32"):
            continue  # torch.compile takes a minute for one
        quick = quick_jit if jit else quick_plain
        slow = (BACKEND == "torch" and jit) or (quick is not None and (family, policy) not in quick)
        many = (policy, jit) != ("float32", False)
        marks = (EXHAUSTIVE if many else pytest.mark.slow) if slow else ()
        jitted = "jit" if jit else "no_jit"
        yield pytest.param(family, policy, jit, marks=marks, id=f"{family}-{policy}-{jitted}")


def trained(model, x, y, jit):
    """Returns the losses of one step of `fit`."""
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.SGD(0.1), loss, jit_compile=jit)
    return model.fit(x, y, batch_size=len(x), verbose=0).history["loss"]


@pytest.mark.parametrize(("family", "policy", "jit"), list(fit_cases()))
def test_one_step_of_fit(set_policy, family, policy, jit):
    set_policy(policy)
    keras.utils.set_random_seed(0)
    model = build(family, include_preprocessing=True, drop_path_rate=0.2)
    before = model.get_weights()
    (loss,) = trained(model, pixels(4, 16, 16, 3), np.arange(4), jit)
    assert np.isfinite(loss)
    after = {weight.path: numpy(weight) for weight in model.weights}
    same = [p for (p, new), old in zip(after.items(), before, strict=True) if (new == old).all()]
    assert not same
    assert all(np.isfinite(weight).all() for weight in after.values())


@each_family
@pytest.mark.parametrize("policy", POLICIES)
def test_blocks_keep_the_compute_dtype_and_the_head_is_float32(set_policy, family, policy):
    set_policy(policy)
    model = build(family, drop_path_rate=0.5)
    names = [*blocks(FAMILIES[family]), "head"]
    probe = keras.Model(model.input, {name: model.get_layer(name).output for name in names})
    found = probe(images(), training=True)
    dtypes = {name: keras.backend.standardize_dtype(found[name].dtype) for name in names}
    assert dtypes.pop("head") == "float32"
    assert set(dtypes.values()) == {keras.config.dtype_policy().compute_dtype}
    assert {weight.dtype for weight in model.weights} == {"float32"}
    assert all(np.isfinite(numpy(keras.ops.cast(o, "float32"))).all() for o in found.values())


def test_drop_path_rates_rise_linearly():
    model = ConvNeXt(FOUR_STAGES, input_shape=(32, 32, 3), drop_path_rate=0.4)
    rates = [model.get_layer(name).drop_path.rate for name in blocks(FOUR_STAGES)]
    np.testing.assert_allclose(rates, [0, 0.1, 0.2, 0.3, 0.4], rtol=1e-12)
    states = [
        tuple(numpy(model.get_layer(name).drop_path.seed_generator.state).tolist())
        for name in blocks(FOUR_STAGES)[1:]
    ]
    assert len(set(states)) == len(states)  # one key for all would give nested masks


def test_without_a_rate_training_is_inference():
    model = build("v2")
    assert error(outputs(model, images(), training=True), outputs(model, images())) < SAME


INITIAL = {"norm/gamma": 1, "norm/beta": 0, "bias": 0, "grn/gamma": 0, "grn/beta": 0}
INITIAL |= {"gamma/gamma": 1e-6}


@pytest.mark.parametrize("head_init_scale", [1.0, 0.001])
def test_initialisation(head_init_scale):
    variant = Variant("wide", (1, 1), (64, 96), grn=True, head_hidden=128)
    model = ConvNeXt(variant, include_preprocessing=False, head_init_scale=head_init_scale)
    kernels = {w.path: numpy(w) for w in model.weights if w.path.endswith("/kernel")}
    for path, kernel in kernels.items():
        std = 0.02 * (head_init_scale if path == "head/kernel" else 1)
        # five standard errors of a mean and of a standard deviation
        assert abs(kernel.mean()) < 5 * std / kernel.size**0.5, path
        assert abs(kernel.std() / std - 1) < 5 / (2 * kernel.size) ** 0.5, path
        assert len(np.unique(kernel)) > 0.9 * kernel.size, path
    assert len({kernel.ravel()[0] for kernel in kernels.values()}) == len(kernels)
    for weight in model.weights:
        if weight.path not in kernels:
            (value,) = [v for end, v in INITIAL.items() if weight.path.endswith(end)]
            np.testing.assert_array_equal(numpy(weight), np.full(weight.shape, value, "float32"))


# ---------------------------------------------------------------- as a part of other models


def test_input_tensor():
    image = keras.Input((16, 16, 3))
    model = build("v2", input_tensor=keras.layers.Rescaling(0.5)(image), input_shape=None)
    plain = twin_of(model, build("v2"))
    assert error(outputs(model, images()), outputs(plain, 0.5 * images())) < SAME
    direct = twin_of(model, build("v2", input_tensor=image))
    assert direct.input is image  # not a list of one, of which Keras would warn
    assert error(outputs(direct, images()), outputs(plain, images())) < SAME


def test_two_models_in_one_graph():
    one, two = build(V1, name="one"), randomise(build(V1, name="two"), seed=1)
    image = keras.Input((16, 16, 3))
    both = keras.Model(image, keras.layers.Concatenate()([one(image), two(image)]))
    expected = np.concatenate([outputs(one, images()), outputs(two, images())], axis=-1)
    assert error(outputs(both, images()), expected) < SAME
    paths = [weight.path for weight in both.weights]
    assert len(paths) == len(one.weights) + len(two.weights)


def test_inside_time_distributed():
    model = build("v2")
    clip = keras.Input((3, 16, 16, 3))
    wrapped = keras.Model(clip, keras.layers.TimeDistributed(model)(clip))
    clips = images(2, 3, 16, 16, 3)
    frames = np.stack([outputs(model, clips[:, t]) for t in range(3)], axis=1)
    assert error(outputs(wrapped, clips), frames) < TOLERANCE


@pytest.mark.parametrize("trainable", [False, True])
def test_transfer_learning(trainable):
    backbone = build("v2", include_top=False, pooling="avg", drop_path_rate=0.1)
    backbone.trainable = trainable
    image = keras.Input((16, 16, 3))
    model = keras.Model(image, keras.layers.Dense(3, name="own")(backbone(image)))
    own, before = model.get_layer("own"), backbone.get_weights()
    kernel = own.get_weights()[0]
    trained(model, images(6, 16, 16, 3), np.arange(6) % 3, jit=None)
    assert (own.get_weights()[0] != kernel).any()
    same = [np.array_equal(*pair) for pair in zip(before, backbone.get_weights(), strict=True)]
    assert all(same) if not trainable else not any(same)


# ---------------------------------------------------------------- names


def inner_names(model):
    layers = model._flatten_layers(include_self=False)
    return [layer.name for layer in layers if not isinstance(layer, keras.layers.InputLayer)]


@each_family
def test_names_are_stable(family):
    variant = FAMILIES[family]
    models = [ConvNeXt(variant, input_shape=(16, 16, 3)) for _ in range(2)]
    paths = [[weight.path for weight in model.weights] for model in models]
    assert paths[0] == paths[1] and len(set(paths[0])) == len(paths[0])
    names = {layer.name for layer in models[0].layers}
    expected = {"image", "preprocessing", "stem", *blocks(variant), "pool", "head_norm", "head"}
    expected |= {f"downsample{stage}" for stage in range(1, len(variant.depths))}
    assert names == expected | ({"head_hidden"} if variant.head_hidden else set())
    assert inner_names(models[0]) == inner_names(models[1])


def factories():
    """Returns {name in the package: factory}."""
    others = ("ConvNeXt", "ConvNeXtBlock")
    names = [n for n in keras_convnext.__all__ if n.startswith("ConvNeXt") and n not in others]
    return {name: getattr(keras_convnext, name) for name in names}


def test_factories_are_named_after_their_rows():
    rows = {name: inspect.getclosurevars(f).nonlocals["variant"] for name, f in factories().items()}
    test_models = {row for row in VARIANTS if row.startswith("test_")}
    assert sorted(rows.values()) == sorted(set(VARIANTS) - test_models)
    assert test_models == set(keras_convnext.models.TEST_MODELS.values())
    for name, row in rows.items():
        assert name.lower() == row.replace("_", "")
        assert factories()[name].__name__ == name and row in factories()[name].__doc__


@on_one_backend
@pytest.mark.parametrize(
    ("keyword", "advice"),
    [
        ("num_classes", "here it is `classes`"),
        ("pretrained", "here it is `weights`"),
        ("img_size", "here it is `input_shape`"),
        ("drop_path_rates", "here it is `drop_path_rate`"),
        ("momentum", "it has .*include_top, .*stem_stride"),
    ],
)
def test_the_names_that_other_libraries_have_are_translated(keyword, advice):
    for make in (ConvNeXt, keras_convnext.ConvNeXtTiny):
        with pytest.raises(TypeError, match=rf"{make.__name__}\(\) has no .*`{keyword}`: {advice}"):
            make(**{keyword: 5})
    with pytest.raises(TypeError, match="UperNet.*has no argument `num_classes`: here it is `cl"):
        keras_convnext.segmentation.UperNetConvNeXtTiny(num_classes=5)


@on_one_backend
def test_classes_may_be_an_integer_of_numpy():
    model = ConvNeXt(FOUR_STAGES, classes=np.int64(3), input_shape=(32, 32, 3))
    assert keras.models.clone_model(model).output_shape == (None, 3)
    assert type(model.get_layer("head").units) is int


def test_factories_have_the_signature_of_convnext():
    first, *arguments = inspect.signature(ConvNeXt).parameters.values()
    assert first.name == "variant"
    # as in keras.applications, a factory loads weights unless told otherwise
    expected = [a.replace(default="imagenet") if a.name == "weights" else a for a in arguments]
    for factory in factories().values():
        assert list(inspect.signature(factory).parameters.values()) == expected


@pytest.mark.parametrize("name", ["Test", "Test2", "Test3", "Atto"])
def test_small_factories_build(name):
    if name == "Atto":
        factory = keras_convnext.ConvNeXtAtto
    else:
        message = rf"`ConvNeXt\('{name.lower().replace('test', 'test_convnext')}', weights="
        with pytest.warns(DeprecationWarning, match=message):
            factory = getattr(keras_convnext, f"ConvNeXt{name}")
    row = VARIANTS[inspect.getclosurevars(factory).nonlocals["variant"]]
    model = factory(True, False, None, input_shape=(64, 64, 3), classes=3)
    assert (model.name, model.output_shape) == (row.name, (None, 3))
    assert [layer.name for layer in model.layers if "_block" in layer.name] == blocks(row)


@on_one_backend
def test_a_tag_in_the_place_of_include_top_is_refused_with_the_right_call():
    with pytest.raises(ValueError, match=r"`ConvNeXtTiny\(weights='fb_in22k'\)`"):
        keras_convnext.ConvNeXtTiny("fb_in22k")
    with pytest.raises(ValueError, match=r"`ConvNeXt\('convnext_tiny', weights='fb_in22k'\)`"):
        ConvNeXt("convnext_tiny", "fb_in22k")


@on_one_backend
def test_a_variant_with_a_tag_names_its_weights(monkeypatch):
    """`"variant.tag"`, as timm calls a model."""
    asked = []
    monkeypatch.setattr(
        keras_convnext.pretrained,
        "open_checkpoint",
        lambda weights, variant, *_: asked.append((weights, variant.name)) or 1 / 0,
    )
    for arguments in ({}, {"weights": "fb_in1k"}, {"weights": "convnext_tiny.fb_in1k"}):
        with pytest.raises(ZeroDivisionError):
            ConvNeXt("convnext_tiny.fb_in1k", **arguments)
    assert asked == 3 * [("convnext_tiny.fb_in1k", "convnext_tiny")]
    with pytest.raises(ValueError, match="names weights already: omit `weights='fb_in22k'`"):
        ConvNeXt("convnext_tiny.fb_in1k", weights="fb_in22k")
    with pytest.raises(ValueError, match="`variant` must be one of"):
        ConvNeXt("convnext_tinny.fb_in1k")
    with pytest.raises(TypeError, match="`variant` must be the name .* received None"):
        ConvNeXt(None)
    for make in (UperNet, MaskRCNN):
        with pytest.raises(TypeError, match="`variant` must be the name .* received 5"):
            make(5)


# ---------------------------------------------------------------- two models in one graph


def two_models(image=None):
    arguments = {"include_top": False, "pooling": "avg", "input_tensor": image}
    shape = {} if image is not None else {"input_shape": (16, 16, 3)}
    return [ConvNeXt(V1, name=name, **arguments, **shape) for name in ("one", "two")]


def test_models_with_names_of_their_own_fit_in_one_graph(tmp_path):
    image = keras.Input((16, 16, 3))
    one, two = map(randomise, two_models(image), (1, 2))
    ensemble = keras.Model(image, keras.layers.Average()([one.output, two.output]))
    x = images()
    expected = (outputs(one, x) + outputs(two, x)) / 2
    assert error(outputs(ensemble, x), expected) < SAME
    ensemble.save(tmp_path / "ensemble.keras")
    again = keras.saving.load_model(tmp_path / "ensemble.keras")
    assert error(outputs(again, x), expected) < SAME


@on_one_backend
def test_models_of_two_inputs_fit_in_one_graph():
    one, two = two_models()
    both = keras.layers.Concatenate()([one.output, two.output])
    model = keras.Model([one.input, two.input], both)
    assert model.output_shape == (None, 2 * V1.dims[-1])
    assert keras.models.clone_model(model).output_shape == model.output_shape


@on_one_backend
def test_a_name_of_ones_own_changes_nothing_that_reads_names(tmp_path):
    """Layers are found by their bare names; files fit models of any name."""
    named = randomise(ConvNeXt(V1, name="mine", classes=3, input_shape=(16, 16, 3)))
    plain = ConvNeXt(V1, classes=3, input_shape=(16, 16, 3))
    assert [layer.name for layer in named.layers[1:]] == [
        f"mine__{layer.name}" for layer in plain.layers[1:]
    ]
    assert named.get_layer("stage1_block0") is named.get_layer("mine__stage1_block0")
    with pytest.raises(ValueError, match="No such layer: stage7_block0"):
        named.get_layer("stage7_block0")
    assert set(named.pyramid_outputs) == set(plain.pyramid_outputs)
    assert list(keras_convnext.layer_groups(named).values()) == list(
        keras_convnext.layer_groups(plain).values()
    )
    keras_convnext.freeze_layers(named, "stem")
    assert [layer.name for layer in named.layers if not layer.trainable] == ["mine__stem"]
    for ending in ("keras", "weights.h5"):
        path = str(tmp_path / f"named.{ending}")
        (named.save if ending == "keras" else named.save_weights)(path)
        for name in (None, "other"):
            model = ConvNeXt(V1, classes=3, input_shape=(16, 16, 3), weights=path, name=name)
            assert error(outputs(model, images()), outputs(named, images())) < SAME
    save_weights(named, V1, tmp_path / "named.safetensors")
    model = ConvNeXt(V1, input_shape=(16, 16, 3), weights=tmp_path / "named.safetensors")
    assert error(outputs(model, images()), outputs(named, images())) < SAME


# ---------------------------------------------------------------- images that are too small

FREE = {"include_top": False, "input_shape": (None, None, 3)}
WITH_FREE_SIZE = {
    "ConvNeXt": lambda: ConvNeXt(V1, pooling="avg", **FREE),
    "features": lambda: keras_convnext.feature_model(ConvNeXt(V1, **FREE)),
    "under another head": lambda: with_a_head(ConvNeXt(V1, **FREE)),
    "roadmap": lambda: keras_convnext.roadmap.build("gelu", input_shape=(None, None, 3)),
    "UperNet": lambda: UperNet(FOUR_STAGES, channels=4, auxiliary_channels=4),
}


def with_a_head(model):
    x = keras.layers.GlobalAveragePooling2D(data_format="channels_last")(model.output)
    return keras.Model(model.input, keras.layers.Dense(2)(x))


@pytest.mark.parametrize("kind", WITH_FREE_SIZE)
def test_images_smaller_than_a_patch_are_refused(kind):
    """On every backend, before anything is computed."""
    model = WITH_FREE_SIZE[kind]()
    message = "stem(/conv)? reads patches of 4 x 4 .* 5 x 3: the image is"
    with pytest.raises(ValueError, match=message):
        model(images(1, 5, 3, 3))


def test_images_smaller_than_the_stride_are_refused():
    model = ConvNeXt(V1, pooling="avg", **FREE)
    with pytest.raises(ValueError, match="downsample1/conv reads .* 2 x 2 .* 1 x 1: the image is"):
        model.predict(images(1, 7, 7, 3), verbose=0)
