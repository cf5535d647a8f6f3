"""PyTorch on CPUs: the residual branch by some rows at a time, products by the faster library, and
a depthwise convolution with gradients that are such convolutions as well.

The hidden layer is four times as wide as the feature map. Written to memory as a whole and read
again it takes as much time in the first stage as its products do; some rows stay in the cache.
"""

import functools
import itertools
import math
import platform
from pathlib import Path

import keras
import torch
from torch.nn import functional

from keras_convnext.fast.conditions import own_kernel, portable, reads_as_one, weights

MULTIPLIES_PATCHES = True
WHOLE = 2**24  # bytes of a hidden layer that is computed at once without GRN: up to there it pays
ROWS = 2048  # of a piece
SMALL = 2**15  # numbers of an image: up to there all are convolved with their gradients at once

aten = torch.ops.aten
# each by its registered name: in place, its gradient from dy and its input, its name in oneDNN
ACTIVATIONS = {
    "keras_convnext>gelu": (aten.gelu_, aten.gelu_backward, ("gelu", "none")),
    "keras_convnext>gelu_tanh": (
        functools.partial(aten.gelu_, approximate="tanh"),
        functools.partial(aten.gelu_backward, approximate="tanh"),
        ("gelu", "tanh"),
    ),
    "silu": (aten.silu_, aten.silu_backward, ("swish", "")),
}


def residual_branch(block, x, inputs, training):
    """As `fast.residual_branch`."""
    activation = ACTIVATIONS.get(keras.saving.get_registered_name(block.activation))
    if not (activation and reads_as_one(block)):
        return None
    tensors = [_rows(x), _rows(inputs), *weights(block)]
    if not own_kernel(*tensors):
        return None
    grn = (math.prod(x.shape[1:-1]), block.grn.epsilon) if block.grn else None
    form = block.activation, activation, block.norm.epsilon, grn
    if _asks_gradients(*tensors):
        return _Branch.apply(form, *tensors).reshape(x.shape)
    return _branch(form, *tensors).reshape(x.shape)


def depthwise_conv(x, kernel, bias, dilation, training):
    """As `fast.depthwise_conv`: Keras copies what PyTorch can read as it is, channels last."""
    # torch.compile cannot order the strides of ours where sizes are symbolic
    if not kernel.shape[0] % 2 or torch.compiler.is_compiling():
        return None
    x, kernel = x.permute(0, 3, 1, 2), kernel.permute(2, 3, 0, 1)
    own = len(x) and own_kernel(x, kernel, bias)
    convolve = _DepthwiseConv.apply if own else _convolve
    return convolve(x, kernel, bias, dilation).permute(0, 2, 3, 1)


def dense(x, kernel, bias):
    """Outside of a branch, Keras' operations are as fast."""


def layer_norm(x, gamma, beta, epsilon, training):
    """As `fast.layer_norm`, by the function that Keras takes too, but with a width that is a plain
    int: Keras reads it from `x`, where the exporter to ONNX sees a symbol."""
    wide = torch.promote_types(x.dtype, torch.float32)
    tensors = (tensor.to(wide) for tensor in (gamma, beta))
    return functional.layer_norm(x.to(wide), gamma.shape, *tensors, epsilon).to(x.dtype)


def gelu(x):
    """PyTorch's own is the exact one."""


def _asks_gradients(*tensors):
    """Returns whether PyTorch records what becomes of the tensors; `None` stands for no tensor."""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


# ---------------------------------------------------------------- products, without gradients


def _dense(x, w, b):
    """Returns x `(rows, channels)` @ w `(channels, units)` + b."""
    return _onednn(x, w, b) if _by_onednn(x.dtype) else torch.addmm(b, x, w)


def _product(x, w):
    return _onednn(x, w, None) if _by_onednn(x.dtype) else x @ w


def _activated(activation, x, w, b):
    """Returns `activation(_dense(x, w, b))`."""
    in_place, _, name = activation
    return _onednn(x, w, b, *name) if _activates_at_once(x.dtype) else in_place(_dense(x, w, b))


