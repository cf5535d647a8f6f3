"""The device that the imported libraries compute on."""

import sys

from benchmarks.configuration import Unsupported


def name():
    """Returns "cpu", or the name of the GPU."""
    torch, jax, tensorflow = _libraries()
    if torch and torch.cuda.is_available():
        return torch.cuda.get_device_name()
    if jax and jax.default_backend() != "cpu":
        return jax.devices()[0].device_kind
    if tensorflow and tensorflow.config.list_physical_devices("GPU"):
        return tensorflow.config.list_physical_devices("GPU")[0].name
    return "cpu"


def synchronise():
    """Waits until the GPU, if there is one, has done all that it was asked for."""
    torch, _, _ = _libraries()
    if torch and torch.cuda.is_available():
        torch.cuda.synchronize()


def set_precision(dtype):
    """float32 products with 24 bits, or, for "tf32", with 10 on GPUs.

    Raises:
        Unsupported: for "tf32" without a GPU.
    """
    torch, jax, tensorflow = _libraries()
    if dtype == "tf32" and name() == "cpu":
        raise Unsupported("tf32 is a form of GPUs, and there is none here")
    if name() == "cpu":
        return
    if torch:
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = dtype == "tf32"
    if jax:
        jax.config.update(
            "jax_default_matmul_precision", "tensorfloat32" if dtype == "tf32" else "highest"
        )
    if tensorflow:
        tensorflow.config.experimental.enable_tensor_float_32_execution(dtype == "tf32")


def forget_peak():
    """The peak of the GPU's memory so far is forgotten; JAX has no way to."""
    torch, _, tensorflow = _libraries()
    if torch and torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
    if tensorflow and tensorflow.config.list_physical_devices("GPU"):
        tensorflow.config.experimental.reset_memory_stats("GPU:0")


def peak():
    """Returns the peak of the GPU's memory since `forget_peak`, in bytes; `None` without a GPU."""
    torch, jax, tensorflow = _libraries()
    if torch and torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    if jax and jax.default_backend() != "cpu":
        return jax.devices()[0].memory_stats()["peak_bytes_in_use"]
    if tensorflow and tensorflow.config.list_physical_devices("GPU"):
        return tensorflow.config.experimental.get_memory_info("GPU:0")["peak"]
    return None


def _libraries():
    """Only what is there already: a contender does not pay for another's library."""
    return [sys.modules.get(library) for library in ("torch", "jax", "tensorflow")]
