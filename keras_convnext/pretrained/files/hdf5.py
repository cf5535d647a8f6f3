"""Reads the structure of an HDF5 file: its groups, and where their members lie.

The HDF5 library walks a damaged file in C, where it may never return or allocate gigabytes. Keras
and h5py write few of the format's structures, so those are read here, strictly, from the bytes:
every signature, version and size is checked, every structure is read once, and no two may share a
byte. A file with anything else is refused. Structures that carry a checksum are checked with it.

Source: "HDF5 File Format Specification Version 3.0", The HDF Group; the roman numerals are its.
"""

import dataclasses
import struct

from keras_convnext.pretrained.files.hdf5_checksum import lookup3
from keras_convnext.pretrained.files.tensors import MAX_TENSORS, WeightsError

SIGNATURE = b"\x89HDF\r\n\x1a\n"
TEXTS = b"GCOL\1\0\0\0"  # begins a collection of texts
UNDEFINED = 2**64 - 1
MAX_STRUCTURES = 10 * MAX_TENSORS
MAX_MESSAGES = 2000  # of one object
MAX_NAME = 1000  # bytes of a link's name
MAX_GROUP_NODE = 1024  # children of one node of a group's tree; HDF5's default is 32
SYMBOL_TABLE, LINK_INFO, LINK, CONTINUATION = 0x11, 0x02, 0x06, 0x10
SOFT_LINK = 2  # cache type of a symbol table's entry
SHARED = 2  # flag of a message that stands elsewhere in the file


@dataclasses.dataclass(frozen=True)
class Object:
    """A group or a dataset.

    Attributes:
        address: position of its header in the file.
        messages: `[(type, flags, bytes)]` of its header.
    """

    address: int
    messages: tuple

    def all(self, kind):
        """Returns the bytes of all messages of a type."""
        found = [(flags, data) for number, flags, data in self.messages if number == kind]
        if any(flags & SHARED for flags, _ in found):
            raise WeightsError(f"a message of type {kind} is shared, which Keras does not write.")
        return [data for _, data in found]

    def one(self, kind):
        """Returns the bytes of the only message of a type, `None` without one."""
        found = self.all(kind)
        if len(found) > 1:
            raise WeightsError(f"an object has {len(found)} messages of type {kind}.")
        return found[0] if found else None

    @property
    def is_group(self):
        """Whether it is a group; otherwise it is a dataset."""
        return bool(self.all(SYMBOL_TABLE) or self.all(LINK_INFO))


