"""Reads the weights of Keras' files: `.weights.h5`, `.h5` and `.keras`, of Keras 2 and 3.

A `.keras` file is a zip archive with a `model.weights.h5` in it, stored as it is, so that its
numbers are read from their place in the archive. Its configuration could name code and is not
looked at.
"""

import contextlib
import functools
import itertools
import mmap

from keras_convnext.pretrained.files import hdf5_values, zip_archive
from keras_convnext.pretrained.files.hdf5 import Structure
from keras_convnext.pretrained.files.tensors import (
    MAX_TENSORS,
    Tensor,
    WeightsError,
    mapped,
    unique,
)

WEIGHTS = "model.weights.h5"  # in a `.keras` file
INPUTS = "input_layer"  # the class of a graph's inputs, as it is written
NO_LAYERS = ("layers", "optimizer", "vars")  # members of the root that are no attribute of a model
MAX_DEPTH = 50  # layers inside of layers
MAX_FORGOTTEN = 100  # parts of a file that are compared with its arrays


def read_hdf5(path):
    """Returns `{name: Tensor}` of an HDF5 file. Errors as of `files.read`."""
    with _bytes(path) as data:
        return _Names(path, data, 0).read()


def read_archive(path, archive):
    """Returns `{name: Tensor}` of a `.keras` file. Errors as of `files.read`."""
    entry = zip_archive.entries(path, archive)[WEIGHTS]
    start = zip_archive.checked_start(path, entry)
    with (
        _bytes(path) as data,
        memoryview(data) as view,
        view[start : start + entry.file_size] as h5,
    ):
        return _Names(path, h5, start).read()


