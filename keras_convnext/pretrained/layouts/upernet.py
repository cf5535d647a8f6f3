"""The names that each publisher gives to the tensors of an UperNet with a ConvNeXt.

The backbones have the tables of `convnext.py`; the heads have the same structure everywhere.
"""

from keras_convnext.names import SEPARATOR, norm
from keras_convnext.pretrained.layouts.convnext import (
    Layout,
    mmpretrain,
    official,
    ours,
    transformers,
)

DECODER, AUXILIARY = "decode_head", "auxiliary_head"
CLASSIFIERS = (f"{DECODER}/classifier", f"{AUXILIARY}/classifier")
POOLINGS, LEVELS, OUTPUTS = range(4), range(3), range(4)
COUNTERS = r".*\.num_batches_tracked"  # of PyTorch's batch normalization


def _torch_heads(bn, classifier):
    """The names of both heads in PyTorch's layouts, which differ in two words."""
    modules = {f"{DECODER}/psp{n}": f"{DECODER}.psp_modules.{n}.1" for n in POOLINGS}
    for name in ("lateral", "fpn"):
        modules |= {f"{DECODER}/{name}{n}": f"{DECODER}.{name}_convs.{n}" for n in LEVELS}
    modules |= {
        f"{DECODER}/{name}": f"{DECODER}.{name}" for name in ("bottleneck", "fpn_bottleneck")
    }
    modules[f"{AUXILIARY}/conv0"] = f"{AUXILIARY}.convs.0"
    parts = {"conv": "conv", "bn": bn}
    return {
        **{
            f"{our}/{o}": f"{their}.{t}" for our, their in modules.items() for o, t in parts.items()
        },
        **{our: f"{our.split('/')[0]}.{classifier}" for our in CLASSIFIERS},
    }


def _meta(variant):
    norms = {norm(n): f"backbone.norm{n}" for n in OUTPUTS}
    return {**official(variant), **norms, **_torch_heads("bn", "conv_seg")}


def _openmmlab(variant):
    norms = {norm(n): f"backbone.norm{n}" for n in OUTPUTS}
    return {**mmpretrain(variant), **norms, **_torch_heads("bn", "conv_seg")}


def _hugging_face(variant):
    norms = {norm(n): f"backbone.hidden_states_norms.stage{n + 1}" for n in OUTPUTS}
    return {**transformers(variant), **norms, **_torch_heads("batch_norm", "classifier")}


def _ours(variant):
    names = [norm(n) for n in OUTPUTS] + list(_torch_heads("bn", "classifier"))
    return {**ours(variant), **{name: "{prefix}" + name for name in names}}


UPERNET_LAYOUTS = (
    Layout(
        "keras_convnext",
        rf"(?P<prefix>(?:[^/]+{SEPARATOR})?)decode_head/fpn_bottleneck/conv/0",
        _ours,
        (r".*/seed_generator_state",),
        keras=True,
        classifiers=CLASSIFIERS,
        head="upernet",
    ),
    Layout(
        "official UperNet",
        r"(?P<prefix>backbone\.)stages\.0\.0\.dwconv\.weight",
        _meta,
        (COUNTERS,),
        classifiers=CLASSIFIERS,
        head="upernet",
    ),
    Layout(
        "mmsegmentation",
        r"backbone\.stages\.0\.0\.depthwise_conv\.weight",
        _openmmlab,
        (COUNTERS, r"data_preprocessor\..*"),
        classifiers=CLASSIFIERS,
        head="upernet",
    ),
    Layout(
        "transformers UperNet",
        r"(?P<prefix>backbone\.)embeddings\.patch_embeddings\.weight",
        _hugging_face,
        (COUNTERS,),
        classifiers=CLASSIFIERS,
        head="upernet",
    ),
)
