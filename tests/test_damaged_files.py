"""Damaged files of weights are noticed: by checksums, dtypes and addresses, soon and cheaply."""

import dataclasses
import json
import os
import re
import struct
import time
import tracemalloc
import zipfile

import h5py
import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from keras_convnext import ConvNeXt, Variant
from keras_convnext.pretrained import WeightsError, checkpoint, files
from keras_convnext.pretrained.files import hdf5_checksum, tensors
from keras_convnext.pretrained.saving import in_layout
from tests.backends import BACKEND, numpy, on_one_backend, randomise

torch = pytest.importorskip("torch")  # writes files; the library reads them without it
pytestmark = pytest.mark.skipif(BACKEND != "torch", reason="the same on every backend")

SMALL = Variant("small", (1, 1), (4, 8), kernel_sizes=3)
KINDS = ("safetensors", "pth", "keras", "weights.h5", "h5")
MUTATIONS = int(os.environ.get("KERAS_CONVNEXT_MUTATIONS", "1500"))  # per kind


def values(model):
    return {weight.path: numpy(weight) for weight in model.weights}


@pytest.fixture(scope="module")
def model():
    return randomise(ConvNeXt(SMALL, classes=2, input_shape=(32, 32, 3)))


@pytest.fixture(scope="module")
def good(model, tmp_path_factory):
    """Returns {kind: the bytes of a file of the model}."""
    folder = tmp_path_factory.mktemp("good")
    state = in_layout(values(model), SMALL, "timm")
    state = {name: np.ascontiguousarray(array) for name, array in state.items()}
    save_file(state, folder / "m.safetensors")
    torch.save({name: torch.tensor(array) for name, array in state.items()}, folder / "m.pth")
    model.save(folder / "m.keras")
    model.save_weights(folder / "m.weights.h5")
    model.save(folder / "m.h5")
    return {kind: (folder / f"m.{kind}").read_bytes() for kind in KINDS}


def refusal(path, data):
    path.write_bytes(data)
    with pytest.raises(WeightsError) as caught:
        arrays(path)
    return str(caught.value)


def arrays(path):
    """Returns {our path: (name in the file, array)} of what would be assigned."""
    read = checkpoint.open(path).read_as(SMALL)
    assert read.classes_for(True, None) == 2
    model = Recorder(SHAPES)
    read.load_into(model)
    return {weight.path: weight.array for weight in model.weights}


@dataclasses.dataclass
class Weight:
    path: str
    shape: tuple
    array: np.ndarray = None

    def assign(self, array):
        self.array = array


class Recorder:
    """Stands for a model: notes what is assigned."""

    def __init__(self, shapes):
        self.weights = [Weight(path, shape) for path, shape in shapes.items()]


SHAPES = {}


@pytest.fixture(autouse=True, scope="module")
def _shapes(model):
    SHAPES.update({path: array.shape for path, array in values(model).items()})


def same(found, expected):
    return all(np.array_equal(found[path], expected[path]) for path in expected)


@pytest.mark.parametrize("kind", KINDS)
def test_the_good_files_are_read_exactly(tmp_path, model, good, kind):
    (tmp_path / "x").write_bytes(good[kind])
    assert same(arrays(tmp_path / "x"), values(model))


# ---------------------------------------------------------------- checksums of archives


def first_byte(data, name):
    """Returns the position of the first byte of an entry, and the entry."""
    with zipfile.ZipFile(name) as archive:
        info = max(archive.infolist(), key=lambda info: info.file_size)
    at = info.header_offset
    return at + 30 + sum(struct.unpack_from("<HH", data, at + 26)), info