@contextlib.contextmanager
def _bytes(path):
    with open(path, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        yield data


class _Names:
    """The tensors of one HDF5 file under the names of their layers.

    Args:
        path: of the file, for messages and for reading the numbers.
        data: its bytes, or those of the part that is the HDF5 file.
        start: position of that part.
    """

    def __init__(self, path, data, start):
        self.path, self.start, self.structure = path, start, Structure(data)
        self.arrays = []

    def read(self):
        """Returns `{name: Tensor}`."""
        top = self.structure.root
        links = self.structure.links(top)
        if "model_weights" in links:  # a whole model in the old format
            rest = {key: value for key, value in links.items() if key != "model_weights"}
            top = self._child(links, "model_weights")
            links = self.structure.links(top)
        else:
            rest = {}
        names = self._texts(top, "layer_names")
        if names is None and "layers" not in links:
            raise WeightsError("an HDF5 file that Keras did not write.")
        used = names if names is not None else ["layers"]
        pairs = self._legacy(links, names) if names is not None else self._all_layers(links, used)
        found = unique(itertools.islice(pairs, MAX_TENSORS + 1))
        self._claim(rest)
        self._claim({key: value for key, value in links.items() if key not in used})
        self.structure.check_overlaps()
        self._check_addresses()
        return found

    def _check_addresses(self):
        """A damaged address can point to where nothing is. Then the numbers lie elsewhere.

        They are beside the place that it points to, or that place is zero, and another as large
        belongs to nothing. Anything else that belongs to nothing may be left from editing a file.
        """
        is_zero = functools.cache(self._is_zero)
        for start, part in itertools.islice(self.structure.forgotten(), MAX_FORGOTTEN):
            starts_full, ends_full, least = any(part[:8]), any(part[-8:]), len(part.strip(b"\0"))
            for array in self.arrays:
                follows = array.start + array.size == start and starts_full
                precedes = array.start == start + len(part) and ends_full
                fits = least <= array.size <= len(part)
                if follows or precedes or (fits and is_zero(array)):
                    raise WeightsError(
                        f"{len(part)} bytes at {start} belong to nothing, but seem to be numbers: "
                        "an address in the file is damaged, or a dataset was deleted from it. In "
                        "the second case, `h5repack` makes a clean copy."
                    )

    def _is_zero(self, array):
        return self.structure.bytes(array.start, array.size).count(0) == array.size

    def _child(self, links, key):
        address = links.get(key)
        if address is None:
            raise WeightsError(f"{key!r} is absent, or a link, refused.")
        return self.structure.object(address)

    def _all_layers(self, links, used):
        """Yields the tensors of all layers, and adds to `used` which members of the root have them.

        A graph of layers has all of them in `layers`, its inputs among them. Any other model has
        some in groups of its attributes.
        """
        layers = self._members(self._child(links, "layers"), ())
        yield from self._inside(layers, ())
        if any(key.startswith(INPUTS) for key in layers):
            return
        for key, address in links.items():
            if key in NO_LAYERS or address is None:
                continue
            used.append(key)
            item = self.structure.object(address)
            if item.is_group:
                yield from self._layers(item, ())
            else:
                hdf5_values.claim_numbers(self.structure, item)

    def _members(self, group, names):
        if len(names) > MAX_DEPTH or not group.is_group:
            raise WeightsError(f"has layers {MAX_DEPTH} deep, or what is no group of them.")
        return self.structure.links(group)

    def _layers(self, group, names):
        """Yields the tensors of Keras 3: `layers/<class>_<n>/<child>/vars/<i>`.

        `vars` knows the layer's name. A tensor is named by the layers on its way and its number:
        `stage0_block0/dwconv/0`.
        """
        yield from self._inside(self._members(group, names), names)

    def _inside(self, links, names):
        """Yields the tensors below a layer's group, given its members."""
        inner = names
        if "vars" in links:
            values = self._child(links, "vars")
            inner = (*names, self._name(values))
            numbers = self.structure.links(values)
            for number in numbers:
                yield "/".join((*inner, number)), self._tensor(self._child(numbers, number))
        for key, address in links.items():
            if key == "vars":
                continue
            if key == "optimizer" and "layers" in links:  # of a model inside that was compiled
                self._claim({key: address})
                continue
            if address is None:
                raise WeightsError(f"{key!r} is a link, refused.")
            child = self.structure.object(address)
            if child.is_group:
                yield from self._layers(child, inner)

    def _name(self, values):
        name = self._texts(values, "name")
        if name is None:
            raise WeightsError(
                "written by an old Keras 3, without the names of the layers. Load it there and "
                "save it with Keras 3.15 or newer."
            )
        if len(name) != 1:
            raise WeightsError("the name of a layer is a list.")
        return name[0]

    def _legacy(self, links, names):
        """Yields the tensors of Keras 2: a group per layer, with the `weight_names` in it.

        These are paths of layers and end in the weight's own name: `mine/kernel:0`.
        """
        for layer in names:
            top = self._child(links, layer)
            groups, counts = {"": self.structure.links(top)}, {}
            for weight in self._texts(top, "weight_names") or ():
                module = _module(layer, weight)
                number = counts[module] = counts.get(module, -1) + 1
                yield f"{module}/{number}", self._tensor(self._walk(groups, weight))

    def _walk(self, groups, weight):
        """Returns the dataset at a path inside a layer; `groups` remembers the links on the way."""
        *parents, last = weight.split("/")
        at = ""
        for part in parents:
            inside = f"{at}{part}/"
            if inside not in groups:
                groups[inside] = self.structure.links(self._child(groups[at], part))
            at = inside
        return self._child(groups[at], last)

    def _texts(self, item, name):
        """Returns the texts of an attribute; Keras 2 splits long ones into `name0`, `name1`, ..."""
        found = hdf5_values.texts(self.structure, item, name)
        if found is None:
            first = hdf5_values.texts(self.structure, item, f"{name}0")
            numbers = itertools.count(1)
            while first is not None:
                found = (found or []) + first
                first = hdf5_values.texts(self.structure, item, f"{name}{next(numbers)}")
        return found

    def _tensor(self, dataset):
        array = hdf5_values.array(self.structure, dataset)
        self.arrays.append(array)
        dtype = array.dtype
        if dtype == hdf5_values.OPAQUE_16:
            if hdf5_values.texts(self.structure, dataset, "dtype") != ["bfloat16"]:
                raise WeightsError("an array of two bytes each is not marked as bfloat16.")
            dtype = "bfloat16"
        start = self.start + array.start
        return Tensor(
            array.shape, dtype, functools.partial(mapped, self.path, dtype, start, array.shape)
        )

    def _claim(self, links, depth=0):
        """Notes where everything else lies, for example an optimizer's state."""
        if depth > MAX_DEPTH:
            raise WeightsError(f"has groups {MAX_DEPTH} deep.")
        for address in filter(None, links.values()):
            item = self.structure.object(address)
            if item.is_group:
                self._claim(self.structure.links(item), depth + 1)
            else:
                hdf5_values.claim_numbers(self.structure, item)


def _module(layer, weight):
    """Returns the layers on the way to a weight, the layer of the group at the front."""
    parents = weight.split("/")[:-1]
    if layer in parents:
        return "/".join(parents[parents.index(layer) :])
    return "/".join((layer, *parents))
