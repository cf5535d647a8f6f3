"""`weights=path`: a user's files become the model, and files that lie become errors."""

import contextlib
import dataclasses
import functools
import io
import json
import os
import pickle
import re
import struct
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from types import SimpleNamespace

import h5py
import keras
import numpy as np
import pytest
import safetensors.numpy
from keras.src.applications.convnext import ConvNeXt as ApplicationsConvNeXt
from keras.src.legacy.saving import legacy_h5_format

from keras_convnext import VARIANTS, ConvNeXt, Variant
from keras_convnext.pretrained import WeightsError, checkpoint, files
from keras_convnext.pretrained.files.tensors import Tensor
from keras_convnext.pretrained.layouts import LAYOUTS
from tests.backends import on_one_backend

from .backends import numpy, randomise
from .families import FAMILIES, V1

torch = pytest.importorskip("torch")  # writes files; the library reads them without it

KEYS = Path(__file__).parents[2] / "shared" / "keys"
SIDE = 32
SMALL = Variant("small", (1,), (4,), kernel_sizes=3)  # for files that are damaged many times
IMAGES = np.random.default_rng(7).uniform(0, 255, (2, SIDE, SIDE, 3)).astype("float32")

# our names -> the official ones, written down a second time
OFFICIAL = {
    r"stem/conv/": "downsample_layers.0.0.",
    r"stem/norm/": "downsample_layers.0.1.",
    r"downsample(\d)/norm/": r"downsample_layers.\1.0.",
    r"downsample(\d)/conv/": r"downsample_layers.\1.1.",
    r"stage(\d)_block(\d+)/gamma/gamma": r"stages.\1.\2.scale",
    r"stage(\d)_block(\d+)/grn/gamma": r"stages.\1.\2.grn.first",
    r"stage(\d)_block(\d+)/grn/beta": r"stages.\1.\2.grn.second",
    r"stage(\d)_block(\d+)/(\w+)/": r"stages.\1.\2.\3.",
    r"head_norm/": "norm.",
    r"head/": "head.",
    r"(kernel|gamma)$": "weight",
    r"beta$": "bias",
    r"\.scale$": ".gamma",
    r"grn\.first$": "grn.gamma",
    r"grn\.second$": "grn.beta",
}
MMPRETRAIN = {
    r"^(downsample_layers|stages|norm)": r"backbone.\1",
    r"^head": "head.fc",
    "dwconv": "depthwise_conv",
    "pwconv": "pointwise_conv",
    r"^backbone.norm\.": "backbone.norm1.",
}


@pytest.fixture(scope="module", autouse=True)
def _quick_initial_weights():
    """JAX compiles an initialiser for every shape, which takes longer than all else here."""
    random = np.random.default_rng(3)
    draw = {
        "RandomNormal": lambda self, shape: 0.02 * random.standard_normal(shape),
        "GlorotUniform": lambda self, shape: 0.02 * random.standard_normal(shape),
        "TruncatedNormal": lambda self, shape: 0.02 * random.standard_normal(shape),
        "Zeros": lambda self, shape: np.zeros(shape),
        "Ones": lambda self, shape: np.ones(shape),
        "Constant": lambda self, shape: np.full(shape, self.value),
    }
    with pytest.MonkeyPatch.context() as patch:
        for name, function in draw.items():
            patch.setattr(getattr(keras.initializers, name), "__call__", _initial(function))
        yield


def _initial(function):
    def initial(self, shape, dtype=None, **kwargs):
        values = np.asarray(function(self, shape), "float32")
        return keras.ops.convert_to_tensor(values, dtype or "float32")

    return initial


def build(variant=V1, **arguments):
    return ConvNeXt(variant, **{"input_shape": (SIDE, SIDE, 3), **arguments})


def original(variant=V1, classes=3, **arguments):
    return randomise(build(variant, classes=classes, **arguments))


def values(model):
    return {weight.path: numpy(weight) for weight in model.weights}


def assert_equal_weights(model, expected, but=()):
    found = values(model)
    assert set(but) <= set(found)
    for path in set(found) - set(but):
        np.testing.assert_array_equal(found[path], expected[path], err_msg=path)


def renamed(rules, name):
    for pattern, replacement in rules.items():
        name = re.sub(pattern, replacement, name)
    return name


def official(model):
    """Returns {official name: array}."""
    return {renamed(OFFICIAL, path): _torch_axes(path, v) for path, v in values(model).items()}


def _torch_axes(path, array):
    if "/grn/" in path:
        return array.reshape(1, 1, 1, -1)
    axes = {1: (0,), 2: (1, 0), 4: (2, 3, 0, 1) if "dwconv" in path else (3, 2, 0, 1)}
    return array.transpose(axes[array.ndim])


def tensors(arrays, dtype=torch.float32):
    return {
        name: torch.tensor(np.ascontiguousarray(array)).to(dtype) for name, array in arrays.items()
    }


def save_safetensors(path, arrays):
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    safetensors.numpy.save_file(arrays, path)
    return path


def refusal(path, variant=SMALL, **arguments):
    """Returns the message with which the public path refuses a file."""
    with pytest.raises(WeightsError) as caught:
        build(variant, weights=Path(path), **arguments)
    assert str(path) in str(caught.value)
    return str(caught.value)


# ---------------------------------------------------------------- a user's files


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_own_files_of_each_family(tmp_path, family, suffix):
    model = original(FAMILIES[family])
    path = tmp_path / f"mine{suffix}"
    model.save(path) if suffix == ".keras" else model.save_weights(path)
    assert_equal_weights(build(FAMILIES[family], weights=path), values(model))


def test_a_file_of_a_fitted_model_loads_without_its_optimizer(tmp_path):
    model = original(SMALL, drop_path_rate=0.3)
    model.compile(keras.optimizers.AdamW(1e-3), "sparse_categorical_crossentropy")
    model.fit(IMAGES, np.array([0, 2]), verbose=0)
    paths = [tmp_path / name for name in ("a.keras", "a.h5", "a.weights.h5")]
    model.save(paths[0])
    model.save(paths[1])
    model.save_weights(paths[2])
    for path in paths:
        for rate in 0.0, 0.3:
            assert_equal_weights(build(SMALL, weights=path, drop_path_rate=rate), values(model))


def test_a_file_can_be_written_again_after_it_was_loaded(tmp_path):
    path = tmp_path / "mine.weights.h5"
    original().save_weights(path)
    build(weights=path).save_weights(path)


@pytest.mark.parametrize("suffix", ["safetensors", "pth", "weights.h5", "keras"])
def test_a_model_does_not_change_when_its_file_does(tmp_path, suffix):
    """The numbers are read from mapped files, and JAX keeps memory that is aligned as it likes."""
    model, path = original(Variant("small", (1,), (16,))), tmp_path / f"mine.{suffix}"
    if suffix == "safetensors":
        save_safetensors(path, official(model))
    elif suffix == "pth":
        torch.save(tensors(official(model)), path)
    else:
        model.save(path) if suffix == "keras" else model.save_weights(path)
    loaded = build(Variant("small", (1,), (16,)), weights=path)
    with open(path, "r+b") as file:
        file.write(bytes(path.stat().st_size))
    assert_equal_weights(loaded, values(model))


