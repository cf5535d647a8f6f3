"""Opens a file of weights, of any kind, as a dict of lazy tensors. The kind is seen from the bytes.

Nothing in a file is executed, and no array is read before its shape was compared with the model's.
Every tensor's numbers lie in the file: what only declares a size is refused.
"""

import dataclasses
import functools
import io
import json
import math
import os
import zipfile

import h5py
import numpy as np
import safetensors

from keras_convnext.pretrained.files import torch_zip
from keras_convnext.pretrained.files.tensors import Tensor, WeightsError

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
MAX_NAME = 500  # characters; names are matched with regular expressions
WHOLE_ARRAYS = (h5py.h5d.COMPACT, h5py.h5d.CONTIGUOUS)


def read(path):
    """-> `{name: Tensor}` of the file at `path`.

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
    """-> the function that reads this kind of file."""
    with open(path, "rb") as file:
        head = file.read(16)
    if head.startswith(b"PK\x03\x04"):
        return _read_zip
    if head.startswith(b"\x89HDF\r\n\x1a\n"):
        return _read_hdf5
    if head[8:9] == b"{":
        return _read_safetensors
    legacy = " It looks like a bare pickle (PyTorch before 1.6)." if head[:1] == b"\x80" else ""
    raise WeightsError(
        f"{path}: starts with {head[:8]!r}, which is no known kind of weights.{legacy} "
        f"Known are {KINDS}."
    )


def _unharmed(path, function, *args):
    """`function(*args)`. The libraries report a damaged file in any way; here it is one error."""
    try:
        return function(*args)
    except WeightsError:
        raise
    except Exception as error:
        raise WeightsError(f"{path}: damaged ({type(error).__name__}: {error}).") from None


def _check_tensors(path, tensors):
    if not tensors:
        raise WeightsError(f"{path}: holds no tensors.")
    strange = [name for name in tensors if not isinstance(name, str) or len(name) > MAX_NAME]
    if strange:
        raise WeightsError(
            f"{path}: {str(strange[0])[:50]!r} is no name of a tensor "
            f"(a string of at most {MAX_NAME} characters)."
        )
    empty = [name for name, tensor in tensors.items() if 0 in tensor.shape]
    if empty:
        raise WeightsError(f"{path}: {empty[:5]} have no elements.")


def _unique(path, pairs):
    """-> `dict(pairs)`, if no name stands twice."""
    found = {}
    for name, value in pairs:
        if name in found:
            raise WeightsError(f"{path}: double: {name[:MAX_NAME]} stands twice in the file.")
        found[name] = value
    return found


def _read_safetensors(path):
    with safetensors.safe_open(path, "np"):  # the library checks header, sizes and offsets
        pass
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length), object_pairs_hook=functools.partial(_unique, path))
    header.pop("__metadata__", None)
    return {
        name: _mapped(path, name, 8 + length, **_plain(entry)) for name, entry in header.items()
    }


def _plain(entry):
    return {"dtype": entry["dtype"], "shape": entry["shape"], "span": entry["data_offsets"]}


def _mapped(path, name, start, dtype, shape, span):
    if dtype not in SAFETENSORS_DTYPES:
        raise WeightsError(
            f"{path}: {name} has dtype {dtype}, readable are {list(SAFETENSORS_DTYPES)}."
        )
    dtype = SAFETENSORS_DTYPES[dtype]
    stored = np.dtype("uint16" if dtype == "bfloat16" else dtype)
    return Tensor(
        tuple(shape),
        dtype,
        lambda: np.memmap(path, stored, "r", start + span[0], tuple(shape)),
    )


def _read_zip(path):
    with zipfile.ZipFile(path) as archive:
        is_keras = "model.weights.h5" in archive.namelist()
        return _read_keras(path, archive) if is_keras else _read_torch(path)


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
    return content


def _read_keras(path, archive):
    """The weights of a `.keras` file. Its configuration could name code and is not looked at."""
    entry = torch_zip.entries(path, archive)["model.weights.h5"]
    # a copy in memory: a zip entry would be read from its start for each step back
    return _read_hdf5(path, io.BytesIO(torch_zip.stored_bytes(path, entry)))


def _read_hdf5(path, source=None):
    file = h5py.File(source or path, "r")
    if "model_weights" in list(file):  # a whole model in the old format
        file = _inside(path, file, "model_weights")
    if "layer_names" in file.attrs:
        return _unique(path, _legacy_layers(path, file))
    if "layers" not in list(file):
        raise WeightsError(f"{path}: an HDF5 file that Keras did not write.")
    return _unique(path, _layers(path, _inside(path, file, "layers"), (), set()))


def _layers(path, group, names, seen):
    """Keras 3: `layers/<class>_<n>/<child>/vars/<i>`; `vars` knows the layer's name.

    A tensor is named by the layers on its way and its number: `stage0_block0/dwconv/0`.
    """
    keys = list(_once(path, group, seen))
    inner = names
    if "vars" in keys:
        values = _once(path, _inside(path, group, "vars"), seen)
        if "name" not in values.attrs:
            raise WeightsError(
                f"{path}: written by an old Keras 3, without the names of the layers. Load it "
                "there and save it with Keras 3.15 or newer."
            )
        inner = (*names, _text(values.attrs["name"]))
        for number in values:
            yield "/".join((*inner, number)), _dataset(path, values, number)
    for key in keys:
        child = _inside(path, group, key)
        if key != "vars" and isinstance(child, h5py.Group):
            yield from _layers(path, child, inner, seen)


def _legacy_layers(path, file):
    """Keras 2: a group per layer, whose `weight_names` end in `<inner layer>/<weight>:0`."""
    seen = set()
    for layer in map(_text, file.attrs["layer_names"]):
        group = _once(path, _inside(path, file, layer), seen)
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
            raise WeightsError(f"{path}: {part!r} is absent, or a link, refused.")
        group = group[part]
    return group


def _once(path, group, seen):
    """A group may be linked into itself, or so often that its paths are without number."""
    address = h5py.h5o.get_info(group.id).addr
    if address in seen:
        raise WeightsError(f"{path}: the group {group.name!r} is linked twice, refused.")
    seen.add(address)
    return group


def _dataset(path, group, key):
    dataset = _inside(path, group, key)
    if not isinstance(dataset, h5py.Dataset) or dataset.shape is None:
        raise WeightsError(f"{path}: {dataset.name} is no array of numbers.")
    bfloat16 = dataset.dtype == "V2" and dataset.attrs.get("dtype") == "bfloat16"
    if dataset.dtype.kind not in "fiu" and not bfloat16:
        raise WeightsError(f"{path}: {dataset.name} is no array of numbers.")
    _check_stored(path, dataset)
    return Tensor(
        tuple(dataset.shape),
        "bfloat16" if bfloat16 else dataset.dtype.name,
        lambda: dataset[()].view("uint16") if bfloat16 else dataset[()],
    )


def _check_stored(path, dataset):
    """The file must hold the numbers, as they are and at once: packed ones can be a bomb."""
    layout = dataset.id.get_create_plist().get_layout()
    if dataset.external or layout == h5py.h5d.VIRTUAL:
        raise WeightsError(f"{path}: {dataset.name} has its data in another file, refused.")
    if layout not in WHOLE_ARRAYS:
        raise WeightsError(
            f"{path}: {dataset.name} is chunked or compressed, as Keras does not write it. "
            "`h5repack -l CONTI -f NONE` makes a plain copy."
        )
    size = math.prod(dataset.shape) * dataset.dtype.itemsize
    if not dataset.id.get_storage_size() == size <= dataset.file.id.get_filesize():
        raise WeightsError(
            f"{path}: {dataset.name} declares {size} bytes, which are not in the file."
        )
