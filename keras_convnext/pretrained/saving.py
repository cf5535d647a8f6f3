"""Writes a model's weights into the files that other libraries read. Every write is atomic."""

import re

import keras
import numpy as np
from safetensors.numpy import save_file

from keras_convnext import names
from keras_convnext.atomic import replacing
from keras_convnext.checks import one_of
from keras_convnext.pretrained.axes import BEHIND_POOLING, channels_first_inputs
from keras_convnext.pretrained.contents import LAYOUTS_OF
from keras_convnext.pretrained.layouts import fcmae
from keras_convnext.variants import variant_of

# The layouts that can be written of a model with each head, the usual one first.
WRITABLE_OF = {
    None: ("timm", "official", "fcmae"),
    "upernet": ("official", "mmsegmentation", "transformers"),
    "mask_rcnn": ("official", "mmdetection"),
    "cascade_mask_rcnn": ("official", "mmdetection"),
}
WRITABLE = WRITABLE_OF[None]
GRN_WITH_FOUR_AXES = ("official", "transformers")  # its weights are (1, 1, 1, channels)
KERAS_SUFFIXES = (".keras", ".weights.h5")
# The variants whose pointwise layers are 1x1 convolutions in timm, with weights of 4 axes.
TIMM_CONV_MLP = re.compile(
    r"convnext(v2)?_(atto|femto|pico|nano)(_ols)?|convnext_(zepto_rms(_ols)?|tiny_hnf)"
)
# What the authors' code does without asking a file; another value would be lost in theirs.
OFFICIAL_FIELDS = {
    "stem": ("patch",),
    "activation": ("gelu",),
    "norm": ("layernorm",),
    "epsilon": (1e-6,),
    "head_norm_first": (False,),
    "head_hidden": (None,),
    "head_bias": (True,),
}


def save_weights(model, variant, path, layout=None):
    """Writes a model's weights into a safetensors file, in PyTorch's names, shapes and axes.

    Args:
        model: made by `ConvNeXt(variant, ...)`, with or without classifier, of any number of
            classes or input channels; a `pretraining.FCMAE`, or its encoder; or an UperNet or
            detector on it.
        variant: its `Variant`, or the name of one.
        path: of the file; an existing one is replaced, and only once the new one is complete.
        layout: of a ConvNeXt, `"timm"` (also `None`); or `"official"`, the names of the authors'
            code: V1, V2 and isotropic models. timm has no isotropic models: theirs are named by
            analogy, for reading back here. A classifier without bias gets one of zeros, which timm
            expects. `"fcmae"` is the authors' masked autoencoder. Of an UperNet, `"official"` (also
            `None`), `"mmsegmentation"` or `"transformers"`; of a detector, `"official"` (also
            `None`) or `"mmdetection"`.

    The numbers are float32 and exactly those of the model. Where PyTorch counts the batches that a
    batch normalization has seen, the file has 0, as of a model that begins to be trained.

    Raises:
        ValueError: if the layout is unknown or cannot express the variant, or the model is not of
            this variant.
        TypeError: if `variant` is neither a name nor a `Variant`.
        OSError: if the file cannot be written.
    """
    variant = variant_of(variant)
    arrays = {
        names.local_path(weight.path): keras.ops.convert_to_numpy(weight.value)
        for weight in model.weights
    }
    tensors = in_layout(arrays, variant, layout)
    with replacing(path) as draft:
        tensors = {n: np.asarray(a, _dtype(a), order="C") for n, a in tensors.items()}
        save_file(tensors, draft, {"format": "pt"})


def _dtype(array):
    return "int64" if array.dtype == "int64" else "float32"  # of a count


def in_layout(arrays, variant, layout=None):
    """Returns `{their name: array}`, in their shapes and axes, for `{our path: array}` of a model.

    The arrays are views of ours where that is possible. Arguments and errors as of `save_weights`.
    """
    head = head_of_model(arrays)
    layout = one_of("layout", layout or WRITABLE_OF[head][0], WRITABLE_OF[head])
    if layout != "timm":
        _check_official(variant, head)
    _check_model({path: array.shape for path, array in arrays.items()}, variant)
    table = _table(variant, layout, head)
    if layout == "fcmae":
        _check_masked(arrays, variant)
    tensors = {
        _name(path, variant, table): _torch_axes(array, path, variant, layout)
        for path, array in arrays.items()
    }
    if layout == "fcmae":
        return fcmae.sparse_from_dense(tensors)
    for path in arrays:
        if path.endswith("/moving_mean"):
            name = _name(path, variant, table).replace("running_mean", "num_batches_tracked")
            tensors[name] = np.zeros((), "int64")
    if "head/kernel" in arrays and "head/bias" not in arrays:
        tensors[_name("head/bias", variant, table)] = np.zeros(arrays["head/kernel"].shape[-1])
    return tensors


