"""JAX on a CPU: the residual branch with gradients of its own, and the depthwise convolution as
shifted sums.

Left to XLA, training keeps the hidden layer, four times as wide as the feature map, before and
after the activation, and the steps between. To write and to read them takes longer than to compute
them once more. Its depthwise convolution on CPUs is naive.
"""

import functools
import itertools
import math

import jax
import jax.numpy as jnp
from jax import lax
from jax.experimental import layout
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from keras_convnext.fast.conditions import own_kernel, portable, reads_as_one, weights

MULTIPLIES_PATCHES = True
IMAGE_ROWS = 7  # at most, that the depthwise kernel's gradient reads at once: beyond, it is slower


def residual_branch(block, x, inputs, training):
    """As `fast.residual_branch`. With GRN it is taken in training alone, which then needs two
    thirds of the memory; a prediction is faster by Keras' operations."""
    if not (reads_as_one(block) and own_kernel(x)):
        return None
    pixels = math.prod(x.shape[1:-1])
    if block.grn and not (training and pixels):
        return None
    grn = (pixels, block.grn.epsilon) if block.grn else None
    form, tensors = (block.activation, block.norm.epsilon, grn), (_rows(x), *weights(block))
    rows = _trained(form)(*tensors) if training else _inferred(form, *tensors)
    return _added(rows, x, inputs)


def depthwise_conv(x, kernel, bias, dilation, training):
    """As `fast.depthwise_conv`."""
    if not own_kernel(x):
        return None
    outputs = shifted_sums(x, kernel[..., 0], dilation)
    return outputs if bias is None else outputs + bias


def dense(x, kernel, bias):
    """As `fast.dense`; tensors of several dtypes promote."""
    if not own_kernel(x):
        return None
    return (_product(x, kernel) + bias).astype(jnp.result_type(x, kernel, bias))


def layer_norm(x, gamma, beta, epsilon, training):
    """XLA makes one loop of Keras' operations."""


def gelu(x):
    """With erf, as on the other backends: on CPUs JAX's own, with erfc, takes a third longer, which
    shows in bfloat16.

    JAX exports erf as an operation that TensorFlow 2.21 does not know, and erfc as known ones.
    """
    if portable(x):
        return None
    wide = x.astype(_wide_dtype(x))
    return (wide * (0.5 + 0.5 * lax.erf(wide * 0.5**0.5))).astype(x.dtype)


def _wide_dtype(*tensors):
    return jnp.promote_types(jnp.result_type(*tensors), jnp.float32)


def _product(a, b):
    """Returns `a @ b`, in float32 where the factors have half precision: XLA on a CPU multiplies
    bfloat16 at up to twice the speed if it need not round the result."""
    return jnp.matmul(a, b, preferred_element_type=_wide_dtype(a, b))


def _weight_gradient(x, dy):
    """Returns `x.T @ dy`, in the dtype of `_product`."""
    if not _reads_rows(x):
        return _product(x.T, dy)
    if x.shape[1] <= dy.shape[1]:
        return _by_rows(_product(_transposed(x), dy))
    return _by_rows(_product(_transposed(dy), x)).T  # the narrower factor is transposed


def _transposed(x):
    """Returns the matrix `x.T`, written row by row where XLA's product reads rows alone.

    Left to itself, XLA takes the columns of `x` as they lie, and multiplies in float32 then, which
    takes twice the time.
    """
    return _by_rows(x.T) if _reads_rows(x) else x.T


def _reads_rows(x):
    """Returns whether XLA's fast product of this dtype knows rows alone."""
    return x.dtype == jnp.bfloat16


def _by_rows(x):
    """Returns the matrix `x`; XLA is told to keep it in memory row by row."""
    return _rows_in_memory.bind(x)


_rows_in_memory = Primitive("keras_convnext_rows_in_memory")
_rows_in_memory.def_impl(lambda x: x)
_rows_in_memory.def_abstract_eval(lambda x: x)


def _lower_rows(context, x):
    """As `with_layout_constraint`; in an export, where JAX refuses that, `x` stays as it is."""
    # before JAX 0.7 the name `Layout` stood for another class
    known = layout.Layout is not getattr(layout, "Format", layout.Layout)
    if not known or context.module_context.lowering_parameters.for_export:
        return [x]
    rows = layout.Layout(tuple(range(context.avals_in[0].ndim)))
    constrained = mlir.lower_fun(lambda x: layout.with_layout_constraint(x, rows), False)
    return constrained(context, x)


