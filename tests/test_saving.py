"""Saved weights: names, shapes, axes and bits of the files that others read."""

import dataclasses
import functools
import json
import math
import os
import re
import zipfile
from pathlib import Path

import keras
import numpy as np
import pytest
from safetensors import safe_open
from safetensors.numpy import load_file

from keras_convnext import VARIANTS, ConvNeXt, Variant
from keras_convnext.atomic import replacing
from keras_convnext.pretrained import checkpoint, files
from keras_convnext.pretrained.saving import in_layout, save_keras, save_weights
from tests.backends import on_one_backend, randomise
from tests.families import FAMILIES
from tests.shape_only import shapes_only

SHARED = Path(__file__).resolve().parents[2] / "shared"
GOLDEN, KEYS = SHARED / "golden", SHARED / "keys"
OFFICIAL = ("v1", "v2", "isotropic")
SIZES = ((1, 2, 3, 1), (16, 24, 32, 40))
V2 = dict(layer_scale=None, grn=True)
ISOTROPIC = dict(depths=(3,), dims=(24,), stem_stride=16, stem_norm=False)
CASES = {
    "official_v1": Variant("golden", *SIZES),
    "official_v1_no_layer_scale": Variant("golden", *SIZES, layer_scale=None),
    "official_v2": Variant("golden", *SIZES, **V2),
    "official_isotropic": Variant("golden", **ISOTROPIC, layer_scale=None),
    "official_isotropic_layer_scale": Variant("golden", **ISOTROPIC),
    "timm_v1": Variant("golden", *SIZES),
    "timm_v2": Variant("golden", *SIZES, **V2),
    "timm_large_mlp_head": Variant("golden", *SIZES, head_hidden=80),
    # by these names the pointwise layers are 1x1 convolutions, as they are in the files
    "timm_v1_conv_mlp": Variant("convnext_atto", *SIZES),
    "timm_v2_conv_mlp": Variant("convnextv2_nano", *SIZES, **V2),
    "timm_hnf": Variant("convnext_tiny_hnf", *SIZES, head_norm_first=True),
    "timm_ols": Variant("convnext_pico_ols", *SIZES, stem="overlap_tiered"),
    "timm_nano_ols": Variant("convnext_nano_ols", *SIZES, stem="overlap"),
    "timm_zepto_rms_ols": Variant(
        "convnext_zepto_rms_ols", *SIZES, stem="overlap_act", norm="simplenorm"
    ),
}
TIMM_LISTS = (
    *("convnext_atto", "convnext_atto_ols", "convnext_nano_ols", "convnext_tiny"),
    *("convnext_tiny_hnf", "convnext_zepto_rms", "convnext_zepto_rms_ols"),
    *("convnextv2_atto", "convnextv2_tiny", "test_convnext", "test_convnext2", "test_convnext3"),
)
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason="needs ../shared/golden")
needs_keys = pytest.mark.skipif(not KEYS.exists(), reason="needs ../shared/keys")


def small(variant, **changes):
    arguments = {"input_shape": (32, 32, 3), "classes": 5, "include_preprocessing": False}
    return ConvNeXt(variant, **{**arguments, **changes})


@functools.cache
def family(name):
    return small(FAMILIES[name])


def arrays_of(model):
    return {w.path: np.array(keras.ops.convert_to_numpy(w.value)) for w in model.weights}


def read_back(path, variant, model):
    """Returns the weights of `model` after it was given other numbers and filled from the file."""
    randomise(model, seed=99)
    checkpoint.open(path).read_as(variant).load_into(model)
    return arrays_of(model)


def assert_same_bits(ours, theirs):
    assert set(ours) == set(theirs)
    for name, array in ours.items():
        assert array.dtype == theirs[name].dtype and array.shape == theirs[name].shape, name
        assert array.tobytes() == theirs[name].tobytes(), name


@on_one_backend
@pytest.mark.parametrize("name", FAMILIES)
def test_timm_and_back_is_bit_equal(name, tmp_path):
    variant, path = FAMILIES[name], tmp_path / "model.safetensors"
    model = randomise(family(name))
    before = arrays_of(model)
    save_weights(model, variant, path)
    assert_same_bits(before, read_back(path, variant, model))


@on_one_backend
@pytest.mark.parametrize("name", OFFICIAL)
def test_official_to_ours_to_timm_to_ours_is_bit_equal(name, tmp_path):
    variant, model = FAMILIES[name], randomise(family(name))
    official, timm = tmp_path / "official.safetensors", tmp_path / "timm.safetensors"
    before = arrays_of(model)
    save_weights(model, variant, official, "official")
    read_back(official, variant, model)
    save_weights(model, variant, timm, "timm")
    assert_same_bits(before, read_back(timm, variant, model))
    assert set(load_file(official)) != set(load_file(timm))  # two layouts, not one


