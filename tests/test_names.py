"""The names of layers: what is built is parsed again, and other names are nobody's."""

import re

import keras
import pytest

import keras_convnext
from keras_convnext import names
from tests.backends import on_one_backend
from tests.shape_only import shapes_only

pytestmark = on_one_backend


@pytest.mark.parametrize(
    ("name", "place"),
    [
        (names.STEM, ("stem", None, None)),
        (names.block(2, 26), ("block", 2, 26)),
        (names.downsample(3), ("downsample", 3, None)),
        (names.norm(0), ("norm", 0, None)),
        (names.HEAD_NORM, ("head_norm", None, None)),
        (names.HEAD_HIDDEN, ("head_hidden", None, None)),
        (names.HEAD, ("head", None, None)),
        (names.part(names.block(0, 1), "conv2"), None),
        ("stage0", None),
        ("stem_norm", None),
        ("downsample", None),
        ("my_stage0_block0", None),
        ("head_norm0", None),
    ],
)
def test_a_name_says_where_its_layer_is(name, place):
    assert names.parse(name) == place
    assert names.in_body(name) == (place is not None and place[0] in names.BODY)
    assert names.is_block(name) == (place is not None and place[0] == "block")


def test_the_names_are_the_ones_in_saved_files():
    assert names.block(0, 1) == "stage0_block1"
    assert names.downsample(1) == "downsample1"
    assert names.part("stage0_block1", "conv2") == "stage0_block1_conv2"


@pytest.mark.parametrize(
    ("name", "block"),
    [
        ("stage0_block1", "stage0_block1"),
        ("stage0_block1_conv2", "stage0_block1"),
        ("stage0_block12_conv2", "stage0_block12"),
        ("stage0_block1x", None),
        ("stem_conv", None),
    ],
)
def test_the_parts_of_a_block_are_recognised(name, block):
    assert names.block_of(name) == block


def test_the_depths_of_the_stages():
    blocks = [names.block(s, b) for s, depth in enumerate((1, 2, 12)) for b in range(depth)]
    assert names.stage_depths(["stem", *blocks, "downsample1", "head"]) == [1, 2, 12]
    assert names.depth_by_stage(reversed(blocks)) == {0: 1, 1: 2, 2: 12}
    assert names.depth_by_stage(["stage3_block2"]) == {3: 3}
    with pytest.raises(
        ValueError, match="no ConvNeXt blocks 'stage0_block0'.*needs a model made by `ConvNeXt"
    ):
        names.stage_depths(["stem", "stage0_block0_conv1"])


# ---------------------------------------------------------------- keras.applications


def their_layers(model):
    """Yields every layer of a model and of the models inside it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from their_layers(layer)


def said_of(model, name):
    with pytest.raises(ValueError) as caught:
        model.get_layer(name)
    return str(caught.value)


ARRAYS = {"SeparableConv2D", "DepthwiseConv2D", "Conv2D", "Dense", "LayerNormalization"}


@pytest.mark.parametrize("arguments", [{}, {"include_top": False, "pooling": "avg"}])
@pytest.mark.parametrize("size", ["Tiny", "Small", "Base", "Large", "XLarge"])
def test_each_layer_of_keras_applications_is_said_to_be_one_of_ours(size, arguments):
    """It has as many weights, of the same shapes, but for the one axis that a convolution of one
    pixel has more or a depthwise one less."""
    with shapes_only():
        theirs = getattr(keras.applications, f"ConvNeXt{size}")(weights=None, **arguments)
        ours = getattr(keras_convnext, f"ConvNeXt{size}")(weights=None, name="mine", **arguments)
    seen = 0
    for layer in their_layers(theirs):
        message = said_of(ours, layer.name)
        there, name, part = re.search(
            r"no layer '(.+?)', which .*`model\.get_layer\(\"(.+?)\"\)([\w.\[\]]*)`\.$", message
        ).groups()
        here = eval(f"model.get_layer(name){part}", {"model": ours, "name": name})
        assert there == layer.name and name.startswith("mine__")
        if type(layer).__name__ in ARRAYS | {"LayerScale"}:
            shapes = [[w.shape for w in found.trainable_weights] for found in (layer, here)]
            sizes = [[tuple(n for n in shape if n > 1) for shape in both] for both in shapes]
            assert sizes[0] == sizes[1] and sizes[0], layer.name
            seen += 1
    assert seen == 5 * sum(names.stage_depths([x.name for x in ours.layers])) + 9 + bool(
        not arguments
    )


def test_other_names_are_not_taken_for_those_of_keras_applications():
    with shapes_only():
        model = keras_convnext.ConvNeXtTiny(weights=None)
    for name in (
        "convnext_tiny_stage_3_block_3_gelu",  # it has three blocks
        "convnext_tiny_stage_3_block_2_norm",
        "convnext_tiny_downsampling_block_3",
        "conv2d",
    ):
        assert f"No such layer: {name}." in said_of(model, name)
