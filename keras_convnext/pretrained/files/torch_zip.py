"""Reads the tensors of a PyTorch `.pth`, `.pt` or `.bin` file without PyTorch, and runs nothing.

Such a file is an uncompressed zip archive: `data.pkl` describes the objects, `data/<key>` holds the
bytes of each storage. A pickle is a program; this reader gives it the few instructions that
PyTorch writes and six functions that only describe tensors, and refuses everything else. Sizes
are checked against the file before anything is allocated.
"""

import argparse
import dataclasses
import io
import os
import pickle
import pickletools
import zipfile

import numpy as np

from keras_convnext.pretrained.files.tensors import Tensor, WeightsError

# The largest network with two sets of weights and its optimizer needs 160 kB. Each byte of a pickle
# can become an object of 70.
MAX_PICKLE_BYTES = 2 * 2**20
MAX_AXES = 8

STORAGES = {
    "DoubleStorage": "float64",
    "FloatStorage": "float32",
    "HalfStorage": "float16",
    "BFloat16Storage": "bfloat16",
    "LongStorage": "int64",
    "IntStorage": "int32",
    "ShortStorage": "int16",
    "CharStorage": "int8",
    "ByteStorage": "uint8",
    "BoolStorage": "bool",
}

# What torch.save writes. Anything else is not from there; some of it could allocate at will.
OPCODES = (
    "PROTO EMPTY_DICT EMPTY_LIST EMPTY_TUPLE MARK TUPLE TUPLE1 TUPLE2 TUPLE3 "
    "BINPUT LONG_BINPUT BINGET LONG_BINGET BINUNICODE GLOBAL BINPERSID "
    "BININT BININT1 BININT2 LONG1 BINFLOAT NEWTRUE NEWFALSE NONE "
    "REDUCE BUILD NEWOBJ SETITEM SETITEMS APPEND APPENDS STOP".split()
)


@dataclasses.dataclass(frozen=True)
class _Storage:
    key: str
    dtype: str
    count: int


class _Inert:
    """Stands for an object whose content is not needed (a training script's arguments)."""

    def __init__(self, *args):
        pass


