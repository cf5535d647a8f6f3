"""The notebooks of `tutorials/` run from top to bottom; their kept outputs are of such a run."""

import json
import re
from pathlib import Path

import nbclient
import nbformat
import pytest

from tests.backends import BACKEND

ROOT = Path(__file__).resolve().parents[1]
NOTEBOOKS = sorted((ROOT / "tutorials").glob("*.ipynb"))
each_notebook = pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)


def code_cells(path):
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return [cell for cell in cells if cell["cell_type"] == "code"]


def test_there_are_four():
    assert len(NOTEBOOKS) == 4


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
