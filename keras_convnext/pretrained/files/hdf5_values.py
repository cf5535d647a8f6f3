"""Reads what an `hdf5.Structure` says about its arrays, and the short texts beside them.

The roman numerals are the sections of the format's specification, as in `hdf5.py`.
"""

import dataclasses
import math
import struct

from keras_convnext.pretrained.files.hdf5 import TEXTS, UNDEFINED
from keras_convnext.pretrained.files.tensors import MAX_AXES, MAX_NAME, WeightsError

DATASPACE, DATATYPE, EXTERNAL, LAYOUT, FILTERS, ATTRIBUTE = 0x01, 0x03, 0x07, 0x08, 0x0B, 0x0C
ATTRIBUTE_INFO = 0x15
FIXED_TEXT, OPAQUE, VARIABLE = 3, 5, 9  # classes of types
CONTIGUOUS = 1  # class of a layout
OPAQUE_16 = "opaque of 16 bits"  # h5py's form of a bfloat16
PACKED = (
    "is chunked or compressed, as Keras does not write it. `h5repack -l CONTI -f NONE` makes a "
    "plain copy."
)


def _float(size, sign, exponent, bits, mantissa, bias):
    fields = (0x20, sign, 0, size, 0, 8 * size, exponent, bits, 0, mantissa, bias)
    return struct.pack("<BBBIHHBBBBI", *fields)


def _integer(size, signed):
    return struct.pack("<BBBIHH", 8 * signed, 0, 0, size, 0, 8 * size)


# The types of numbers, as a datatype message has them behind its first byte (IV.A.2.d): IEEE
# floats and whole integers, little-endian. One bit less or more is no number that Keras writes.
NUMBERS = {
    (1, _float(2, 15, 10, 5, 10, 15)): "float16",
    (1, _float(4, 31, 23, 8, 23, 127)): "float32",
    (1, _float(8, 63, 52, 11, 52, 1023)): "float64",
    **{(0, _integer(size, True)): f"int{8 * size}" for size in (1, 2, 4, 8)},
    **{(0, _integer(size, False)): f"uint{8 * size}" for size in (1, 2, 4, 8)},
}


@dataclasses.dataclass(frozen=True)
class Array:
    """A dataset of numbers.

    Attributes:
        shape: tuple of ints.
        dtype: NumPy's name of its type, or `OPAQUE_16`.
        start: position of its first byte in the file; all its numbers lie behind one another.
        size: bytes of its numbers.
    """

    shape: tuple
    dtype: str
    start: int
    size: int


def array(structure, dataset):
    """Returns the `Array` of a dataset.

    Raises:
        WeightsError: if it holds no numbers, or does not hold them as they are and at once: packed
            ones can be a bomb.
    """
    space, kind = dataset.one(DATASPACE), dataset.one(DATATYPE)
    shape = None if space is None else _shape(space)
    dtype = None if kind is None else _dtype(kind)
    if shape is None or dtype is None:
        raise WeightsError("is no array of numbers (IEEE floats or integers, little-endian).")
    if dataset.all(EXTERNAL):
        raise WeightsError("has its data in another file, refused.")
    if dataset.all(FILTERS):
        raise WeightsError(PACKED)
    start, size = _extent(dataset)
    if size != math.prod(shape) * _itemsize(dtype) or start == UNDEFINED:
        raise WeightsError(f"declares {shape} numbers ({dtype}), which are not in the file.")
    structure.claim(start, size, "numbers")
    return Array(shape, dtype, start, size)


def claim_numbers(structure, dataset):
    """Notes where the numbers of a dataset lie that is not read."""
    if dataset.all(LAYOUT) and not dataset.all(EXTERNAL) and not dataset.all(FILTERS):
        layout = dataset.one(LAYOUT)
        if layout[:2] == bytes((3, CONTIGUOUS)):
            start, size = _extent(dataset)
            if start != UNDEFINED:
                structure.claim(start, size, "numbers")


def _extent(dataset):
    """Returns where the numbers begin and how many bytes they have (IV.A.2.i)."""
    layout = dataset.one(LAYOUT)
    if layout is None or len(layout) < 18 or layout[0] not in (3, 4) or layout[1] != CONTIGUOUS:
        raise WeightsError(PACKED)
    return struct.unpack_from("<QQ", layout, 2)


def _itemsize(dtype):
    return 2 if dtype == OPAQUE_16 else int(dtype.lstrip("uintfloa")) // 8


