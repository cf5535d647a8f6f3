"""The notebooks of `tutorials/` run from top to bottom; their kept outputs are of such a run."""

import importlib.util
import json
import os
import re
import sys
from pathlib import Path

import nbclient
import nbformat
import numpy as np
import pytest
from PIL import Image

from tests.backends import BACKEND, on_one_backend

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_there_are_six():
    assert len(NOTEBOOKS) == 6


@each_notebook
def test_outputs_are_kept_and_of_one_run(path):
    cells = code_cells(path)
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert any("image/png" in output.get("data", {}) for output in outputs) or "three" in path.stem
    assert {output["output_type"] for output in outputs} <= {"stream", "display_data"}
    text = "".join(line for output in outputs for line in output.get("text", ()))
    assert text and not re.search(r"/(tmp|home|root|Users|usr)/", text)
    assert path.stat().st_size < 1_000_000


@pytest.fixture
def run_cells(tmp_path, monkeypatch):
    """Returns a function that runs some code cells, counted from 1, in an empty folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.setattr(sys, "path", sys.path.copy())  # a notebook adds the clone
    for name in ("TUTORIALS_SMALL", "PHOTOS"):
        monkeypatch.delenv(name, raising=False)

    def run(name, *numbers, **scope):
        cells = code_cells(ROOT / "tutorials" / f"{name}.ipynb")
        for number in numbers:
            exec("".join(cells[number - 1]["source"]), scope)
        return scope

    return run


@on_one_backend
def test_three_backends_takes_one_that_is_installed(run_cells, monkeypatch):
    monkeypatch.delenv("KERAS_BACKEND")
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: True if name == "jax" else None)
    assert run_cells("three_backends", 1)["installed"] == ["jax"]
    assert os.environ["KERAS_BACKEND"] == "jax"


class Keys:
    """In place of `PaperAugmentation`: images become their keys."""

    image = staticmethod(lambda image, key: key)
    batch = staticmethod(lambda images, labels, weights, key: (images, labels, key))


@on_one_backend
def test_your_own_fit_has_an_order_for_each_epoch_and_sees_every_image(run_cells):
    scope = run_cells("your_own_fit", 1, 2, 3)
    scope["augment"] = Keys
    batches = [list(scope["pipeline"]().as_numpy_iterator()) for _ in range(2)]
    keys, labels = (np.concatenate(parts) for parts in zip(*batches[0], strict=True))
    np.testing.assert_array_equal(keys, np.concatenate([keys for keys, _ in batches[1]]))
    np.testing.assert_array_equal(labels, scope["scans"].target[keys[:, 2]])
    epochs = keys.reshape(scope["EPOCHS"], -1, 3)
    assert (epochs[..., 1] == np.arange(len(epochs))[:, None]).all()
    orders = [tuple(epoch[:, 2]) for epoch in epochs]
    assert all(len(set(order)) == scope["STEPS"] * scope["BATCH"] for order in orders)
    assert len(set(orders)) == len(orders)
    assert set().union(*orders) == set(scope["train"])


@on_one_backend
def test_photos_are_taken_and_nothing_beside_them(run_cells, tmp_path, monkeypatch):
    names = ("rose/1.JPG", "rose/.DS_Store", "rose/._1.jpg", "rose/Thumbs.db", "tulip/2.png")
    for name in (*names, ".ipynb_checkpoints/3.png", "LICENSE.txt"):
        path = tmp_path / "flowers" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    monkeypatch.setenv("PHOTOS", "flowers")
    scope = run_cells("fine_tune_on_your_photos", 1, 2)
    assert scope["CLASSES"] == ["rose", "tulip"]
    assert [[path.name for path in paths] for paths in scope["files"]] == [["1.JPG"], ["2.png"]]


@on_one_backend
def test_drawn_squares_stand_upright(run_cells):
    scope = run_cells("fine_tune_on_your_photos", 1, 2)
    for path in scope["files"][scope["CLASSES"].index("square")][:3]:
        pixels = np.asarray(Image.open(path))
        shape = (pixels != pixels[0, 0]).any(-1)
        rows, columns = (np.flatnonzero(shape.any(axis)) for axis in (1, 0))
        assert shape[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].all()


@on_one_backend
@pytest.mark.parametrize(
    ("truth", "said"), [([0, 1], "No mistake in 2"), ([1, 1], "Mistakes: 1 of 2")]
)
def test_mistakes_are_shown_where_there_are_any(run_cells, capsys, truth, said):
    scope = run_cells("fine_tune_on_your_photos", 1)
    scope |= {"x_valid": np.zeros((2, 8, 8, 3), "uint8"), "CLASSES": ["circle", "square"]}
    scope["model"] = type("Model", (), {"predict": lambda *_, **__: np.eye(2)})()
    run_cells("fine_tune_on_your_photos", 7, **scope, y_valid=np.array(truth))
    assert said in capsys.readouterr().out


@on_one_backend
def test_few_labels_are_some_of_each_digit_and_of_the_images_to_learn_from(run_cells):
    scope = run_cells("pretrain_without_labels", 1, 2)
    chosen = [scope["few_labels"](trial) for trial in range(3)]
    for places in chosen:
        assert (np.bincount(scope["scans"].target[places]) == 5).all()
        assert set(places) <= set(scope["train"]) and not set(places) & set(scope["valid"])
    assert len(set().union(*chosen)) > 100  # of 150: another choice each time


@on_one_backend
def test_drawn_people_are_where_the_annotations_say(run_cells, tmp_path, monkeypatch):
    monkeypatch.setenv("TUTORIALS_SMALL", "1")
    scope = run_cells("detect_people", 1, 2, 3)
    rows = json.loads((tmp_path / "people/annotations/instances_train.json").read_text())
    masks = {image["id"]: [] for image in rows["images"]}
    for row in rows["annotations"]:
        masks[row["image_id"]].append(mask := scope["rle"].decode(row["segmentation"]))
        ys, xs = np.nonzero(mask)
        box = [xs.min(), ys.min(), xs.max() + 1 - xs.min(), ys.max() + 1 - ys.min()]
        assert (row["bbox"], row["area"]) == (box, mask.sum())
    for found in masks.values():
        assert 1 <= len(found) <= 3 and np.sum(found, axis=0).max() == 1
    person = scope["person"]
    pictures = []
    for fill in (0, 255):
        scope["person"] = lambda *given, fill=fill: [
            (points, wide, (fill,) * 3) for points, wide, _ in person(*given)
        ]
        pictures.append(scope["scene"](np.random.default_rng(3)))
    (dark, masks), (light, _) = pictures
    differs = (np.asarray(dark) != np.asarray(light)).any(-1)
    np.testing.assert_array_equal(differs, np.any(masks, axis=0))


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "torch", reason="tutorials choose a backend themselves")
@each_notebook
def test_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    """At small sizes, offline, and in an empty folder: with what the cells make themselves."""
    monkeypatch.setenv("TUTORIALS_SMALL", "1")
    monkeypatch.setenv("KERAS_CONVNEXT_OFFLINE", "1")
    monkeypatch.setenv("KERAS_CONVNEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("PHOTOS", raising=False)
    notebook = nbformat.read(path, as_version=4)
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=600, resources=place).execute()
