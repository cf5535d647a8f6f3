"""The paper's roadmap from ResNet to ConvNeXt (arXiv 2201.03545, section 2), each step as a model.

    from keras_convnext import roadmap

    model = roadmap.build("depthwise")                      # from ResNet-50 to ConvNeXt-T
    model = roadmap.build("gelu", "resnet200", classes=10)  # from ResNet-200 to ConvNeXt-B
    roadmap.print_table()                                   # what each step changes and costs

`STEPS` is the whole description: each row says what it changes in the network before it.
"""

import dataclasses

import keras
import numpy as np

from keras_convnext import deprecation, names
from keras_convnext.checks import integer, one_of
from keras_convnext.layers import DepthwiseConv2D, LayerNormalization, StochasticDepth
from keras_convnext.layers.activations import gelu
from keras_convnext.layers.initializers import kernel_initializer, kernels_will_be_loaded
from keras_convnext.macs import count_macs, trained_parameters
from keras_convnext.models import (
    ConvNeXt,
    conv,
    dense,
    float32,
    image_input,
    pad,
    preprocessing,
)
from keras_convnext.variants import STEM_STRIDES, VARIANTS, Variant


@dataclasses.dataclass(frozen=True)
class Network:
    """What the steps change; the defaults are a ResNet.

    Attributes:
        depths: whose number of blocks per stage, `"resnet"` or `"convnext"`.
        width: whose number of channels, `"resnet"`, `"ratio"` or `"convnext"`; see `Regime`.
        stem: `"resnet"` (7x7 convolution of stride 2, max pooling) or `"patchify"` (one convolution
            that does not overlap).
        depthwise: whether the spatial convolutions have one filter per channel.
        block: `"bottleneck"`: 1x1 to the width, spatial, 1x1 to four times the width. `"inverted"`:
            1x1 to four times the width, spatial, 1x1 back. `"spatial_first"`: spatial, 1x1 to four
            times the width, 1x1 back.
        kernel_size: side of the spatial convolutions.
        activation: `"relu"` or `"gelu"` (exact).
        activations: `"all"`: after the stem, each convolution but the last of a block, and the sum.
            `"one"`: in a block only, between its two 1x1 convolutions.
        norm: `"batchnorm"` (momentum 0.9, epsilon 1e-5, as PyTorch's) or `"layernorm"` (epsilon
            1e-6).
        norms: `"all"`: after each convolution. `"one"`: in a block only, after the spatial one.
        downsampling: `"in_block"`: the first block of a stage has a spatial convolution of stride 2
            and a 1x1 convolution of stride 2 beside it. `"separate"`: between the stages, with
            norms of their own, also after stem and pooling, and with layer scale: a ConvNeXt.

    Example:
        from keras_convnext.roadmap import network
        network("patchify_stem").depths  # "convnext"
    """

    depths: str = "resnet"
    width: str = "resnet"
    stem: str = "resnet"
    depthwise: bool = False
    block: str = "bottleneck"
    kernel_size: int = 3
    activation: str = "relu"
    activations: str = "all"
    norm: str = "batchnorm"
    norms: str = "all"
    downsampling: str = "in_block"


@dataclasses.dataclass(frozen=True)
class Step:
    """One row of the paper's Tables 10 and 11.

    Attributes:
        name: name of the step, for `build`.
        changes: fields of `Network` that differ from the steps before.
        macs: `{regime: multiply-adds in units of 1e9}`, as the paper prints them at 224 x 224.
        top1: `{regime: ImageNet-1K accuracy in percent}` in the paper; in the regime resnet50 the
            mean of three seeds.
        kept: `False` for an alternative that the steps after it do not build on.

    Example:
        from keras_convnext.roadmap import STEPS
        step = STEPS["patchify_stem"]
        step.changes  # {"stem": "patchify"}
        step.macs["resnet50"], step.top1["resnet50"]  # (4.42, 79.51)
    """

    name: str
    changes: dict
    macs: dict
    top1: dict
    kept: bool = True


def _step(name, macs50, macs200, top50, top200, kept=True, **changes):
    macs, top1 = ({"resnet50": a, "resnet200": b} for a, b in ((macs50, macs200), (top50, top200)))
    return Step(name, changes, macs, top1, kept)


