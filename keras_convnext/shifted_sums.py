"""A depthwise convolution as a sum of shifted images, for XLA on CPUs, which fuses it to one loop.

Its gradients are of the same kind: that of the input is the convolution with the mirrored kernel,
that of the kernel the sums of the products of gradient and shifted input.
"""

import functools
import itertools

import jax
import jax.numpy as jnp
from jax import lax

ROWS = 7  # of an image, at most, that the kernel's gradient reads at once: beyond, it is slower


@functools.partial(jax.jit, static_argnums=2)
def shifted_sums(x, kernel, dilation):
    """x `(batch, height, width, channels)`, kernel `(side, side, channels)` -> as `x`.

    Half precision is added up in float32.
    """
    # for an even side there is one row and column more behind than before, as in TensorFlow
    before = _reach(kernel, dilation) // 2
    return _convolve(dilation, before, _wide(x), _wide(kernel)).astype(x.dtype)


def _reach(kernel, dilation):
    """-> the distance of the first and the last tap"""
    return (kernel.shape[0] - 1) * dilation


def _wide(x):
    return x.astype(jnp.promote_types(x.dtype, jnp.float32))


def _padded(x, before, reach):
    sides = before, reach - before
    return jnp.pad(x, ((0, 0), sides, sides, (0, 0)))


@functools.partial(jax.custom_vjp, nondiff_argnums=(0, 1))
def _convolve(dilation, before, x, kernel):
    """The first tap is `before` pixels up and left of where its product is added.

    The sum is a case of its own, the one of every kernel that is finite: else XLA tears it apart to
    fuse it with what follows, which would read the image dozens of times.
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

    # behind a barrier: of a kernel that is a constant XLA would know the case, and drop the other
    return lax.cond(jnp.isfinite(lax.optimization_barrier(kernel[0, 0, 0])), sums, native)


def _forwards(dilation, before, x, kernel):
    return _convolve(dilation, before, x, kernel), (x, kernel)


def _backwards(dilation, before, kept, gradient):
    x, kernel = kept
    after = _reach(kernel, dilation) - before
    by_x = _convolve(dilation, after, gradient, kernel[::-1, ::-1])
    return by_x, _kernel_gradient(dilation, before, x, kernel, gradient)


_convolve.defvjp(_forwards, _backwards)


def _kernel_gradient(dilation, before, x, kernel, gradient):
    """Goes through the rows of all images and adds up, for each tap and each place in a row, the
    product of gradient and input: sums over whole images would read all of them once per tap. A few
    rows at a time, as the sums themselves are read and written each time."""
    batch, height, width, channels = x.shape
    side, reach = kernel.shape[0], _reach(kernel, dilation)
    if not x.size:
        return jnp.zeros_like(kernel)
    padded = _padded(x, before, reach)
    rows = max(count for count in range(1, ROWS + 1) if height % count == 0)

    def products_of(image, row):
        """-> of one row, for each column of the kernel: `(side, width, channels)`"""
        factor = lax.dynamic_slice(gradient, (image, row, 0, 0), (1, 1, width, channels))[0]
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
