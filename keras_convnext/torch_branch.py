"""The branch of a block on PyTorch and CPUs: some rows at a time, which stay in the cache.

The hidden layer is four times as wide as the feature map. Written to memory as a whole and read
again it costs as much time in the first stage as its products do.
"""

import functools
import itertools

import keras
import torch
from torch.nn import functional

from keras_convnext.activations import gelu, gelu_tanh
from keras_convnext.branch import plain, weights
from keras_convnext.runtime import portable
from keras_convnext.torch_products import asks_gradients, by_onednn, dense, onednn, product

aten = torch.ops.aten
WHOLE = 2**23  # numbers of a hidden layer that is computed at once: up to there it pays
ROWS = 2048  # of a piece

# each in place, its gradient from that of its output and its input, its name in oneDNN
ACTIVATIONS = {
    gelu: (aten.gelu_, aten.gelu_backward, ("gelu", "none")),
    gelu_tanh: (
        functools.partial(aten.gelu_, approximate="tanh"),
        functools.partial(aten.gelu_backward, approximate="tanh"),
        ("gelu", "tanh"),
    ),
    keras.activations.silu: (aten.silu_, aten.silu_backward, ("swish", "")),
}


def takes(block, x):
    """-> whether `branch` is the form for `x`"""
    return (
        x.device.type == "cpu"
        and block.activation in ACTIVATIONS
        and plain(block)
        and not portable(x)
    )


def branch(block, x, inputs):
    """As `keras_convnext.branch.branch`."""
    form = block.activation, block.norm.epsilon
    tensors = [_rows(x), _rows(inputs), *weights(block)]
    if asks_gradients(*tensors):
        return _Branch.apply(form, *tensors).reshape(x.shape)
    return _forward(form, *tensors).reshape(x.shape)


def _rows(x):
    return None if x is None else x.reshape(-1, x.shape[-1])


def _pieces(count, width):
    rows = max(count, 1) if count * width <= WHOLE else ROWS
    return [slice(start, start + rows) for start in range(0, count, rows)]


def _forward(form, x, inputs, gamma, beta, w1, b1, w2, b2, scale, kept=None):
    """`kept`: a list for the hidden layer before and after the activation, piece by piece"""
    activation, epsilon = form
    out = torch.empty_like(x)
    for piece in _pieces(len(x), len(w2)):
        normed = functional.layer_norm(x[piece], gamma.shape, gamma, beta, epsilon)
        if kept is None:
            activated = _activated(activation, normed, w1, b1)
        else:
            hidden = dense(normed, w1, b1)
            activated = activation(hidden)
            kept.append((hidden, activated))
        y = dense(activated, w2, b2)
        y = y if scale is None else y.mul_(scale)
        if inputs is None:
            out[piece] = y
        else:
            torch.add(inputs[piece], y, out=out[piece])
    return out


class _Branch(torch.autograd.Function):
    """Keeps its input and the hidden layer before the activation, piece by piece; and after it, for
    the gradients of weights."""

    @staticmethod
    def forward(ctx, form, *tensors):
        kept = []
        out = _forward(form, *tensors, kept)
        ctx.form, ctx.has_inputs = form, tensors[1] is not None
        if not any(ctx.needs_input_grad[3:]):
            kept = [(hidden, None) for hidden, _ in kept]
        ctx.save_for_backward(tensors[0], *tensors[2:], *itertools.chain(*kept))
        return out

    @staticmethod
    def backward(ctx, gradient):
        saved = ctx.saved_tensors  # once: checkpoints unpack on each reading, and only once
        tensors, kept = saved[:8], saved[8:]
        if torch.is_grad_enabled():
            found = _differentiable(ctx, gradient, *tensors)
        else:
            found = _backward(
                ctx, gradient.contiguous(), *tensors, zip(kept[::2], kept[1::2], strict=True)
            )
        by_x, *by_weights = found
        return None, by_x, gradient if ctx.has_inputs else None, *by_weights


def _backward(ctx, gradient, x, gamma, beta, w1, b1, w2, b2, scale, kept):
    activation, epsilon = ctx.form
    _, derivative, _ = ACTIVATIONS[activation]
    by_x, with_weights = torch.empty_like(x), any(ctx.needs_input_grad[3:])
    wide = torch.promote_types(x.dtype, torch.float32)
    sums = [torch.zeros_like(w, dtype=wide) for w in (gamma, beta, w1, b1, w2)]
    by_gamma, by_beta, by_w1, by_b1, by_w2 = sums
    pieces = _pieces(len(x), len(w2))
    for piece, (hidden, activated) in zip(pieces, kept, strict=True):
        by_y = gradient[piece]
        scaled = by_y if scale is None else (by_y * scale).to(x.dtype)
        by_h = derivative(product(scaled, w2.t()), hidden)
        normed, mean, deviation = torch.native_layer_norm(
            x[piece], gamma.shape, gamma, beta, epsilon
        )
        by_x[piece], gamma_part, beta_part = aten.native_layer_norm_backward(
            product(by_h, w1.t()), x[piece], gamma.shape, mean, deviation, gamma, beta, [True] * 3
        )
        if with_weights:
            by_gamma += gamma_part
            by_beta += beta_part
            by_b1 += by_h.sum(0)
            _add_product(by_w1, normed.t(), by_h)
            _add_product(by_w2, activated.t(), by_y)
    by_b2, by_scale = gradient.sum(0, dtype=wide), None
    if scale is not None:
        # the sums over all rows of gradient times output, without the output
        by_scale = (w2 * by_w2).sum(0) + b2 * by_b2
        by_w2, by_b2 = by_w2 * scale, by_b2 * scale
    return by_x, by_gamma, by_beta, by_w1, by_b1, by_w2, by_b2, by_scale


def _activated(activation, x, w, b):
    """-> `activation(dense(x, w, b))`"""
    in_place, _, name = ACTIVATIONS[activation]
    return onednn(x, w, b, *name) if by_onednn(x.dtype) else in_place(dense(x, w, b))


def _add_product(total, a, b):
    """total += a @ b, in the precision of `total`"""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


def _differentiable(ctx, gradient, x, gamma, beta, w1, b1, w2, b2, scale):
    """The same gradients, of which gradients can be taken"""
    activation, epsilon = ctx.form
    inputs = x, gamma, beta, w1, b1, w2, b2, scale
    normed = functional.layer_norm(x, gamma.shape, gamma, beta, epsilon)
    y = torch.addmm(b2, activation(torch.addmm(b1, normed, w1)), w2)
    y = y if scale is None else y * scale
    needed = (ctx.needs_input_grad[1], *ctx.needs_input_grad[3:])
    wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need]
    found = iter(torch.autograd.grad(y, wanted, gradient, create_graph=True))
    return [next(found) if need else None for need in needed]