def _batch_of_rows(tensors, axes):
    x = jnp.moveaxis(tensors[0], axes[0], 0)
    return _rows_in_memory.bind(x), 0


ad.deflinear2(_rows_in_memory, lambda gradient, _: [_rows_in_memory.bind(gradient)])
batching.primitive_batchers[_rows_in_memory] = _batch_of_rows
mlir.register_lowering(_rows_in_memory, _lower_rows)


# ---------------------------------------------------------------- gradients of our own


def _differentiable(function, gradients):
    """Returns a function whose gradients are computed by `gradients`, for both of JAX's modes.

    `jax.custom_vjp` refuses forward mode (`jvp`, `jacfwd`, `hessian`). Here the tangent is what JAX
    makes of `function`, and only its transpose, which the gradients are, is `gradients`.

    Args:
        function: takes tensors (or `None`), the first as large as its result; returns the result
            and what the gradients are computed from, a tuple that starts with the tensors.
        gradients: takes that tuple and the gradient of the result; returns those of the tensors.
    """

    @jax.custom_jvp
    def result(*tensors):
        return function(*tensors)[0]

    @result.defjvp
    def tangent(tensors, tangents):
        y, kept = function(*tensors)
        leaves, tree = jax.tree.flatten((kept, tangents))
        rules = _Rules(lambda *tensors: function(*tensors)[0], gradients, tree)
        return y, _tangent.bind(*leaves, rules=rules)[0]

    return result


class _Rules:
    """What the tangent is, `dy` from `(kept, tangents)`, and its transpose.

    Attributes:
        linear: number of tensors at the end of the arguments that are tangents.
    """

    def __init__(self, function, gradients, tree):
        self.function, self.gradients, self.tree = function, gradients, tree
        self.linear = tree.children()[1].num_leaves

    def tangent(self, *leaves):
        kept, tangents = jax.tree.unflatten(self.tree, leaves)
        return jax.jvp(self.function, kept[: len(tangents)], tangents)[1]

    def transposed(self, *leaves_and_dy):
        *leaves, dy = leaves_and_dy
        kept, _ = jax.tree.unflatten(self.tree, [*leaves, *[0] * self.linear])
        return jax.tree.leaves(self.gradients(kept, dy))


class _BatchedRules:
    """The same with a first axis on all tensors, as under `jax.vmap`."""

    def __init__(self, rules):
        self.linear = rules.linear
        self.tangent, self.transposed = jax.vmap(rules.tangent), jax.vmap(rules.transposed)


_tangent = Primitive("keras_convnext_tangent")
_tangent.multiple_results = True


@_tangent.def_impl
def _compute(*leaves, rules):
    return [rules.tangent(*leaves)]


@_tangent.def_abstract_eval
def _shape(*leaves, rules):
    y = leaves[len(leaves) - rules.linear]
    return [jax.core.ShapedArray(y.shape, y.dtype)]


def _transpose(dys, *leaves, rules):
    kept, tangents = leaves[: -rules.linear], leaves[-rules.linear :]
    (dy,) = dys
    if type(dy) is ad.Zero:
        return [None] * len(leaves)
    found = rules.transposed(*kept, dy)
    wanted = map(ad.is_undefined_primal, tangents)
    return [None] * len(kept) + [d if want else None for d, want in zip(found, wanted, strict=True)]


def _differentiate(leaves, tangents, *, rules):
    tangents = [ad.instantiate_zeros(tangent) for tangent in tangents]
    (y,) = _tangent.bind(*leaves, rules=rules)
    return [y], [jax.jvp(rules.tangent, leaves, tangents)[1]]


def _batch(leaves, axes, *, rules):
    size = next(x.shape[axis] for x, axis in zip(leaves, axes, strict=True) if axis is not None)
    leaves = [batching.bdim_at_front(x, axis, size) for x, axis in zip(leaves, axes, strict=True)]
    return _tangent.bind(*leaves, rules=_BatchedRules(rules)), [0]


ad.primitive_transposes[_tangent] = _transpose
ad.primitive_jvps[_tangent] = _differentiate
batching.primitive_batchers[_tangent] = _batch
mlir.register_lowering(_tangent, mlir.lower_fun(_compute, multiple_results=True))