def _shape(message):
    """Returns the shape in a dataspace message, `None` for one without elements (IV.A.2.b)."""
    version, rank, flags, kind = message[:4]
    if version not in (1, 2) or rank > MAX_AXES or (version == 2 and kind > 2):
        raise WeightsError(f"has a shape of version {version} with {rank} axes.")
    if version == 2 and kind == 2:
        return None
    start = 8 if version == 1 else 4
    if len(message) < start + 8 * rank * (1 + (flags & 1)):
        raise WeightsError("has a shape that is cut off.")
    return struct.unpack_from(f"<{rank}Q", message, start)


def _dtype(message):
    """Returns the dtype in a datatype message, `None` where it is of no numbers (IV.A.2.d)."""
    kind, version = message[0] & 15, message[0] >> 4
    if version not in (1, 2, 3):
        return None
    if kind == OPAQUE and int.from_bytes(message[4:8], "little") == 2:
        return OPAQUE_16
    found = [k for k in NUMBERS if k[0] == kind and message[1:].startswith(k[1])]
    return NUMBERS[found[0]] if found and not any(message[1 + len(found[0][1]) :]) else None


# ---------------------------------------------------------------- texts


def texts(structure, item, name):
    """Returns the texts of an attribute of an object as a list, `None` if it has no such.

    Raises:
        WeightsError: if it holds anything else.
    """
    if item.all(ATTRIBUTE_INFO) and not item.all(ATTRIBUTE):
        _check_attributes_are_here(item)
    found = [parts for parts in map(_attribute, item.all(ATTRIBUTE)) if parts[0] == name.encode()]
    if not found:
        return None
    _, kind, space, data = found[0]
    shape = _shape(space)
    if shape is None or len(found) > 1:
        raise WeightsError(f"its attribute {name!r} is no text.")
    count = math.prod(shape)
    return [_text(value) for value in _values(structure, kind, data, count)] if count else []


def _check_attributes_are_here(item):
    info = item.one(ATTRIBUTE_INFO)
    if struct.unpack_from("<Q", info, 2 + 2 * (info[1] & 1))[0] != UNDEFINED:
        raise WeightsError("has more attributes than Keras writes.")


def _attribute(message):
    """Returns name, datatype, dataspace and data of an attribute message (IV.A.2.m)."""
    version, flags, *sizes = struct.unpack_from("<BBHHH", message)
    if version not in (1, 2, 3) or (version > 1 and flags & 3):
        raise WeightsError(f"an attribute is of version {version}, or shared.")
    start, parts = 9 if version == 3 else 8, []
    for size in sizes:
        parts.append(message[start : start + size])
        start += -(-size // 8) * 8 if version == 1 else size
    if start > len(message):
        raise WeightsError("an attribute is cut off.")
    name, kind, space = parts
    return name.rstrip(b"\0"), kind, space, message[start:]


def _values(structure, kind, data, count):
    """Yields the bytes of `count` texts."""
    number, size = kind[0] & 15, int.from_bytes(kind[4:8], "little")
    is_variable = number == VARIABLE and kind[1] & 15 == 1 and size == 16
    if not (number == FIXED_TEXT or is_variable) or not size or count * size > len(data):
        raise WeightsError("an attribute with names holds no texts.")
    for start in range(0, count * size, size):
        value = data[start : start + size]
        if is_variable:
            length, collection, index = struct.unpack("<IQI", value)
            value = _heap(structure, collection).get(index, b"")[:length] if length else b""
            if len(value) != length:
                raise WeightsError(f"a text is longer than its place, or than {MAX_NAME} bytes.")
        yield value


def _text(value):
    value = value.rstrip(b"\0")
    if len(value) > MAX_NAME:
        raise WeightsError(f"{value[:50]!r} ... is no name: it has {len(value)} bytes.")
    return value.decode("utf-8")


def _heap(structure, address):
    """Returns `{index: bytes}` of a collection of texts (III.E); only short ones are taken."""
    if address not in structure.collections:
        structure.collections[address] = dict(_objects(structure, address))
    return structure.collections[address]


def _objects(structure, address):
    structure.signature(address, TEXTS)
    (size,) = structure.unpack("Q", address + 8)
    structure.claim(address, size, "texts")
    start, end = address + 16, address + size
    while start + 16 <= end:
        index, size = structure.unpack("H6xQ", start)
        if index == 0:  # what is left is free
            return
        if start + 16 + size > end:
            raise WeightsError(f"a text at {start} is longer than the place of its kind.")
        yield index, structure.bytes(start + 16, min(size, MAX_NAME + 1))
        start += 16 + -(-size // 8) * 8
