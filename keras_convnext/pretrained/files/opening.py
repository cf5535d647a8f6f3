"""Opens a file of weights, of any kind, as a dict of lazy tensors. The kind is seen from the bytes.

Nothing in a file is executed, and no array is read before its shape was compared with the model's.
Every tensor's numbers lie in the file: what only declares a size is refused.
"""

import dataclasses
import functools
import os

from keras_convnext.pretrained.files import keras, safetensors, torch_zip, zip_archive
from keras_convnext.pretrained.files.hdf5 import SIGNATURE
from keras_convnext.pretrained.files.tensors import MAX_NAME, MAX_TENSORS, WeightsError

KINDS = ".safetensors, .pth / .pt / .bin (zip format of PyTorch), .h5 / .weights.h5, .keras"


def read(path):
    """Returns `{name: Tensor}` of the file at `path`.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsError: if the file is of no known kind, or damaged. So does reading its tensors.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"No file of weights at {path!r}.")
    tensors = _unharmed(path, _reader(path), path)
    _check_tensors(path, tensors)
    return {
        name: dataclasses.replace(tensor, read=functools.partial(_unharmed, path, tensor.read))
        for name, tensor in tensors.items()
    }


def _reader(path):
    """Returns the function that reads this kind of file."""
    with open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(b"PK\x03\x04"):
        return _read_zip
    if head.startswith(SIGNATURE):
        return keras.read_hdf5
    if head[8:9] == b"{":
        return safetensors.read
    legacy = " It looks like a bare pickle (PyTorch before 1.6)." if head[:1] == b"\x80" else ""
    raise WeightsError(
        f"{path}: starts with {head[:8]!r}, which is no known kind of weights.{legacy} "
        f"Known are {KINDS}."
    )


def _read_zip(path):
    with zip_archive.opened(path) as archive:
        if keras.WEIGHTS in archive.namelist():
            return keras.read_archive(path, archive)
        return torch_zip.weights(torch_zip.read(path, archive))


def _unharmed(path, function, *args):
    """Returns `function(*args)`. A damaged file fails in any way; here it is one error."""
    try:
        return function(*args)
    except WeightsError as error:
        raise WeightsError(f"{path}: {error}") from None
    except Warning:  # of a user who has warnings raised as errors
        raise
    except Exception as error:
        raise WeightsError(f"{path}: damaged ({type(error).__name__}: {error}).") from None


def _check_tensors(path, tensors):
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors.")
    if len(tensors) > MAX_TENSORS:
        raise WeightsError(f"{path}: holds more than {MAX_TENSORS} tensors.")
    strange = [name for name in tensors if not isinstance(name, str) or len(name) > MAX_NAME]
    if strange:
        raise WeightsError(
            f"{path}: {str(strange[0])[:50]!r} is no name of a tensor "
            f"(a string of at most {MAX_NAME} characters)."
        )
    empty = [name for name, tensor in tensors.items() if 0 in tensor.shape]
    if empty:
        raise WeightsError(f"{path}: {empty[:5]} have no elements.")
