"""README.md: its lines run as printed, and its links lead somewhere."""

import os
import re
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

from keras_convnext import VARIANTS, labels
from keras_convnext.backend_choice import BACKENDS
from keras_convnext.cli.main import _parser
from keras_convnext.pretrained import find, resolve
from tests.backends import fast_on_one, on_one_backend
from tests.test_public import python
from tests.test_resolve import tensors_of

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```python\n(.*?)```", TEXT, re.DOTALL)
OWN_PHOTOS, CLASSIFY, SWAPPED = BLOCKS
GUIDE = (ROOT / "docs" / "guides" / "fine_tune.md").read_text(encoding="utf-8")
FROM_ARRAYS = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)[1]
NAMES = {name for _, name in labels.class_names("imagenet1k")}


@on_one_backend
def test_its_length_is_what_was_promised():
    assert all(len(block.strip().splitlines()) <= 11 for block in BLOCKS)
    assert TEXT.count("\n") <= 150


@pytest.fixture
def with_weights(tmp_path, monkeypatch):
    """A folder with photographs, and random weights where a reader would put them by hand."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_CONVNEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("KERAS_CONVNEXT_OFFLINE", "1")
    row = find("convnext_tiny.fb_in1k")
    place = resolve.source_of(row.sources[0], row).place
    place.parent.mkdir(parents=True)
    safetensors.numpy.save_file(tensors_of(VARIANTS["convnext_tiny"]), place)
    for path in ("photo.jpg", *(f"photos/{name}/{n}.jpg" for name in "ab" for n in range(3))):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(300, 400)).save(path)
    return place


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), "uint8")


def classes_in(output):
    """Returns the names in lines such as "golden_retriever  12.3%"."""
    return re.findall(r"^(\S+) +\d+\.\d%$", output, re.MULTILINE)


@fast_on_one
@pytest.mark.filterwarnings("ignore::keras_convnext.pretrained.download.FirstUseNotice")
def test_its_lines_run(with_weights, capsys):
    exec(CLASSIFY, {})
    found = classes_in(capsys.readouterr().out)
    assert len(found) == 3 and set(found) <= NAMES
    exec(SWAPPED, {"images": noise(224, 224)[None]})
    assert re.search(r"\[\[\('n\d{8}', ", capsys.readouterr().out)
    exec(OWN_PHOTOS.replace("epochs=5", "epochs=1"), scope := {})
    assert scope["model"].output_shape == (None, 2)
    assert set(re.findall(r"name='(\w)'", capsys.readouterr().out)) == {"a", "b"}


LITERALLY = """
import warnings
warnings.simplefilter("ignore")
exec(%r, {})
import keras
import numpy as np
from keras_convnext import ConvNeXtTiny
scope = {"keras": keras, "ConvNeXtTiny": ConvNeXtTiny}
exec(%r, scope | {"images": np.zeros((1, 224, 224, 3), "uint8"), "labels": np.array([4])})
print(keras.backend.backend())
"""


@pytest.mark.slow
@on_one_backend
@pytest.mark.parametrize("backend", BACKENDS)
def test_its_lines_run_where_one_backend_is_installed(backend, with_weights, tmp_path):
    """Without a variable or a file that names the backend, as after `pip install ".[jax]"`."""
    missing = [other for other in BACKENDS if other != backend]
    code = LITERALLY % (CLASSIFY, FROM_ARRAYS.replace("epochs=5", "epochs=1"))
    kept = ("KERAS_CONVNEXT_HOME", "KERAS_CONVNEXT_OFFLINE")
    settings = {name: os.environ[name] for name in kept} | {"HOME": str(tmp_path)}
    done = python(code, missing=missing, **settings)
    assert done.stdout.split()[-1:] == [backend], done.stderr
    assert classes_in(done.stdout)
    assert "keras_convnext:" not in done.stderr  # nothing was ambiguous


@on_one_backend
def test_every_name_it_uses_exists():
    for module, names in re.findall(r"from (keras_convnext\S*) import (.+)", TEXT):
        for name in re.findall(r"\w+", names):
            assert hasattr(__import__(module, fromlist=[name]), name), name
    for module, name in re.findall(r"`(segmentation|detection|export)\.(\w+)\(", TEXT):
        assert hasattr(__import__(f"keras_convnext.{module}", fromlist=[name]), name), name


@on_one_backend
def test_its_links_and_commands_lead_somewhere():
    for target in re.findall(r"\]\(([^)\s]+)\)", TEXT):
        assert target.startswith("https://") or (ROOT / target.partition("#")[0]).exists(), target
    commands = re.findall(r"`keras-convnext ([^`]+)`", TEXT)
    assert len(commands) > 3
    for command in commands:
        _parser().parse_args(command.split())
