"""Reads the tensors of a PyTorch `.pth`, `.pt` or `.bin` file without PyTorch, and runs nothing.

Such a file is an uncompressed zip archive: `data.pkl` describes the objects, `data/<key>` holds the
bytes of each storage. A pickle is a program; this reader gives it the few instructions that
PyTorch writes and six functions that only describe tensors, and refuses everything else. Sizes
are checked against the file before anything is allocated.
"""

import argparse
import dataclasses
import io
import pickle
import pickletools
import warnings

import numpy as np

from keras_convnext.pretrained.files import zip_archive
from keras_convnext.pretrained.files.tensors import MAX_AXES, Tensor, WeightsError, mapped

# The largest network with two sets of weights and its optimizer needs 160 kB. Each byte of a pickle
# can become an object of 70.
MAX_PICKLE_BYTES = 2 * 2**20

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

KINDS_OF_PATH = ("Posix", "Windows", "PurePosix", "PureWindows")
# Where training scripts and model zoos keep the weights inside of a file, the preferred one first.
CONTAINERS = (
    *("model", "state_dict", "model_state_dict", "model_state", "module", "net", "network"),
    *("net_state_dict", "weights", "params", "backbone", "encoder", "state"),
    *("model_ema", "state_dict_ema", "ema_state_dict", "ema_model", "ema", "params_ema", "teacher"),
)
MAX_CONTAINERS = 4  # inside of each other
# What training scripts keep beside the weights: their arguments, scores and paths. None of it is
# made or looked at.
INERT = {
    (argparse.Namespace.__module__, "Namespace"),
    ("torch", "device"),
    ("numpy", "dtype"),
    *((module, "scalar") for module in ("numpy.core.multiarray", "numpy._core.multiarray")),
    ("_codecs", "encode"),  # the bytes of a NumPy scalar
    *(
        (module, f"{kind}Path")
        for module in ("pathlib", "pathlib._local")
        for kind in KINDS_OF_PATH
    ),
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
    """Stands for an object of `INERT`."""

    def __init__(self, *args):
        pass


def read(path, archive):
    """Returns the nested dicts of an opened archive, with a lazy `Tensor` for each tensor.

    Raises:
        WeightsError: if PyTorch did not write it, it is damaged, or its pickle asks for anything
            but tensors in plain containers.
    """
    try:
        return _Reader(path, archive).load()
    except WeightsError:
        raise
    except Exception as error:  # a damaged archive or pickle can fail in any way
        raise WeightsError(
            f"not a file of PyTorch or a damaged one ({type(error).__name__}: {error}). "
            "Files that PyTorch before 1.6 wrote are refused too: convert such a file once with "
            "`safetensors.torch.save_file(torch.load(path, weights_only=True), 'new.safetensors')`."
        ) from None


class _Reader:
    def __init__(self, path, archive):
        if any(name.split("/")[1:] == ["constants.pkl"] for name in archive.namelist()):
            raise WeightsError(
                "a TorchScript archive, whose code is not read. Save its tensors alone: "
                "`torch.save(torch.jit.load(path).state_dict(), 'new.pth')`."
            )
        self.path, self.entries = path, zip_archive.entries(path, archive)
        pickles = [name for name in self.entries if name.split("/")[1:] == ["data.pkl"]]
        if len(pickles) != 1:
            raise WeightsError("a zip archive, but not one that PyTorch or Keras wrote.")
        self.root = pickles[0].split("/")[0]
        # `torch.serialization.set_crc32_options(False)` writes zeros
        self.has_checksums = any(entry.CRC for entry in self.entries.values())
        self.starts = {}  # of the entries whose checksums were compared
        if self._bytes("byteorder", 100, b"little").strip() != b"little":
            raise WeightsError("written on a big-endian machine, which is not supported.")

    def load(self):
        return _Unpickler(self, io.BytesIO(self._bytes("data.pkl", MAX_PICKLE_BYTES))).load()

    def _bytes(self, name, most, default=b""):
        entry = self.entries.get(f"{self.root}/{name}")
        if entry is None:
            return default
        if entry.file_size > most:
            raise WeightsError(
                f"its description of the tensors ({name}) has {entry.file_size} bytes, at most "
                f"{most} are read."
            )
        with open(self.path, "rb") as file:
            file.seek(self._start(entry))
            return file.read(entry.file_size)

    def _start(self, entry):
        if entry.filename not in self.starts:
            start = zip_archive.checked_start(self.path, entry, self.has_checksums)
            self.starts[entry.filename] = start
        return self.starts[entry.filename]

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
            lambda: self._view(entry, storage, offset, shape, strides),
        )

    def _view(self, entry, storage, offset, shape, strides):
        if 0 in shape:
            return np.empty(shape, "uint16" if storage.dtype == "bfloat16" else storage.dtype)
        data = mapped(self.path, storage.dtype, self._start(entry), (storage.count,))
        return np.lib.stride_tricks.as_strided(
            data[offset:], shape, [data.itemsize * stride for stride in strides], writeable=False
        )


