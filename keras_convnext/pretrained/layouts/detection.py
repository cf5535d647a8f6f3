"""The names that each publisher gives to the tensors of a detector with a ConvNeXt.

A Mask R-CNN has one head for boxes and one for masks; a Cascade Mask R-CNN has three of each, which
are counted in the names. Meta and OpenMMLab publish with the same library: the names of their heads
are the same, those of their backbones are not. The backbones have the tables of `convnext.py`.
"""

import functools

from keras_convnext.names import norm
from keras_convnext.pretrained.heads import NAMES
from keras_convnext.pretrained.layouts.convnext import Layout, mmpretrain, official, ours

NECK, PROPOSALS, BOX_HEAD, MASK_HEAD = "neck", "rpn_head", "box_head", "mask_head"
LEVELS = range(4)
# More than the published detectors have (a cascade: 3 stages; 4 convolutions, 2 dense layers): our
# own may be built with other numbers.
STAGES = {"mask_rcnn": range(1), "cascade_mask_rcnn": range(8)}
CONVOLUTIONS, DENSE = range(8), range(4)
COUNTERS = r".*\.num_batches_tracked"  # of PyTorch's batch normalization


def classifiers(stages):
    """Returns our layers whose width depends on the number of classes, the first classifier first.

    Args:
        stages: numbers of the heads for boxes.
    """
    parts = ((BOX_HEAD, "classifier"), (BOX_HEAD, "regressor"), (MASK_HEAD, "classifier"))
    return tuple(f"{head}{stage}/{part}" for stage in stages for head, part in parts)


@functools.cache
def _torch_heads(head):
    """The names of everything behind the backbone in PyTorch's layouts."""
    names = {norm(n): f"backbone.norm{n}" for n in LEVELS}
    for n in LEVELS:
        names[f"{NECK}/lateral{n}"] = f"neck.lateral_convs.{n}.conv"
        names[f"{NECK}/output{n}"] = f"neck.fpn_convs.{n}.conv"
    for part, theirs in (("conv", "conv"), ("classifier", "cls"), ("regressor", "reg")):
        names[f"{PROPOSALS}/{part}"] = f"rpn_head.rpn_{theirs}"
    for stage in STAGES[head]:
        number = f".{stage}" if len(STAGES[head]) > 1 else ""
        names |= _torch_box_head(f"{BOX_HEAD}{stage}", f"roi_head.bbox_head{number}")
        names |= _torch_mask_head(f"{MASK_HEAD}{stage}", f"roi_head.mask_head{number}")
    return names


def _torch_box_head(ours, theirs):
    convolutions = {
        f"{ours}/conv{n}/{part}": f"{theirs}.shared_convs.{n}.{part}"
        for n in CONVOLUTIONS
        for part in ("conv", "bn")
    }
    dense = {f"{ours}/dense{n}": f"{theirs}.shared_fcs.{n}" for n in DENSE}
    last = {f"{ours}/classifier": f"{theirs}.fc_cls", f"{ours}/regressor": f"{theirs}.fc_reg"}
    return {**convolutions, **dense, **last}


def _torch_mask_head(ours, theirs):
    convolutions = {f"{ours}/conv{n}": f"{theirs}.convs.{n}.conv" for n in CONVOLUTIONS}
    last = {"upsample": "upsample", "classifier": "conv_logits"}
    return {**convolutions, **{f"{ours}/{part}": f"{theirs}.{name}" for part, name in last.items()}}


def _published(backbone, head):
    """Returns the function from a variant to the names in PyTorch's layouts."""

    def modules(variant):
        table = {our: n.replace("{prefix}", "backbone.") for our, n in backbone(variant).items()}
        return {**table, **_torch_heads(head)}

    return modules


def _own(head):
    """Returns the function from a variant to our names. The backbone is a model in the model."""

    def modules(variant):
        heads = {name: name for name in _torch_heads(head)}
        norms = {norm(n): f"{{prefix}}{norm(n)}" for n in LEVELS}
        return {**ours(variant), **heads, **norms}

    return modules


def _layouts(head):
    """Returns the layouts of one family of detectors.

    Our own names of both families are marked alike; those of a cascade explain more of its file.
    """
    several = len(STAGES[head]) > 1
    first = r"roi_head\.bbox_head\.0" if several else r"roi_head\.bbox_head"
    marker = rf"{first}\.(fc_cls|fc_reg|shared_fcs\.0)\.weight"
    common = {
        "classifiers": classifiers(STAGES[head]),
        "background": 1,
        "head": head,
        "omissible": MASK_HEAD,
    }
    return (
        Layout(
            f"keras_convnext {NAMES[head]}",
            r"(?P<prefix>(?:[^/]+/)?)stem/conv1?/0",
            _own(head),
            (r".*/seed_generator_state",),
            keras=True,
            **common,
        ),
        Layout(
            f"official {NAMES[head]}",
            marker,
            _published(official, head),
            (COUNTERS,),
            **common,
        ),
        Layout(
            f"mmdetection {NAMES[head]}",
            marker,
            _published(mmpretrain, head),
            (COUNTERS, r"data_preprocessor\..*"),
            **common,
        ),
    )


DETECTION_LAYOUTS = tuple(layout for head in STAGES for layout in _layouts(head))