def test_a_model_in_bfloat16_keeps_its_numbers(tmp_path):
    path = tmp_path / "mine.weights.h5"
    keras.config.set_dtype_policy("bfloat16")
    try:
        model = original(SMALL)
        model.save_weights(path)
    finally:
        keras.config.set_dtype_policy("float32")
    expected = {w.path: numpy(keras.ops.cast(w.value, "float32")) for w in model.weights}
    assert_equal_weights(build(SMALL, weights=path), expected)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64], ids=str)
@pytest.mark.parametrize("kind", ["safetensors", "pth"])
def test_other_floats_become_float32_exactly(tmp_path, kind, dtype):
    from safetensors.torch import save_file

    model, path = original(), tmp_path / f"theirs.{kind}"
    stored = tensors(official(model), dtype)
    save_file(stored, path) if kind == "safetensors" else torch.save({"model": stored}, path)
    rounded = {path: numpy(torch.tensor(v).to(dtype).float()) for path, v in values(model).items()}
    assert_equal_weights(build(weights=path), rounded)


def test_strided_and_shared_tensors_of_pytorch(tmp_path):
    state = tensors(official(original()))
    expected = build(weights=_saved(tmp_path / "plain.pth", state))
    flat = torch.cat([torch.zeros(5), *(tensor.flatten() for tensor in state.values())])
    start, views = 5, {}
    for name, tensor in state.items():
        views[name] = flat[start : start + tensor.numel()].view(tensor.shape)
        start += tensor.numel()
    name = "stages.0.0.pwconv1.weight"
    views[name] = state[name].t().contiguous().t()
    views["head.weight"] = torch.nn.Parameter(views["head.weight"])
    loaded = build(weights=_saved(tmp_path / "views.pth", views))
    assert_equal_weights(loaded, values(expected))


def _saved(path, content):
    torch.save(content, path)
    return path


def test_mmpretrain(tmp_path):
    for variant in V1, FAMILIES["v2"]:
        model = original(variant)
        state = {renamed(MMPRETRAIN, name): array for name, array in official(model).items()}
        state["backbone.norm0.weight"] = np.ones(8, "float32")  # of a features' file
        path = _saved(tmp_path / "mm.pth", {"meta": {"epoch": 1}, "state_dict": tensors(state)})
        assert_equal_weights(build(variant, weights=path), values(model))


@functools.cache
def applications(include_top=True, **arguments):
    model = ApplicationsConvNeXt(
        depths=[1, 1, 2, 1],
        projection_dims=[8, 8, 16, 16],
        name="convnext_mine",
        include_preprocessing=False,
        include_top=include_top,
        weights=None,
        input_shape=(SIDE, SIDE, 3),
        classes=5,
        classifier_activation=None,
        **arguments,
    )
    random = np.random.default_rng(1)
    for weight in model.weights:
        weight.assign(0.3 * random.standard_normal(weight.shape).astype("float32"))
    return model


def save_legacy(model, path, keras2=False):
    with h5py.File(path, "w") as file:
        legacy_h5_format.save_weights_to_hdf5_group(file, model)
        if keras2:  # `<inner>/<weight>:0`, and the layer scale is an unnamed variable
            del file["top_level_model_weights"]
            for layer in file.values():
                _keras2_names(layer)
    return path


def _keras2_names(layer):
    old = list(layer.attrs["weight_names"])
    new = [re.sub(r"^.*/(variable)(_\d+)?$", r"Variable", name) for name in old]
    new = [f"{name}:0" for name in new]
    for before, after in zip(old, new, strict=True):
        layer.move(before, after)
    layer.attrs["weight_names"] = [name.encode() for name in new]


@pytest.mark.parametrize("form", ["keras3", "keras3 legacy", "keras2"])
@pytest.mark.parametrize("top", [True, False, "avg"])
def test_keras_applications(tmp_path, form, top):
    arguments = {"include_top": top is True, "pooling": "avg" if top == "avg" else None}
    model = applications(**arguments)
    path = tmp_path / "theirs.weights.h5"
    if form == "keras3":
        model.save_weights(path)
    else:
        save_legacy(model, path, keras2=form == "keras2")
    ours = build(
        Variant("ka", (1, 1, 2, 1), (8, 8, 16, 16)),
        weights=path,
        include_preprocessing=False,
        classifier_activation=None,
        **arguments,
    )
    expected = numpy(model(IMAGES / 255))
    error = np.abs(numpy(ours(IMAGES / 255)) - expected).max()
    assert error < 1e-5 * np.abs(expected).max()  # float32, another order of summation


# ------------------------------------------- the names in the files of the full-size networks

NAMED = {
    "keras_applications_ConvNeXtTiny_notop": "convnext_tiny",
    "keras_applications_ConvNeXtTiny_top": "convnext_tiny",
    "official_dinov3_convnext_tiny": "convnext_tiny",
    "official_v1_convnext_tiny": "convnext_tiny",
    "official_v1_isotropic_large_with_gamma": "convnext_isotropic_large",
    "official_v1_isotropic_small": "convnext_isotropic_small",
    "official_v2_convnextv2_atto": "convnextv2_atto",
    "official_v2_fcmae_released_atto_inferred": "convnextv2_atto",
    "official_v2_fcmae_sparse_atto_after_remap": "convnextv2_atto",
    "official_v2_fcmae_sparse_atto_selftrained": "convnextv2_atto",
    "open_clip_convnext_base_w_visual": "convnext_base",
    "open_clip_convnext_large_d_visual": "convnext_large_mlp",
    "open_clip_convnext_xxlarge_visual": "convnext_xxlarge",
    "timm_convnext_large_mlp_nc768": "convnext_large_mlp",
    "timm_convnext_tiny_nc0": "convnext_tiny",
    "timm_convnext_xxlarge_nc1024": "convnext_xxlarge",
    "timm_convnextv2_atto_nc0": "convnextv2_atto",
    "torchvision_convnext_tiny": "convnext_tiny",
    "transformers_ConvNextForImageClassification_tiny": "convnext_tiny",
    "transformers_ConvNextModel_tiny": "convnext_tiny",
    "transformers_ConvNextV2ForImageClassification_atto": "convnextv2_atto",
    "transformers_DINOv3ConvNextModel_tiny_inmemory": "convnext_tiny",
    **{f"timm_{name}": name for name in VARIANTS},
}
LISTS = sorted(path for path in KEYS.glob("*.txt") if not path.stem.startswith("kimm"))
EXPECTED_LAYOUT = {
    "keras_applications": "keras.applications",
    "official_v1_isotropic": "official isotropic",
    "official_v2_fcmae_sparse_atto_self": "official FCMAE, sparse",
    "official": "official",
    "open_clip": "open_clip",
    "timm": "timm",
    "torchvision": "torchvision",
    "transformers_DINOv3": "transformers DINOv3",
    "transformers": "transformers",
}


def listed(path):
    """Returns the names and shapes of a list of keys, named as the reader names them."""
    rows = [line.split("\t") for line in path.read_text().splitlines() if line[:1] != "#"]
    if path.stem.startswith("keras"):
        return _numbered([(row[1].rpartition("/")[0], row[2]) for row in rows])
    return {name: _tensor(shape) for name, shape, _ in rows}


