"""The rules of Keras' own layers."""

import keras
import numpy as np

from keras_convnext.export.graph.activations import activate
from keras_convnext.export.graph.builder import Tensor, with_border
from keras_convnext.export.graph.rules import ExportError, numbers, rule

layers = keras.layers

# What does nothing outside of training.
rule(
    *(layers.Dropout, layers.SpatialDropout1D, layers.SpatialDropout2D, layers.GaussianDropout),
    *(layers.GaussianNoise, layers.AlphaDropout, layers.ActivityRegularization, layers.Identity),
    *(layers.RandomFlip, layers.RandomRotation, layers.RandomTranslation, layers.RandomZoom),
    *(layers.RandomContrast, layers.RandomBrightness),
)(lambda graph, layer, x: x)


# ---------------------------------------------------------------- maps and their order of axes


def planes_of(layer, x):
    """Returns the name of the map that a layer takes, with its channels in the second place."""
    return x.planes if layer.data_format == "channels_last" else x.name


def from_planes(graph, layer, name):
    """Returns the `Tensor` of a layer's map, given its name with channels in the second place."""
    if layer.data_format == "channels_last":
        return Tensor(graph, 4, planes=name)
    return Tensor(graph, 4, name)


# ---------------------------------------------------------------- products


@rule(layers.Conv2D)
def convolution(graph, layer, x):
    """Writes a convolution; a factor per channel or a border before it becomes part of it."""
    kernel, bias = numbers(layer.kernel), numbers(layer.bias)
    return convolved(graph, layer, x, kernel.transpose(3, 2, 0, 1), bias, layer.groups)


@rule(layers.DepthwiseConv2D)
def depthwise(graph, layer, x):
    kernel, channels = _depthwise(layer.kernel)
    return convolved(graph, layer, x, kernel, numbers(layer.bias), channels)


def _depthwise(kernel):
    """Returns the kernel of a depthwise convolution in ONNX' order, and the number of channels."""
    kernel = numbers(kernel)
    height, width, channels, multiplier = kernel.shape
    kernel = kernel.transpose(2, 3, 0, 1).reshape(channels * multiplier, 1, height, width)
    return kernel, channels


@rule(layers.SeparableConv2D)
def _separable(graph, layer, x):
    kernel, channels = _depthwise(layer.depthwise_kernel)
    x = _conv(graph, planes_of(layer, x), kernel, None, channels, **_window(layer))
    pointwise = numbers(layer.pointwise_kernel).transpose(3, 2, 0, 1)
    x = _conv(graph, x, pointwise, numbers(layer.bias), 1)
    return activate(graph, layer, from_planes(graph, layer, x))


@rule(layers.Conv2DTranspose)
def _transposed(graph, layer, x):
    if layer.padding != "valid" or layer.output_padding is not None:
        raise ExportError(
            f"{layer.path} is a transposed convolution with padding={layer.padding!r} and "
            f"output_padding={layer.output_padding!r}: written are those with 'valid' and None."
        )
    kernel, bias = numbers(layer.kernel).transpose(3, 2, 0, 1), numbers(layer.bias)
    sides = zip(layer.kernel_size, layer.strides, strict=True)
    named = ((kernel, "kernel"), (bias, "bias"))
    weights = [graph.constant(part, name) for part, name in named if part is not None]
    made = graph.node(
        "ConvTranspose",
        planes_of(layer, x),
        *weights,
        kernel_shape=list(layer.kernel_size),
        strides=list(layer.strides),
        dilations=list(layer.dilation_rate),
        output_padding=[max(stride - side, 0) for side, stride in sides],
    )
    return activate(graph, layer, from_planes(graph, layer, made))


def convolved(graph, layer, x, kernel, bias, groups):
    """Writes a layer's convolution and activation.

    Args:
        graph: the `Graph`.
        layer: with the attributes of `keras.layers.Conv2D`.
        x: its input.
        kernel: float64 `(outputs, inputs per group, height, width)`.
        bias: float64 `(outputs,)`, or `None`.
        groups: number of groups.
    """
    window = _window(layer)
    if layer.data_format == "channels_last" and window.get("pads") == [0] * 4:
        kind, *waiting = x.waiting or (None,)
        if kind == "affine" and groups == 1 and all(map(_per_channel, waiting[1:])):
            x, kernel, bias = _with_affine(kernel, bias, *waiting)
        elif kind == "border":
            x, window["pads"] = waiting[0], list(waiting[1])
    made = _conv(graph, planes_of(layer, x), kernel, bias, groups, **window)
    return activate(graph, layer, from_planes(graph, layer, made))


def _per_channel(array):
    """Returns whether an array has one number, or one for each place of the last axis."""
    return array.size == 1 or array.shape[-1] == array.size


def _with_affine(kernel, bias, source, factor, summand):
    """Returns the input of a convolution before a factor and a summand per channel, and the kernel
    and bias that do the same to it."""
    inputs = kernel.shape[1]
    factor, summand = (np.broadcast_to(np.ravel(array), (inputs,)) for array in (factor, summand))
    more = np.einsum("oihw,i->o", kernel, summand)
    bias = more if bias is None else bias + more
    return source, kernel * factor[:, None, None], bias


