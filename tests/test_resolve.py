"""Every form of `weights=`, from the name to the filled model."""

import argparse
import dataclasses
import functools
import inspect
import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

import keras_convnext
from keras_convnext import VARIANTS, ConvNeXt, ConvNeXtV2Atto, Variant
from keras_convnext.cli import cache
from keras_convnext.pretrained import download, find, open_checkpoint, registry, resolve
from keras_convnext.pretrained.layouts import LAYOUTS
from keras_convnext.segmentation import UperNetConvNeXtTiny
from tests.backends import numpy, randomise
from tests.hub_server import COMMIT, hub, unused_port
from tests.shape_only import shapes_only

TIMM = next(layout for layout in LAYOUTS if layout.name == "timm")


def tensors_of(variant, classes=1000, seed=0):
    """Returns {name in timm's layout: random array in PyTorch's axes} of a whole model."""
    with shapes_only():
        model = ConvNeXt(variant, classes=classes)
    random = np.random.default_rng(seed)
    found = {}
    for weight in model.weights:
        shape, axes = tuple(weight.shape), {1: (0,), 2: (1, 0), 4: (3, 2, 0, 1)}[len(weight.shape)]
        if "dwconv/kernel" in weight.path:
            axes = (2, 3, 0, 1)
        array = 0.1 * random.standard_normal([shape[axis] for axis in axes])
        found[TIMM.names(variant, weight.path, "")[0]] = array.astype("float32")
    return found


