"""A second ConvNeXt, in numpy and float64, from the formulas of the two papers."""

import math

import numpy as np

erf = np.vectorize(math.erf, otypes=["float64"])


def layer_norm(x, gamma, beta, epsilon):
    centred = x - x.mean(-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(-1, keepdims=True) + epsilon) * gamma + beta


def simple_norm(x, gamma, epsilon):
    return x / np.sqrt(x.var(-1, ddof=1, keepdims=True) + epsilon) * gamma


def gelu(x):
    return x * 0.5 * (1 + erf(x / math.sqrt(2)))


def gelu_tanh(x):
    return x * 0.5 * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def silu(x):
    return x / (1 + np.exp(-x))


def grn(x, gamma, beta, epsilon=1e-6):
    norm = np.sqrt((x**2).sum((1, 2), keepdims=True))
    return x + gamma * (x * norm / (norm.mean(-1, keepdims=True) + epsilon)) + beta


def depthwise(x, kernel, bias, dilation=1):
    side = kernel.shape[0]
    pad = dilation * (side - 1) // 2
    padded = np.pad(x, ((0, 0), (pad, pad), (pad, pad), (0, 0)))
    height, width = x.shape[1:3]
    total = np.zeros_like(x)
    for row in range(side):
        for column in range(side):
            top, left = row * dilation, column * dilation
            window = padded[:, top : top + height, left : left + width]
            total += window * kernel[row, column, :, 0]
    return total + bias


def block(x, weights, *, activation="gelu", norm="layernorm", epsilon=1e-6, dilation=1):
    """`weights`: {path inside the block: array}, as the layer names them."""
    w = {name: np.asarray(value, "float64") for name, value in weights.items()}
    h = depthwise(x, w["dwconv/kernel"], w["dwconv/bias"], dilation)
    if norm == "layernorm":
        h = layer_norm(h, w["norm/gamma"], w["norm/beta"], epsilon)
    else:
        h = simple_norm(h, w["norm/gamma"], epsilon)
    h = {"gelu": gelu, "gelu_tanh": gelu_tanh, "silu": silu}[activation](
        h @ w["pwconv1/kernel"] + w["pwconv1/bias"]
    )
    if "grn/gamma" in w:
        h = grn(h, w["grn/gamma"], w["grn/beta"])
    h = h @ w["pwconv2/kernel"] + w["pwconv2/bias"]
    return x + h * w.get("gamma/gamma", 1.0)