def _conv(graph, name, kernel, bias, groups, **window):
    inputs = [name, graph.constant(kernel, "kernel")]
    if bias is not None:
        inputs.append(graph.constant(bias, "bias"))
    return graph.node("Conv", *inputs, group=groups, **window)


def _window(layer):
    """Returns the attributes of a convolution or pooling that say where its windows are."""
    sides = list(getattr(layer, "kernel_size", None) or layer.pool_size)
    strides, dilations = list(layer.strides), list(getattr(layer, "dilation_rate", (1, 1)))
    found = {"kernel_shape": sides, "strides": strides}
    if hasattr(layer, "dilation_rate"):
        found["dilations"] = dilations
    if layer.padding == "valid":
        return {**found, "pads": [0] * 4}
    if layer.padding != "same":
        raise ExportError(f"{layer.path} has the padding {layer.padding!r}, which is not written.")
    if strides != [1, 1]:
        return {**found, "auto_pad": "SAME_UPPER"}
    total = [(side - 1) * dilation for side, dilation in zip(sides, dilations, strict=True)]
    before = [length // 2 for length in total]
    after = [length - first for length, first in zip(total, before, strict=True)]
    return {**found, "pads": before + after}


@rule(layers.Dense)
def dense(graph, layer, x):
    """Writes a dense layer on the last axis."""
    kernel, bias = numbers(layer.kernel), numbers(layer.bias)
    return activate(graph, layer, product(graph, x, kernel, bias))


def product(graph, x, kernel, bias):
    """Returns the `Tensor` x @ kernel + bias, for float64 `(channels, units)` and `(units,)`.

    Of a map it is a 1x1 convolution, unless the graph keeps the products: runtimes put the bias and
    the sum with the residual map into that, and not into a product.
    """
    if x.rank == 4 and not graph.keeps_products:
        weights = kernel.T[:, :, None, None]
        return Tensor(graph, 4, planes=_conv(graph, x.planes, weights, bias, 1))
    kernel = graph.constant(kernel, "kernel")
    bias = None if bias is None else graph.constant(bias, "bias")
    if x.rank == 2:
        return Tensor(graph, 2, graph.node("Gemm", *filter(None, (x.name, kernel, bias))))
    made = graph.node("MatMul", x.name, kernel)
    return Tensor(graph, x.rank, made if bias is None else graph.node("Add", made, bias))


# ---------------------------------------------------------------- norms


@rule(layers.BatchNormalization)
def batch_norm(graph, layer, x):
    """Writes a batch norm with its moving averages."""
    channels = layer.moving_mean.shape[0]
    gamma = numbers(layer.gamma) if layer.scale else np.ones(channels)
    beta = numbers(layer.beta) if layer.center else np.zeros(channels)
    found = gamma, beta, numbers(layer.moving_mean), numbers(layer.moving_variance)
    named = zip(found, ("gamma", "beta", "mean", "variance"), strict=True)
    weights = [graph.constant(array, name) for array, name in named]
    axis = layer.axis % x.rank
    if axis == x.rank - 1 and x.rank == 4:
        made = graph.node("BatchNormalization", x.planes, *weights, epsilon=layer.epsilon)
        return Tensor(graph, 4, planes=made)
    if axis != 1:
        raise ExportError(f"{layer.path} normalises the axis {axis} of {x.rank}: not written.")
    made = graph.node("BatchNormalization", x.name, *weights, epsilon=layer.epsilon)
    return Tensor(graph, x.rank, made)


@rule(layers.LayerNormalization)
def layer_norm(graph, layer, x):
    """Writes a layer norm over the last axis."""
    axes = layer.axis if isinstance(layer.axis, (list, tuple)) else [layer.axis]
    if [axis % x.rank for axis in axes] != [x.rank - 1] or layer.rms_scaling:
        raise ExportError(
            f"{layer.path} normalises the axes {list(axes)}"
            f"{' by their root mean square' * bool(layer.rms_scaling)}; written is the plain norm "
            "of the last axis only."
        )
    weights = [graph.constant(_gamma(layer), "gamma")]
    if layer.beta is not None:
        weights.append(graph.constant(numbers(layer.beta), "beta"))
    made = graph.node("LayerNormalization", x.name, *weights, axis=-1, epsilon=layer.epsilon)
    return Tensor(graph, x.rank, made)


def _gamma(layer):
    if layer.gamma is not None:
        return numbers(layer.gamma)
    return np.ones(layer._build_shapes_dict["input_shape"][-1])


@rule(layers.Normalization)
def normalization(graph, layer, x):
    """Writes mean and deviation: a convolution behind it takes them over."""
    if layer.invert:
        raise ExportError(f"{layer.path} undoes a normalisation (`invert`), which is not written.")
    mean, variance = numbers(layer.mean), numbers(layer.variance)
    factor = 1 / np.maximum(np.sqrt(variance), keras.config.epsilon())
    return Tensor(graph, x.rank, waiting=("affine", x, factor, -mean * factor))


@rule(layers.Rescaling)
def _rescaling(graph, layer, x):
    factor, summand = (np.asarray(part, "float64") for part in (layer.scale, layer.offset))
    return Tensor(graph, x.rank, waiting=("affine", x, factor, summand))


# ---------------------------------------------------------------- pooling and shapes


@rule(layers.GlobalAveragePooling2D, layers.GlobalMaxPooling2D)
def _global_pooling(graph, layer, x):
    average = isinstance(layer, layers.GlobalAveragePooling2D)
    axes = (1, 2) if layer.data_format == "channels_last" else (2, 3)
    return graph.reduced("ReduceMean" if average else "ReduceMax", x, axes, layer.keepdims)


@rule(layers.MaxPooling2D, layers.AveragePooling2D)
def _pooling(graph, layer, x):
    kind = "MaxPool" if isinstance(layer, layers.MaxPooling2D) else "AveragePool"
    made = graph.node(kind, planes_of(layer, x), **_window(layer))
    return from_planes(graph, layer, made)


@rule(layers.ZeroPadding2D)
def _zero_padding(graph, layer, x):
    (top, bottom), (left, right) = layer.padding
    border = top, left, bottom, right
    if layer.data_format == "channels_last":
        return Tensor(graph, 4, waiting=("border", x, border))
    return Tensor(graph, 4, with_border(graph, x.name, border))


@rule(layers.UpSampling2D)
def _upsampling(graph, layer, x):
    how = {
        "nearest": {"coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"},
        "bilinear": {"coordinate_transformation_mode": "half_pixel"},
    }
    if layer.interpolation not in how:
        raise ExportError(f"{layer.path} interpolates {layer.interpolation}: not written.")
    scales = graph.constant(np.float32([1, 1, *layer.size]), "scales")
    attributes = how[layer.interpolation]
    mode = "nearest" if layer.interpolation == "nearest" else "linear"
    made = graph.node("Resize", planes_of(layer, x), "", scales, mode=mode, **attributes)
    return from_planes(graph, layer, made)


@rule(layers.Permute)
def _permute(graph, layer, x):
    order = (0, *layer.dims)
    if order == (0, 3, 1, 2):  # to channels first, for Keras
        return Tensor(graph, 4, x.planes)
    if order == (0, 2, 3, 1) and x.rank == 4:
        return Tensor(graph, 4, planes=x.name)
    return Tensor(graph, x.rank, graph.node("Transpose", x.name, perm=order))


@rule(layers.Flatten)
def _flatten(graph, layer, x):
    _check_size(graph, layer)
    name = x.name
    if layer.data_format == "channels_first" and x.rank > 2:
        name = graph.node("Transpose", name, perm=(0, *range(2, x.rank), 1))
    return Tensor(graph, 2, graph.node("Flatten", name, axis=1))


@rule(layers.Reshape)
def _reshape(graph, layer, x):
    _check_size(graph, layer)
    shape = graph.constant(np.int64([0, *layer.target_shape]), "shape")
    return Tensor(graph, len(layer.target_shape) + 1, graph.node("Reshape", x.name, shape))


def _check_size(graph, layer):
    if graph.any_size:
        raise ExportError(
            f"{layer.path} ties the model to one size of its input: export it with that size, "
            "without another `input_shape`."
        )


# ---------------------------------------------------------------- merging


MERGING = {
    layers.Add: "Sum",
    layers.Multiply: "Mul",
    layers.Subtract: "Sub",
    layers.Average: "Mean",
    layers.Maximum: "Max",
    layers.Minimum: "Min",
}


@rule(*MERGING)
def _merge(graph, layer, tensors):
    if len({tensor.rank for tensor in tensors}) > 1:
        ranks = [tensor.rank for tensor in tensors]
        raise ExportError(f"{layer.path} merges inputs of {ranks} axes: give all as many.")
    kind = next(kind for kind in MERGING if isinstance(layer, kind))
    if MERGING[kind] in ("Mul", "Sub"):  # of two inputs in ONNX
        total = tensors[0]
        for tensor in tensors[1:]:
            total = graph.each(MERGING[kind], total, tensor)
        return total
    return graph.each(MERGING[kind], *tensors)


@rule(layers.Concatenate)
def _concatenate(graph, layer, tensors):
    return concatenated(graph, tensors, layer.axis)


def concatenated(graph, tensors, axis=-1):
    """Returns the `Tensor` of several along an axis."""
    rank = tensors[0].rank
    if axis % rank == rank - 1 and rank == 4 and all(tensor.in_planes for tensor in tensors):
        made = graph.node("Concat", *(tensor.planes for tensor in tensors), axis=1)
        return Tensor(graph, 4, planes=made)
    return Tensor(graph, rank, graph.node("Concat", *(t.name for t in tensors), axis=axis))