# ---------------------------------------------------------------- the residual branch


def _rows(x):
    return x.reshape(-1, x.shape[-1])


def _added(rows, x, inputs):
    out = rows.reshape(x.shape)
    return out if inputs is None else inputs + out


@functools.partial(jax.jit, static_argnums=0)
def _inferred(form, *tensors):
    return _branch(form, *tensors)[0]


@functools.lru_cache(256)  # with GRN there is one for each size of a map
def _trained(form):
    functions = _branch, _branch_gradients
    return jax.jit(_differentiable(*(functools.partial(f, form) for f in functions)))


def _branch(form, x, gamma, beta, w1, b1, w2, b2, scale, factors, summands):
    """Returns the branch of x `(rows, channels)`, and what its gradients are computed from.

    `factors` and `summands` are gamma and beta of GRN, whose rows of an image and epsilon `form`
    has, or `None`.
    """
    hidden = _product(_normed(form[1], x, gamma, beta), w1) + b1
    y = _product(_activated(form, hidden, factors, summands).astype(x.dtype), w2) + b2
    y = (y if scale is None else y * scale).astype(x.dtype)
    kept = x, gamma, beta, w1, b1, w2, b2, scale, factors, summands, hidden.astype(x.dtype)
    return y, kept


def _normed(epsilon, x, gamma, beta):
    wide = x.astype(_wide_dtype(x))
    centred = wide - wide.mean(-1, keepdims=True)
    wide = centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + epsilon)
    return (wide * gamma + beta).astype(x.dtype)


def _activated(form, hidden, factors, summands):
    """Returns the hidden layer `(rows, channels)` after the activation and GRN."""
    activation, _, grn = form
    y = activation(hidden)
    if grn is None:
        return y
    pixels, epsilon = grn
    maps = y.reshape(-1, pixels, y.shape[-1])
    norms = jnp.sqrt((maps * maps).sum(1, keepdims=True) + epsilon**2)
    scales = 1 + factors * (norms / (norms.mean(-1, keepdims=True) + epsilon))
    return (maps * scales + summands).reshape(y.shape)


def _branch_gradients(form, kept, dy):
    x, gamma, beta, w1, _, w2, b2, scale, factors, summands, hidden = kept
    x, hidden = _after(dy, x), _after(dy, hidden)
    normed, norm_gradients = jax.vjp(functools.partial(_normed, form[1]), x, gamma, beta)
    activated, activation_gradients = jax.vjp(
        functools.partial(_activated, form), hidden.astype(_wide_dtype(x)), factors, summands
    )
    # before the layer scale, which is small, sums are large
    dw2 = _weight_gradient(activated.astype(x.dtype), dy)
    db2, dscale = dy.sum(0, dtype=_wide_dtype(x)), None
    if scale is not None:
        # the sums over all rows of gradient times output, without the output
        dscale = (w2 * dw2).sum(0) + b2 * db2
        dw2, db2 = dw2 * scale, db2 * scale
        dy = (dy * scale).astype(dy.dtype)
    dhidden, dfactors, dsummands = activation_gradients(_product(dy, _transposed(w2)))
    db1, dhidden = dhidden.sum(0), dhidden.astype(x.dtype)
    dx, dgamma, dbeta = norm_gradients(_product(dhidden, _transposed(w1)).astype(x.dtype))
    dw1 = _weight_gradient(normed, dhidden)
    found = dx, dgamma, dbeta, dw1, db1, dw2, db2, dscale, dfactors, dsummands
    pairs = zip(found, kept[:-1], strict=True)  # all but the hidden layer
    return tuple(g if k is None else g.astype(k.dtype) for g, k in pairs)


def _after(gradient, x):
    """Returns `x`, no earlier than the gradient: XLA computes what depends on nothing else at once,
    and keeps it until it is needed."""
    return x + jnp.minimum(jnp.abs(gradient[:1, :1]).sum(), 0).astype(x.dtype)


# ---------------------------------------------------------------- the depthwise convolution


