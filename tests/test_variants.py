"""The table of variants against the published numbers of parameters."""

import dataclasses
import json
from pathlib import Path

import pytest

import keras_convnext
from keras_convnext import VARIANTS, ConvNeXt, Variant
from keras_convnext.pretrained import registry
from tests.backends import on_one_backend
from tests.shape_only import shapes_only

CHECKPOINTS = Path(__file__).parents[2] / "shared" / "checkpoints.json"

# At 1000 classes: the released checkpoints, and what the architectures give where none is released.
PARAMETERS = {
    "convnext_tiny": 28_589_128,
    "convnext_small": 50_223_688,
    "convnext_base": 88_591_464,
    "convnext_large": 197_767_336,
    "convnext_xlarge": 350_196_968,
    "convnext_zepto_rms": 2_155_656,
    "convnext_zepto_rms_ols": 2_164_232,
    "convnext_atto": 3_695_520,
    "convnext_atto_ols": 3_702_912,
    "convnext_femto": 5_217_784,
    "convnext_femto_ols": 5_226_520,
    "convnext_pico": 9_045_672,
    "convnext_pico_ols": 9_061_928,
    "convnext_nano": 15_593_560,
    "convnext_nano_ols": 15_649_560,
    "convnext_tiny_hnf": 28_589_128,
    "convnext_large_mlp": 200_128_168,
    "convnext_xxlarge": 846_471_016,
    "test_convnext": 272_128,
    "test_convnext2": 477_800,
    "test_convnext3": 468_840,
    "convnext_isotropic_small": 22_308_712,
    "convnext_isotropic_base": 87_083_752,
    "convnext_isotropic_large": 305_942_504,
    "convnextv2_atto": 3_708_400,
    "convnextv2_femto": 5_233_240,
    "convnextv2_pico": 9_066_280,
    "convnextv2_nano": 15_623_800,
    "convnextv2_tiny": 28_635_496,
    "convnextv2_small": 50_318_440,
    "convnextv2_base": 88_717_800,
    "convnextv2_large": 197_956_840,
    "convnextv2_huge": 660_289_640,
}


def count(variant, **kwargs):
    with shapes_only():
        model = ConvNeXt(variant, **kwargs)
    return model.count_params()


@pytest.mark.parametrize("name", VARIANTS)
def test_parameters_at_1000_classes(name):
    assert count(name) == PARAMETERS[name]


# many rows share an architecture and a number of classes
PUBLISHED = {(row.architecture(), row.classes): row for row in registry.rows()}


@pytest.mark.parametrize("row", PUBLISHED.values(), ids=lambda row: row.name)
def test_every_published_checkpoint_builds_with_its_parameters(row):
    same = [r for r in registry.rows() if (r.architecture(), r.classes) == _key(row)]
    classes = {"classes": row.classes} if row.classes else {"include_top": False}
    assert {count(row.architecture(), **classes)} == {r.params for r in same}


def _key(row):
    return row.architecture(), row.classes


@pytest.mark.skipif(not CHECKPOINTS.exists(), reason="the inventory of checkpoints is not here")
def test_the_table_holds_the_inventory():
    rows = [r for r in json.loads(CHECKPOINTS.read_text())["rows"] if r["arch"]]
    for name, variant in VARIANTS.items():
        if name == "convnextv2_small":  # never released
            continue
        arches = [r["arch"] for r in rows if _inventory_name(r) == name]
        assert arches, name
        for arch in arches:
            assert tuple(arch["depths"]) == variant.depths
            assert tuple(arch["dims"]) == variant.dims
            assert tuple(arch["kernel_sizes"]) == variant.kernel_sizes
            assert arch["norm"]["eps"] == variant.epsilon
            assert arch["norm"]["type"] == variant.norm
            assert arch["stem"]["type"] == variant.stem
            assert arch["grn"] == variant.grn
            assert arch["act"].removesuffix("_exact") == variant.activation
            assert arch["head"]["hidden"] == variant.head_hidden
            assert arch["layer_scale_init"] == variant.layer_scale


def _inventory_name(row):
    name = (row.get("timm_name") or row["id"]).split(".")[0]
    if row["family"] == "v1-isotropic":
        return "convnext_isotropic_" + name.split("_")[2]
    return name if name in VARIANTS else None


@on_one_backend
def test_one_factory_per_variant():
    factories = [
        getattr(keras_convnext, name)
        for name in keras_convnext.__all__
        if name.startswith("ConvNeXt") and name not in ("ConvNeXt", "ConvNeXtBlock")
    ]
    built = set()
    for factory in factories:
        with shapes_only():
            built.add(factory(weights=None).name)
    assert built == {name for name in VARIANTS if not name.startswith("test_")}
    assert len(factories) == len(built)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"depths": (1, 1)}, "one entry per stage"),
        ({"dims": (8, 16, 32, 0)}, "positive ints"),
        ({"kernel_sizes": (7, 7, 7, 7.0)}, "positive ints"),
        ({"stem": "conv"}, "overlap_tiered"),
        ({"norm": "batchnorm"}, "simplenorm"),
        ({"activation": "relu"}, "gelu_tanh"),
        ({"stem_stride": 0}, "positive int"),
        ({"stem_stride": 3, "stem": "overlap"}, r"\(1, 2, 4\)"),
    ],
)
def test_wrong_rows_say_what_is_allowed(change, message):
    with pytest.raises(ValueError, match=message):
        dataclasses.replace(VARIANTS["convnext_tiny"], **change)


def test_a_row_of_ones_own():
    row = Variant("mine", (1, 2), (8, 16), kernel_sizes=5)
    assert row.kernel_sizes == (5, 5)
    assert (row.stem_stride, row.stride) == (4, 8)
    with shapes_only():
        model = ConvNeXt(row, input_shape=(32, 32, 3), classes=3)
    assert model.name == "mine" and model.output_shape == (None, 3)


def test_the_old_name_of_the_stem_stride_still_works():
    with pytest.warns(DeprecationWarning, match="now called `stem_stride`"):
        row = Variant("v", (1,), (8,), patch_size=2)
    assert row == Variant("v", (1,), (8,), stem_stride=2)
    with pytest.warns(DeprecationWarning, match="now called `stem_stride`"):
        assert row.patch_size == 2
    assert dataclasses.replace(row, stem_stride=4).stem_stride == 4
