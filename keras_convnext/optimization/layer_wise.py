"""Learning rates per layer: the groups of layers, and factors that fall towards the stem.

Sources: arXiv 2201.03545, sections A.1 (classification) and A.3 (segmentation), arXiv 2301.00808,
section A.1 (fine-tuning of ConvNeXt V2), and the code published with them.
"""

import math

from keras_convnext import checks, names


def layer_groups(model, each_block=False):
    """Returns the groups of layers that share a learning rate under layer-wise decay.

    The stem is group 0; then each stage, together with the downsampling before it, is one group.
    The long stage (the third, or the only one of an isotropic model) has one group per three
    consecutive blocks, its downsampling in the first of them. Norm and classifier, and every layer
    that is not one of `ConvNeXt(...)`, are the last group. For depths 3, 3, 27, 3 these are the
    groups 0 to 13 of the published code, for 3, 3, 9, 3 the groups 0 to 7.

    The published code has no rule for isotropic models. "Every 3 consecutive blocks" (section A.1)
    gives models of 18 blocks the groups 0 to 7, models of 36 blocks the groups 0 to 13.

    With `each_block` every block is a group of its own, from 0 on; the stem is in the group of the
    first block, a downsampling in that of the block behind it. The smaller models of ConvNeXt V2
    are fine-tuned with these groups.

    Args:
        model: a `ConvNeXt(...)`, or a model that has one inside.
        each_block: whether no blocks share a group.

    Returns:
        `{layer name: group}` of the layers with weights, in the model's order.

    Raises:
        ValueError: if the model has no blocks named `stage{s}_block{b}`.

    Example:
        from keras_convnext import ConvNeXtAtto, layer_groups
        groups = layer_groups(ConvNeXtAtto(weights=None))
        groups["stem"], groups["stage1_block0"], groups["head"]  # (0, 2, 6)
    """
    layers = dict.fromkeys(_layer_of(weight.path) for weight in model.weights)
    depths = names.stage_depths(layers)
    if each_block:
        return {layer: _block_number(layer, depths) for layer in layers}
    starts = [1]
    for stage in range(len(depths)):
        starts.append(starts[-1] + math.ceil(depths[stage] / _blocks_per_group(stage, depths)))
    return {layer: _group(layer, depths, starts) for layer in layers}


def _group(layer, depths, starts):
    if not names.in_body(layer):
        return starts[-1]
    kind, stage, block = names.parse(layer)
    if kind == "block":
        return starts[stage] + block // _blocks_per_group(stage, depths)
    return 0 if kind == "stem" else starts[stage]


def _block_number(layer, depths):
    """Returns how many blocks are before the block that a layer is, or belongs to; all for what is
    behind the blocks."""
    if not names.in_body(layer):
        return sum(depths)
    _, stage, block = names.parse(layer)
    return sum(depths[: stage or 0]) + (block or 0)


def _blocks_per_group(stage, depths):
    is_long = stage == 2 or len(depths) == 1
    return 3 if is_long else max(depths[stage], 1)


def _layer_of(path):
    """Returns the layer of `ConvNeXt(...)` that a weight is in, else the innermost layer."""
    *layers, _ = ("", *path.split("/"))
    return next(filter(names.in_body, layers), layers[-1])


def learning_rate_scales(model, decay, each_block=False):
    """Returns factors on the learning rate, per layer, that fall from the classifier to the stem.

    Args:
        model: a `ConvNeXt(...)`, or a model that has one inside.
        decay: factor from one group of layers to the one before, in (0, 1]; see `layer_groups`.
            Table 6 of arXiv 2201.03545: 0.7 for weights of ImageNet-1K, 0.8 for those of -22K.
        each_block: as of `layer_groups`. ConvNeXt V2 from Atto to Tiny: 0.9 with it, larger ones
            0.6 without.

    Returns:
        `{layer name: scale}`, for `AdamW(learning_rate_scales=...)`. The last group has scale 1.

    Raises:
        ValueError: if `decay` is outside (0, 1], or the model has no ConvNeXt blocks.

    Example:
        from keras_convnext import AdamW, ConvNeXtAtto, learning_rate_scales
        model = ConvNeXtAtto(weights=None)
        scales = learning_rate_scales(model, 0.8)
        scales["stage3_block0"], scales["head"]  # (0.8, 1.0)
        optimizer = AdamW(5e-5, learning_rate_scales=scales)
    """
    checks.number("decay", decay, above=0, most=1)
    groups = layer_groups(model, each_block)
    return {name: decay ** (max(groups.values()) - group) for name, group in groups.items()}


def stage_wise_scales(model, decay, depth):
    """Returns factors on the learning rate, per layer, lower for the ConvNeXt than for the heads.

    There are N = `depth` + 2 groups. The heads, and the norms behind the stages, are the last one;
    the stem and all downsampling layers are group 0, stage s is group s + 1. Group g has the scale
    `decay ** (N - 1 - g)`. `depth` only sets the distance to the heads; the published
    configurations have 6 for Tiny and 12 for the others.

    Args:
        model: an `UperNet(...)`, or any model with the layers of a `ConvNeXt(...)`.
        decay: factor from one group to the one before, in (0, 1]. The paper: 0.9.
        depth: int >= 3, and not below the number of stages minus 1.

    Returns:
        `{layer name: scale}`, for `AdamW(learning_rate_scales=...)`.

    Raises:
        ValueError: if an argument is outside its range, or the model has no ConvNeXt blocks.

    Example:
        from keras_convnext import AdamW, ConvNeXtAtto
        from keras_convnext.optimization import stage_wise_scales
        scales = stage_wise_scales(ConvNeXtAtto(weights=None), 0.9, depth=6)
        scales["stage3_block0"], scales["stage2_block0"]  # (0.729, 0.6561)
        optimizer = AdamW(1e-4, learning_rate_scales=scales)
    """
    checks.number("decay", decay, above=0, most=1)
    checks.integer("depth", depth, 3)
    layers = [layer.name for layer in model.layers if names.in_body(layer.name)]
    names.stage_depths(layers)  # raises where there are no blocks
    return {layer: decay ** (depth + 1 - _stage_group(layer)) for layer in layers}


def _stage_group(layer):
    kind, stage, _ = names.parse(layer)
    return stage + 1 if kind == "block" else 0