# The paper's 4.46 for LN counts more than convolutions and linear layers, which make 4.15 as in the
# rows above it (its Figure 2 has 4.2); so does its 4.49 for ConvNeXt-T, where they make 4.46.
# The first accuracy is the one with the recipe of Table 5, with which all steps were trained.
# fmt: off
STEPS = {
    step.name: step
    for step in (
        #     name                    MACs: 50, 200     top-1: 50, 200      what changes
        _step("resnet",                4.09, 15.01,      78.82, 81.14),
        _step("stage_ratio",           4.53, 14.52,      79.36, 81.33,      depths="convnext",
                                                                            width="ratio"),
        _step("patchify_stem",         4.42, 14.38,      79.51, 81.59,      stem="patchify"),
        _step("depthwise",             2.35,  7.23,      78.28, 80.54,      depthwise=True),
        _step("width",                 5.27, 16.76,      80.50, 81.85,      width="convnext"),
        _step("inverted_bottleneck",   4.64, 15.68,      80.64, 82.64,      block="inverted"),
        _step("move_up_depthwise",     4.07, 14.63,      79.92, 82.04,      block="spatial_first"),
        _step("kernel_size_5",         4.10, 14.70,      80.35, 82.32,      kernel_size=5),
        _step("kernel_size_7",         4.15, 14.81,      80.57, 82.30,      kernel_size=7),
        _step("kernel_size_9",         4.21, 14.95,      80.57, 82.27, False, kernel_size=9),
        _step("kernel_size_11",        4.29, 15.13,      80.47, 82.18, False, kernel_size=11),
        _step("gelu",                  4.15, 14.81,      80.62, 82.19,      activation="gelu"),
        _step("fewer_activations",     4.15, 14.81,      81.27, 82.71,      activations="one"),
        _step("fewer_norms",           4.15, 14.81,      81.41, 83.17,      norms="one"),
        _step("layer_norm",            4.46, 14.81,      81.47, 83.35,      norm="layernorm"),
        _step("separate_downsampling", 4.49, 15.35,      81.97, 83.60,   downsampling="separate"),
    )
}
# fmt: on


@dataclasses.dataclass(frozen=True)
class Regime:
    """Where a roadmap begins and ends. A roadmap of your own, for small images, is one row.

    Attributes:
        name: the first part of the models' names.
        depths: blocks per stage of the ResNet.
        width: channels inside the blocks of the ResNet's first stage; they double from stage to
            stage, and the blocks return four times as many.
        end: the `Variant` at the end: its `depths` are taken from "stage_ratio" on, its `dims` from
            "width" on, its mean, std and stem stride everywhere, all of it in the last step.
        ratio_width: as `width`, from "stage_ratio" until "width"; `None`: `width`.

    Raises:
        ValueError: if the ends differ in the number of stages, or the stem of `end` has a stride
            that no ResNet has.

    Example:
        from keras_convnext import Variant
        from keras_convnext.roadmap import Regime, build
        end = Variant("mine_convnext", (1, 1, 2, 1), (24, 48, 96, 192))
        mine = Regime("mine", (1, 1, 1, 1), 16, end)
        build("patchify_stem", mine, input_shape=(64, 64, 3), classes=10).output_shape  # (None, 10)
    """

    name: str
    depths: tuple
    width: int
    end: Variant
    ratio_width: int | None = None

    def __post_init__(self):
        if len(self.depths) != len(self.end.depths):
            raise ValueError(
                f"Regime {self.name!r} goes from {self.depths} blocks per stage to "
                f"{self.end.depths}: both must have as many stages."
            )
        if self.end.stem_stride not in STEM_STRIDES:
            raise ValueError(
                f"`stem_stride` of the end of regime {self.name!r} must be one of {STEM_STRIDES}, "
                f"received {self.end.stem_stride}."
            )


REGIMES = {
    "resnet50": Regime("resnet50", (3, 4, 6, 3), 64, VARIANTS["convnext_tiny"]),
    "resnet200": Regime("resnet200", (3, 24, 36, 3), 64, VARIANTS["convnext_base"], 84),
}


def network(step):
    """Returns the `Network` of a step: with the changes of all kept steps before it, and its own.

    Args:
        step: a name of `STEPS`.

    Raises:
        ValueError: if there is no step of that name.

    Example:
        from keras_convnext.roadmap import network
        network("patchify_stem").stem  # "patchify"
    """
    one_of("step", step, STEPS)
    changes = {}
    for row in STEPS.values():
        if row.kept or row.name == step:
            changes |= row.changes
        if row.name == step:
            return Network(**changes)


