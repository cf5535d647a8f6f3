"""A file of weights as named tensors that are read when they are needed."""

import collections.abc
import dataclasses

import numpy as np


class WeightsError(ValueError):
    """A file of weights that is damaged, of an unknown kind, or not of this architecture."""


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
        """-> the numbers as float32."""
        stored = self.read()
        if self.dtype == "bfloat16":
            return (np.asarray(stored, "uint32") << 16).view("float32")
        with np.errstate(over="ignore"):  # the loader refuses infinite numbers
            return np.asarray(stored, "float32")