def _onednn(x, w, b, activation="none", approximate=""):
    b = None if b is None else b.contiguous()  # its strides are not looked at
    return torch.ops.mkldnn._linear_pointwise(x, w.t(), b, activation, [], approximate)


def _by_onednn(dtype):
    """Returns whether oneDNN multiplies faster than what PyTorch takes.

    PyTorch leaves float32 products to MKL, which on CPUs that are not Intel's does not use AVX-512.
    oneDNN does. Without AVX-512, MKL is faster on those CPUs as well.
    """
    return dtype == torch.float32 and _has_wide_onednn()


def _activates_at_once(dtype):
    """Returns whether oneDNN applies an activation faster than PyTorch does after the product.

    In bfloat16 PyTorch takes oneDNN for products itself.
    """
    if not _has_wide_onednn():  # without it PyTorch has no such operations at all
        return False
    half = dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return half or _by_onednn(dtype)


def _has_wide_onednn():
    both = torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()
    return both and "AVX512" in torch.backends.cpu.get_cpu_capability() and not _is_intel()


@functools.cache
def _is_intel():
    found = Path("/proc/cpuinfo")
    text = found.read_text() if found.exists() else platform.processor()
    return "Intel" in text  # GenuineIntel


# ---------------------------------------------------------------- the residual branch


def _rows(x):
    return None if x is None else x.reshape(-1, x.shape[-1])