def build(
    step,
    regime="resnet50",
    *,
    input_shape=None,
    classes=1000,
    classifier_activation="softmax",
    include_preprocessing=True,
    drop_path_rate=0.0,
    stem_stride=None,
    name=None,
):
    """Builds the network of one step of the paper as a functional `keras.Model`.

    The last step is `ConvNeXt(...)` itself, with the same names of weights. In all others the layer
    `stage{s}_block{b}` returns the output of a block, whose parts are named `stage{s}_block{b}_*`.
    The first step is torchvision's ResNet ("V1.5", stride in the 3x3 convolution) to rounding. All
    kernels begin as the paper's recipe says, normal with std 0.02; the layer scale of that recipe
    comes with the last step. Convolutions have a bias where no BatchNorm follows.

    Source: arXiv 2201.03545, section 2 and Appendix C.

    Args:
        step: a name of `STEPS`.
        regime: `"resnet50"` (to ConvNeXt-T), `"resnet200"` (to ConvNeXt-B) or a `Regime`.
        input_shape: `(height, width, channels)`, or channels first where
            `keras.config.image_data_format()` says so. Default: `(224, 224, 3)`.
        classes: number of classes, an int >= 1.
        classifier_activation: activation of the classifier; with `None` the model returns logits.
        include_preprocessing: whether the first layer normalises images of range [0, 255].
        drop_path_rate: rate of stochastic depth in the last block, in [0, 1); the rates of the
            blocks before it rise linearly from 0.
        stem_stride: 4, or 2 or 1 for small images: the ResNet stem then has no max pooling, and
            with 1 a 3x3 convolution of stride 1; the patches of the patchify stem have that many
            pixels per side. Default: the stem stride of the regime's end, 4 in the paper.
        name: of the model. Default: the name of the regime and the step. Any other name also begins
            the names of the layers, `"mine__stem"`, so that two models can be parts of one graph.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, classes)`, float32 also under
        mixed precision.

    Raises:
        ValueError: if an argument has a value that is not allowed.

    Example:
        from keras_convnext.roadmap import build
        model = build("patchify_stem", input_shape=(64, 64, 3), classes=10)
        model.output_shape  # (None, 10)
    """
    net = network(step)
    variant = _variant(step, net, _regime(regime))
    if stem_stride is not None:
        variant = variant.with_stem_stride(stem_stride)
    if net.downsampling == "separate":
        return ConvNeXt(
            variant,
            input_shape=input_shape,
            classes=classes,
            classifier_activation=classifier_activation,
            include_preprocessing=include_preprocessing,
            drop_path_rate=drop_path_rate,
            name=name,
        )
    inputs, x = image_input(variant, 224, None, input_shape)
    if include_preprocessing:
        x = preprocessing(variant, x.shape[-1])(x)
    x = _stem(net, variant, x)
    x = _stages(net, variant, x, drop_path_rate)
    pool = keras.layers.GlobalAveragePooling2D
    x = pool(data_format="channels_last", dtype=float32(), name="pool")(x)
    x = dense(integer("classes", classes, 1), "head", activation=classifier_activation)(x)
    model = keras.Model(inputs, x, name=name or variant.name)
    if model.name == variant.name:
        return model
    for layer in model.layers:
        layer.name = names.in_model(name, layer.name)
    return keras.Model(inputs, x, name=name)  # once more, with the new names


def _regime(regime):
    return regime if isinstance(regime, Regime) else REGIMES[one_of("regime", regime, REGIMES)]


def _variant(step, net, regime):
    """Returns the row of a step: the end of its regime, with the step's depths and channels."""
    end = regime.end
    if net.downsampling == "separate":
        return end
    depths = {"resnet": regime.depths, "convnext": end.depths}[net.depths]
    first = {"resnet": regime.width, "ratio": regime.ratio_width or regime.width}.get(net.width)
    dims = end.dims if first is None else [first * 2**stage for stage in range(len(depths))]
    given = {"stem_stride": end.stem_stride, "mean": end.mean, "std": end.std}
    return Variant(f"{regime.name}_{step}", depths, dims, **given)


def print_table(regime="resnet50"):
    """Prints the steps of a roadmap, at 1000 classes and 224 x 224 pixels.

    The columns are trained parameters and multiply-adds as counted here, multiply-adds and
    ImageNet-1K accuracy in the paper (Tables 10 and 11), and what each step changes: blocks per
    stage, channels of the first stage (see `width` in `Regime`), fields of `Network`.

    The first row of "resnet50" is the ResNet-50 of 76.13 % with the recipe of Table 5, with which
    the paper trained all steps.

    Args:
        regime: `"resnet50"`, `"resnet200"` or a `Regime` of your own, on which the paper has no
            numbers.

    Example:
        from keras_convnext.roadmap import print_table
        print_table("resnet50")
    """
    regime = _regime(regime)
    print(f"{'step':22} {'parameters':>11} {'GMACs':>6} {'paper':>6} {'top-1':>6}  changes")
    for step in STEPS.values():
        with kernels_will_be_loaded(True):  # zeros take less time than random numbers
            model = build(step.name, regime)
        published = (column.get(regime.name) for column in (step.macs, step.top1))
        numbers = (count_macs(model) / 1e9, *published)
        cells = " ".join("      " if value is None else f"{value:6.2f}" for value in numbers)
        changes = ", ".join(_changes(step, regime))
        remark = "" if step.kept else " (not kept)"
        print(f"{step.name:22} {trained_parameters(model):11,} {cells}  {changes}{remark}".rstrip())