def head_of_model(paths):
    """Returns what a model has on its ConvNeXt, a key of `heads.NAMES`.

    Args:
        paths: of its weights, with the bare names of the layers.
    """
    layers = {path.split("/")[0] for path in paths}
    if "box_head0" in layers:
        return "cascade_mask_rcnn" if "box_head1" in layers else "mask_rcnn"
    return "upernet" if "decode_head" in layers else None


def save_keras(model, path):
    """Writes the whole model (`.keras`) or its weights (`.weights.h5`), atomically.

    Raises:
        ValueError: if `path` has another suffix.
        OSError: if the file cannot be written.
    """
    if not str(path).endswith(KERAS_SUFFIXES):
        raise ValueError(f"{path}: the name must end in one of {KERAS_SUFFIXES}.")
    with replacing(path) as draft:
        (model.save if draft.suffix == ".keras" else model.save_weights)(draft)


def _table(variant, layout, head):
    if head is not None:
        return next(table for table in LAYOUTS_OF[head] if table.name.split()[0] == layout)
    name = "official FCMAE, sparse" if layout == "fcmae" else layout
    if layout == "official" and not variant.stem_norm:
        name = "official isotropic"
    return next(table for table in LAYOUTS_OF[None] if table.name == name)


def _check_official(variant, head):
    """Checks what the code that others built on the authors' cannot express either."""
    instead = "Use `layout='timm'`." if head is None else "`save_keras` writes any model."
    for field, allowed in OFFICIAL_FIELDS.items():
        if getattr(variant, field) not in allowed:
            raise ValueError(
                f"The official code cannot express {variant.name}: its `{field}` is "
                f"{getattr(variant, field)!r}, theirs {allowed[0]!r}. {instead}"
            )
    if set(variant.kernel_sizes) != {7}:
        raise ValueError(
            f"The official code cannot express {variant.name}: its kernels are "
            f"{variant.kernel_sizes}, theirs 7. {instead}"
        )


def _check_masked(arrays, variant):
    head = next((path for path in arrays if path.startswith("head")), None)
    if head or not variant.stem_norm:
        raise ValueError(
            "The layout 'fcmae' is that of a masked autoencoder, whose encoder ends with the last "
            f"stage and has a norm in its stem; received a model of {variant.name} with "
            f"{head or 'no norm in its stem'}. Pass a `pretraining.FCMAE`, or its encoder; "
            "`layout='official'` writes classifiers."
        )


def _check_model(shapes, variant):
    """Checks that the model is of the variant, whose fields decide the names."""
    expected = {
        names.block(stage, block): dim
        for stage, (depth, dim) in enumerate(zip(variant.depths, variant.dims, strict=True))
        for block in range(depth)
    }
    bias = "/dwconv/bias"
    found = {
        p.removesuffix(bias): shape[0]
        for p, shape in shapes.items()
        if p.endswith(bias) and not p.startswith("decoder/")
    }
    parts = {
        "stem/conv/kernel": variant.stem == "patch",
        "stage0_block0/gamma/gamma": variant.layer_scale is not None,
        "stage0_block0/grn/gamma": variant.grn,
    }
    if found != expected or any((path in shapes) != has for path, has in parts.items()):
        raise ValueError(
            f"The model is not of the variant {variant.name}: it has blocks of {found} channels. "
            "Pass the variant that it was made from."
        )


def _name(path, variant, table):
    prefix = "encoder." if table.omissible == "decoder/" else "backbone." if table.head else ""
    try:
        name = table.names(variant, path, prefix)[0]
    except (IndexError, AttributeError, KeyError):
        raise ValueError(
            f"The model's weight {path!r} has no name in the layout {table.name!r}. Only the "
            "layers of `ConvNeXt(...)` can be written, without layers added to them, LoRA or "
            "quantization: `save_keras` writes any model."
        ) from None
    if "/grn/" in path and table.name.startswith(("official", "mm")):
        return name.replace("weight", "gamma").replace("bias", "beta")
    return name


def _torch_axes(array, path, variant, layout):
    """Returns an array in PyTorch's axes: the inverse of what loading does with a tensor."""
    if BEHIND_POOLING.fullmatch(path):
        return channels_first_inputs(array)
    if array.ndim == 4:  # to (out, in, height, width); depthwise (channels, 1, height, width)
        return array.transpose((2, 3, 0, 1) if "dwconv" in path else (3, 2, 0, 1))
    if array.ndim == 2:
        is_convolution = layout == "timm" and "pwconv" in path
        is_convolution = is_convolution and TIMM_CONV_MLP.fullmatch(variant.name)
        return array.T[..., None, None] if is_convolution else array.T
    has_four_axes = "/grn/" in path and layout in GRN_WITH_FOUR_AXES
    return array[None, None, None] if has_four_axes else array