@on_one_backend
@needs_golden
@pytest.mark.parametrize("case", CASES)
def test_a_published_file_comes_out_as_it_went_in(case, tmp_path):
    variant, layout = CASES[case], case.split("_")[0]
    row = json.loads((GOLDEN / "index.json").read_text())["cases"][case]
    model = small(variant, weights=GOLDEN / row["file"], classes=None)
    save_weights(model, variant, tmp_path / "x.safetensors", layout)
    original = {name: t.numpy() for name, t in files.read(GOLDEN / row["file"]).items()}
    assert_same_bits(original, load_file(tmp_path / "x.safetensors"))
    with safe_open(tmp_path / "x.safetensors", "np") as file:
        assert file.metadata() == {"format": "pt"}


def listed(name):
    lines = (KEYS / f"{name}.txt").read_text().splitlines()
    rows = (line.split("\t") for line in lines if line and not line.startswith("#"))
    return {row[0]: tuple(map(int, row[1].strip("()").rstrip(",").split(","))) for row in rows}


@on_one_backend
@needs_keys
@pytest.mark.parametrize(
    "layout, name, source",
    [
        *(("timm", name, f"timm_{name}") for name in TIMM_LISTS),
        ("official", "convnext_tiny", "official_v1_convnext_tiny"),
        ("official", "convnextv2_atto", "official_v2_convnextv2_atto"),
        ("official", "convnext_isotropic_small", "official_v1_isotropic_small"),
    ],
)
def test_names_and_shapes_are_those_of_the_other_code(layout, name, source):
    with shapes_only():
        shapes = {w.path: tuple(w.shape) for w in ConvNeXt(name).weights}
    hollow = {path: np.broadcast_to(np.float32(0), shape) for path, shape in shapes.items()}
    tensors = in_layout(hollow, VARIANTS[name], layout)
    assert {n: array.shape for n, array in tensors.items()} == listed(source)


@on_one_backend
def test_pytorch_reads_the_file_into_equal_numbers(tmp_path):
    torch = pytest.importorskip("torch")
    safetensors_torch = pytest.importorskip("safetensors.torch")
    model = randomise(family("v1"))
    save_weights(model, FAMILIES["v1"], tmp_path / "x.safetensors")
    state = safetensors_torch.load_file(tmp_path / "x.safetensors")
    dense = torch.nn.Linear(16, 5)
    dense.load_state_dict({name: state[f"head.fc.{name}"] for name in ("weight", "bias")})
    x = np.random.default_rng(0).standard_normal((3, 16)).astype("float32")
    ours = keras.ops.convert_to_numpy(model.get_layer("head").activation(x @ _kernel(model)))
    theirs = torch.softmax(dense(torch.from_numpy(x)) - dense.bias, -1).detach().numpy()
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


def _kernel(model):
    return keras.ops.convert_to_numpy(model.get_layer("head").kernel)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_keras_files_and_back_are_bit_equal(suffix, tmp_path):
    variant, path = FAMILIES["v2"], tmp_path / f"x{suffix}"
    model = randomise(family("v2"))
    before = arrays_of(model)
    save_keras(model, path)
    assert_same_bits(before, read_back(path, variant, model))
    assert os.listdir(tmp_path) == [path.name]
    assert zipfile.is_zipfile(path) == (suffix == ".keras")


def test_features_and_other_channels(tmp_path):
    variant = FAMILIES["v1"]
    model = randomise(small(variant, include_top=False, classes=None, input_shape=(32, 32, 4)))
    save_weights(model, variant, tmp_path / "x.safetensors")
    tensors = load_file(tmp_path / "x.safetensors")
    assert tensors["stem.0.weight"].shape == (8, 4, 4, 4)
    assert not [name for name in tensors if name.startswith("head.fc")]
    before = arrays_of(model)
    assert_same_bits(before, read_back(tmp_path / "x.safetensors", variant, model))


def test_a_classifier_without_bias_gets_one_of_zeros(tmp_path):
    variant = Variant("clip", (1, 1), (8, 16), head_bias=False)
    model = randomise(small(variant))
    save_weights(model, variant, tmp_path / "x.safetensors")
    bias = load_file(tmp_path / "x.safetensors")["head.fc.bias"]
    assert bias.shape == (5,) and not bias.any()


@on_one_backend
@pytest.mark.parametrize(
    "name, field", [("rms_ols", "stem"), ("ols_hnf", "stem"), ("mlp", "activation")]
)
def test_official_names_are_refused_for_what_that_code_cannot_build(name, field, tmp_path):
    variant = FAMILIES[name]
    with pytest.raises(ValueError, match=f"cannot express.*{field}.*layout='timm'"):
        save_weights(family(name), variant, tmp_path / "x.safetensors", "official")
    assert not os.listdir(tmp_path)


def test_other_kernels_are_refused_for_the_official_layout(tmp_path):
    variant = dataclasses.replace(FAMILIES["v1"], kernel_sizes=5)
    with pytest.raises(ValueError, match="kernels"):
        save_weights(family("v1"), variant, tmp_path / "x.safetensors", "official")


def test_another_variant_than_the_models_is_refused(tmp_path):
    for other in ("v2", "isotropic", "rms_ols"):
        with pytest.raises(ValueError, match="is not of the variant"):
            save_weights(family("v1"), FAMILIES[other], tmp_path / "x.safetensors")


