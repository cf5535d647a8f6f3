"""The names of the layers in our models: they are built and parsed here and nowhere else.

A model has `stem`, `stage{s}_block{b}`, `downsample{s}`, `head_norm`, `head_hidden`, `head`, and
behind its stages perhaps `norm{s}`; s and b count from 0. The parts of a block that is not one
layer, in the steps of the roadmap, begin with the block's name: `stage0_block1_conv2`. The names
are part of saved files and of the paths of weights, so they never change.

A graph of Keras has each name once. In a model with a name of its own, the names of all layers
therefore begin with it, `mine__stage0_block1`, and two such models fit in one graph. Everything
here reads both forms.

The models of `keras.applications` have more and smaller layers, whose names scripts know:
`in_keras_applications` reads these, and nothing else does.
"""

import re
from typing import NamedTuple

STEM, HEAD_NORM, HEAD_HIDDEN, HEAD = "stem", "head_norm", "head_hidden", "head"
SEPARATOR = "__"  # between the name of a model and the name of its layer
BODY = ("stem", "downsample", "block")  # the kinds of the layers up to the last stage

SINGLE = (STEM, HEAD_NORM, HEAD_HIDDEN, HEAD)
BLOCK = re.compile(r"stage(\d+)_block(\d+)")
OF_A_STAGE = re.compile(r"(downsample|norm)(\d+)")

# keras.applications: layers that are a part of a block here, or of the downsampling before a stage,
THEIR_BLOCK = re.compile(r"(?:.+_)?stage_(\d+)_block_(\d+)_(\w+)")
THEIR_DOWNSAMPLING = re.compile(r"(?:.+_)?downsampling_(block|layernorm|conv)_(\d+)")
THEIR_PARTS = {
    "depthwise_conv": ".dwconv",
    "layernorm": ".norm",
    "pointwise_conv_1": ".pwconv1",
    "gelu": ".activation",
    "pointwise_conv_2": ".pwconv2",
    "layer_scale": ".gamma",
    "stochastic_depth": ".drop_path",
    "identity": ".drop_path",
}
IN_A_CHAIN = {"block": "", "layernorm": ".layers[0]", "conv": ".layers[1]"}
# and those that a model has once
THEIR_SINGLE = {
    r"input_layer(?:_\d+)?": ("image", ""),
    r"(?:.+_)?prestem_normalization": ("preprocessing", ""),
    r"(?:.+_)?stem": (STEM, ""),
    r"(?:.+_)?stem_conv": (STEM, ".layers[0]"),
    r"(?:.+_)?stem_layernorm": (STEM, ".layers[1]"),
    r"(?:.+_)?head_gap|global_(?:average|max)_pooling2d(?:_\d+)?": ("pool", ""),
    r"(?:.+_)?head_layernorm|layer_normalization(?:_\d+)?": (HEAD_NORM, ""),
    r"(?:.+_)?head_dense": (HEAD, ""),
}


class Place(NamedTuple):
    """Where a layer is in the model.

    Fields:
        kind: "stem", "block", "downsample", "norm", "head_norm", "head_hidden" or "head".
        stage: of a block, of the stage after a downsampling, of the stage before a norm; else
            `None`.
        block: index of a block within its stage; else `None`.
    """

    kind: str
    stage: int | None = None
    block: int | None = None


def in_model(model, name):
    """Returns the name of a layer in a model whose name begins the names of its layers.

    Args:
        model: name of the model, or `""` for one whose layers have the bare names.
        name: the bare name.
    """
    return f"{model}{SEPARATOR}{name}" if model else name


def local(name):
    """Returns the bare name of a layer, without the name of its model."""
    return name.rpartition(SEPARATOR)[2]


def model_of(name):
    """Returns the name of the model that a layer's name begins with, or `""`."""
    return name.rpartition(SEPARATOR)[0]


def local_path(path):
    """Returns the path of a weight with the bare names of all layers in it."""
    return "/".join(map(local, path.split("/")))


def block(stage, index):
    """Returns the name of a block: `stage0_block1`."""
    return f"stage{stage}_block{index}"


def downsample(stage):
    """Returns the name of the downsampling before a stage, which the first one does not have."""
    return f"downsample{stage}"


def norm(stage):
    """Returns the name of the norm behind a stage of a dense predictor's backbone."""
    return f"norm{stage}"


def part(block_name, name):
    """Returns the name of a layer that is a part of a block: `stage0_block1_conv2`."""
    return f"{block_name}_{name}"


def parse(name):
    """Returns the `Place` that a layer's name says, or `None` for any other name."""
    name = local(name)
    if name in SINGLE:
        return Place(name)
    if match := BLOCK.fullmatch(name):
        return Place("block", int(match[1]), int(match[2]))
    if match := OF_A_STAGE.fullmatch(name):
        return Place(match[1], int(match[2]))
    return None


def in_body(name):
    """Returns whether a layer is the stem, a block or a downsampling."""
    place = parse(name)
    return place is not None and place.kind in BODY


def is_block(name):
    """Returns whether a layer is a block as a whole, and not a part of one."""
    return BLOCK.fullmatch(local(name)) is not None


def block_of(name):
    """Returns the name of the block that a layer is or belongs to, or `None`."""
    match = re.match(rf"({BLOCK.pattern})(?:_|$)", local(name))
    return in_model(model_of(name), match[1]) if match else None


def depth_by_stage(names):
    """Returns `{stage: number of blocks}`, in order, of the blocks among the names of layers.

    Some stages or blocks may be missing: a number of blocks is the highest index plus 1.
    """
    depths = {}
    for place in filter(None, map(parse, names)):
        if place.kind == "block":
            depths[place.stage] = max(depths.get(place.stage, 0), place.block + 1)
    return dict(sorted(depths.items()))


def stage_depths(names):
    """Returns the number of blocks of each stage, from the names of a model's layers.

    Raises:
        ValueError: if no layer is a block.
    """
    depths = depth_by_stage(names)
    if not depths:
        raise ValueError(
            f"The model has no ConvNeXt blocks {block(0, 0)!r} and so on: this needs a model made "
            "by `ConvNeXt(...)`, or one that has such a model inside."
        )
    return [depths.get(stage, 0) for stage in range(max(depths) + 1)]


def in_keras_applications(name, layers):
    """Returns what a layer of one of `keras.applications`' ConvNeXts is in a model of ours.

    Args:
        name: of the layer there, `"convnext_tiny_stage_3_block_2_depthwise_conv"`.
        layers: the names of the layers in our model.

    Returns:
        Name of the layer here and the part of it, `("stage3_block2", ".dwconv")`, where the part is
        `""` for all of it. `None` if the name is no such name, or the model has no such layer.
    """
    there = {local(layer): layer for layer in layers}
    bare, part = _in_keras_applications(name)
    return (there[bare], part) if bare in there else None


def _in_keras_applications(name):
    if match := THEIR_BLOCK.fullmatch(name):
        part = THEIR_PARTS.get(match[3])
        return (block(int(match[1]), int(match[2])), part) if part else (None, "")
    if match := THEIR_DOWNSAMPLING.fullmatch(name):
        return downsample(int(match[2]) + 1), IN_A_CHAIN[match[1]]
    return next((at for form, at in THEIR_SINGLE.items() if re.fullmatch(form, name)), (None, ""))
