"""Reads the tensors of a `.safetensors` file."""

import functools
import json

import safetensors

from keras_convnext.pretrained.files.tensors import (
    MAX_TENSORS,
    Tensor,
    WeightsError,
    mapped,
    unique,
)

DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "I16": "int16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
MAX_HEADER = 200 * MAX_TENSORS  # bytes; the description of a tensor has about a hundred


def read(path):
    """Returns `{name: Tensor}` of the file at `path`. Errors as of `files.read`."""
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > MAX_HEADER:
            raise WeightsError(f"its header has {length} bytes, at most {MAX_HEADER} are read.")
        header = file.read(length)
    with safetensors.safe_open(path, "np"):  # the library checks header, sizes and offsets
        pass
    header = json.loads(header, object_pairs_hook=unique)
    header.pop("__metadata__", None)
    return {name: _tensor(path, name, 8 + length, entry) for name, entry in header.items()}


def _tensor(path, name, start, entry):
    if entry["dtype"] not in DTYPES:
        raise WeightsError(f"{name} has dtype {entry['dtype']}, readable are {list(DTYPES)}.")
    dtype, shape = DTYPES[entry["dtype"]], tuple(entry["shape"])
    start += entry["data_offsets"][0]
    return Tensor(shape, dtype, functools.partial(mapped, path, dtype, start, shape))
