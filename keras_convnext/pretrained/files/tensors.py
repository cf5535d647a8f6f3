"""A file of weights as named tensors that are read when they are needed."""

import collections.abc
import dataclasses

import numpy as np

# The largest network with its optimizer and averages has some thousands of tensors.
MAX_TENSORS = 20_000
MAX_NAME = 500  # characters; names are matched with regular expressions
MAX_AXES = 8
FLOATS = ("float64", "float32", "float16", "bfloat16")


class WeightsError(ValueError):
    """A file of weights that is damaged, of an unknown kind, or not of this architecture.

    Example:
        from pathlib import Path
        from keras_convnext import ConvNeXtTiny
        from keras_convnext.pretrained import WeightsError
        Path("broken.safetensors").write_bytes(b"nothing")
        try:
            model = ConvNeXtTiny(weights="broken.safetensors")
        except WeightsError as error:
            print(error)
    """


@dataclasses.dataclass(frozen=True)
class Tensor:
    """One tensor of a file.

    Attributes:
        shape: tuple of ints, as the file declares it.
        dtype: name of the stored dtype; `"bfloat16"` is stored as uint16.
        read: returns the stored numbers; nothing is read before it is called.
    """

    shape: tuple
    dtype: str
    read: collections.abc.Callable

    def numpy(self):
        """Returns the numbers as float32."""
        stored = self.read()
        if self.dtype == "bfloat16":
            return (np.asarray(stored, "uint32") << 16).view("float32")
        with np.errstate(over="ignore"):  # the loader refuses infinite numbers
            return np.asarray(stored, "float32")


def mapped(path, dtype, start, shape):
    """Returns the numbers of that dtype and shape at a position of the file, mapped, not read."""
    stored = np.dtype("uint16" if dtype == "bfloat16" else dtype)
    return np.memmap(path, stored, "r", start, tuple(shape))


def unique(pairs):
    """Returns `dict(pairs)`; raises a `WeightsError` if a name stands twice."""
    found = {}
    for name, value in pairs:
        if name in found:
            raise WeightsError(f"duplicate: {name[:MAX_NAME]} stands twice in the file.")
        found[name] = value
    return found