@pytest.mark.parametrize("kind", ["pth", "keras"])
def test_a_flipped_bit_of_a_number_in_an_archive_is_noticed(tmp_path, good, kind):
    path, data = tmp_path / "x", bytearray(good[kind])
    path.write_bytes(data)
    at, info = first_byte(data, path)
    data[at + info.file_size // 2] ^= 4
    assert f"(CRC-32) of {info.filename} is wrong" in refusal(path, data)


def test_a_shifted_entry_is_noticed(tmp_path, good):
    path, data = tmp_path / "x", bytearray(good["pth"])
    path.write_bytes(data)
    _, info = first_byte(data, path)
    data[info.header_offset + 28] ^= 4  # length of the extra field: four bytes later
    assert "CRC-32" in refusal(path, data)


def test_an_entry_under_another_name_is_noticed(tmp_path, good):
    path, data = tmp_path / "x", bytearray(good["pth"])
    path.write_bytes(data)
    _, info = first_byte(data, path)
    data[info.header_offset + 31] ^= 1
    assert "damaged" in refusal(path, data)


def test_archives_that_were_written_without_checksums_are_read(tmp_path, model, good):
    if not hasattr(torch.serialization, "set_crc32_options"):
        pytest.skip("this PyTorch always writes them")
    (tmp_path / "good.pth").write_bytes(good["pth"])
    content = torch.load(tmp_path / "good.pth")
    try:
        torch.serialization.set_crc32_options(False)
        torch.save(content, tmp_path / "x.pth")
    finally:
        torch.serialization.set_crc32_options(True)
    assert same(arrays(tmp_path / "x.pth"), values(model))


# ---------------------------------------------------------------- dtypes


def test_integers_are_no_weights(tmp_path, good):
    data = good["safetensors"].replace(b'"F32"', b'"I32"', 1)
    assert re.search("dtype: .* holds int32, weights are floats", refusal(tmp_path / "x", data))


def test_a_counter_may_be_an_integer(tmp_path, good):
    (tmp_path / "x").write_bytes(good["safetensors"])
    state = load_file(tmp_path / "x")
    save_file({**state, "stem.1.num_batches_tracked": np.array([3])}, tmp_path / "x")
    with pytest.raises(
        WeightsError, match="unused: stem.1.num_batches_tracked"
    ):  # not of its dtype
        arrays(tmp_path / "x")


FLOAT32 = struct.pack("<BBBBI", 0x11, 0x20, 0x1F, 0, 4)
BITS = {"class": (0, 1), "byte order": (1, 1), "sign": (2, 1), "size": (4, 8), "mantissa": (15, 2)}


@pytest.mark.parametrize("bit", BITS)
@pytest.mark.parametrize("number", [0, 7])
def test_a_flipped_bit_of_a_float_in_hdf5_is_noticed(tmp_path, good, bit, number):
    data = bytearray(good["weights.h5"])
    at = [found.start() for found in re.finditer(re.escape(FLOAT32), bytes(data))][number]
    offset, mask = BITS[bit]
    data[at + offset] ^= mask
    assert "no array of numbers" in refusal(tmp_path / "x", data)


# ---------------------------------------------------------------- addresses


def datasets(group):
    """Returns all datasets in a group, read by the HDF5 library."""
    found = []
    group.visititems(lambda _, item: found.append(item) if hasattr(item, "shape") else None)
    return found


def test_a_flipped_bit_of_an_address_in_hdf5_is_noticed(tmp_path, good):
    data, path = good["weights.h5"], tmp_path / "x"
    path.write_bytes(data)
    with h5py.File(path) as file:
        items = [item.id for item in datasets(file)]
        places = [(item.get_offset(), item.get_storage_size()) for item in items]
    loaded = []
    for start, size in places:
        at = data.index(struct.pack("<QQ", start, size))
        for bit in range(0, 16):
            bad = bytearray(data)
            bad[at + bit // 8] ^= 1 << bit % 8
            path.write_bytes(bad)
            try:
                files.read(path)
            except WeightsError:
                continue
            loaded.append((start, size, bit))
    assert len(places) > 20 and not loaded


def test_the_state_of_an_optimizer_is_no_place_for_weights(tmp_path):
    """What is not read is not free: an address into it is refused."""
    path = tmp_path / "x.weights.h5"
    with h5py.File(path, "w") as file:
        for group in "layers/stem", "optimizer":
            item = file.create_group(f"{group}/vars")
            item.attrs["name"] = "stem"
            item["0"] = np.arange(1024, dtype="float32")
        place = [file[f"{group}/vars/0"].id.get_offset() for group in ("layers/stem", "optimizer")]
    assert files.read(path)["stem/0"].numpy()[3] == 3
    data = path.read_bytes().replace(struct.pack("<Q", place[0]), struct.pack("<Q", place[1]), 1)
    path.write_bytes(data)
    with pytest.raises(WeightsError, match="linked twice"):
        files.read(path)


def test_own_reading_of_hdf5_agrees_with_the_library(tmp_path, good):
    for kind in "weights.h5", "h5":
        (tmp_path / kind).write_bytes(good[kind])
        found = files.read(tmp_path / kind)
        with h5py.File(tmp_path / kind) as file:
            top = file["model_weights" if kind == "h5" else "layers"]
            theirs = [item[()] for item in datasets(top)]
        ours = sorted(tensor.numpy().tobytes() for tensor in found.values())
        assert ours == sorted(array.tobytes() for array in theirs)


def test_newer_forms_of_hdf5_are_read_and_their_checksums_compared(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w", libver="v108") as file:
        values = file.create_group("layers/stem/vars")
        values.attrs["name"] = "stem"
        values["0"] = np.arange(4, dtype="float32")
    np.testing.assert_array_equal(files.read(path)["stem/0"].numpy(), np.arange(4.0))
    data = path.read_bytes()
    for place in 20, data.index(b"OHDR") + 7, data.index(b"stem"):
        bad = bytearray(data)
        bad[place] ^= 1
        path.write_bytes(bad)
        with pytest.raises(WeightsError):
            files.read(path)


def test_the_checksum_is_that_of_its_author():
    """Values of `driver5` in Bob Jenkins' lookup3.c."""
    assert hdf5_checksum.lookup3(b"") == 0xDEADBEEF
    assert hdf5_checksum.lookup3(b"Four score and seven years ago") == 0x17770551


# ---------------------------------------------------------------- what costs much


def zeroed_texts(data):
    at = data.index(b"GCOL")
    size = int.from_bytes(data[at + 8 : at + 16], "little")
    return data[: at + 16] + bytes(size - 16) + data[at + size :]


def long_attribute(path):
    with h5py.File(path, "w") as file:
        file.attrs["layer_names"] = ["a" * 10] * 5
        file.create_group("a" * 10)
    data = bytearray(path.read_bytes())
    at = data.index(struct.pack("<Q", 5), data.index(b"layer_names"))
    data[at : at + 8] = struct.pack("<Q", 2 * 10**8)
    path.write_bytes(data)


def long_header(path):
    entry = '"a{}":{{"dtype":"F32","shape":[1],"data_offsets":[{},{}]}}'
    header = ",".join(entry.format(i, 4 * i, 4 * i + 4) for i in range(100_000))
    path.write_bytes(struct.pack("<Q", len(header) + 2) + b"{" + header.encode() + b"}")
    os.truncate(path, 2**23)


def long_directory(path):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a/data.pkl", b"")
    data = path.read_bytes()
    at = data.index(b"PK\1\2")
    end = data.index(b"PK\5\6")
    entries = data[at:end] * 100_000
    tail = struct.pack("<4sQHHIIQQQQ", b"PK\6\6", 44, 45, 45, 0, 0, 10**5, 10**5, len(entries), at)
    tail += struct.pack("<4sIQI", b"PK\6\7", 0, at + len(entries), 1)
    last = struct.pack("<4sHHHHIIH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 2**32 - 1, 2**32 - 1, 0)
    path.write_bytes(data[:at] + entries + tail + last)


@pytest.mark.parametrize("write", [long_attribute, long_header, long_directory])
def test_a_small_file_costs_little(tmp_path, write):
    path = tmp_path / "x"
    write(path)
    tracemalloc.start()
    start = time.process_time()
    with pytest.raises(WeightsError):
        files.read(path)
    seconds, memory = time.process_time() - start, tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < 2 and memory < 2 * path.stat().st_size + 2**20


def test_a_lost_block_of_texts_ends_at_once(tmp_path, good):
    start = time.process_time()
    message = refusal(tmp_path / "x", zeroed_texts(good["weights.h5"]))
    assert time.process_time() - start < 2 and "text is longer than its place" in message
    data = zeroed_texts(good["h5"])  # here, only texts that nobody needs are lost
    (tmp_path / "x").write_bytes(data)
    assert len(arrays(tmp_path / "x")) == len(SHAPES)


def test_more_tensors_than_any_network_has_are_refused(tmp_path, good, monkeypatch):
    monkeypatch.setattr("keras_convnext.pretrained.files.opening.MAX_TENSORS", 5)
    for kind in KINDS:
        assert "more than 5" in refusal(tmp_path / "x", good[kind])
    assert tensors.MAX_TENSORS >= 10_000


# ---------------------------------------------------------------- pickles


def test_a_tensor_that_is_to_be_negated_is_refused(tmp_path, good):
    (tmp_path / "good.pth").write_bytes(good["pth"])
    state = torch.load(tmp_path / "good.pth")
    name = next(iter(state))
    state[name] = torch._neg_view(state[name])
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="'neg': True"):
        files.read(tmp_path / "x.pth")


def test_a_state_of_objects_that_we_do_not_know_is_refused(tmp_path):
    from collections import OrderedDict

    state = OrderedDict(a=torch.ones(3))
    state._metadata = OrderedDict(version=1)  # what a module's state has
    torch.save(state, tmp_path / "x.pth")
    assert list(files.read(tmp_path / "x.pth")) == ["a"]
    state.scale = 2.0
    torch.save(state, tmp_path / "x.pth")
    with pytest.raises(WeightsError, match="a state of its own"):
        files.read(tmp_path / "x.pth")


# ---------------------------------------------------------------- thousands of damages

HOW = ("bit", "bytes", "insert", "delete", "zeros", "copy", "truncate")


def mutated(data, random):
    data, how = bytearray(data), random.choice(HOW)
    reach = len(data) if random.random() < 0.3 else min(len(data), 6000)
    at = int(random.integers(reach))
    at = at if random.random() < 0.7 else len(data) - 1 - at
    size = int(random.integers(1, 65))
    if how == "bit":
        data[at] ^= 1 << random.integers(8)
    elif how == "bytes":
        data[at : at + size] = random.integers(0, 256, size, dtype="uint8").tobytes()
    elif how == "insert":
        data[at:at] = random.integers(0, 256, size, dtype="uint8").tobytes()
    elif how == "delete":
        del data[at : at + size]
    elif how == "zeros":
        data[at : at + 8 * size] = bytes(len(data[at : at + 8 * size]))
    elif how == "copy":
        source = int(random.integers(len(data)))
        data[at : at + size] = data[source : source + size]
    else:
        del data[at:]
    return bytes(data)


def floats_only(data, changed, found, expected):
    """Whether what was loaded differs in numbers alone, where the file's bytes differ."""
    wrong = sum(int((found[path] != expected[path]).sum()) for path in expected)
    if len(data) != len(changed):
        return False
    return wrong <= np.count_nonzero(np.frombuffer(data, "u1") != np.frombuffer(changed, "u1"))


@on_one_backend
@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_thousands_of_damages_are_refused_or_only_other_numbers(tmp_path, model, good, kind):
    """Archives have checksums: what loads is exactly what was saved. The other formats have none:
    there, other numbers load where the bytes of numbers were changed, and nothing else."""
    random, data, expected = np.random.default_rng(KINDS.index(kind)), good[kind], values(model)
    path, slowest, loaded = tmp_path / "x", 0, 0
    for number in range(MUTATIONS):
        changed = mutated(data, random)
        path.write_bytes(changed)
        start = time.process_time()
        try:
            found = arrays(path)
        except WeightsError:
            found = None
        slowest = max(slowest, time.process_time() - start)
        if found is not None and not same(found, expected):
            loaded += 1
            assert kind not in ("pth", "keras"), (number, "a checksum was not compared")
            assert floats_only(data, changed, found, expected), number
    print(json.dumps({"kind": kind, "loaded": loaded, "of": MUTATIONS, "slowest_s": slowest}))
    assert slowest < 2
