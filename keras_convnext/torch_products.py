"""Products on PyTorch and CPUs by the faster of the two libraries behind it, without gradients."""

import functools
import platform
from pathlib import Path

import torch

from keras_convnext.runtime import portable


def takes(x, *others):
    """-> whether `dense` is the form for tensors of one dtype"""
    return x.device.type == "cpu" and not portable(x) and not asks_gradients(x, *others)


def asks_gradients(*tensors):
    """-> whether PyTorch records what becomes of them; `None` stands for no tensor"""
    return torch.is_grad_enabled() and any(t is not None and t.requires_grad for t in tensors)


def dense(x, w, b):
    """x `(rows, channels)` @ w `(channels, units)` + b"""
    return onednn(x, w, b) if by_onednn(x.dtype) else torch.addmm(b, x, w)


def product(x, w):
    return onednn(x, w, None) if by_onednn(x.dtype) else x @ w


def onednn(x, w, b, activation="none", approximate=""):
    b = None if b is None else b.contiguous()  # its strides are not looked at
    return torch.ops.mkldnn._linear_pointwise(x, w.t(), b, activation, [], approximate)


def by_onednn(dtype):
    """PyTorch leaves float32 products to MKL, which is slower than oneDNN on CPUs that are not
    Intel's, and adds the bias of those in bfloat16 in a pass of its own."""
    if not (torch.backends.mkl.is_available() and torch.backends.mkldnn.is_available()):
        return False
    if dtype == torch.bfloat16:
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return dtype == torch.float32 and not _is_intel()


@functools.cache
def _is_intel():
    found = Path("/proc/cpuinfo")
    text = found.read_text() if found.exists() else platform.processor()
    return "Intel" in text  # GenuineIntel
