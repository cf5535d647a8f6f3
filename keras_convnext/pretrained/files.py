"""Opens a file of weights, of any kind, as a dict of lazy tensors. The kind is seen from the bytes.

Nothing in a file is executed, and no array is read before its shape was compared with the model's.
"""

import json
import os
import zipfile

import h5py
import numpy as np
import safetensors

from keras_convnext.pretrained import torch_zip
from keras_convnext.pretrained.tensors import Tensor, WeightsError

KINDS = ".safetensors, .pth / .pt / .bin (zip format of PyTorch), .h5 / .weights.h5, .keras"
SAFETENSORS_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "I64": "int64",
    "I32": "int32",
    "U8": "uint8",
}
# Where training scripts and model zoos keep the weights inside of a PyTorch file.
CONTAINERS = ("model", "state_dict")


def read(path):
    """-> `{name: Tensor}` of the file at `path`.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsError: if the file is of no known kind, or damaged.
    """
    path = os.fspath(path)
    if not os.path.isfile(path):
        raise FileNotFoundError(f"No file of weights at {path!r}.")
    with open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(b"PK\x03\x04"):
        return _read_keras(path) if _is_keras(path) else _read_torch(path)
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _read_hdf5(path, path)
    if head[8:9] == b"{":
        return _read_safetensors(path)
    legacy = " It looks like a bare pickle (PyTorch before 1.6)." if head[:1] == b"\x80" else ""
    raise WeightsError(
        f"{path}: starts with {head[:8]!r}, which is no known kind of weights.{legacy} "
        f"Known are {KINDS}."
    )


def _read_safetensors(path):
    try:
        with safetensors.safe_open(path, "np"):  # the library checks header, sizes and offsets
            pass
        with open(path, "rb") as file:
            length = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(length), object_pairs_hook=_unique)
    except (safetensors.SafetensorError, ValueError) as error:
        raise WeightsError(f"{path}: damaged safetensors file ({error}).") from None
    header.pop("__metadata__", None)
    return {
        name: _mapped(path, name, 8 + length, **_plain(entry)) for name, entry in header.items()
    }


def _unique(pairs):
    names = [name for name, _ in pairs]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(pairs) < 9 else []
    if len(set(names)) != len(names):
        raise WeightsError(f"the same name stands twice in its header {twice}")
    return dict(pairs)


def _plain(entry):
    return {"dtype": entry["dtype"], "shape": entry["shape"], "span": entry["data_offsets"]}


def _mapped(path, name, start, dtype, shape, span):
    if dtype not in SAFETENSORS_DTYPES:
        raise WeightsError(
            f"{path}: {name} has dtype {dtype}, readable are {list(SAFETENSORS_DTYPES)}."
        )
    dtype = SAFETENSORS_DTYPES[dtype]
    stored = np.dtype("uint16" if dtype == "bfloat16" else dtype)

    def read():
        if span[0] == span[1]:
            return np.empty(shape, stored)
        return np.memmap(path, stored, "r", start + span[0], tuple(shape))

    return Tensor(tuple(shape), dtype, read)


def _read_torch(path):
    content = torch_zip.read(path)
    for container in CONTAINERS:
        if isinstance(content, dict) and isinstance(content.get(container), dict):
            content = content[container]
            break
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"{path}: holds {type(content).__name__}, not named tensors.")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise WeightsError(
            f"{path}: {others[:5]} are no tensors. Weights are expected at the top of the file or "
            f"under {' or '.join(map(repr, CONTAINERS))}."
        )
    return dict(content)


def _is_keras(path):
    try:
        with zipfile.ZipFile(path) as archive:
            return "model.weights.h5" in archive.namelist()
    except zipfile.BadZipFile:
        return False


def _read_keras(path):
    """The weights of a `.keras` file. Its configuration, which could name code, is not read."""
    try:
        with zipfile.ZipFile(path) as archive:
            entry = archive.getinfo("model.weights.h5")
            if entry.file_size > 4 * os.path.getsize(path):
                raise WeightsError(f"{path}: unpacks to {entry.file_size} bytes, refused.")
            return _read_hdf5(path, archive.open(entry))
    except zipfile.BadZipFile as error:
        raise WeightsError(f"{path}: damaged .keras file ({error}).") from None


def _read_hdf5(path, source):
    try:
        file = h5py.File(source, "r")
        if "layer_names" in file.attrs:
            return dict(_legacy_layers(path, file))
        if "layers" not in file:
            raise WeightsError(f"{path}: an HDF5 file that Keras did not write.")
        return dict(_layers(path, file["layers"], ()))
    except (OSError, RuntimeError, KeyError, zipfile.BadZipFile) as error:
        raise WeightsError(f"{path}: damaged HDF5 file ({error}).") from None


def _layers(path, group, names):
    """Keras 3: `layers/<class>_<n>/<child>/vars/<i>`; `vars` knows the layer's name.

    A tensor is named by the layers on its way and its number: `stage0_block0/dwconv/0`.
    """
    for key in group:
        child = _inside(path, group, key)
        if not isinstance(child, h5py.Group) or key == "vars":
            continue
        inner = names
        if "vars" in child:
            values = _inside(path, child, "vars")
            if "name" not in values.attrs:
                raise WeightsError(
                    f"{path}: written by an old Keras 3, without the names of the layers. Load it "
                    "there and save it with Keras 3.15 or newer."
                )
            inner = (*names, str(values.attrs["name"]))
            for number in values:
                yield "/".join((*inner, number)), _dataset(path, values, number)
        yield from _layers(path, child, inner)


def _legacy_layers(path, file):
    """Keras 2: a group per layer, whose `weight_names` end in `<inner layer>/<weight>:0`."""
    for layer in map(_text, file.attrs["layer_names"]):
        group = _inside(path, file, layer)
        counts = {}
        for weight in map(_text, group.attrs.get("weight_names", ())):
            inner = weight.split("/")[-2] if "/" in weight else layer
            module = layer if inner == layer else f"{layer}/{inner}"
            number = counts[module] = counts.get(module, -1) + 1
            yield f"{module}/{number}", _dataset(path, group, weight)


def _text(value):
    return value.decode() if isinstance(value, bytes) else str(value)


def _inside(path, group, key):
    for part in key.split("/"):
        if not isinstance(group.get(part, getlink=True), h5py.HardLink):
            raise WeightsError(f"{path}: {part!r} points outside of the file, refused.")
        group = group[part]
    return group


def _dataset(path, group, key):
    dataset = _inside(path, group, key)
    if not isinstance(dataset, h5py.Dataset) or dataset.dtype.kind not in "fiu":
        raise WeightsError(f"{path}: {key} is no array of numbers.")
    if dataset.external or dataset.is_virtual:
        raise WeightsError(f"{path}: {key} has its data in another file, refused.")
    return Tensor(tuple(dataset.shape), dataset.dtype.name, lambda: dataset[()])
