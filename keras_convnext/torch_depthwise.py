"""PyTorch's depthwise convolution, on CPUs with gradients that are convolutions of the same kind.

That of the input is the convolution with the mirrored kernel; that of the kernel is each image
convolved with its gradient as the kernel. PyTorch's own takes several times as long for it.
"""

import torch
from torch.nn.functional import conv2d

from keras_convnext.runtime import portable

SMALL = 2**15  # numbers of an image: up to there all images are convolved at once


class _DepthwiseConv(torch.autograd.Function):
    """x `(batch, channels, height, width)`, kernel `(channels, 1, side, side)` with an odd side."""

    @staticmethod
    def forward(ctx, x, kernel, bias, dilation):
        ctx.dilation = dilation
        ctx.save_for_backward(x, kernel)
        return _convolve(x, kernel, bias, dilation)

    @staticmethod
    def backward(ctx, gradient):
        x, kernel = ctx.saved_tensors
        needs_x, needs_kernel, needs_bias, _ = ctx.needs_input_grad
        by_x = by_kernel = by_bias = None
        if needs_x:
            by_x = _convolve(gradient, kernel.flip(2, 3), None, ctx.dilation)
        if needs_kernel:
            by_kernel = _kernel_gradient(x, gradient, kernel.shape[-1], ctx.dilation)
            by_kernel = by_kernel.to(kernel.dtype)
        if needs_bias:
            by_bias = gradient.sum((0, 2, 3))
        return by_x, by_kernel, by_bias, None


def depthwise_conv(x, kernel, bias, dilation):
    """As `torch.nn.functional.conv2d` with stride 1, padding "same" and a group per channel."""
    own = x.device.type == "cpu" and len(x) and not portable(x)
    convolve = _DepthwiseConv.apply if own else _convolve
    return convolve(x, kernel, bias, dilation)


def _convolve(x, kernel, bias, dilation):
    padding = (kernel.shape[-1] - 1) * dilation // 2
    return conv2d(x, kernel, bias, padding=padding, dilation=dilation, groups=len(kernel))


def _kernel_gradient(x, gradient, side, dilation):
    """Summed over the images in float32, or in what is wider."""
    batch, channels, height, width = x.shape
    wide = torch.promote_types(x.dtype, torch.float32)
    # one tap further is `dilation` pixels further: a stride
    options = {"padding": (side - 1) * dilation // 2, "stride": dilation}
    if channels * height * width <= SMALL:
        images = x.reshape(1, -1, height, width)
        kernels = gradient.reshape(-1, 1, height, width)
        found = conv2d(images, kernels, groups=batch * channels, **options)
        return found.reshape(batch, channels, 1, side, side).sum(0, dtype=wide)
    pairs = zip(x.split(1), gradient.unsqueeze(2), strict=True)
    return sum(
        conv2d(image, kernel, groups=channels, **options).transpose(0, 1).to(wide)
        for image, kernel in pairs
    )