def test_added_layers_are_named(tmp_path):
    model = family("v1")
    added = keras.layers.Dense(3, name="mine")(model.output)
    with pytest.raises(ValueError, match="'mine/kernel'.*without layers added"):
        save_weights(keras.Model(model.input, added), FAMILIES["v1"], tmp_path / "x.safetensors")


def test_unknown_layouts_and_suffixes(tmp_path):
    model = family("v1")
    with pytest.raises(ValueError, match="`layout` must be one of"):
        save_weights(model, FAMILIES["v1"], tmp_path / "x.safetensors", "mxnet")
    with pytest.raises(ValueError, match="must end in"):
        save_keras(model, tmp_path / "x.h5")


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "x.txt"
    path.write_text("old")
    with pytest.raises(KeyboardInterrupt):
        with replacing(path) as draft:
            draft.write_text("half")
            raise KeyboardInterrupt
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["x.txt"]
    with replacing(path) as draft:
        draft.write_text("new")
    assert path.read_text() == "new" and os.listdir(tmp_path) == ["x.txt"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere.*make it first"):
        save_keras(family("v1"), tmp_path / "nowhere" / "x.keras")


# ---------------------------------------------------------------- which variant a file is of


# list of names and shapes -> the variant, from the peers' own code
LISTS = {
    "timm_convnext_atto": "convnext_atto",
    "timm_convnext_atto_ols": "convnext_atto_ols",
    "timm_convnext_nano_ols": "convnext_nano_ols",
    "timm_convnext_tiny": "convnext_tiny",
    "timm_convnext_tiny_hnf": "convnext_tiny_hnf",
    "timm_convnext_large_mlp_nc768": "convnext_large_mlp",
    "timm_convnext_xxlarge_nc1024": "convnext_xxlarge",
    "timm_convnext_zepto_rms": "convnext_zepto_rms",
    "timm_convnext_zepto_rms_ols": "convnext_zepto_rms_ols",
    "timm_convnextv2_atto": "convnextv2_atto",
    "timm_convnextv2_atto_nc0": "convnextv2_atto",
    "timm_convnextv2_tiny": "convnextv2_tiny",
    "timm_test_convnext": "test_convnext",
    "timm_test_convnext2": "test_convnext2",
    "timm_test_convnext3": "test_convnext3",
    "official_v1_convnext_tiny": "convnext_tiny",
    "official_v1_isotropic_large_with_gamma": "convnext_isotropic_large",
    "official_v1_isotropic_small": "convnext_isotropic_small",
    "official_v2_convnextv2_atto": "convnextv2_atto",
    "official_v2_fcmae_released_atto_inferred": "convnextv2_atto",
    "official_v2_fcmae_sparse_atto_selftrained": "convnextv2_atto",
    "official_dinov3_convnext_tiny": "convnext_tiny",
    "open_clip_convnext_base_w_visual": "convnext_base",
    "open_clip_convnext_large_d_visual": "convnext_large_mlp",
    "open_clip_convnext_xxlarge_visual": "convnext_xxlarge",
    "torchvision_convnext_tiny": "convnext_tiny",
    "transformers_ConvNextForImageClassification_tiny": "convnext_tiny",
    "transformers_ConvNextModel_tiny": "convnext_tiny",
    "transformers_ConvNextV2ForImageClassification_atto": "convnextv2_atto",
    "transformers_DINOv3ConvNextModel_tiny_inmemory": "convnext_tiny",
}


def write_hollow(path, shapes):
    """A safetensors file of zeros that takes no room on the disk, however large."""
    header, end = {}, 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    os.truncate(path, 8 + len(text) + end)


@needs_keys
@pytest.mark.parametrize("name", LISTS)
def test_the_variant_of_a_file_is_known(name, tmp_path):
    write_hollow(tmp_path / "x.safetensors", listed(name))
    assert checkpoint.open(tmp_path / "x.safetensors").identify() == [LISTS[name]]


@on_one_backend
def test_our_own_names_do_not_tell_tiny_from_tiny_hnf(tmp_path):
    with shapes_only():
        weights = [(w.path, tuple(w.shape)) for w in ConvNeXt("convnext_tiny").weights]
    leaves = {"kernel": "0", "gamma": "0", "bias": "1", "beta": "1"}
    named = {re.sub(r"[a-z]+$", lambda m: leaves[m[0]], path): shape for path, shape in weights}
    assert len(named) == len(weights)
    write_hollow(tmp_path / "x.safetensors", named)
    assert checkpoint.open(tmp_path / "x.safetensors").identify() == [
        "convnext_tiny",
        "convnext_tiny_hnf",
    ]


@needs_keys
def test_no_variant_is_named_for_another_architecture(tmp_path):
    shapes = listed("timm_convnext_atto")
    write_hollow(tmp_path / "x.safetensors", shapes | {"stages.0.blocks.2.conv_dw.bias": (40,)})
    assert checkpoint.open(tmp_path / "x.safetensors").identify() == []
