"""Reads the tensors of a PyTorch `.pth`, `.pt` or `.bin` file without PyTorch, and runs nothing.

Such a file is an uncompressed zip archive: `data.pkl` describes the objects, `data/<key>` holds the
bytes of each storage. A pickle is a program; this reader lets it call six functions that only
describe tensors, and refuses everything else. Sizes are checked against the file before anything
is allocated.
"""

import argparse
import collections
import dataclasses
import io
import pickle
import pickletools
import zipfile

import numpy as np

from keras_convnext.pretrained.tensors import Tensor, WeightsError

MAX_PICKLE_BYTES = 64 * 2**20  # the largest published file needs less than one

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
OPCODES = frozenset(
    "PROTO EMPTY_DICT EMPTY_LIST EMPTY_TUPLE MARK TUPLE TUPLE1 TUPLE2 TUPLE3 LIST DICT "
    "BINPUT LONG_BINPUT BINGET LONG_BINGET BINUNICODE SHORT_BINSTRING GLOBAL BINPERSID "
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

    def __init__(self, *args, **kwargs):
        pass

    def __setstate__(self, state):
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
    except zipfile.BadZipFile as error:
        raise WeightsError(
            f"{path}: not a zip archive or a damaged one ({error}). Files that PyTorch before 1.6 "
            "wrote, and files with other contents, are refused. Convert it once with "
            "`safetensors.torch.save_file(torch.load(path, weights_only=True), 'new.safetensors')`."
        ) from None


class _Reader:
    def __init__(self, path, archive):
        self.path, self.archive = path, archive
        self.entries = {entry.filename: entry for entry in archive.infolist()}
        pickles = [name for name in self.entries if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1 or len(self.entries) != len(archive.infolist()):
            raise WeightsError(f"{path}: a zip archive, but not one that PyTorch wrote.")
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in self.entries.values()):
            raise WeightsError(f"{path}: PyTorch does not compress its archives, this one is.")
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
        data = self.archive.read(entry)
        try:
            _check_opcodes(data)
            return _Unpickler(self, io.BytesIO(data)).load()
        except WeightsError as error:
            raise WeightsError(f"{self.path}: {error}") from None
        except Exception as error:  # a damaged pickle can fail in any way
            raise WeightsError(f"{self.path}: its description is damaged ({error!r}).") from None

    def tensor(self, storage, offset, shape, strides):
        """A lazy view of a storage, after checking that it lies within the file."""
        ints = (offset, *shape, *strides)
        if len(shape) != len(strides) or any(type(i) is not int or i < 0 for i in ints):
            raise WeightsError(f"a tensor of shape {shape} with strides {strides}")
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
        data = _stored_bytes(self.path, entry)
        data = data.view("uint16" if dtype == "bfloat16" else dtype)
        return np.lib.stride_tricks.as_strided(
            data[offset:], shape, [data.itemsize * stride for stride in strides], writeable=False
        )


def _stored_bytes(path, entry):
    """The bytes of an uncompressed zip entry, mapped, not read."""
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


def _check_opcodes(data):
    count = 0
    for opcode, argument, _ in pickletools.genops(data):
        count += 1
        if opcode.name not in OPCODES:
            raise WeightsError(f"its pickle has {opcode.name}, which PyTorch does not write.")
        if opcode.name == "LONG_BINPUT" and argument > count:
            raise WeightsError("its pickle numbers its objects wrongly.")


class _Unpickler(pickle.Unpickler):
    def __init__(self, reader, file):
        super().__init__(file)
        self.reader = reader

    def find_class(self, module, name):
        if module == "torch" and name in STORAGES:
            return STORAGES[name]
        found = {
            ("collections", "OrderedDict"): collections.OrderedDict,
            ("torch._utils", "_rebuild_tensor_v2"): self._tensor,
            ("torch._utils", "_rebuild_parameter"): self._parameter,
            ("torch", "Size"): tuple,
            ("torch", "device"): _Inert,
            (argparse.Namespace.__module__, "Namespace"): _Inert,
        }.get((module, name))
        if found is None:
            raise WeightsError(
                f"its pickle asks for {module}.{name}. Only tensors in dicts, lists and tuples are "
                "read; nothing was run. If you trust the file, keep the tensors alone of it."
            )
        return found

    def persistent_load(self, pid):
        kind, dtype, key, _, count = pid
        if kind != "storage" or dtype not in STORAGES.values() or type(count) is not int:
            raise WeightsError(f"its pickle refers to {pid!r}, which is no storage.")
        return _Storage(str(key), dtype, count)

    def _tensor(self, storage, offset, shape, strides, *unused):
        if not isinstance(storage, _Storage):
            raise WeightsError("a tensor without a storage")
        return self.reader.tensor(storage, offset, tuple(shape), tuple(strides))

    def _parameter(self, tensor, *unused):
        return tensor
