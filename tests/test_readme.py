"""README.md: its tables match the package, and its lines run as printed."""

import os
import re
import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import keras_convnext.detection
import keras_convnext.segmentation
from keras_convnext import VARIANTS, roadmap
from keras_convnext.backend_choice import BACKENDS
from keras_convnext.pretrained import find, resolve
from keras_convnext.segmentation import UperNet
from tests import tiny_detector
from tests.backends import BACKEND, compiles_long, on_one_backend
from tests.test_public import python
from tests.test_resolve import tensors_of
from tests.test_roadmap import SMALL

TEXT = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
(
    CLASSIFY,
    SWAPPED,
    FINE_TUNE,
    FILES,
    ROADMAP,
    SEE,
    EXPORT,
    SEGMENT,
    DETECT,
    LEARN_TO_DETECT,
    RETINA,
    DEEPLAB,
    TRAIN,
    PRETRAIN,
) = BLOCKS


def test_its_length_is_what_was_promised():
    assert all(len(block.strip().splitlines()) <= 9 for block in BLOCKS)


@pytest.fixture
def with_weights(tmp_path, monkeypatch):
    """A folder with a photograph, and random weights where a reader would put them by hand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_CONVNEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("KERAS_CONVNEXT_OFFLINE", "1")
    row = find("convnext_tiny.fb_in1k")
    place = resolve.source_of(row.sources[0], row).place
    place.parent.mkdir(parents=True)
    safetensors.numpy.save_file(tensors_of(VARIANTS["convnext_tiny"]), place)
    noise = np.random.default_rng(0).integers(0, 256, (300, 400, 3), "uint8")
    Image.fromarray(noise).save("photo.jpg")
    return place


@compiles_long
@pytest.mark.filterwarnings("ignore::keras_convnext.pretrained.download.FirstUseNotice")
def test_its_lines_run(with_weights, capsys):
    exec(CLASSIFY, {})
    assert len(re.findall(r"(?m)^[\w'-]+ +\d+\.\d%$", capsys.readouterr().out)) == 3
    exec(SWAPPED, {"images": noise(224, 224)[None]})
    assert re.search(r"\[\[\('n\d{8}', ['\"][\w'-]+['\"], ", capsys.readouterr().out)
    scope = {"images": np.zeros((2, 224, 224, 3), "uint8"), "labels": np.array([0, 4])}
    exec(FINE_TUNE.replace("epochs=5", "epochs=1"), scope)
    assert scope["model"].output_shape == (None, 5)


LITERALLY = """
import warnings
warnings.simplefilter("ignore")
exec(%r, {})
import numpy as np
exec(%r, {"images": np.zeros((1, 224, 224, 3), "uint8"), "labels": np.array([4])})
import keras
print(keras.backend.backend())
"""


@pytest.mark.slow
@on_one_backend
@pytest.mark.parametrize("backend", BACKENDS)
def test_its_lines_run_where_one_backend_is_installed(backend, with_weights, tmp_path):
    """Without a variable or a file that names the backend, as after `pip install ".[jax]"`."""
    missing = [other for other in BACKENDS if other != backend]
    code = LITERALLY % (CLASSIFY, FINE_TUNE.replace("epochs=5", "epochs=1"))
    kept = ("KERAS_CONVNEXT_HOME", "KERAS_CONVNEXT_OFFLINE")
    settings = {name: os.environ[name] for name in kept} | {"HOME": str(tmp_path)}
    done = python(code, missing=missing, **settings)
    assert done.stdout.split()[-1:] == [backend], done.stderr
    assert re.findall(r"(?m)^[\w'-]+ +\d+\.\d%$", done.stdout)
    assert "keras_convnext:" not in done.stderr  # nothing was ambiguous


def test_its_files_load(with_weights, monkeypatch):
    """Of the files that it names, the one in timm's layout; the others by their own tests."""
    shutil.copy(with_weights, "model.safetensors")
    lines = [line for line in FILES.splitlines() if ".pt" not in line]
    assert len(lines) == len(FILES.splitlines()) - 2
    scope = {}
    exec("\n".join(lines), scope)
    assert scope["grey"].input_shape == (None, 224, 224, 1)
    assert not any(weight.path.endswith("gamma/gamma") for weight in scope["plain"].weights)


@compiles_long
def test_its_roadmap(monkeypatch):
    """Its table, which takes long, is left to its own tests."""
    monkeypatch.setattr(roadmap, "print_table", lambda regime: None)
    exec(ROADMAP.replace('"resnet50", input', "SMALL, input"), scope := {"SMALL": SMALL})
    assert scope["model"].name == "small_depthwise"


@compiles_long
@pytest.mark.filterwarnings("ignore::keras_convnext.pretrained.download.FirstUseNotice")
def test_its_pictures(with_weights, tmp_path):
    exec(SEE, {"images": noise(224, 224)[None]})
    pictures = {path.name for path in tmp_path.glob("*.png")}
    assert pictures == {"seen.png", "field.png", "kernels.png"}


