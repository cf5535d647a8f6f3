"""Sdist and wheel: what is in them, and the trainer by the wheel.

`make release-check` does it in an empty environment; here the packages of this one are beside the
installed wheel.
"""

import email
import os
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.backends import on_one_backend

ROOT = Path(__file__).resolve().parents[1]
PARTS = ("keras_convnext", "training", "tests", "docs", "tutorials", "weights", "benchmarks", ".ci")
MADE = {"__pycache__", "_build", "generated"}  # by running or building
HOOK = "import sys; from setuptools import build_meta; build_meta.build_{}(sys.argv[1])"

pytestmark = [on_one_backend, pytest.mark.slow]


def sources():
    """Returns the paths of the project's files, relative to its root."""
    if (ROOT / ".git").exists():
        listed = subprocess.run(
            ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True
        )
        return [name for name in listed.stdout.decode().split("\0") if (ROOT / name).is_file()]
    found = [path.relative_to(ROOT) for part in PARTS for path in (ROOT / part).rglob("*")]
    found += [path.relative_to(ROOT) for path in ROOT.iterdir() if path.suffix != ".egg-info"]
    return [str(p) for p in found if (ROOT / p).is_file() and not MADE & {*p.parts}]


def built(kind, source, target):
    """Builds with what is installed here; returns the path of the file."""
    command = [sys.executable, "-c", HOOK.format(kind), str(target)]
    done = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    (path,) = (p for p in target.iterdir() if p.suffix == (".gz" if kind == "sdist" else ".whl"))
    return path


@pytest.fixture(scope="module")
def built_files(tmp_path_factory):
    """The names in an sdist of a copy of the project, and the wheel that is built from it."""
    place = tmp_path_factory.mktemp("built")
    for name in sources():
        copy = place / "project" / name
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes((ROOT / name).read_bytes())
    (place / "dist").mkdir()
    sdist = built("sdist", place / "project", place / "dist")
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
        archive.extractall(place / "unpacked", filter="data")
    (unpacked,) = (place / "unpacked").iterdir()
    return names, built("wheel", unpacked, place / "dist")


def test_the_sdist_has_every_file(built_files):
    names, _ = built_files
    assert set(sources()) - names == set()
    assert not [name for name in names if "__pycache__" in name or name.endswith(".pyc")]


def test_the_wheel_has_the_library_and_the_trainer_and_nothing_else(built_files):
    with zipfile.ZipFile(built_files[1]) as wheel:
        names = set(wheel.namelist())
        (metadata,) = (wheel.read(name) for name in names if name.endswith("/METADATA"))
    code = {name for name in sources() if name.startswith("keras_convnext/")}
    trainer = {name for name in sources() if name.startswith("training/") and name[-3:] == ".py"}
    code |= {f"keras_convnext_{name}" for name in trainer}
    others = {name for name in names if not name.split("/")[0].endswith(".dist-info")}
    assert others == code and "keras_convnext/py.typed" in code
    licences = {name.rpartition("/")[2] for name in names if "/licenses/" in name}
    tables = {"imagenet1k_licence.txt", "ade20k_licence.txt"}
    assert licences == {"LICENSE", "THIRD_PARTY.md"} | tables
    said = email.message_from_bytes(metadata)
    assert said["License-Expression"] == "Apache-2.0" and said["Requires-Python"]
    assert "Operating System :: OS Independent" in said.get_all("Classifier")
    assert all("https://" in url for url in said.get_all("Project-URL"))


def test_every_table_says_whose_it_is():
    tables = [*(ROOT / "keras_convnext").rglob("*.txt"), *(ROOT / "keras_convnext").rglob("*.json")]
    text = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    for path in tables:
        assert f"`{path.relative_to(ROOT).as_posix()}`" in text


def test_the_trainer_works_by_the_wheel(built_files, tmp_path):
    site = tmp_path / "site"
    pip = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--no-index", "--target"]
    subprocess.run([*pip, str(site), str(built_files[1])], check=True)
    for number in range(8):
        folder = tmp_path / "photos" / ("day", "night")[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.full((40, 48, 3), 30 * number, "uint8")).save(folder / f"{number}.png")
    environment = {**os.environ, "PYTHONPATH": str(site), "KERAS_CONVNEXT_OFFLINE": "1"}
    environment |= {"KERAS_CONVNEXT_HOME": str(tmp_path), "TF_CPP_MIN_LOG_LEVEL": "3"}

    def run(*arguments, module="keras_convnext.cli"):
        command = [sys.executable, "-m", module, *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    assert "digits" in run("train", "--list")
    (site / "where.py").write_text(
        "from keras_convnext.cli import trainer\nprint(trainer.module('train').__file__)"
    )
    assert run(module="where").strip() == str(site / "keras_convnext_training" / "train.py")
    said = run("train", "photos", "--epochs=1")
    assert "keras-convnext evaluate records/" in said and "Validation accuracy" in said
    (record,) = (tmp_path / "records").iterdir()
    assert '"commit": "keras_convnext ' in (record / "config.json").read_text()
    assert run("evaluate", str(record)).startswith("class\timages\trecall")
    assert run("predict", "--model", str(record), "photos/day/0.png")