def read(path):
    """-> nested dicts of the file, with a lazy `Tensor` for each tensor.

    Raises:
        WeightsError: if the file is not such an archive, is damaged, or its pickle asks for
            anything but tensors in plain containers.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            return _Reader(path, archive).load()
    except WeightsError:
        raise
    except Exception as error:  # a damaged archive or pickle can fail in any way
        raise WeightsError(
            f"{path}: not a file of PyTorch or a damaged one ({type(error).__name__}: {error}). "
            "Files that PyTorch before 1.6 wrote are refused too: convert such a file once with "
            "`safetensors.torch.save_file(torch.load(path, weights_only=True), 'new.safetensors')`."
        ) from None


def entries(path, archive):
    """-> {name: entry} of a zip archive as PyTorch and Keras write it, none of them packed.

    Raises:
        WeightsError: if a name stands twice, or an entry is compressed, encrypted or longer than
            the file.
    """
    infos = archive.infolist()
    found = {info.filename: info for info in infos}
    if len(found) != len(infos):
        raise WeightsError(f"{path}: a zip archive in which a name stands twice.")
    for info in infos:
        plain = info.compress_type == zipfile.ZIP_STORED and not info.flag_bits & 1
        if not plain or info.compress_size != info.file_size:
            raise WeightsError(
                f"{path}: {info.filename} is compressed. PyTorch and Keras store their entries "
                "as they are: unpack it, and zip it again with `zip -0`."
            )
        if info.header_offset < 0 or info.header_offset + info.file_size > os.path.getsize(path):
            raise WeightsError(f"{path}: truncated at {info.filename}.")
    return found


def stored_bytes(path, entry):
    """-> the bytes of an uncompressed zip entry as a uint8 array, mapped, not read."""
    with open(path, "rb") as file:
        file.seek(entry.header_offset)
        header = file.read(30)
        if len(header) < 30 or header[:4] != b"PK\x03\x04":
            raise WeightsError(f"{path}: damaged archive at {entry.filename}.")
        skip = int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
        start = entry.header_offset + 30 + skip
        if start + entry.file_size > file.seek(0, io.SEEK_END):
            raise WeightsError(f"{path}: truncated at {entry.filename}.")
    if not entry.file_size:  # an empty map is not allowed
        return np.empty(0, "uint8")
    return np.memmap(path, "uint8", "r", start, (entry.file_size,))


class _Reader:
    def __init__(self, path, archive):
        self.path, self.archive = path, archive
        self.entries = entries(path, archive)
        pickles = [name for name in self.entries if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise WeightsError(f"{path}: a zip archive, but not one that PyTorch or Keras wrote.")
        self.root = pickles[0].split("/")[0]
        if self._text("byteorder", "little").strip() != "little":
            raise WeightsError(f"{path}: written on a big-endian machine, which is not supported.")

    def _text(self, name, default):
        entry = self.entries.get(f"{self.root}/{name}")
        if entry is None or entry.file_size > 100:
            return default
        return self.archive.read(entry).decode("ascii", "replace")

    def load(self):
        entry = self.entries[f"{self.root}/data.pkl"]
        if entry.file_size > MAX_PICKLE_BYTES:
            raise WeightsError(
                f"{self.path}: its description of the tensors has {entry.file_size} bytes, "
                f"at most {MAX_PICKLE_BYTES} are read."
            )
        try:
            return _Unpickler(self, io.BytesIO(self.archive.read(entry))).load()
        except WeightsError as error:
            raise WeightsError(f"{self.path}: {error}") from None

    def tensor(self, storage, offset, shape, strides):
        """A lazy view of a storage, after checking that it lies within the file."""
        if not len(shape) == len(strides) <= MAX_AXES:
            raise WeightsError(f"a tensor of {len(shape)} axes and {len(strides)} strides")
        if any(type(i) is not int or i < 0 for i in (offset, *shape, *strides)):
            raise WeightsError("a tensor whose shape, strides and offset are no sizes")
        itemsize = np.dtype("uint16" if storage.dtype == "bfloat16" else storage.dtype).itemsize
        entry = self.entries.get(f"{self.root}/data/{storage.key}")
        if entry is None or entry.file_size != storage.count * itemsize:
            raise WeightsError(
                f"storage {storage.key!r} of {storage.count} x {storage.dtype} is not in the file"
            )
        size = int(np.prod(shape, dtype=object)) if shape else 1
        last = offset + sum((n - 1) * s for n, s in zip(shape, strides, strict=True))
        if size and (size > storage.count or last >= storage.count):
            raise WeightsError(f"a tensor of shape {shape} in a storage of {storage.count}")
        return Tensor(
            tuple(shape),
            storage.dtype,
            lambda: self._view(entry, storage.dtype, offset, shape, strides),
        )

    def _view(self, entry, dtype, offset, shape, strides):
        data = stored_bytes(self.path, entry).view("uint16" if dtype == "bfloat16" else dtype)
        return np.lib.stride_tricks.as_strided(
            data[offset:], shape, [data.itemsize * stride for stride in strides], writeable=False
        )


class _Instructions(dict):
    def __missing__(self, code):
        name = getattr(pickletools.code2op.get(chr(code)), "name", f"byte {code}")
        raise WeightsError(f"its pickle has {name}, which PyTorch does not write.")


class _Unpickler(pickle._Unpickler):
    """The interpreter of the standard library, in Python, with a smaller table of instructions.

    The names in a dict must be strings or ints: a tuple of tuples of tuples can be written in a few
    bytes such that its hash takes for ever or overflows the stack. The state of objects is dropped.
    """

    dispatch = _Instructions(
        (code, pickle._Unpickler.dispatch[code])
        for code in (getattr(pickle, name)[0] for name in OPCODES)
    )

    def __init__(self, reader, file):
        super().__init__(file)
        self.reader = reader

    def find_class(self, module, name):
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        found = {
            ("collections", "OrderedDict"): _empty,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): self._parameter,
            ("torch", "Size"): _axes,
            ("torch", "device"): _Inert,
            (argparse.Namespace.__module__, "Namespace"): _Inert,
        }.get((module, name))
        if found is None:
            raise WeightsError(
                f"its pickle asks for {f'{module}.{name}'[:100]}. Only tensors in dicts, lists and "
                "tuples are read; nothing was run. If you trust the file, keep the tensors alone "
                "of it: `torch.save(model.state_dict(), path)`."
            )
        return found

    def persistent_load(self, pid):
        if type(pid) is not tuple or [type(part) for part in pid] != [str, str, str, str, int]:
            raise WeightsError("its pickle refers to something that is no storage.")
        kind, dtype, key, _, count = pid
        if kind != "storage" or dtype not in STORAGES.values():
            raise WeightsError(f"its pickle refers to {kind[:100]!r} of {dtype[:100]!r}.")
        return _Storage(key, dtype, count)

    def _tensor(self, storage, offset, shape, strides, *unused):
        if not isinstance(storage, _Storage):
            raise WeightsError("a tensor without a storage")
        return self.reader.tensor(storage, offset, _axes(shape), _axes(strides))

    def _parameter(self, tensor, *unused):
        return tensor

    def _set(self, target, pairs):
        for name, value in pairs:
            if type(target) is not dict or type(name) not in (str, int) or name in target:
                raise WeightsError("its pickle has a dict with a name twice or a strange name.")
            target[name] = value

    def _setitem(self):
        value, name = self.stack.pop(), self.stack.pop()
        self._set(self.stack[-1], [(name, value)])

    def _setitems(self):
        items = self.pop_mark()
        self._set(self.stack[-1], zip(items[::2], items[1::2], strict=True))

    def _build(self):
        self.stack.pop()

    def _newobj(self):
        _, kind = self.stack.pop(), self.stack.pop()
        if kind is not _Inert:
            raise WeightsError("its pickle makes an object of a strange kind.")
        self.append(_Inert())

    dispatch |= {
        pickle.SETITEM[0]: _setitem,
        pickle.SETITEMS[0]: _setitems,
        pickle.BUILD[0]: _build,
        pickle.NEWOBJ[0]: _newobj,
    }


def _empty():
    return {}


def _axes(values):
    if type(values) not in (tuple, list) or len(values) > MAX_AXES:
        raise WeightsError(f"the shape of a tensor has more than {MAX_AXES} axes or is none.")
    return tuple(values)
