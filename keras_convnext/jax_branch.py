"""The branch of a block on JAX and CPUs: a few images at a time, and its gradient keeps little.

Left to XLA, a training keeps the hidden layer, four times as wide as the feature map, before and
after the activation, and the steps between. To write and to read them takes longer than to compute
them once more.
"""

import functools

import jax
import jax.numpy as jnp
from jax import lax

from keras_convnext.branch import plain, weights
from keras_convnext.products import wide_product
from keras_convnext.runtime import jax_on_one_cpu, portable

WHOLE = 2**23  # numbers of a hidden layer that is computed at once: up to there it pays
ROWS = 4096  # of a piece, at most, if an image has no more


def takes(block, x):
    """-> whether `branch` is the form for `x`"""
    return jax_on_one_cpu() and plain(block) and not portable(x)


def branch(block, x, inputs, training):
    """As `keras_convnext.branch.branch`."""
    form, tensors = (block.activation, block.norm.epsilon), weights(block)
    if not training:
        return _computed(form, WHOLE, ROWS, x, inputs, *tensors)
    return _added(_training(form, _rows(x), *tensors), x, inputs)


def _rows(x):
    return x.reshape(-1, x.shape[-1])


def _added(rows, x, inputs):
    out = rows.reshape(x.shape)
    return out if inputs is None else inputs + out


@functools.partial(jax.jit, static_argnums=(0, 1, 2))
def _computed(form, whole, rows, x, inputs, *weights):
    """x `(batch, height, width, channels)`; in pieces where the hidden layer is large"""

    def piece(pair):
        x, inputs = pair
        return _added(_forwards(form, _rows(x), *weights)[0], x, inputs)

    batch, width = x.shape[0], weights[3].shape[0]  # of the hidden layer: as many as b1 has
    pixels = x.shape[1] * x.shape[2]
    if batch * pixels * width <= whole:
        return piece((x, inputs))
    images = max(n for n in range(1, batch + 1) if not batch % n and (n == 1 or n * pixels <= rows))
    pieces = jax.tree.map(lambda t: t.reshape(-1, images, *t.shape[1:]), (x, inputs))
    return lax.map(piece, pieces).reshape(x.shape)


@functools.partial(jax.custom_vjp, nondiff_argnums=(0,))
def _trained(form, *tensors):
    return _forwards(form, *tensors)[0]


def _forwards(form, x, gamma, beta, w1, b1, w2, b2, scale):
    """x `(rows, channels)` -> the branch of it, and what its gradient is computed from"""
    activation, epsilon = form
    hidden = wide_product(_normed(epsilon, x, gamma, beta), w1) + b1
    y = wide_product(activation(hidden).astype(x.dtype), w2) + b2
    y = (y if scale is None else y * scale).astype(x.dtype)
    return y, (x, gamma, beta, w1, b1, w2, b2, scale, hidden.astype(x.dtype))


def _normed(epsilon, x, gamma, beta):
    wide = x.astype(_wide(x))
    centred = wide - wide.mean(-1, keepdims=True)
    wide = centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + epsilon)
    return (wide * gamma + beta).astype(x.dtype)


def _wide(x):
    return jnp.promote_types(x.dtype, jnp.float32)


def _backwards(form, kept, gradient):
    x, gamma, beta, w1, _, w2, b2, scale, hidden = kept
    activation, epsilon = form
    x, hidden = _after(gradient, x), _after(gradient, hidden)
    normed, norm_gradient = jax.vjp(functools.partial(_normed, epsilon), x, gamma, beta)
    activated, activation_gradient = jax.vjp(activation, hidden.astype(_wide(x)))
    # before the layer scale, which is small, sums are large
    by_w2 = wide_product(activated.astype(x.dtype).T, gradient)
    by_b2, by_scale = gradient.sum(0, dtype=_wide(x)), None
    if scale is not None:
        # the sums over all rows of gradient times output, without the output
        by_scale = (w2 * by_w2).sum(0) + b2 * by_b2
        by_w2, by_b2 = by_w2 * scale, by_b2 * scale
        gradient = (gradient * scale).astype(gradient.dtype)
    (by_hidden,) = activation_gradient(wide_product(gradient, w2.T))
    by_b1, by_hidden = by_hidden.sum(0), by_hidden.astype(x.dtype)
    by_x, by_gamma, by_beta = norm_gradient(wide_product(by_hidden, w1.T).astype(x.dtype))
    by_w1 = wide_product(normed.T, by_hidden)
    found = by_x, by_gamma, by_beta, by_w1, by_b1, by_w2, by_b2, by_scale
    pairs = zip(found, kept[:-1], strict=True)  # but the hidden layer
    return tuple(g if k is None else g.astype(k.dtype) for g, k in pairs)


_trained.defvjp(_forwards, _backwards)
_training = jax.jit(_trained, static_argnums=0)


def _after(gradient, x):
    """-> `x`, no earlier than the gradient: XLA computes at once what hangs on nothing else, and
    keeps it until it is needed."""
    return x + jnp.minimum(jnp.abs(gradient[:1, :1]).sum(), 0).astype(x.dtype)