def weights(content):
    """Returns the `{name: Tensor}` of what a file holds: at its top, or in one of `CONTAINERS`.

    Warns where several hold weights, for example a network and its moving averages: the one that is
    named first in `CONTAINERS` is read.

    Raises:
        WeightsError: if there are no weights, or something else among them.
    """
    for _ in range(MAX_CONTAINERS):
        held = [key for key in CONTAINERS if _has_tensors(content, key)]
        if not held:
            break
        if len(held) > 1:
            warnings.warn(
                f"The file holds weights under {', '.join(map(repr, held))}: those under "
                f"{held[0]!r} are read. For others, save them to a file of their own.",
                stacklevel=2,
            )
        content = content[held[0]]
    if not isinstance(content, dict) or not content:
        raise WeightsError(f"holds {type(content).__name__}, not named tensors.")
    others = [str(name) for name, value in content.items() if not isinstance(value, Tensor)]
    if others:
        raise WeightsError(
            f"{others[:5]} are no tensors. Weights are expected at the top of the file or under "
            f"one of {', '.join(map(repr, CONTAINERS))}."
        )
    return content


def _has_tensors(content, key):
    """Returns whether there are tensors under a key, or in containers there."""
    inside = content.get(key) if isinstance(content, dict) else None
    for _ in range(MAX_CONTAINERS):
        if not isinstance(inside, dict) or any(isinstance(v, Tensor) for v in inside.values()):
            break
        inside = next((inside[key] for key in CONTAINERS if key in inside), None)
    return isinstance(inside, dict) and bool(inside)


class _Instructions(dict):
    def __missing__(self, code):
        name = getattr(pickletools.code2op.get(chr(code)), "name", f"byte {code}")
        raise WeightsError(f"its pickle has {name}, which PyTorch does not write.")


class _Unpickler(pickle._Unpickler):
    """The interpreter of the standard library, in Python, with a smaller table of instructions.

    The names in a dict must be strings or ints: a tuple of tuples of tuples can be written in a few
    bytes such that its hash takes for ever or overflows the stack.
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
            **dict.fromkeys(INERT, _Inert),
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

    def _tensor(self, storage, offset, shape, strides, gradient, hooks, metadata=None):
        """Makes a tensor. `metadata` may ask for negated numbers, which is refused."""
        if not isinstance(storage, _Storage):
            raise WeightsError("a tensor without a storage")
        self._check_plain(gradient, hooks)
        if metadata not in (None, {}):
            raise WeightsError(f"a tensor with {metadata!r:.100}, which is not supported.")
        return self.reader.tensor(storage, offset, _axes(shape), _axes(strides))

    def _parameter(self, tensor, gradient, hooks):
        if not isinstance(tensor, Tensor):
            raise WeightsError("a parameter without a tensor")
        self._check_plain(gradient, hooks)
        return tensor

    def _check_plain(self, gradient, hooks):
        if type(gradient) is not bool or hooks not in (None, {}):
            raise WeightsError("a tensor with hooks, which are not supported.")

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
        """Drops the state of what is inert, and the versions of a module's parts."""
        state, target = self.stack.pop(), self.stack[-1]
        plain = type(target) is dict and type(state) is dict and set(state) <= {"_metadata"}
        if not plain and not isinstance(target, _Inert):
            raise WeightsError(f"its pickle gives a {type(target).__name__} a state of its own.")

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