def _numbered(modules):
    counts, found = {}, {}
    for module, shape in modules:
        number = counts[module] = counts.get(module, -1) + 1
        found[f"{module}/{number}"] = _tensor(shape)
    return found


def _tensor(shape):
    return Tensor(tuple(int(n) for n in re.findall(r"\d+", shape)), "float32", unread)


class AllFits(Exception):
    """A tensor is read: so all names and shapes have been found right."""


def unread():
    raise AllFits


@functools.cache
def full_size(name):
    """Returns the weights' paths and shapes of a variant's model, without values.

    One block per stage is built, the others have the same weights.
    """
    variant = VARIANTS[name]
    short = dataclasses.replace(variant, depths=(1,) * len(variant.depths))
    with keras.StatelessScope(initialize_variables=False):
        weights = build(short, input_shape=(None, None, 3), classes=1).weights
    found = []
    for weight in weights:
        stage = re.match(r"stage(\d)_block0/", weight.path)
        for block in range(variant.depths[int(stage[1])] if stage else 1):
            path = weight.path.replace("_block0/", f"_block{block}/")
            found.append(SimpleNamespace(path=path, shape=tuple(weight.shape)))
    return found


def with_head(weights, reading):
    """Returns the weights with the head cut to the file's classes, or without a head."""
    for weight in weights:
        shape = weight.shape
        if weight.path.startswith("head/"):
            shape = (*shape[:-1], reading.classes)
        elif weight.path.startswith("head_norm/") and not reading.variant.head_norm:
            continue
        if reading.classes or not weight.path.startswith(("head/", "head_hidden/")):
            yield SimpleNamespace(path=weight.path, shape=shape)