def _changes(step, regime):
    """Returns what a step changes, as a list of phrases."""
    variant, changes = _variant(step.name, network(step.name), regime), dict(step.changes)
    if changes.get("width") == "ratio" and regime.ratio_width in (None, regime.width):
        del changes["width"]  # the smaller roadmap keeps its own
    numbers = {
        "depths": f"blocks {'-'.join(map(str, variant.depths))}",
        "width": f"width {variant.dims[0]}",
    }
    return [numbers.get(field, f"{field}: {value}") for field, value in changes.items()]


# ---------------------------------------------------------------- the parts of a network


def _activation(net, x, name):
    function = {"relu": "relu", "gelu": gelu}[net.activation]
    return keras.layers.Activation(function, name=name)(x)


def _norm(net, x, name):
    if net.norm == "layernorm":
        return LayerNormalization(epsilon=1e-6, name=name)(x)
    return keras.layers.BatchNormalization(momentum=0.9, epsilon=1e-5, name=name)(x)


def _conv(net, x, filters, side, stride, name, has_norm, depthwise=False):
    """Returns `x` after a convolution, padded as in PyTorch where windows overlap, and its norm."""
    if 1 < stride < side:
        x = pad(f"{name}_pad", side // 2)(x)
    padding = "same" if stride == 1 else "valid"
    bias = not (has_norm and net.norm == "batchnorm")
    layer = _depthwise if depthwise else conv
    x = layer(filters, side, stride, name, padding=padding, use_bias=bias)(x)
    return _norm(net, x, f"{name}_norm") if has_norm else x


def _depthwise(filters, side, stride, name, **kwargs):
    """Returns a layer as `conv` does; the input has as many channels as there are filters."""
    kind = DepthwiseConv2D if stride == 1 else keras.layers.DepthwiseConv2D
    kwargs |= {"data_format": "channels_last", "depthwise_initializer": kernel_initializer()}
    return kind(side, stride, name=name, **kwargs)


def _stem(net, variant, x):
    stride = variant.stem_stride
    side, step = stride, stride
    if net.stem == "resnet":
        side, step = (3, 1) if stride == 1 else (7, 2)
    x = _conv(net, x, variant.dims[0], side, step, "stem", has_norm=net.norms == "all")
    if net.activations == "all":
        x = _activation(net, x, "stem_activation")
    if net.stem == "resnet" and stride == 4:
        x = pad("stem_pool_pad")(x)  # ReLU returns nothing below these zeros
        x = keras.layers.MaxPooling2D(3, 2, data_format="channels_last", name="stem_pool")(x)
    return x


def _stages(net, variant, x, drop_path_rate):
    rates = iter(np.linspace(0, drop_path_rate, sum(variant.depths)).tolist())
    for stage, (depth, dim) in enumerate(zip(variant.depths, variant.dims, strict=True)):
        for block in range(depth):
            stride = 2 if stage and not block else 1
            x = _block(net, x, dim, stride, next(rates), names.block(stage, block))
    return x


def _block(net, x, dim, stride, drop_path_rate, name):
    """Returns `x` after a residual block: three convolutions, and a fourth on the shortcut where
    the shape changes."""
    wide, outputs = 4 * dim, (4 * dim if net.block == "bottleneck" else dim)
    widths, spatial = {
        "bottleneck": ((dim, dim, wide), 1),
        "inverted": ((wide, wide, dim), 1),
        "spatial_first": ((x.shape[-1], wide, dim), 0),
    }[net.block]
    every_norm, every_activation = net.norms == "all", net.activations == "all"
    shortcut = x
    if stride > 1 or x.shape[-1] != outputs:
        shortcut = _conv(net, x, outputs, 1, stride, f"{name}_shortcut", every_norm)
    for place, width in enumerate(widths):
        here, part = place == spatial, f"{name}_conv{place + 1}"
        side, step = (net.kernel_size, stride) if here else (1, 1)
        x = _conv(net, x, width, side, step, part, every_norm or here, here and net.depthwise)
        if place == 1 or (place == 0 and every_activation):
            x = _activation(net, x, f"{name}_activation{place + 1}")
    x = StochasticDepth(drop_path_rate, name=f"{name}_drop_path")(x)
    if not every_activation:
        return keras.layers.Add(name=name)([shortcut, x])
    x = keras.layers.Add(name=f"{name}_add")([shortcut, x])
    return _activation(net, x, name)


__getattr__ = deprecation.renamed(__name__, {"roadmap": "build", "table": "print_table"})