PublishedTest = functools.partial(ConvNeXt, "test_convnext", weights="imagenet")
TEST = tensors_of(VARIANTS["test_convnext"])


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A new, empty pair of caches, and no network unless a test opens one."""
    monkeypatch.setenv("KERAS_CONVNEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{unused_port()}")
    monkeypatch.setenv("KERAS_CONVNEXT_OFFLINE", "1")
    for variable in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "KERAS_CONVNEXT_MIRROR"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / "home"


def put_by_hand(row, tensors):
    """What the error message of a failed download tells its reader to do."""
    place = resolve.source_of(row.sources[0], row).place
    place.parent.mkdir(parents=True)
    safetensors.numpy.save_file(tensors, place)
    return place


def unhashed(monkeypatch, name):
    """The rows of the registry, the one of that name without a pinned hash."""
    row = find(name)
    sources = [dataclasses.replace(s, sha256=None, revision=None) for s in row.sources]
    mine = dataclasses.replace(row, sources=tuple(sources))
    rows = tuple(mine if r.name == name else r for r in registry.table.all_rows())
    monkeypatch.setattr(registry.table, "all_rows", lambda: rows)
    return mine


@pytest.mark.filterwarnings("ignore::keras_convnext.pretrained.download.FirstUseNotice")
@pytest.mark.parametrize(
    "weights", ["imagenet", "r160_in1k", "test_convnext.r160_in1k", "timm/test_convnext.r160_in1k"]
)
def test_every_way_to_name_a_row(weights, home, monkeypatch):
    row = unhashed(monkeypatch, "test_convnext.r160_in1k")
    put_by_hand(row, TEST)
    model = ConvNeXt("test_convnext", weights=weights)
    assert model.input_shape == (None, 160, 160, 3)  # the size of these weights
    head = next(w for w in model.weights if w.path == "head/bias")
    np.testing.assert_array_equal(numpy(head), TEST["head.fc.bias"])


def test_the_factories_ask_for_imagenet_and_convnext_for_nothing(home):
    for factory in (keras_convnext.ConvNeXtTiny, keras_convnext.ConvNeXtV2Base):
        assert inspect.signature(factory).parameters["weights"].default == "imagenet"
    assert inspect.signature(ConvNeXt).parameters["weights"].default is None
    with pytest.raises(download.DownloadError, match="test_convnext.r160_in1k"):
        ConvNeXt("test_convnext", weights="imagenet")


def test_from_a_hub_by_name_and_by_address_then_without_a_request(home, monkeypatch, tmp_path):
    safetensors.numpy.save_file(TEST, tmp_path / "made.safetensors")
    body = (tmp_path / "made.safetensors").read_bytes()
    row = unhashed(monkeypatch, "test_convnext.r160_in1k")
    repo = row.sources[0].repo
    monkeypatch.delenv("KERAS_CONVNEXT_OFFLINE")
    with hub() as server:
        monkeypatch.setenv("HF_ENDPOINT", server.address)
        for revision in ("main", COMMIT):
            server.files[f"/{repo}/resolve/{revision}/model.safetensors"] = body
        first = ConvNeXt("test_convnext", weights="imagenet").get_weights()
        assert server.count("GET") >= 1
        before = len(server.requests)
        second = ConvNeXt("test_convnext", weights="imagenet").get_weights()
        assert len(server.requests) == before
        third = ConvNeXt(
            "test_convnext", weights=f"hf://{repo}@{COMMIT}/model.safetensors"
        ).get_weights()
        fourth = ConvNeXt("test_convnext", weights=f"hf://{repo}").get_weights()
    for other in (second, third, fourth):
        for a, b in zip(first, other, strict=True):
            np.testing.assert_array_equal(a, b)


def test_a_corrupt_file_put_by_hand_is_refused(home):
    row = find("convnext_atto.d2_in1k")
    assert row.sources[0].sha256
    put_by_hand(row, {"stem.0.weight": np.zeros(3, "float32")})
    with pytest.raises(download.DownloadError, match="sha256"):
        keras_convnext.ConvNeXtAtto()


@pytest.mark.filterwarnings("ignore::keras_convnext.pretrained.download.FirstUseNotice")
def test_a_bare_encoder_and_its_licence(home, monkeypatch):
    row = unhashed(monkeypatch, "convnextv2_atto.fcmae")
    variant = VARIANTS["convnextv2_atto"]
    bare = {n: a for n, a in tensors_of(variant, 2).items() if not n.startswith("head.")}
    put_by_hand(row, bare)
    download.failures._noticed.clear()
    with pytest.warns(download.LicenceNotice, match="(?i)cc-by-nc-4.0"):
        features = ConvNeXtV2Atto(weights="fcmae", include_top=False)
    assert features.count_params() == row.params
    with warnings.catch_warnings():
        warnings.simplefilter("error", download.LicenceNotice)  # said once
        model = ConvNeXtV2Atto(weights="fcmae", classes=5)
    norm = model.get_layer("head_norm")
    np.testing.assert_array_equal(numpy(norm.gamma), np.ones(320))
    with pytest.raises(ValueError, match="include_top=False"):
        ConvNeXtV2Atto(weights="fcmae")


@pytest.mark.filterwarnings("ignore::keras_convnext.pretrained.download.FirstUseNotice")
def test_a_row_brings_its_mean_and_std(home, monkeypatch):
    row = unhashed(monkeypatch, "convnext_base.clip_laion2b")
    monkeypatch.setattr(resolve, "fetch", lambda row, include_top: home / "tower")
    home.mkdir()
    variant = VARIANTS["convnext_base"]
    with shapes_only():
        paths = [w.path for w in ConvNeXt(variant, classes=640).weights]
    names = {TIMM.names(variant, path, "")[0]: np.zeros(1, "float32") for path in paths}
    names["head.fc.weight"] = np.zeros((640, 1024), "float32")
    safetensors.numpy.save_file(names, home / "tower")
    checkpoint = open_checkpoint("clip_laion2b", variant)
    assert checkpoint.variant.mean == row.architecture().mean != variant.mean
    assert (checkpoint.classes, checkpoint.size) == (640, 256)


@pytest.mark.parametrize(
    ("variant", "weights", "error", "message"),
    [
        ("convnext_tiny", "fb_in1K", ValueError, "fb_in1k"),
        ("convnext_tiny", "convnext_base.fb_in1k", ValueError, "not to convnext_tiny"),
        ("convnextv2_small", "imagenet", ValueError, "convnextv2_tiny"),
        ("convnext_tiny", "hf://timm", ValueError, "hf://owner/repo"),
        ("convnext_tiny", "hf:timm/x", ValueError, "hf://owner/repo"),
        ("convnext_tiny", "https://x.org/a/b.pth", ValueError, "web address .*download the file"),
        ("convnext_tiny", "imagenet1k", ValueError, "Nearest: imagenet,"),
        ("convnext_tiny", "upernet_convnext_tiny", ValueError, "for segmentation, asked for was"),
        ("convnxt_tiny", "imagenet", ValueError, "Nearest: 'convnext_tiny'"),
        ("convnext_tiny", "missing.safetensors", FileNotFoundError, "missing.safetensors"),
        ("convnext_tiny", os.path.join("no", "file"), FileNotFoundError, "no.file"),
        (Variant("mine", (1,), (8,)), "imagenet", ValueError, "'mine' is none"),
    ],
)
def test_names_that_stand_for_nothing(variant, weights, error, message, home):
    with pytest.raises(error, match=message):
        ConvNeXt(variant, weights=weights)


@pytest.mark.parametrize(
    ("build", "arguments", "message"),
    [
        (
            PublishedTest,
            {"input_shape": (16, 16, 3)},
            "at least 32 x 32 pixels, received",
        ),
        (PublishedTest, {"input_shape": (64, 64)}, "An image has 3 axes"),
        (PublishedTest, {"input_shape": (64, 64, None)}, "number of channels must be known"),
        (PublishedTest, {"classes": 0}, "`classes` must be an integer >= 1"),
        (PublishedTest, {"drop_path_rate": 1}, "`drop_path_rate` must be"),
        (PublishedTest, {"output_stride": 4}, "`output_stride` must be one of"),
        (PublishedTest, {"stem_stride": 2}, "trained with a stem of stride 4"),
        (PublishedTest, {"weights": 5}, "must be None, a name, .* received 5"),
        (ConvNeXtV2Atto, {"weights": "fcmae"}, "has no classifier. Pass `include_top=False`"),
        (
            UperNetConvNeXtTiny,
            {"weights": "ade20k", "input_shape": (16, 64, 3)},
            "at least 32 x 32",
        ),
        (UperNetConvNeXtTiny, {"weights": "ade20k", "classes": 0}, "`classes` must be"),
    ],
)
def test_wrong_arguments_are_noticed_before_a_download(build, arguments, message, home):
    with pytest.raises(ValueError, match=message):  # a DownloadError would be no ValueError
        build(**arguments)


@pytest.mark.parametrize("kind", [Path, str])
def test_a_folder_is_no_file_and_the_message_says_what_is_in_it(kind, tmp_path):
    folder = tmp_path / "run.keras"
    folder.mkdir()
    with pytest.raises(FileNotFoundError, match="it is a folder. It holds no such file"):
        ConvNeXt("test_convnext", weights=kind(folder))
    (folder / "model.safetensors").touch()
    with pytest.raises(FileNotFoundError, match="In it are model.safetensors. Name the file"):
        ConvNeXt("test_convnext", weights=kind(folder))


def test_weights_of_a_convnext_are_not_those_of_an_upernet(home):
    for weights in ("imagenet", "fb_in1k", "convnext_tiny", "convnext_tiny.fb_in1k"):
        with pytest.raises(ValueError, match="for classification, .* are `backbone_weights`"):
            UperNetConvNeXtTiny(weights=weights)


def test_the_home_folder_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    safetensors.numpy.save_file(TEST, tmp_path / "mine.safetensors")
    assert resolve.resolve("~/mine.safetensors").path == tmp_path / "mine.safetensors"
    assert open_checkpoint("~/mine.safetensors", VARIANTS["test_convnext"]).classes == 1000


def test_a_folder_does_not_hide_published_weights(home, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("imagenet", "r160_in1k"):
        (tmp_path / name).mkdir()
        with pytest.raises(download.DownloadError, match="test_convnext.r160_in1k"):
            PublishedTest(weights=name)


def test_only_a_file_of_weights_is_recorded_at_first_use(home, monkeypatch):
    row = unhashed(monkeypatch, "test_convnext.r160_in1k")
    place = put_by_hand(row, TEST)
    place.write_bytes(b'{"message": "log in first"}')
    with pytest.raises(download.DownloadError, match="cannot be read as weights"):
        PublishedTest()
    safetensors.numpy.save_file({"something.else": np.zeros(3, "float32")}, place)
    with pytest.raises(download.DownloadError, match="cannot be read as weights"):
        PublishedTest()
    safetensors.numpy.save_file(TEST, place)
    with pytest.warns(download.FirstUseNotice):
        PublishedTest()


@pytest.mark.filterwarnings("ignore::keras_convnext.pretrained.download.FirstUseNotice")
def test_cache_clear_forgets_the_hashes_of_first_use(home, monkeypatch, capsys):
    address = f"http://127.0.0.1:{unused_port()}/m.pth"
    source = download.Url(address, "m.pth")
    source.place.parent.mkdir(parents=True)
    source.place.write_bytes(b"1")
    download.fetch([source], name="m")
    assert cache.run(argparse.Namespace(action="clear", yes=True, json=False)) == 0
    assert "Deleted 1 files, 1 byte, and the hashes recorded" in capsys.readouterr().out
    assert not download.forget(address)


def test_path_objects_and_strings_are_the_same(tmp_path):
    model = randomise(ConvNeXt("test_convnext2", input_shape=(32, 32, 3), classes=3))
    model.save_weights(tmp_path / "mine.weights.h5")
    for path in (tmp_path / "mine.weights.h5", str(tmp_path / "mine.weights.h5")):
        twin = ConvNeXt("test_convnext2", input_shape=(32, 32, 3), weights=path)
        assert twin.output_shape == (None, 3)
        for a, b in zip(model.get_weights(), twin.get_weights(), strict=True):
            np.testing.assert_array_equal(a, b)