class Structure:
    """The objects of an HDF5 file, read from its bytes.

    Args:
        data: the bytes of the whole file, anything that slices into `bytes`, such as an `mmap`.

    Every method raises a `WeightsError` where the file is not as Keras and h5py write it.
    """

    def __init__(self, data):
        self.data, self.size = data, len(data)
        self._claimed = {}
        self.collections = {}  # of texts that were read, by their address
        self.root = self._superblock()

    # ---------------------------------------------------------------- bytes

    def bytes(self, start, size):
        """Returns `size` bytes from the position `start`."""
        if start < 0 or size < 0 or start + size > self.size:
            raise WeightsError(f"points to {size} bytes at {start}, behind the end of the file.")
        return bytes(self.data[start : start + size])

    def unpack(self, layout, start):
        """Returns the numbers at `start`, little-endian, in the notation of `struct`."""
        return struct.unpack("<" + layout, self.bytes(start, struct.calcsize("<" + layout)))

    def claim(self, start, size, what):
        """Notes that these bytes are `what`: nothing else may be there."""
        if start in self._claimed:
            raise WeightsError(f"{what} at {start} is linked twice, or something else is there.")
        self.bytes(start, 0), self.bytes(start + size, 0)
        if size:
            self._claimed[start] = size, what
        if len(self._claimed) > MAX_STRUCTURES:
            raise WeightsError(f"has more than {MAX_STRUCTURES} structures.")

    def check_overlaps(self):
        """Raises a `WeightsError` if two of the structures that were read share a byte."""
        end, before = 0, ""
        for start, (size, what) in sorted(self._claimed.items()):
            if start < end:
                raise WeightsError(f"{before} and {what} overlap at {start}.")
            end, before = start + size, what

    def forgotten(self):
        """Yields what belongs to no structure that was read, and holds something: start and bytes.

        Keras leaves zeros between its structures. Texts of attributes that nobody asked for are
        passed over.
        """
        end = 0
        claims = [(start, size) for start, (size, _) in sorted(self._claimed.items())]
        for start, size in [*claims, (self.size, 0)]:
            while end < start and bytes(self.data[end : end + 4]) == TEXTS[:4]:
                (length,) = self.unpack("Q", end + 8)
                end = min(start, end + max(length, len(TEXTS)))
            part = bytes(self.data[end:start])
            if part.strip(b"\0"):
                yield end, part
            end = start + size

    def signature(self, start, expected):
        """Checks that a structure begins as it must."""
        found = self.bytes(start, len(expected))
        if found != expected:
            raise WeightsError(f"has {found!r} at {start} in place of {expected!r}.")

    def checksum(self, start, end):
        """Checks the four bytes at `end`, which are the checksum of what begins at `start`."""
        (stored,) = self.unpack("I", end)
        if lookup3(self.bytes(start, end - start)) != stored:
            raise WeightsError(f"the checksum of the structure at {start} is wrong.")

    # ---------------------------------------------------------------- II. superblock

    def _superblock(self):
        self.signature(0, SIGNATURE)
        (version,) = self.unpack("B", 8)
        if version in (0, 1):
            return self._old_superblock(version)
        if version not in (2, 3):
            raise WeightsError(f"has a superblock of version {version}; known are 0 to 3.")
        sizes, base, _, end, root = self.unpack("2sx4Q", 9)
        self.checksum(0, 44)
        self._check_superblock(sizes, base, end)
        self.claim(0, 48, "superblock")
        return self.object(root)

    def _old_superblock(self, version):
        sizes, self.group_node = self.unpack("2sx2xH", 13)
        start = 24 if version == 0 else 28
        base, _, end, driver = self.unpack("4Q", start)
        self._check_superblock(sizes, base, end)
        if driver != UNDEFINED:
            raise WeightsError("is one part of an HDF5 file of several.")
        if not 1 <= self.group_node <= MAX_GROUP_NODE // 2:
            raise WeightsError(f"has groups of {self.group_node} entries.")
        self.claim(0, start + 72, "superblock")
        (root,) = self.unpack("Q", start + 40)
        return self.object(root)

    def _check_superblock(self, sizes, base, end):
        if sizes != b"\x08\x08" or base != 0:
            raise WeightsError("has addresses that are not of 8 bytes, or begins elsewhere.")
        if end > self.size:
            raise WeightsError(f"is truncated: it has {self.size} of {end} bytes.")

    # ---------------------------------------------------------------- IV.A. object headers

    def object(self, address):
        """Returns the `Object` whose header is at this address. Each is read once."""
        if self.bytes(address, 4) == b"OHDR":
            messages = self._new_header(address)
        else:
            messages = self._old_header(address)
        if len(messages) > MAX_MESSAGES:
            raise WeightsError(f"the object at {address} has {len(messages)} messages.")
        return Object(address, tuple(messages))

    def _old_header(self, address):
        version, count, references, size = self.unpack("BxHII", address)
        if version != 1 or not 1 <= count <= MAX_MESSAGES or references != 1:
            raise WeightsError(f"the object at {address} is none, or is linked twice.")
        self.claim(address, 16 + size, "object")
        chunks, messages = [(address + 16, size)], []
        for start, size in chunks:  # grows while it is read
            messages += self._messages(start, start + size, "HHB3x", chunks)
        if len(messages) != count:
            raise WeightsError(f"the object at {address} has {len(messages)} of {count} messages.")
        return messages

    def _new_header(self, address):
        version, flags = self.unpack("BB", address + 4)
        if version != 2:
            raise WeightsError(f"the object at {address} is of version {version}.")
        start = address + 6 + 16 * bool(flags & 0x20) + 4 * bool(flags & 0x10)
        width = 1 << (flags & 3)
        size = int.from_bytes(self.bytes(start, width), "little")
        start += width
        self.claim(address, start + size + 4 - address, "object")
        self.checksum(address, start + size)
        layout = "BHB2x" if flags & 4 else "BHB"
        chunks = []
        messages = self._messages(start, start + size, layout, chunks)
        for start, size in chunks:  # grows while it is read
            self.signature(start, b"OCHK")
            self.checksum(start, start + size - 4)
            messages += self._messages(start + 4, start + size - 4, layout, chunks)
        return messages

    def _messages(self, start, end, layout, chunks):
        """Returns the messages of a part of a header; where it goes on is added to `chunks`."""
        found, head = [], struct.calcsize("<" + layout)
        while start + head <= end:
            kind, size, flags = self.unpack(layout, start)
            data = self.bytes(start + head, size)
            start += head + size
            if start > end:
                raise WeightsError(f"a message is longer than its object, which ends at {end}.")
            found.append((kind, flags, data))
            if kind == CONTINUATION:
                chunk = struct.unpack("<QQ", data[:16])
                self.claim(*chunk, "continuation of an object")
                chunks.append(chunk)
        return found

    # ---------------------------------------------------------------- III., IV.A.2. groups

    def links(self, group):
        """Returns `{name: address}` of the members of a group, `None` for a soft or other link."""
        table = group.one(SYMBOL_TABLE)
        pairs = self._symbols(table) if table is not None else self._new_links(group)
        found = {}
        for name, address in pairs:
            text = name.decode("utf-8")
            if text in found or not 0 < len(name) <= MAX_NAME:
                raise WeightsError(f"the name {text[:MAX_NAME]!r} stands twice, or is none.")
            found[text] = address
        return found

    def _symbols(self, table):
        tree, heap = struct.unpack("<QQ", table[:16])
        self.signature(heap, b"HEAP\0\0\0\0")
        size, _, segment = self.unpack("QQQ", heap + 8)
        self.claim(heap, 32, "names of a group")
        self.claim(segment, size, "names of a group")
        names = self.bytes(segment, size)
        for node in self._symbol_nodes(tree, None):
            self.signature(node, b"SNOD\1\0")
            (count,) = self.unpack("H", node + 6)
            self.claim(node, 8 + 40 * count, "members of a group")
            for entry in range(count):
                offset, address, kind = self.unpack("QQI", node + 8 + 40 * entry)
                end = names.find(b"\0", offset)
                if end < 0:
                    raise WeightsError("the name of a member is not among the names of its group.")
                yield names[offset:end], None if kind == SOFT_LINK else address

    def _symbol_nodes(self, address, level):
        """Yields the addresses of the leaves of a group's tree."""
        self.signature(address, b"TREE\0")
        found, count = self.unpack("BH", address + 5)
        if level not in (None, found) or count > 2 * self.group_node:
            raise WeightsError(f"the tree of a group is damaged at {address}.")
        self.claim(address, 24 + 16 * count + 8, "tree of a group")
        for number in range(count):
            (child,) = self.unpack("Q", address + 32 + 16 * number)
            if found:
                yield from self._symbol_nodes(child, found - 1)
            else:
                yield child

    def _new_links(self, group):
        info = group.one(LINK_INFO)
        heap = struct.unpack_from("<Q", info, 2 + 8 * (info[1] & 1))[0]
        if heap != UNDEFINED:
            raise WeightsError(
                "has a group in a form of HDF5 that Keras does not write. Load the file with Keras "
                "and save it again, or write it anew with h5py's default `libver`."
            )
        return [_link(data) for data in group.all(LINK)]


def _link(data):
    """Returns the name and the address of a link message."""
    version, flags = data[:2]
    at, kind = 2, 0
    if flags & 8:
        kind, at = data[at], at + 1
    at += 8 * bool(flags & 4) + bool(flags & 0x10)
    width = 1 << (flags & 3)
    size = int.from_bytes(data[at : at + width], "little")
    name = data[at + width : at + width + size]
    if version != 1 or len(name) != size:
        raise WeightsError("a link is damaged.")
    if kind:
        return name, None
    return name, struct.unpack_from("<Q", data, at + width + size)[0]