@on_one_backend
@pytest.mark.filterwarnings("ignore::keras_convnext.pretrained.download.FirstUseNotice")
def test_its_export_runs(with_weights, capsys):
    pytest.importorskip("onnxruntime")
    exec(EXPORT, {})
    assert capsys.readouterr().out.count("Prediction(name=") == 3


def test_every_name_it_uses_exists():
    for module, names in re.findall(r"from (keras_convnext\S*) import (.+)", TEXT):
        for name in re.findall(r"\w+", names):
            assert hasattr(__import__(module, fromlist=[name]), name), name
    for name in re.findall(r"`keras_convnext\.(\w+)`?", TEXT):
        assert hasattr(keras_convnext, name), name


@compiles_long
def test_its_training_runs():
    """On a smaller model and two plain images."""
    images, labels = np.zeros((2, 32, 32, 3), "uint8"), np.eye(10, dtype="float32")[:2]
    scope = {"batches": tf_batches(images, labels), "validation": (images, labels)}
    smaller = "ConvNeXtAtto(input_shape=(32, 32, 3), "
    exec(TRAIN.replace("ConvNeXtTiny(", smaller).replace("ConvNeXtTiny", "ConvNeXtAtto"), scope)
    assert np.isfinite(scope["model"].history.history["val_loss"]).all()


def tf_batches(images, labels):
    """What `PaperAugmentation.batch` makes of the images, with every draw on."""
    import tensorflow as tf

    from keras_convnext.augmentation import PaperAugmentation

    weights = np.ones(len(images), "float32")
    examples = tf.data.Dataset.from_tensors((images, labels.argmax(-1), weights))
    batch = PaperAugmentation(32, 10, erase=1.0).batch
    return examples.map(lambda x, y, w: batch(x, y, w, key=[0, 0, 0]))


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), "uint8")


@on_one_backend
def test_its_pre_training_runs(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = {"images": np.random.default_rng(0).integers(0, 256, (2, 64, 64, 3), "uint8")}
    exec(PRETRAIN, found)
    assert found["picture"].dtype == "uint8" and found["classifier"].output_shape == (None, 10)


@compiles_long
def test_its_segmentation_runs(tmp_path, monkeypatch):
    """On a smaller model, with random weights in place of the published ones."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(noise(40, 50)).save("photo.jpg")
    small = VARIANTS["test_convnext2"]

    def build(weights=None, backbone_weights=None, **arguments):
        assert (weights, backbone_weights) in (("ade20k", None), (None, "fb_in1k"))
        return UperNet(small, channels=8, auxiliary_channels=8, **arguments)

    monkeypatch.setattr(keras_convnext.segmentation, "UperNetConvNeXtTiny", build)
    masks = np.arange(32 * 32).reshape(1, 32, 32) % 11
    scope = {"images": noise(32, 32)[None], "masks": masks}
    exec(SEGMENT.replace("(2048, 512)", "(128, 32)"), scope)
    assert scope["picture"].shape == (40, 50, 3)
    assert np.isfinite(scope["model"].history.history["loss"]).all()


@on_one_backend
def test_its_detection_runs(tmp_path, monkeypatch, capsys):
    """On a smaller model, with random weights in place of the published ones."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(noise(40, 50)).save("photo.jpg")

    def build(weights, **arguments):
        assert weights == "coco"
        return tiny_detector.build(**arguments)

    monkeypatch.setattr(keras_convnext.detection, "MaskRCNNConvNeXtTiny", build)
    exec(DETECT, {})
    assert Image.open("seen.png").size == (500, 400)
    assert re.search(r"\('class \d', .*\(6, 40, 50\)", capsys.readouterr().out, re.DOTALL)
    scope = {"images": noise(64, 64)[None], "labels": np.array([[1, -1]])}
    scope |= {"boxes": np.float32([[[4, 8, 40, 50], [0, 0, 0, 0]]])}
    scope |= {"masks": np.ones((1, 2, 64, 64), "uint8")}
    exec(LEARN_TO_DETECT, scope)
    assert np.isfinite(scope["model"].history.history["loss"]).all()
    assert set(scope["found"].names) <= {"cat", "dog"} and scope["found"].size == (40, 50)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:keras")
@pytest.mark.skipif(BACKEND != "torch", reason="test_features.py has it on every backend")
def test_its_lines_with_keras_hub_run():
    boxes = np.array([[[4, 4, 40, 40]]], "float32")
    scope = {"images": noise(64, 64)[None].astype("float32"), "boxes": boxes}
    masks = np.where(np.arange(64 * 64) % 5, np.arange(64 * 64) % 21, 255).reshape(1, 64, 64)
    scope |= {"labels": np.zeros((1, 1), int), "masks": masks}
    for block in (RETINA, DEEPLAB):
        smaller = block.replace("ConvNeXtTiny", "ConvNeXtAtto").replace("512", "64")
        exec(smaller.replace("include_top=False", "include_top=False, weights=None"), scope)