@pytest.mark.skipif(not LISTS, reason="no lists of keys beside the repository")
@pytest.mark.parametrize("path", LISTS, ids=lambda path: path.stem)
def test_names_and_shapes_of_full_size_files_fit_exactly(path, monkeypatch):
    names = listed(path)
    found = [layout.name for layout in LAYOUTS if layout.prefix(names) is not None]
    assert found == [next(v for k, v in EXPECTED_LAYOUT.items() if path.stem.startswith(k))]
    monkeypatch.setattr(files, "read", lambda path: names)
    reading = checkpoint.open(path).read_as(VARIANTS[NAMED[path.stem]])
    featureless = re.search("nc0|notop|Model|dinov3|fcmae", path.stem)
    assert (reading.classes is None) == bool(featureless)
    weights = list(with_head(full_size(NAMED[path.stem]), reading))
    with pytest.raises(AllFits):
        reading.load_into(SimpleNamespace(weights=weights))
    for missing in weights[1], weights[len(weights) // 2]:
        found = [weight for weight in weights if weight is not missing]
        with pytest.raises(WeightsError, match="unused: "):
            reading.load_into(SimpleNamespace(weights=found))


# ---------------------------------------------------------------- adaptation


@pytest.fixture
def stored(tmp_path):
    """A model, and its file in the official layout."""
    model = original()
    return model, save_safetensors(tmp_path / "v1.safetensors", official(model))


def test_other_classes_leave_only_the_head_new(stored):
    model, path = stored
    loaded = build(weights=path, classes=5)
    assert_equal_weights(loaded, values(model), but=["head/kernel", "head/bias"])
    head = values(loaded)
    assert head["head/kernel"].shape == (16, 5)
    assert not head["head/bias"].any() and head["head/kernel"].any()


def test_the_classes_of_the_file_are_the_default(stored):
    model, path = stored
    assert build(weights=path).output_shape == (None, 3)
    np.testing.assert_array_equal(numpy(build(weights=path)(IMAGES)), numpy(model(IMAGES)))


@pytest.mark.parametrize("pooling", [None, "avg"])
def test_without_the_top_the_head_of_the_file_is_left(stored, pooling):
    model, path = stored
    assert_equal_weights(build(weights=path, include_top=False, pooling=pooling), values(model))


@pytest.mark.parametrize("family", FAMILIES)
def test_a_file_without_head(tmp_path, family):
    path = tmp_path / "notop.weights.h5"
    model = original(FAMILIES[family], include_top=False)
    model.save_weights(path)
    message = refusal(path, FAMILIES[family])
    assert "include_top=False" in message and "classes=" in message
    assert_equal_weights(build(FAMILIES[family], weights=path, include_top=False), values(model))
    loaded = build(FAMILIES[family], weights=path, classes=5)
    new = [path for path in values(loaded) if path.startswith(("head/", "head_hidden/"))]
    assert_equal_weights(loaded, values(model), but=new)


@pytest.mark.parametrize("channels", [1, 4, 6])
def test_other_channels_adapt_the_stem(stored, channels):
    model, path = stored
    loaded = build(weights=path, input_shape=(SIDE, SIDE, channels))
    assert_equal_weights(loaded, values(model), but=["stem/conv/kernel"])
    rgb = values(model)["stem/conv/kernel"]
    if channels == 1:
        expected = rgb[:, :, :1] + rgb[:, :, 1:2] + rgb[:, :, 2:]
    else:
        expected = np.concatenate([rgb, rgb], axis=2)[:, :, :channels] * (3 / channels)
    np.testing.assert_allclose(values(loaded)["stem/conv/kernel"], expected, rtol=1e-6, atol=1e-7)


def test_own_files_of_four_channels_load_into_four_channels_only(tmp_path):
    path, shape = tmp_path / "four.weights.h5", (SIDE, SIDE, 4)
    model = original(input_shape=shape)
    model.save_weights(path)
    assert_equal_weights(build(weights=path, input_shape=shape), values(model))
    assert "shape: stem/conv/0 is (4, 4, 4, 8)" in refusal(path, V1)


def test_the_image_tower_of_open_clip_has_no_bias(tmp_path):
    model = original()
    rules = {
        r"^downsample_layers\.0\.": "stem.",
        r"^downsample_layers\.(\d)": r"stages.\1.downsample",
        r"^stages\.(\d)\.(\d+)": r"stages.\1.blocks.\2",
        "dwconv": "conv_dw",
        "pwconv": "mlp.fc",
        r"^norm": "head.norm",
        r"^(stem|stages|head\.norm)": r"visual.trunk.\1",
        r"^head\.": "visual.head.proj.",
    }
    state = {renamed(rules, name): array for name, array in official(model).items()}
    del state["visual.head.proj.bias"]
    state["logit_scale"] = np.float32([4.6])
    state["text_projection"] = state["token_embedding.weight"] = np.ones((3, 3), "float32")
    path = save_safetensors(tmp_path / "clip.safetensors", state)
    loaded = build(weights=path)
    assert_equal_weights(loaded, values(model), but=["head/bias"])
    assert not values(loaded)["head/bias"].any()


def test_a_masked_encoder_has_neither_norm_nor_head(tmp_path):
    variant = FAMILIES["v2"]
    model = original(variant)
    state = {k: v for k, v in official(model).items() if not k.startswith(("norm", "head"))}
    path = save_safetensors(tmp_path / "fcmae.safetensors", state)
    assert "classes=" in refusal(path, variant)
    loaded = build(variant, weights=path, classes=5)
    new = ["head/kernel", "head/bias", "head_norm/gamma", "head_norm/beta"]
    assert_equal_weights(loaded, values(model), but=new)
    assert (values(loaded)["head_norm/gamma"] == 1).all()
    features = build(variant, weights=path, include_top=False)
    assert_equal_weights(features, values(model))
    assert not any(path.startswith("head") for path in values(features))


# ---------------------------------------------------------------- strictness


def without(*names):
    return lambda state: {name: array for name, array in state.items() if name not in names}


def with_(**changes):
    return lambda state: {**state, **{k.replace("__", "."): v for k, v in changes.items()}}


def broken(name, value):
    def change(state):
        array = state[name].copy()
        array.flat[-1] = value
        return {**state, name: array}

    return change


ONES = np.ones(8, "float32")
FAULTS = {
    "missing": (without("norm.bias"), ["missing: norm.bias"]),
    "all missing are listed": (
        without("norm.bias", "stages.1.1.gamma"),
        ["missing: norm.bias", "missing: stages.1.1.gamma"],
    ),
    "extra": (with_(stages__0__0__extra=ONES), ["unused: stages.0.0.extra"]),
    "extra block": (with_(stages__0__1__gamma=ONES), ["unused: stages.0.1.gamma"]),
    "misshapen": (with_(norm__weight=ONES), ["norm.weight is (8,)", "(16,)"]),
    "transposed": (
        lambda state: {**state, "stages.0.0.pwconv1.weight": np.ones((8, 32), "float32")},
        ["stages.0.0.pwconv1.weight is (8, 32)"],
    ),
    "NaN": (broken("norm.weight", np.nan), ["not finite: norm.weight"]),
    "inf": (broken("stages.1.0.dwconv.weight", -np.inf), ["not finite: stages.1.0.dwconv.weight"]),
    "too large for float32": (
        lambda state: {**state, "norm.bias": np.full(16, 1e300)},
        ["not finite: norm.bias"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_every_fault_is_listed(tmp_path, fault):
    change, expected = FAULTS[fault]
    path = save_safetensors(tmp_path / "bad.safetensors", change(official(original())))
    message = refusal(path, V1, classes=3)
    assert all(part in message for part in expected), message
    assert issubclass(WeightsError, ValueError)


def test_both_names_of_a_weight_are_double(tmp_path):
    variant = FAMILIES["v2"]
    state = official(original(variant))
    state["stages.0.0.grn.weight"] = state["stages.0.0.grn.gamma"]
    path = save_safetensors(tmp_path / "double.safetensors", state)
    message = refusal(path, variant)
    assert "duplicate: stages.0.0.grn.weight and stages.0.0.grn.gamma" in message
    assert "layer scale" not in message  # this family has none


@on_one_backend
def test_renaming_loses_no_tensor(tmp_path):
    """The last norm of keras.applications has any number; two of them are one too many."""
    path = save_legacy(applications(include_top=False), tmp_path / "theirs.h5")
    arrays = {name: tensor.numpy() for name, tensor in files.read(path).items()}
    variant = Variant("ka", (1, 1, 2, 1), (8, 8, 16, 16))
    build(variant, weights=save_safetensors(path, arrays), include_top=False)
    arrays["layer_normalization_99/0"] = np.ones(16, "float32")
    save_safetensors(path, arrays)
    assert "layer_normalization_99" in refusal(path, variant, include_top=False)


def test_a_name_of_a_model_may_have_any_characters(tmp_path):
    path = save_legacy(applications(include_top=False), tmp_path / "theirs.h5")
    arrays = {name: tensor.numpy() for name, tensor in files.read(path).items()}
    variant = Variant("ka", (1, 1, 2, 1), (8, 8, 16, 16))
    arrays = {name.replace("convnext_mine", r"{m}\g<9>"): v for name, v in arrays.items()}
    build(variant, weights=save_safetensors(path, arrays), include_top=False)


def test_entries_that_are_no_tensors_are_named(tmp_path):
    state = tensors(official(original()))
    for name, value in ("epoch", 3), ("note", "text"), (7, torch.ones(2)):
        path = _saved(tmp_path / "mixed.pth", {**state, name: value})
        assert str(name) in refusal(path, V1)


RESNET = {"conv1.weight": np.ones((8, 3, 7, 7), "float32"), "fc.weight": np.ones((3, 8), "float32")}


def test_another_architecture_is_named_as_unknown(tmp_path):
    message = refusal(save_safetensors(tmp_path / "resnet.safetensors", RESNET))
    assert "conv1.weight" in message and "torchvision" in message


ISOTROPIC = {r"^downsample_layers\.0\.0": "stem", r"^stages\.0": "blocks"}


@pytest.mark.parametrize(
    "named", ["convnext_tiny", "convnextv2_tiny", "test_convnext", "convnext_isotropic_small"]
)
def test_a_convnext_of_other_size_is_recognised(monkeypatch, named):
    rules = {**OFFICIAL, **(ISOTROPIC if "isotropic" in named else {})}
    state = {}
    for weight in full_size(named):
        shape = _torch_axes(weight.path, np.broadcast_to(np.float32(0), weight.shape)).shape
        state[renamed(rules, weight.path)] = Tensor(shape, "float32", unread)
    monkeypatch.setattr(files, "read", lambda path: state)
    assert named in refusal("other.safetensors", V1).splitlines()[-1]


@pytest.mark.parametrize("theirs", FAMILIES)
@pytest.mark.parametrize("ours", FAMILIES)
def test_the_file_of_another_family_is_refused(tmp_path, ours, theirs):
    if ours == theirs:
        return
    path = tmp_path / "theirs.weights.h5"
    FAMILY_MODELS.setdefault(theirs, original(FAMILIES[theirs])).save_weights(path)
    model = FAMILY_MODELS.setdefault(ours, original(FAMILIES[ours]))
    with pytest.raises(WeightsError, match=r"missing|shape|unused"):
        checkpoint.open(path).read_as(FAMILIES[ours]).load_into(model)


FAMILY_MODELS = {}


@pytest.mark.parametrize("ours", FAMILIES)
def test_an_official_file_of_another_family_is_refused(tmp_path, ours):
    isotropic = {"stem.weight": np.ones((8, 3, 8, 8), "float32"), "stem.bias": ONES}
    for state in official(original(FAMILIES["v2"])), isotropic, {"stem.0.weight": ONES}:
        path = save_safetensors(tmp_path / "other.safetensors", state)
        if ours != "v2":
            assert "missing" in refusal(path, FAMILIES[ours], classes=3)


def test_scalars_where_arrays_belong(tmp_path):
    scalar = np.array(1, "float32")
    state = official(original())
    for name in state:
        path = save_safetensors(tmp_path / "scalar.safetensors", {**state, name: scalar})
        assert name in refusal(path, V1)
    sparse = {
        "encoder.downsample_layers.0.0.weight": ONES,
        "encoder.stages.0.0.dwconv.kernel": scalar,
    }
    assert "missing" in refusal(save_safetensors(path, sparse), FAMILIES["v2"], classes=2)


# ---------------------------------------------------------------- files that lie

KINDS = ("safetensors", "pth", "weights.h5", "keras", "legacy.h5")


@pytest.fixture(scope="module")
def small_files(tmp_path_factory):
    """Returns {kind: the bytes of a good file of `SMALL`}, a model to load into, its weights."""
    folder, model = tmp_path_factory.mktemp("small"), original(SMALL, classes=2)
    save_safetensors(folder / "safetensors", official(model))
    torch.save({"model": tensors(official(model))}, folder / "pth")
    model.save_weights(folder / "m.weights.h5")
    model.save(folder / "m.keras")
    save_legacy(model, folder / "legacy.h5")
    paths = dict(
        zip(KINDS, ["safetensors", "pth", "m.weights.h5", "m.keras", "legacy.h5"], strict=True)
    )
    return {kind: (folder / name).read_bytes() for kind, name in paths.items()}, model


def attempt(path, data, model):
    """Whether a file loads; anything but success with finite weights or a WeightsError fails."""
    path.write_bytes(data)
    try:
        reading = checkpoint.open(path).read_as(SMALL)
        reading.classes_for(True, None)
        reading.load_into(model)
    except WeightsError:
        return False
    assert all(np.isfinite(array).all() for array in values(model).values())
    return True


@pytest.mark.parametrize("kind", KINDS)
def test_truncated_files_are_refused(tmp_path, small_files, kind):
    data, model = small_files[0][kind], small_files[1]
    path = tmp_path / "short"
    assert attempt(path, data, model)
    ends = {*range(0, 40), *range(0, len(data), max(1, len(data) // 40)), len(data) - 1}
    accepted = [end for end in sorted(ends) if attempt(path, data[:end], model)]
    assert not accepted, f"accepted with {accepted} of {len(data)} bytes"


@pytest.mark.parametrize("kind", KINDS)
def test_mutated_files_load_or_are_refused(tmp_path, small_files, kind):
    data, model = small_files[0][kind], small_files[1]
    random = np.random.default_rng(KINDS.index(kind))
    results = [attempt(tmp_path / "m", mutated(data, random), model) for _ in range(150)]
    assert {False} <= set(results)  # some of them did harm


def mutated(data, random):
    """Flips, inserts, deletes or repeats some bytes, one time out of two near the start or end."""
    data = bytearray(data)
    for _ in range(random.integers(1, 4)):
        reach = len(data) if random.random() < 0.5 else min(len(data), 2000)
        at = int(random.integers(reach))
        at = at if random.random() < 0.5 else len(data) - 1 - at
        some = random.integers(0, 256, random.integers(1, 9), dtype="uint8").tobytes()
        some = random.choice([some, b"\xff" * len(some), b"\0" * len(some)])
        how = random.integers(4)
        if how == 0:
            data[at] ^= 1 << random.integers(8)
        elif how == 1:
            data[at : at + len(some)] = some
        elif how == 2:
            data[at:at] = some
        else:
            del data[at : at + len(some)]
    return bytes(data)


NO_WEIGHTS = {
    "empty": b"",
    "text": b"these are no weights, but a text\n",
    "json": b'{"layers": []}',
    "zeros": bytes(1000),
    "png": b"\x89PNG\r\n\x1a\n" + bytes(100),
    "zip magic": b"PK\x03\x04",
    "hdf magic": b"\x89HDF\r\n\x1a\n",
    "legacy pickle": pickle.dumps({"model": [1.0]}, protocol=2),
}


@pytest.mark.parametrize("kind", NO_WEIGHTS)
def test_what_is_no_file_of_weights_is_refused(tmp_path, kind):
    path = tmp_path / kind.replace(" ", "_")
    path.write_bytes(NO_WEIGHTS[kind])
    message = refusal(path)
    assert ("1.6" in message) == (kind == "legacy pickle"), message


def test_what_is_no_file_is_not_found(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in tmp_path, tmp_path / "absent.safetensors", tmp_path / "pipe":
        with pytest.raises(FileNotFoundError, match=path.name):
            build(weights=path)


# --- pickles


class Call:
    """Pickles as a call of a function with arguments."""

    def __init__(self, function, *arguments, state=None):
        self.function, self.arguments, self.state = function, arguments, state

    def __reduce__(self):
        return (self.function, self.arguments, self.state)[: 2 + (self.state is not None)]


def write_torch(path, pickled, storages=(), compression=zipfile.ZIP_STORED):
    with zipfile.ZipFile(path, "w", compression) as archive:
        archive.writestr("archive/data.pkl", pickled)
        archive.writestr("archive/byteorder", "little")
        for name, data in dict(storages).items():
            archive.writestr(f"archive/data/{name}", data)
    return path


def calls(canary):
    """Returns objects whose unpickling would write the file `canary`, or start something."""
    command = f"touch {canary}"
    code = f"open({str(canary)!r}, 'w').close()"
    return {
        "os.system": Call(os.system, command),
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "popen": Call(os.popen, command),
        "subprocess": Call(subprocess.check_call, ["touch", str(canary)]),
        "open": Call(open, str(canary), "w"),
        "getattr": Call(getattr, 1, "real"),
        "torch.load": Call(torch.load, str(canary)),
        "numpy": Call(np.load, str(canary)),
        "numpy array": np.arange(3.0),
        "bytearray": bytearray(b"12"),
        "set": {1, 2},
        "complex": 1j,
    }


CALLS = list(calls(""))


@pytest.mark.parametrize("protocol", [0, 2, 4])
@pytest.mark.parametrize("call", CALLS)
def test_pickles_run_nothing(tmp_path, call, protocol):
    canary = tmp_path / "canary"
    content = {"model": {"stem.0.weight": calls(canary)[call]}}
    message = refusal(write_torch(tmp_path / "evil.pth", pickle.dumps(content, protocol)))
    assert "pickle" in message
    assert not canary.exists()


def test_the_canary_sings(tmp_path):
    """The files above would do harm where they are trusted."""
    pickle.loads(pickle.dumps(calls(tmp_path / "canary")["os.system"]))
    assert (tmp_path / "canary").exists()


def op(*parts):
    return b"".join(part if isinstance(part, bytes) else _literal(part) for part in parts)


def _literal(value):
    """A value as the instructions that make it."""
    if isinstance(value, str):
        return b"X" + struct.pack("<I", len(value.encode())) + value.encode()
    if isinstance(value, int) and -(2**31) <= value < 2**31:
        return b"J" + struct.pack("<i", value)
    if isinstance(value, int):
        data = pickle.encode_long(value)
        return b"\x8a" + bytes([len(data)]) + data
    if isinstance(value, tuple):
        return b"(" + b"".join(map(_literal, value)) + b"t"
    raise TypeError(value)


def storage(count=4, key="0", kind="torch\nFloatStorage"):
    return op(b"(", "storage", f"c{kind}\n".encode(), key, "cpu", count, b"tQ")


def rebuild(offset=0, shape=(4,), strides=(1,), stored=None):
    function = b"ctorch._utils\n_rebuild_tensor_v2\n"
    stored = storage() if stored is None else stored
    return op(function, b"(", stored, offset, shape, strides, b"\x89N", b"tR")


def model_with(value):
    """A pickle of `{"stem.0.weight": value}`."""
    return op(b"\x80\x02}", "stem.0.weight", value, b"s.")


DAG = b")" + b"".join(b"q%c" % i + b"h%c" % i + b"\x86" for i in range(200))  # 2 ** 200 leaves
DEEP = b")" + b"\x85" * 300_000
PICKLES = {
    "negative shape": model_with(rebuild(shape=(-4,))),
    "negative stride": model_with(rebuild(strides=(-1,))),
    "negative offset": model_with(rebuild(offset=-1)),
    "huge shape": model_with(rebuild(shape=(2**62, 4), strides=(1, 1))),
    "stride 0": model_with(rebuild(shape=(10**12,), strides=(0,))),
    "stride 0, no elements": model_with(rebuild(shape=(10**12, 0), strides=(0, 0))),
    "offset beyond": model_with(rebuild(offset=2**40)),
    "offset 1 beyond": model_with(rebuild(offset=1)),
    "more strides": model_with(rebuild(strides=(1, 1))),
    "shape of strings": model_with(rebuild(shape=("4",))),
    "shape is an int": model_with(rebuild(shape=4)),
    "100 axes": model_with(rebuild(shape=(1,) * 100, strides=(1,) * 100)),
    "number of 255 bytes": model_with(rebuild(shape=(2**2000,))),
    "no storage": model_with(rebuild(stored=op("0"))),
    "larger storage": model_with(rebuild(stored=storage(2**40))),
    "smaller storage": model_with(rebuild(shape=(1,), stored=storage(1))),
    "other item size": model_with(rebuild(stored=storage(kind="torch\nDoubleStorage"))),
    "absent storage": model_with(rebuild(stored=storage(key="1"))),
    "storage is the pickle": model_with(rebuild(stored=storage(key="../data.pkl"))),
    "storage elsewhere": model_with(rebuild(stored=storage(key="../../../../etc/passwd"))),
    "strange storage": model_with(rebuild(stored=op(b"(", "storage", "float32", b"tQ"))),
    "storage of tuples": model_with(rebuild(stored=op(b"(", *[op("x", b"\x85")] * 5, b"tQ"))),
    "complex": model_with(rebuild(stored=storage(kind="torch\nComplexFloatStorage"))),
    "rebuild of nothing": model_with(b"ctorch._utils\n_rebuild_tensor_v2\n)R"),
    "call of a string": model_with(op("text", b")R")),
    "call of a storage": model_with(op(storage(), b")R")),
    "new string": model_with(op(b"ctorch\nFloatStorage\n", b")\x81")),
    "new method": model_with(op(b"ctorch._utils\n_rebuild_tensor_v2\n", b")\x81")),
    "dotted name": model_with(op(b"cargparse\nNamespace.__init__\n", b")R")),
    "methods as state": op(
        b"\x80\x02ccollections\nOrderedDict\n)R}", "items", "x", b"s", b"}", "get", "y", b"sb."
    ),
    "append to a dict": op(b"\x80\x02}", "x", b"a."),
    "set in a list": op(b"\x80\x02]", "x", "y", b"s."),
    "name twice": op(b"\x80\x02}", "a", "b", b"s", "a", "b", b"s."),
    "name is a tuple": op(b"\x80\x02}", ("a",), "b", b"s."),
    "name is a number": op(b"\x80\x02}", 5, rebuild(), b"s."),
    "itself": b"\x80\x02}q\x00" + op("model", b"h\x00s."),
    "empty stack": b"\x80\x02s.",
    "empty dict": b"\x80\x02}.",
    "no dict": b"\x80\x02].",
    "no end": b"\x80\x02}",
    "nothing": b"",
    "bad text": b"\x80\x02X\x02\x00\x00\x00\xff\xfe.",
    "no memo": b"\x80\x02h\x05.",
    "memo 2**31": b"\x80\x02}r\xff\xff\xff\x7f.",
    "bytes 2**60": b"\x80\x04\x8e" + struct.pack("<Q", 2**60) + b".",
    "text 2**60": b"\x80\x04\x8d" + struct.pack("<Q", 2**60) + b".",
    "text 2**32": b"\x80\x02X\xff\xff\xff\xff.",
    "bytearray 2**40": b"\x80\x05\x96" + struct.pack("<Q", 2**40) + b".",
    "long 2**30": b"\x80\x02\x8b\xff\xff\xff\x3f.",
    "frame": b"\x80\x04\x95" + struct.pack("<Q", 2**60) + b"}.",
    "extension": b"\x80\x02\x82\x01.",
    "2**200 leaves as a name": op(b"\x80\x02}", DAG, "x", b"s."),
    "2**200 leaves as names": op(b"\x80\x02}(", DAG, "x", b"u."),
    "2**200 leaves as a storage": model_with(rebuild(stored=op(DAG, b"Q"))),
    "2**200 leaves in a storage": model_with(
        rebuild(stored=op(b"(", "storage", "float32", DAG, "cpu", 4, b"tQ"))
    ),
    "2**200 leaves as a shape": model_with(rebuild(shape=DAG)),
    "2**200 leaves as a dict": model_with(op(b"ccollections\nOrderedDict\n", DAG, b"\x85\x85R")),
    "nested as a name": op(b"\x80\x02}", DEEP, "x", b"s."),
    "nested as a state": op(b"\x80\x02ccollections\nOrderedDict\n)R", DEEP, b"b."),
    "sizes of a long text": op(
        b"\x80\x02]q\x01", "x" * 10**6, b"q\x00", op(b"(ctorch\nSize\nh\x00\x85Rl") * 9000, b"."
    ),
    "2 million dicts": b"\x80\x02](" + b"}" * (2 * 2**20 - 8) + b"e.",
    "longer than any": b"\x80\x02" + bytes(5 * 2**20) + b".",
}


# --- archives


def deflated(data):
    packer = zlib.compressobj(9)
    return b"".join(packer.compress(part) for part in data) + packer.flush()


def duplicate_entries(path):
    write_torch(path, model_with(rebuild()), {"0": bytes(16)})
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate"):
        archive.writestr("archive/data.pkl", model_with(rebuild(shape=(1,))))


def paths_upwards(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../../data.pkl", model_with(rebuild()))
        archive.writestr("/etc/data.pkl/../data.pkl", model_with(rebuild()))


def two_pickles(path):
    with zipfile.ZipFile(path, "w") as archive:
        for root in "ab":
            archive.writestr(f"{root}/data.pkl", model_with(rebuild()))


def big_endian(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", model_with(rebuild()))
        archive.writestr("archive/byteorder", "big")


def packed_pickle(path):
    zeros = b"\x80\x02" + b"N0" * (8 * 2**20)
    write_torch(path, zeros, compression=zipfile.ZIP_DEFLATED)


def patched(path, old, new):
    data = path.read_bytes()
    assert old in data
    path.write_bytes(data.replace(old, new))


def longer_than_the_file(path):
    """The directory of the archive gives an entry 3 GB."""
    write_torch(path, model_with(rebuild()), {"0": bytes(16)})
    data = bytearray(path.read_bytes())
    at = data.index(b"PK\x01\x02")  # of data.pkl: sizes at 20 and 24
    data[at + 20 : at + 28] = struct.pack("<II", 3 * 2**30, 3 * 2**30)
    path.write_bytes(data)


def encrypted(path):
    write_torch(path, model_with(rebuild()), {"0": bytes(16)})
    data = bytearray(path.read_bytes())
    for magic, flags in (b"PK\x01\x02", 8), (b"PK\x03\x04", 6):
        data[data.index(magic) + flags] |= 1
    path.write_bytes(data)


def packed_keras(path):
    """A `.keras` whose weights unpack to 64 MB."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        with archive.open("model.weights.h5", "w") as entry:
            entry.write(b"\x89HDF\r\n\x1a\n")
            for _ in range(64):
                entry.write(bytes(2**20))


def keras_of_an_hdf5_bomb(path):
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        dataset(file, "head", "0", (4, 10**9))
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("model.weights.h5", buffer.getvalue())


# --- safetensors


def write_header(path, header, data=b"", length=None):
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(header) if length is None else length) + header + data)


def entry(dtype="F32", shape=(4,), span=(0, 16)):
    return {"dtype": dtype, "shape": list(shape), "data_offsets": list(span)}


def nested(depth):
    return b'{"a":' * depth + b"1" + b"}" * depth


def headers(path, name):
    twice = json.dumps(entry()).encode()
    huge = 10**12
    found = {
        "header of 2**60": ({"a": entry()}, bytes(16), 2**60),
        "header of 2**64": ({"a": entry()}, bytes(16), 2**64 - 1),
        "header of 50 MB": ({"a": entry()}, bytes(16), 50 * 10**6),
        "overlap": ({"a": entry(), "b": entry(span=(8, 24))}, bytes(24)),
        "out of range": ({"a": entry(span=(16, 32))}, bytes(16)),
        "backwards": ({"a": entry(span=(16, 0))}, bytes(16)),
        "negative": ({"a": entry(span=(-16, 0))}, bytes(16)),
        "hole": ({"a": entry(), "b": entry(span=(32, 48))}, bytes(48)),
        "same name": (b'{"a":' + twice + b',"a":' + twice + b"}", bytes(16)),
        "same field": (b'{"a":{"dtype":"F64",' + twice[1:] + b"}", bytes(16)),
        "dtype": ({"a": entry("F33")}, bytes(16)),
        "dtype is a list": ({"a": entry(["F32"])}, bytes(16)),
        "float8": ({"a": entry("F8_E4M3", (16,))}, bytes(16)),
        "1 TB": ({"a": entry(shape=(huge // 4,), span=(0, huge))}, bytes(16)),
        "1 TB in 16 bytes": ({"a": entry(shape=(huge,))}, bytes(16)),
        "overflow": ({"a": entry(shape=(2**32, 2**32, 4))}, bytes(16)),
        "negative shape": ({"a": entry(shape=(-1, -4))}, bytes(16)),
        "shape of floats": ({"a": entry(shape=(4.0,))}, bytes(16)),
        "nothing": ({}, b""),
        "only metadata": ({"__metadata__": {"format": "pt"}}, b""),
        "list": (b"{]", b""),
        "nested": (nested(10**5), b""),
        "nested metadata": ({"__metadata__": {"a": {"b": "c"}}, "a": entry()}, bytes(16)),
        "no text": (b'{"\xff":' + twice + b"}", bytes(16)),
        "more data": ({"a": entry()}, bytes(32)),
        "long name": ({"_stem/" * 10**5 + "_stem_conv/0": entry()}, bytes(16)),
        "10**9 classes of no width": (
            {
                "downsample_layers.0.0.weight": entry(),
                "head.weight": entry(shape=(10**9, 0), span=(16, 16)),
            },
            bytes(16),
        ),
    }
    write_header(path, *found[name]) if name else None
    return list(found)


# --- HDF5


def dataset(file, layer, number, shape=(4,), data=None, **arguments):
    values = file.require_group(f"layers/{layer}/vars")
    values.attrs["name"] = layer
    return values.create_dataset(number, shape, "float32", data, **arguments)


@contextlib.contextmanager
def hdf5(path):
    """A file with a stem, so that its layout is known."""
    with h5py.File(path, "w") as file:
        dataset(file, "stem/conv", "0", (4, 4, 3, 4), np.ones((4, 4, 3, 4)))
        yield file


def deflate_chunk(dataset, data):
    dataset.id.write_direct_chunk((0,) * dataset.ndim, deflated(data))


def h5_classes(file):
    dataset(file, "head", "0", (4, 10**9))


def h5_four_gb(file):
    dataset(file, "stage0_block0", "0", (10**9,))


def h5_huge_chunk(file):
    packed = dataset(file, "head_norm", "0", maxshape=(None,), chunks=(2**25,), compression="gzip")
    deflate_chunk(packed, [bytes(2**20)] * 128)


def h5_chunk_that_grows(file):
    packed = dataset(file, "head_norm", "0", chunks=(4,), compression="gzip")
    deflate_chunk(packed, [bytes(2**20)] * 60)  # as much as the format can say of so small a chunk


def h5_external(file):
    outside = [("/etc/passwd", 0, h5py.h5f.UNLIMITED)]
    dataset(file, "head_norm", "0", external=outside)


def h5_virtual(file):
    layout = h5py.VirtualLayout((4,), "float32")
    layout[:] = h5py.VirtualSource("/etc/passwd", "x", (4,))
    group = file.require_group("layers/head_norm/vars")
    group.attrs["name"] = "head_norm"
    group.create_virtual_dataset("0", layout)


def h5_linked(link, where):
    def write(file):
        file.require_group("layers/a/vars").attrs["name"] = "a"
        file[where] = link

    return write


def h5_root_linked(file):
    del file["layers"]
    file["layers"] = h5py.ExternalLink("/dev/zero", "/")


def h5_cycle(file):
    file["layers/stem/again"] = file["layers/stem"]


def h5_dag(file):
    group = file["layers"]
    for depth in range(40):
        child = group.create_group(f"a{depth}")
        group["b"] = child
        group = child


def h5_shared_vars(file):
    for number in range(50):
        group = file.require_group(f"layers/l{number}")
        group["vars"] = file["layers/stem/conv/vars"]


def h5_deep(file):
    group = file["layers"]
    for _ in range(3000):
        group = group.create_group("g")


def h5_dtype(dtype, **arguments):
    def write(file):
        group = file.require_group("layers/head_norm/vars")
        group.attrs["name"] = "head_norm"
        group.create_dataset("0", dtype=dtype, **arguments)

    return write


def h5_same_name(file):
    for layer in "ab":
        dataset(file, layer, "0", (4,), np.ones(4)).parent.attrs["name"] = "head_norm"


def h5_name(value):
    def write(file):
        file["layers/stem/conv/vars"].attrs["name"] = value

    return write


def h5_no_name(file):
    del file["layers/stem/conv/vars"].attrs["name"]


def legacy(layer_names, weight_names=(b"a/kernel:0",)):
    def write(file):
        file.attrs["layer_names"] = layer_names
        group = file.require_group("a")
        group.attrs["weight_names"] = weight_names
        group.create_dataset("a/kernel:0", data=np.ones(4, "float32"))

    return write


HDF5 = {
    "10**9 classes": h5_classes,
    "4 GB": h5_four_gb,
    "a chunk of 128 MB": h5_huge_chunk,
    "a chunk that grows to 60 MB": h5_chunk_that_grows,
    "external data": h5_external,
    "virtual": h5_virtual,
    "external link to data": h5_linked(h5py.ExternalLink("/dev/zero", "/x"), "layers/a/vars/0"),
    "external link to vars": h5_linked(h5py.ExternalLink("/dev/zero", "/x"), "layers/b/vars"),
    "external link to a layer": h5_linked(h5py.ExternalLink("/dev/zero", "/x"), "layers/b"),
    "soft link": h5_linked(h5py.SoftLink("/layers"), "layers/b"),
    "dangling link": h5_linked(h5py.SoftLink("/nowhere"), "layers/b"),
    "external link to all": h5_root_linked,
    "cycle": h5_cycle,
    "2**40 paths": h5_dag,
    "shared vars": h5_shared_vars,
    "3000 deep": h5_deep,
    "texts": h5_dtype(h5py.string_dtype(), data=["a", "b"]),
    "bytes": h5_dtype("S9", data=[b"a", b"b"]),
    "lists": h5_dtype(h5py.vlen_dtype("int32"), shape=(4,)),
    "references": h5_dtype(h5py.ref_dtype, shape=(4,)),
    "records": h5_dtype([("a", "f4")], shape=(4,)),
    "complex": h5_dtype("complex64", data=np.ones(4, "complex64")),
    "bools": h5_dtype("bool", data=np.ones(4, "bool")),
    "no shape": h5_dtype(None, data=h5py.Empty("f4")),
    "same name twice": h5_same_name,
    "name is a list": h5_name([1, 2]),
    "name is empty": h5_name(h5py.Empty("f4")),
    "name is no text": h5_name(b"\xff\xfe"),
    "no name": h5_no_name,
    "layer names of a number": legacy(5),
    "layer names are empty": legacy(h5py.Empty("f4")),
    "layer names are no text": legacy([b"\xff"]),
    "layer names are absent": legacy([b"b"]),
    "layer names twice": legacy([b"a", b"a"]),
    "layer names are dots": legacy([b".."]),
    "weight names of a number": legacy([b"a"], 5),
    "weight names are slashes": legacy([b"a"], [b"///"]),
    "weight names are absent": legacy([b"a"], [b"a/bias:0"]),
    "weight names of a group": legacy([b"a"], [b"a"]),
}
ARCHIVES = {
    "duplicate entries": duplicate_entries,
    "paths upwards": paths_upwards,
    "two pickles": two_pickles,
    "big endian": big_endian,
    "packed pickle": packed_pickle,
    "longer than the file": longer_than_the_file,
    "encrypted": encrypted,
    "packed keras": packed_keras,
    "keras of an HDF5 bomb": keras_of_an_hdf5_bomb,
}

# Loads each file with the address space limited; one line of JSON for each.
ATTACK = """
import json, os, resource, signal, sys, time
from pathlib import Path
from keras_convnext import ConvNeXt, Variant

variant = Variant("small", (1,), (4,), kernel_sizes=3)
pages = int(Path("/proc/self/statm").read_text().split()[0])
limit = pages * resource.getpagesize() + 1536 * 2**20
resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
for path in sys.argv[1:]:
    print(path, end="\\t", flush=True)
    start, before = time.time(), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    signal.alarm(20)
    try:
        ConvNeXt(variant, input_shape=(32, 32, 3), weights=Path(path))
        error = message = None
    except Exception as caught:
        error, message = type(caught).__name__, str(caught)
    signal.alarm(0)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(json.dumps([error, message, time.time() - start, grown]), flush=True)
"""


def write_attacks(folder):
    """Returns {name: path}."""
    found = {}

    def new(kind, name):
        found[f"{kind}: {name}"] = path = folder / f"{kind}-{len(found)}"
        return path

    for name, pickled in PICKLES.items():
        write_torch(new("pickle", name), pickled, {"0": bytes(16)})
    for name, write in ARCHIVES.items():
        write(new("archive", name))
    for name in HEADERS:
        headers(new("safetensors", name), name)
    for name, write in HDF5.items():
        with hdf5(new("hdf5", name)) as file:
            write(file)
    return found


HEADERS = headers(None, None)


def outcomes(paths):
    """Returns {name: [error, message, seconds, kB of memory]} of all attacks, in one process."""
    done = subprocess.run(
        [sys.executable, "-c", ATTACK, *map(str, paths.values())],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=Path(__file__).parents[1],
    )
    lines = dict(line.split("\t", 1) for line in done.stdout.splitlines() if "\t" in line)
    lines = {path: json.loads(line) for path, line in lines.items() if line}
    died = ["died", done.stderr[-500:], 0, 0]
    return {name: lines.get(str(path), died) for name, path in paths.items()}


@on_one_backend
def test_files_that_lie_are_refused_quickly_and_in_little_memory(tmp_path):
    wrong = {}
    for name, outcome in outcomes(write_attacks(tmp_path)).items():
        error, message, seconds, kilobytes = outcome
        allowed = 400_000 if name == "pickle: 2 million dicts" else 100_000
        if error != "WeightsError" or len(message) > 3000 or seconds > 8 or kilobytes > allowed:
            wrong[name] = outcome
    assert not wrong


def test_a_good_file_in_the_form_of_the_attacks_is_read(tmp_path):
    """They are refused for what they say, not for how they are written."""
    path = write_torch(
        tmp_path / "good.pth", model_with(rebuild()), {"0": np.arange(4.0, dtype="f4").tobytes()}
    )
    np.testing.assert_array_equal(files.read(path)["stem.0.weight"].numpy(), np.arange(4.0))
    with hdf5(tmp_path / "good.h5"):
        pass
    assert files.read(tmp_path / "good.h5")["stem/conv/0"].shape == (4, 4, 3, 4)
    write_header(tmp_path / "good.safetensors", {"a": entry()}, bytes(16))
    assert files.read(tmp_path / "good.safetensors")["a"].shape == (4,)


def test_the_configuration_of_a_keras_file_is_not_looked_at(tmp_path):
    model, path, canary = original(), tmp_path / "mine.keras", tmp_path / "canary"
    model.save(path)
    with zipfile.ZipFile(path) as archive:
        weights = archive.read("model.weights.h5")
    config = {
        "module": "builtins",
        "class_name": "eval",
        "registered_name": None,
        "config": {
            "module": "os",
            "class_name": "system",
            "config": {"command": f"touch {canary}"},
        },
    }
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("config.json", json.dumps(config))
        archive.writestr("metadata.json", "no json")
        archive.writestr("../outside.txt", "text")
        archive.writestr("model.weights.h5", weights)
    assert_equal_weights(build(weights=path), values(model))
    assert not canary.exists() and not (tmp_path.parent / "outside.txt").exists()