@functools.partial(jax.jit, static_argnums=2)
def shifted_sums(x, kernel, dilation):
    """Convolves each channel by a sum of shifted images, which XLA on CPUs fuses to one loop.

    Its gradients are of the same kind: dx is the convolution with the mirrored kernel, dkernel the
    sums of the products of gradient and shifted input.

    Args:
        x: `(batch, height, width, channels)`; half precision is added up in float32.
        kernel: `(side, side, channels)`.
        dilation: distance of neighbouring taps in pixels.

    Returns:
        a tensor of the shape and dtype of `x`.
    """
    # for an even side there is one row and column more behind than before, as in TensorFlow
    before = _reach(kernel, dilation) // 2
    wide, wide_kernel = x.astype(_wide_dtype(x)), kernel.astype(_wide_dtype(kernel))
    return _convolve(dilation, before)(wide, wide_kernel).astype(x.dtype)


def _reach(kernel, dilation):
    """Returns the distance of the first and the last tap."""
    return (kernel.shape[0] - 1) * dilation


def _padded(x, before, reach):
    sides = before, reach - before
    return jnp.pad(x, ((0, 0), sides, sides, (0, 0)))


@functools.cache
def _convolve(dilation, before):
    """Returns the convolution of an image and a kernel, with gradients.

    The first tap is `before` pixels up and left of where its product is added.
    """
    functions = _convolved, _convolution_gradients
    return _differentiable(*(functools.partial(f, dilation, before) for f in functions))


def _convolved(dilation, before, x, kernel):
    """Returns the convolution, and what its gradients are computed from.

    The sum is a case of its own, for every kernel that is finite: else XLA tears it apart to fuse
    it with what follows, which would read the image dozens of times.
    """
    reach, (height, width) = _reach(kernel, dilation), x.shape[1:3]

    def sums():
        padded, total = _padded(x, before, reach), 0
        for row, column in itertools.product(range(kernel.shape[0]), repeat=2):
            top, left = row * dilation, column * dilation
            part = padded[:, top : top + height, left : left + width]
            total = total + part * kernel[row, column]
        return total

    def native():
        return lax.conv_general_dilated(
            x,
            kernel[:, :, None],
            (1, 1),
            [(before, reach - before)] * 2,
            rhs_dilation=(dilation, dilation),
            dimension_numbers=("NHWC", "HWIO", "NHWC"),
            feature_group_count=x.shape[-1],
        )

    # behind a barrier: if the kernel is a constant, XLA would know the case and drop the other
    is_finite = jnp.isfinite(lax.optimization_barrier(kernel[0, 0, 0]))
    return lax.cond(is_finite, sums, native), (x, kernel)


def _convolution_gradients(dilation, before, kept, dy):
    x, kernel = kept
    after = _reach(kernel, dilation) - before
    dx = _convolve(dilation, after)(dy, kernel[::-1, ::-1])
    return dx, _kernel_gradient(dilation, before, x, kernel, dy)


def _kernel_gradient(dilation, before, x, kernel, dy):
    """Returns dkernel: goes through the rows of all images and adds up, for each tap and each place
    in a row, the product of gradient and input. Sums over whole images would read all of them once
    per tap. A few rows at a time, as the sums themselves are read and written each time."""
    batch, height, width, channels = x.shape
    side, reach = kernel.shape[0], _reach(kernel, dilation)
    if not x.size:
        return jnp.zeros_like(kernel)
    padded = _padded(x, before, reach)
    rows = max(count for count in range(1, IMAGE_ROWS + 1) if height % count == 0)

    def products_of(image, row):
        """Returns products `(side, width, channels)`: of one row, for each kernel column."""
        factor = lax.dynamic_slice(dy, (image, row, 0, 0), (1, 1, width, channels))[0]
        near = (1, reach + 1, width + reach, channels)
        near = lax.dynamic_slice(padded, (image, row, 0, 0), near)[0, ::dilation]
        columns = range(0, side * dilation, dilation)
        return [near[:, left : left + width] * factor for left in columns]

    def add_rows(number, sums):
        image, first = number * rows // height, number * rows % height
        products = [products_of(image, first + row) for row in range(rows)]
        return tuple(sum(parts, total) for total, *parts in zip(sums, *products, strict=True))

    zeros = jnp.zeros((side, width, channels), x.dtype)
    sums = lax.fori_loop(0, batch * height // rows, add_rows, (zeros,) * side)
    return jnp.stack([total.sum(1) for total in sums], axis=1)