def _pieces(x, width, grn):
    count = len(x)
    if grn:  # which looks at whole images, several times: each time the cache should have them
        image = max(grn[0], 1)
        rows = max(ROWS // image, 1) * image
    else:
        rows = max(count, 1) if count * width * x.element_size() <= WHOLE else ROWS
    return [slice(start, start + rows) for start in range(0, count, rows)]


def _branch(form, x, inputs, gamma, beta, w1, b1, w2, b2, scale, factors, summands, kept=None):
    """Returns `inputs` + the branch of x `(rows, channels)`.

    `factors` and `summands` are gamma and beta of GRN. `kept` is a list that takes the hidden layer
    before and after the activation, piece by piece.
    """
    function, activation, epsilon, grn = form
    out = torch.empty_like(x)
    b2 = _with_summands(b2, summands, w2) if grn else b2
    for piece in _pieces(x, len(w2), grn):
        normed = functional.layer_norm(x[piece], gamma.shape, gamma, beta, epsilon)
        if kept is None:
            activated = _activated(activation, normed, w1, b1)
        else:
            hidden = _dense(normed, w1, b1)
            activated = function(hidden)
            kept.append((hidden, activated))
        if grn:
            scales = _Responses(grn, activated).scales(factors)
            activated = _scaled(activated, scales, in_place=kept is None)
        y = _dense(activated, w2, b2)
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
        out = _branch(form, *tensors, kept)
        ctx.form, ctx.has_inputs = form, tensors[1] is not None
        if not any(ctx.needs_input_grad[3:]):
            kept = [(hidden, None) for hidden, _ in kept]
        ctx.save_for_backward(tensors[0], *tensors[2:], *itertools.chain(*kept))
        return out

    @staticmethod
    def backward(ctx, dy):
        saved = ctx.saved_tensors  # once: checkpoints unpack on each reading, and only once
        tensors, kept = saved[:10], saved[10:]
        # nor can a batch of gradients, as of a vectorized Jacobian, be written into pieces
        if torch.is_grad_enabled() or portable(dy):
            found = _differentiable_gradients(ctx, dy, *tensors)
        else:
            pieces = zip(kept[::2], kept[1::2], strict=True)
            found = _branch_gradients(ctx, dy.contiguous(), *tensors, pieces)
        dx, *dweights = found
        return None, dx, dy if ctx.has_inputs else None, *dweights


def _branch_gradients(ctx, dy, x, gamma, beta, w1, b1, w2, b2, scale, factors, summands, kept):
    function, (_, activation_gradient, _), epsilon, grn = ctx.form
    dx, with_weights = torch.empty_like(x), any(ctx.needs_input_grad[3:])
    wide = torch.promote_types(x.dtype, torch.float32)
    dgamma, dbeta, dw1, db1, dw2 = (
        torch.zeros_like(w, dtype=wide) for w in (gamma, beta, w1, b1, w2)
    )
    dfactors = torch.zeros_like(factors) if grn else None
    for piece, (hidden, activated) in zip(_pieces(x, len(w2), grn), kept, strict=True):
        scaled = dy[piece] if scale is None else (dy[piece] * scale).to(x.dtype)
        dactivated = _product(scaled, w2.t())
        if grn:
            activated = function(hidden) if activated is None else activated
            responses = _Responses(grn, activated)
            dactivated, dfactors_part = responses.gradients(factors, dactivated)
            dfactors += dfactors_part
            activated = _scaled(activated, responses.scales(factors))
        dhidden = activation_gradient(dactivated, hidden)
        rows = x[piece]
        normed, *moments = torch.native_layer_norm(rows, gamma.shape, gamma, beta, epsilon)
        dx[piece], gamma_part, beta_part = aten.native_layer_norm_backward(
            _product(dhidden, w1.t()), rows, gamma.shape, *moments, gamma, beta, [True] * 3
        )
        if with_weights:
            dgamma += gamma_part
            dbeta += beta_part
            db1 += dhidden.sum(0)
            _add_product(dw1, normed.t(), dhidden)
            _add_product(dw2, activated.t(), dy[piece])
    dw2, db2, dscale, dsummands = _last_gradients(dy, dw2, w2, b2, scale, summands)
    return dx, dgamma, dbeta, dw1, db1, dw2, db2, dscale, dfactors, dsummands


def _last_gradients(dy, dw2, w2, b2, scale, summands):
    """Returns the gradients of what comes after GRN's factors, `None` where there is none.

    Args:
        dw2: of the second kernel, without layer scale and without what GRN adds.
    """
    db2, dscale, dsummands = dy.sum(0, dtype=dw2.dtype), None, None
    if summands is not None:
        dw2 += summands[:, None] * db2
    if scale is not None:
        # the sums over all rows of gradient times output, without the output
        dscale = (w2 * dw2).sum(0) + b2 * db2
        dw2, db2 = dw2 * scale, db2 * scale
    if summands is not None:
        dsummands = w2.to(dw2.dtype) @ db2
    return dw2, db2, dscale, dsummands


def _add_product(total, a, b):
    """Adds `a @ b` to `total`, in the precision of `total`."""
    if total.dtype == a.dtype:
        total.addmm_(a, b)
    else:
        total += a @ b


def _differentiable_gradients(ctx, dy, *inputs):
    """Returns the same gradients by PyTorch's own operations, which have gradients themselves."""
    function, _, epsilon, grn = ctx.form
    x, gamma, beta, w1, b1, w2, b2, scale, factors, summands = inputs
    has_gradients = torch.is_grad_enabled()
    with torch.enable_grad():
        normed = functional.layer_norm(x, gamma.shape, gamma, beta, epsilon)
        activated = function(torch.addmm(b1, normed, w1))
        if grn:
            scales = _Responses(grn, activated).scales(factors)
            activated, b2 = _scaled(activated, scales), _with_summands(b2, summands, w2)
        y = torch.addmm(b2, activated, w2)
        y = y if scale is None else y * scale
    needed = (ctx.needs_input_grad[1], *ctx.needs_input_grad[3:])
    wanted = [tensor for tensor, need in zip(inputs, needed, strict=True) if need]
    found = iter(torch.autograd.grad(y, wanted, dy, create_graph=has_gradients))
    return [next(found) if need else None for need in needed]


# ---------------------------------------------------------------- GRN


class _Responses:
    """The norms of whole images in a hidden layer after its activation, in float32 or wider.

    Args:
        grn: rows of an image, and GRN's epsilon.
        activated: `(rows, channels)`.
    """

    def __init__(self, grn, activated):
        rows, self.epsilon = grn
        self.maps = activated.view(-1, rows, activated.shape[-1])
        wide = torch.promote_types(activated.dtype, torch.float32)
        squares = (self.maps * self.maps).sum(1, keepdim=True, dtype=wide)
        self.norms = torch.sqrt(squares + self.epsilon**2)
        self.means = self.norms.mean(-1, keepdim=True) + self.epsilon

    def scales(self, factors):
        """Returns by what each channel of an image is multiplied, `(images, 1, channels)`."""
        return 1 + factors * (self.norms / self.means)

    def gradients(self, factors, dy):
        """Returns the gradients by what was activated, in place of `dy`, and by `factors`."""
        dmaps = dy.view(self.maps.shape)
        dscales = (dmaps * self.maps).sum(1, keepdim=True, dtype=self.norms.dtype)
        drelative = dscales * factors / self.means
        dmeans = (drelative * self.norms).mean(-1, keepdim=True) / self.means
        by_norms = ((drelative - dmeans) / self.norms).to(dy.dtype)
        dmaps = dmaps.mul_(self.scales(factors)).addcmul_(self.maps, by_norms)
        return dmaps.view(dy.shape), (dscales * self.norms / self.means).sum((0, 1))


def _scaled(activated, scales, in_place=False):
    rows = len(activated) // max(len(scales), 1)
    maps = activated.view(len(scales), rows, activated.shape[-1])
    maps = maps.mul_(scales) if in_place else (maps * scales).to(maps.dtype)
    return maps.view(activated.shape)


def _with_summands(b2, summands, w2):
    """Returns the bias of the second product with what GRN adds before it."""
    wide = summands.dtype
    return (b2.to(wide) + summands @ w2.to(wide)).to(b2.dtype)


# ---------------------------------------------------------------- the depthwise convolution


class _DepthwiseConv(torch.autograd.Function):
    """Convolves x `(batch, channels, height, width)` with `(channels, 1, side, side)`, side odd.

    dx is the convolution with the mirrored kernel; dkernel is each image convolved with its
    gradient as the kernel, for which PyTorch's own takes several times as long.
    """

    @staticmethod
    def forward(ctx, x, kernel, bias, dilation):
        ctx.dilation = dilation
        ctx.save_for_backward(x, kernel)
        return _convolve(x, kernel, bias, dilation)

    @staticmethod
    def backward(ctx, dy):
        x, kernel = ctx.saved_tensors
        needs_x, needs_kernel, needs_bias, _ = ctx.needs_input_grad
        dx = dkernel = dbias = None
        if needs_x:
            dx = _convolve(dy, kernel.flip(2, 3), None, ctx.dilation)
        if needs_kernel:
            dkernel = _kernel_gradient(x, dy, kernel.shape[-1], ctx.dilation).to(kernel.dtype)
        if needs_bias:
            dbias = dy.sum((0, 2, 3))
        return dx, dkernel, dbias, None


def _convolve(x, kernel, bias, dilation):
    padding = (kernel.shape[-1] - 1) * dilation // 2
    return functional.conv2d(
        x, kernel, bias, padding=padding, dilation=dilation, groups=len(kernel)
    )


def _kernel_gradient(x, dy, side, dilation):
    """Returns dkernel, summed over the images in float32 or in what is wider."""
    conv2d = functional.conv2d
    batch, channels, height, width = x.shape
    wide = torch.promote_types(x.dtype, torch.float32)
    # one tap further is `dilation` pixels further: a stride
    options = {"padding": (side - 1) * dilation // 2, "stride": dilation}
    if channels * height * width <= SMALL:
        images = x.reshape(1, -1, height, width)
        kernels = dy.reshape(-1, 1, height, width)
        found = conv2d(images, kernels, groups=batch * channels, **options)
        return found.reshape(batch, channels, 1, side, side).sum(0, dtype=wide)
    pairs = zip(x.split(1), dy.unsqueeze(2), strict=True)
    return sum(
        conv2d(image, kernel, groups=channels, **options).transpose(0, 1).to(wide)
        for image, kernel in pairs
    )
