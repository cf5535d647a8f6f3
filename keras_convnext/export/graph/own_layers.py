"""The rules of the layers of ConvNeXt."""

import keras
import numpy as np

from keras_convnext import layers
from keras_convnext.export.graph.activations import function_of
from keras_convnext.export.graph.builder import Tensor
from keras_convnext.export.graph.rules import (
    ExportError,
    check_not_quantized,
    in_turn,
    numbers,
    rule,
    write,
)
from keras_convnext.export.graph.stock_layers import (
    convolution,
    dense,
    depthwise,
    layer_norm,
    product,
)

rule(layers.DepthwiseConv2D)(depthwise)
rule(layers.PatchConv2D)(convolution)
rule(layers.PointwiseConv)(dense)
rule(layers.LayerNormalization)(layer_norm)
rule(layers.Chain)(in_turn)
rule(layers.StochasticDepth)(lambda graph, layer, x: x)


@rule(layers.ConvNeXtBlock)
def _block(graph, block, x):
    """Writes a block, with layer scale and the summand of GRN inside the second product."""
    y = write(graph, block.norm, write(graph, block.dwconv, x))
    y = write(graph, block.pwconv1, y)
    y = function_of(block.activation, block)(graph, y)
    _check_product(block.pwconv2)
    kernel, bias = numbers(block.pwconv2.kernel), numbers(block.pwconv2.bias)
    if block.grn:
        with graph.inside("grn"):
            y = _without_summand(graph, block.grn, y)
        bias = bias + numbers(block.grn.beta) @ kernel
    if block.gamma:
        scale = numbers(block.gamma.gamma)
        kernel, bias = kernel * scale, bias * scale
    with graph.inside("pwconv2"):
        y = product(graph, y, kernel, bias)
    return graph.each("Add", x, y)


def _check_product(part):
    """Raises an ExportError if an inner layer computes more than a product with its kernel."""
    check_not_quantized(part)
    if part.activation is not keras.activations.linear:
        raise ExportError(f"{part.path} was given an activation, which is not written.")


@rule(layers.ConvNormReLU)
def _conv_norm_relu(graph, layer, x):
    return graph.each("Relu", write(graph, layer.bn, write(graph, layer.conv, x)))


@rule(layers.LayerScale)
def _layer_scale(graph, layer, x):
    factor = graph.constant(numbers(layer.gamma), "gamma")
    return Tensor(graph, x.rank, graph.node("Mul", x.name, factor))


@rule(layers.SimpleNorm)
def _simple_norm(graph, layer, x):
    axes = graph.constant(np.int64([-1]), "axes")
    centred = graph.node("Sub", x.name, graph.node("ReduceMean", x.name, axes))
    gamma = numbers(layer.gamma)
    variance = graph.node("ReduceSumSquare", centred, axes)
    variance = graph.node("Div", variance, graph.constant(np.float32(len(gamma) - 1)))
    variance = graph.node("Add", variance, graph.constant(np.float32(layer.epsilon)))
    scaled = graph.node("Div", x.name, graph.node("Sqrt", variance))
    return Tensor(graph, x.rank, graph.node("Mul", scaled, graph.constant(gamma, "gamma")))


@rule(layers.GlobalResponseNormalization)
def _grn(graph, layer, x):
    y = _without_summand(graph, layer, x)
    beta = graph.constant(numbers(layer.beta), "beta")
    return Tensor(graph, 4, graph.node("Add", y.name, beta))


def _without_summand(graph, layer, x):
    """Writes `x * (1 + gamma * n)`, which touches the map twice; `beta` is left to the caller."""
    in_planes = x.in_planes
    name = x.planes if in_planes else x.name
    axes, channels = ([2, 3], [1]) if in_planes else ([1, 2], [-1])
    axes, channels = (graph.constant(np.int64(part), "axes") for part in (axes, channels))
    norm = graph.node("ReduceSumSquare", name, axes)
    norm = graph.node("Add", norm, graph.constant(np.float32(layer.epsilon**2)))
    norm = graph.node("Sqrt", norm)
    mean = graph.node("ReduceMean", norm, channels)
    mean = graph.node("Add", mean, graph.constant(np.float32(layer.epsilon)))
    norm = graph.node("Div", norm, mean)
    gamma = numbers(layer.gamma)
    gamma = gamma[:, None, None] if in_planes else gamma
    factor = graph.node("Mul", norm, graph.constant(gamma, "gamma"))
    factor = graph.node("Add", factor, graph.constant(np.float32(1)))
    made = graph.node("Mul", name, factor)
    return Tensor(graph, 4, planes=made) if in_planes else Tensor(graph, 4, made)
