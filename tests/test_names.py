"""The names of layers: what is built is parsed again, and other names are nobody's."""

import pytest

from keras_convnext import names
from tests.backends import on_one_backend

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
