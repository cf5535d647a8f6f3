"""docs/: its lines run as printed; no page, public name, link or command is missing or wrong."""

import dataclasses
import importlib
import importlib.util
import inspect
import re
import shlex
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy
from PIL import Image

import keras_convnext
from docs import choosing, docstrings, existing, reference
from keras_convnext import VARIANTS
from keras_convnext.cli.main import _parser, main
from keras_convnext.pretrained import find, resolve
from keras_convnext.segmentation import UperNet
from tests import tiny_detector
from tests.backends import on_one_backend
from tests.shape_only import shapes_only
from tests.test_golden import CASES, variant_of
from tests.test_resolve import tensors_of
from tests.test_roadmap import SMALL
from tests.variant_table import PAGE, replaced
from training import command
from training.evaluate.command import _parser as evaluation
from training.tasks.table import TASKS

pytestmark = on_one_backend

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
PAGES = {
    path.relative_to(DOCS).as_posix(): path.read_text(encoding="utf-8")
    for path in sorted([*DOCS.glob("*.md"), *DOCS.glob("guides/*.md")])
}
FENCE = re.compile(r"(?:<!-- not run: (.+?) -->\n)?```(python|sh)\n(.*?)```", re.DOTALL)
REASONS = {
    "a slow test runs it",
    "downloads weights",
    "installs packages",
    "measures for minutes",
    "needs a new process",
    "needs a trained model",
    "needs several devices",
    "the authors' files",
    "the other library",
    "trains",
}


def blocks(page, language):
    """Returns (reason why it is not run or None, text) of each block of a page."""
    found = FENCE.finditer(PAGES[page])
    return [(block[1], block[3]) for block in found if block[2] == language]


# ---------------------------------------------------------------- pages


def toctrees(text):
    found = re.findall(r"```\{toctree\}\n(.*?)```", text, re.DOTALL)
    lines = [line.strip() for block in found for line in block.splitlines()]
    return {line for line in lines if line and line[0] != ":"}


def written():
    """Returns `{page without suffix: text}` of what is written when the site is built."""
    pages = {}

    def keep(path, text):
        pages[path.relative_to(DOCS).as_posix()] = text

    existing.write(existing.GENERATED, keep)
    reference.write(existing.GENERATED / "api", keep)
    return pages


def test_every_page_is_in_a_table_of_contents():
    made = written()
    named = set().union(*map(toctrees, PAGES.values()))
    inside = toctrees(made["generated/api/index.md"])
    named |= {f"generated/api/{name}" for name in inside}
    documents = {*PAGES, *made, "generated/every_accuracy.md"} - {"index.md"}
    documents = {path.rpartition(".")[0] for path in documents if not path.endswith(".inc")}
    notebooks = {f"generated/tutorials/{p.stem}" for p in (ROOT / "tutorials").glob("*.ipynb")}
    assert notebooks <= documents
    assert named == documents - notebooks | {"generated/tutorials/*"}


def test_every_link_leads_somewhere():
    made = written()
    known = {*PAGES, *made, "generated/every_accuracy.md"}
    for page, text in (PAGES | made).items():
        if page.endswith(".ipynb"):
            continue
        if page in PAGES:  # read as it is, too
            links = re.findall(
                r"\]\((?!https://|#)([^)\s#]+)", re.sub(r"```.*?```", "", text, flags=re.S)
            )
            only_there = ("generated/api/", "generated/every_accuracy.md")
            for target in links:
                there = (DOCS / page).parent.joinpath(target).resolve()
                assert there.exists() or any(part in target for part in only_there), target
            folder = (DOCS / page).parent
            text = existing.linked(text, folder, folder)
        text = re.sub(r"```.*?```|`[^`\n]*`", "", text, flags=re.DOTALL)
        for target in re.findall(r"\]\(([^)\s]+)\)", text):
            if re.match(r"https://|#", target):
                continue
            place, _, anchor = target.partition("#")
            path = (DOCS / page).parent.joinpath(place).resolve()
            name = path.relative_to(ROOT / "docs").as_posix() if DOCS in path.parents else None
            # a page from elsewhere is in the site only if `existing.PAGES` names it
            elsewhere = name is None and path.is_file() and path.suffix != ".md"
            assert name in known or elsewhere, f"{page}: {target}"
            assert not anchor or anchor in anchors((PAGES | made)[name]), f"{page}: {target}"


def anchors(text):
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title).lower().replace(" ", "-") for title in titles}


# ---------------------------------------------------------------- reference


def test_every_public_name_is_documented_once():
    pages = reference.pages()
    names = [name for page in pages.values() for name in page]
    assert len(names) == len(set(names))
    modules = (*keras_convnext.SUBMODULES, *keras_convnext.OPTIONAL)
    assert set(pages) == {"keras_convnext", *modules}
    top = {name for name in keras_convnext.__all__ if name not in keras_convnext.SUBMODULES}
    assert set(pages["keras_convnext"]) == {f"keras_convnext.{name}" for name in top}
    for module in modules:
        documented = {name.rpartition(".")[2] for name in pages[module]} | top
        assert public(importlib.import_module(f"keras_convnext.{module}")) <= documented, module


def public(module):
    """Returns what a module lists, or the functions and classes that it and its parts define."""
    if hasattr(module, "__all__"):
        return set(module.__all__)
    found = {name: value for name, value in vars(module).items() if name[0] != "_"}
    return {
        name
        for name, value in found.items()
        if (inspect.isfunction(value) or inspect.isclass(value))
        and (value.__module__ + ".").startswith(module.__name__ + ".")
    }


def test_every_public_name_says_what_it_is():
    for full in (name for page in reference.pages().values() for name in page):
        value = reference._value(full)
        if inspect.isclass(value) or callable(value):
            assert inspect.getdoc(value), full
        else:
            assert full in reference.DATA, full


DOCSTRING = """Returns `f(x)`s, or `None`: a * b, end_ and 2**3.

    code(1)  # as `it` is

- one
  more
- two

Args:
    x: array, one of
        a;
        b.
    mean, std: of it.
    **kwargs: passed on.

Returns:
    A `Row`: this.

    Also that.

Raises:
    ValueError: if `x` is bad.

Attributes:
    size: in pixels.

Example:
    code(1)  # `it`

    code(2)
"""
RST = r"""Returns ``f(x)``\ s, or ``None``: a \* b, end\_ and 2\*\*3.

::

    code(1)  # as `it` is

- one more

- two

:param x: array, one of a; b.

:param mean,std: of it.

:param \*\*kwargs: passed on.

:returns: A :py:obj:`Row <a.b.Row>`: this.

    Also that.

:raises ValueError: if ``x`` is bad.

.. rubric:: Attributes

* ``size``: in pixels.

.. rubric:: Example

.. code-block:: python

    code(1)  # `it`

    code(2)"""


def test_docstrings_become_what_sphinx_reads():
    lines = docstrings.as_rst(DOCSTRING.splitlines(), {"Row": "a.b.Row"})
    assert "\n".join(lines).rstrip() == RST


# ---------------------------------------------------------------- which model


def test_published_accuracies_come_with_size_source_and_cost():
    first = choosing.with_macs(choosing.measured()[:1])[0]
    assert (first.row.name, first.size, first.figure.top1) == ("convnext_tiny.fb_in1k", 224, 82.1)
    assert first.macs == 4455531264
    lines = choosing.table([first]).splitlines()
    assert lines[2] == "| `convnext_tiny.fb_in1k` | 28.6M | 4.46 | 224 | 82.10 | MIT | [1] |"
    assert lines[-1] == "Sources of the accuracies: [1] facebookresearch/ConvNeXt README."


def test_no_model_of_the_list_is_beaten_by_a_cheaper_one():
    found = choosing.for_any_use(choosing.measured())
    v2 = [one.row.name for one in found if one.row.family.startswith("v2")]
    assert found and v2 == []  # the authors' own are not for commercial use
    best = choosing.frontier(found, lambda one: one.row.params)
    assert [one.figure.top1 for one in best] == sorted({one.figure.top1 for one in best})
    for one in found:
        better = [b for b in best if b.row.params <= one.row.params]
        assert max(b.figure.top1 for b in better) >= one.figure.top1
    named = re.findall(r"`(convnext\w+\.\w+)`", PAGES["choosing.md"])
    assert {find(name).licence.name for name in named} == {"Apache-2.0"}


def test_speed_is_what_was_measured():
    line = next(line for line in choosing.speed_table().splitlines() if "convnext_tiny" in line)
    assert line == "| convnext_tiny | 224 | 8 | float32 | 15 | 18.1 | 16.5 |"


def test_the_table_of_variants_is_the_generated_one():
    assert replaced(PAGES["variants.md"]) == PAGES["variants.md"], "run `make readme`"
    assert PAGE.read_text(encoding="utf-8") == PAGES["variants.md"]


# ---------------------------------------------------------------- commands


def test_what_is_not_run_says_why():
    reasons = [FENCE.findall(text) for text in PAGES.values()]
    given = {reason for page in reasons for reason, *_ in page if reason}
    assert given == REASONS
    marks = sum(text.count("<!-- not run") for text in PAGES.values())
    assert marks == sum(bool(reason) for page in reasons for reason, *_ in page)


COMMANDS = [
    (page, reason, line)
    for page in PAGES
    for reason, text in blocks(page, "sh")
    for line in text.splitlines()
]


def test_every_command_is_one(tmp_path, monkeypatch, capsys):
    """The directories of photos that they name are there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_CONVNEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KERAS_CONVNEXT_OFFLINE", "1")
    for name in ("photos/a", "photos/b", "PHOTOS/a", "PHOTOS/b"):
        Path(name).mkdir(parents=True, exist_ok=True)
        for number in range(2):
            Image.new("RGB", (40, 40)).save(f"{name}/{number}.png")
    for page, reason, line in COMMANDS:
        name, *arguments = shlex.split(line)
        try:
            CHECKS[name](arguments, reason)
        except SystemExit as stopped:
            assert not stopped.code, f"{page}: {line}: {capsys.readouterr().err}"


def _keras_convnext(arguments, reason):
    if reason and arguments[0] == "train":
        command.from_command_line(arguments[1:])
    elif reason and arguments[0] == "evaluate":
        evaluation().parse_args(arguments[1:])
    elif reason and arguments[0] == "check":
        assert main(arguments) == 0
    elif reason is None:
        assert main(arguments) == 0
    else:
        _parser().parse_args(arguments)


def _python(arguments, reason):
    assert reason and arguments[0] == "-m"
    module, given = arguments[1], arguments[2:]
    if module == "training.train":
        command.from_command_line(given)
    elif module == "weights.convert":
        assert all(map(find, given[: given.index("--to")]))
    else:
        assert importlib.util.find_spec(module), module


def _torchrun(arguments, reason):
    assert arguments[0] == "--nproc_per_node=8"
    _python(arguments[1:], reason)


def _make(arguments, reason):
    assert f"\n{arguments[0]}:" in (ROOT / "Makefile").read_text()


def _pip(arguments, reason):
    extras = re.fullmatch(r"(?:\.|keras-convnext)\[([\w,]+)\]", arguments[1])[1].split(",")
    text = (ROOT / "pyproject.toml").read_text()
    assert all(f"\n{extra} = [" in text for extra in extras)


CHECKS = {
    "keras-convnext": _keras_convnext,
    "make": _make,
    "pip": _pip,
    "python": _python,
    "torchrun": _torchrun,
}


def test_flags_of_the_trainer_that_the_guides_name_exist():
    page = PAGES["guides/migrate.md"].partition("`keras-convnext train`")[2]
    ours = [line.split("|")[2] for line in page.splitlines() if line.startswith("| `--")]
    others = "".join(PAGES[p] for p in PAGES if p != "guides/migrate.md")
    others = re.sub(r"```.*?```", "", others, flags=re.DOTALL)
    named = set(re.findall(r"`--(\w+)", "".join(ours) + others))
    known = {f.name for task in TASKS.values() for f in dataclasses.fields(task.config)}
    assert len(ours) > 6 and named - known <= {"config", "resume", "dry", "help", "split"}


# ---------------------------------------------------------------- Python


SMALLER = [
    (r"convnext_tiny\.fb_in1k", "test_convnext.r160_in1k"),
    (r'ConvNeXt\("convnext_tiny", weights="convnext_tiny_1k.*?"\)', "ConvNeXt(*OFFICIAL)"),
    (r'"convnext_tiny"', '"test_convnext"'),
    (r'"convnextv2_atto"', '"test_convnext2"'),
    (r"\b224\b", "160"),
    (r"epochs=5", "epochs=1"),
    (r"\(2048, 512\)", "(64, 64)"),
    (r"\(320, 533\)", "(32, 64)"),
]


def noise(*shape):
    return np.random.default_rng(0).integers(0, 256, shape, "uint8")


@pytest.fixture
def place(tmp_path, monkeypatch):
    furnish(tmp_path, monkeypatch)


def furnish(place, monkeypatch):
    """Enters a folder with photos, and weights where a reader's downloads would be."""
    monkeypatch.chdir(place)
    monkeypatch.setenv("KERAS_CONVNEXT_HOME", str(place / "home"))
    monkeypatch.setenv("HF_HOME", str(place / "hub"))
    monkeypatch.setenv("KERAS_CONVNEXT_OFFLINE", "1")
    row = find("test_convnext.r160_in1k")
    file = resolve.source_of(row.sources[0], row).place
    file.parent.mkdir(parents=True)
    safetensors.numpy.save_file(tensors_of(VARIANTS["test_convnext"]), file)
    for path in ("photo.jpg", *(f"photos/{kind}/{n}.jpg" for kind in "ab" for n in range(5))):
        Path(path).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(40, 50, 3)).save(path)


def tiny_models(monkeypatch):
    """Models of the tests' size in place of the published ones."""

    def upernet(weights=None, backbone_weights=None, classes=150, **arguments):
        assert (weights, backbone_weights) in (("ade20k", None), (None, "fb_in1k"))
        small = VARIANTS["test_convnext2"]
        sizes = {"channels": 8, "auxiliary_channels": 8}
        return UperNet(small, classes=classes, **sizes, **arguments)

    def detector(weights, **arguments):
        assert weights == "coco"
        return tiny_detector.build(**arguments)

    def classifier(weights="imagenet", **arguments):
        return keras_convnext.ConvNeXt("test_convnext", weights=weights, **arguments)

    small = dataclasses.replace(SMALL, name="resnet50")
    monkeypatch.setitem(keras_convnext.roadmap.REGIMES, "resnet50", small)
    monkeypatch.setattr(keras_convnext, "ConvNeXtTiny", classifier)
    monkeypatch.setattr(keras_convnext.segmentation, "UperNetConvNeXtTiny", upernet)
    monkeypatch.setattr(keras_convnext.detection, "MaskRCNNConvNeXtTiny", detector)


def scope_of(page):
    scope = {"images": noise(1, 160, 160, 3), "small_images": noise(4, 64, 64, 3)}
    scope["labels"] = np.array([4])
    if page == "guides/segment.md":
        masks = np.arange(32 * 32).reshape(1, 32, 32) % 3
        scope = {"images": noise(1, 32, 32, 3), "masks": masks}
    if page == "guides/detect.md":
        scope = {"images": noise(1, 64, 64, 3), "labels": np.array([[1, -1]])}
        scope |= {"boxes": np.float32([[[4, 8, 40, 50], [0, 0, 0, 0]]])}
        scope |= {"masks": np.ones((1, 2, 64, 64), "uint8")}
    if page == "guides/train.md":
        import tensorflow as tf

        parts = (noise(4, 40, 50, 3), np.arange(4), np.arange(4, dtype="int64"))
        scope["examples"] = tf.data.Dataset.from_tensor_slices(parts)
    if page == "guides/weights.md":
        tensors = tensors_of(VARIANTS["test_convnext"])
        safetensors.numpy.save_file(tensors, "model.safetensors")
    if page == "guides/offline.md":
        keras_convnext.ConvNeXt("test_convnext").save_weights("tiny.weights.h5")
    official = CASES["official_v1"]
    scope["OFFICIAL"] = variant_of(official), True, True, official["folder"] / official["file"]
    return scope


WITH_PYTHON = [page for page in PAGES if any(not reason for reason, _ in blocks(page, "python"))]


@pytest.mark.filterwarnings("ignore::keras_convnext.pretrained.download.FirstUseNotice")
@pytest.mark.parametrize("page", WITH_PYTHON)
def test_lines_run(page, place, monkeypatch):
    """All of a page, one after the other, with a smaller model and random weights."""
    if page == "guides/export.md":
        pytest.importorskip("onnxruntime")
    if page == "guides/keras_hub.md":
        pytest.importorskip("keras_hub")
    tiny_models(monkeypatch)
    scope = scope_of(page)
    for reason, text in blocks(page, "python"):
        for pattern, smaller in SMALLER:
            text = re.sub(pattern, smaller, text)
        if reason is None:
            exec(text, scope)
        else:
            compile(text, page, "exec")


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::UserWarning:keras")
def test_lines_with_keras_hub_run():
    """On smaller models; `test_features.py` has it on every backend."""
    pytest.importorskip("keras_hub")
    boxes = np.array([[[4, 4, 40, 40]]], "float32")
    scope = {"images": noise(1, 64, 64, 3).astype("float32"), "boxes": boxes}
    masks = np.where(np.arange(64 * 64) % 5, np.arange(64 * 64) % 21, 255).reshape(1, 64, 64)
    scope |= {"labels": np.zeros((1, 1), int), "masks": masks}
    marked = [text for reason, text in blocks("guides/keras_hub.md", "python") if reason]
    assert len(marked) == 2
    for text in marked:
        smaller = text.replace("ConvNeXtTiny", "ConvNeXtAtto").replace("512", "64")
        exec(smaller.replace("include_top=False", "include_top=False, weights=None"), scope)


def test_layers_have_the_names_in_the_guide():
    with shapes_only():
        ours = keras_convnext.ConvNeXtTiny(weights=None)
        theirs = keras.applications.ConvNeXtTiny(weights=None)
        base = keras_convnext.ConvNeXtBase(weights=None)
        their_base = keras.applications.ConvNeXtBase(weights=None)
    assert len(ours.layers) == 27 and "Tiny has 27 layers" in PAGES["guides/migrate.md"]
    assert len(base.layers) == 45 and base.layers[:-30][-1].name == "stage2_block3"
    trained = {layer.name for layer in their_base.layers[-30:] if layer.weights}
    forms = r"convnext_base_(stage_3|downsampling_block_2|head|stage_2_block_26)"
    assert len(trained) > 10 and all(re.match(forms, name) for name in trained)
    lines = [line for line in PAGES["guides/migrate.md"].splitlines() if line.startswith("| `")]
    rows = [re.findall(r"`([^`]+)`", line) for line in lines if "convnext_tiny_" in line]
    for old, new in (row for row in rows if "..." not in row[0]):
        assert theirs.get_layer(old) and ours.get_layer(new), old
    known = {layer.name for layer in theirs.layers}
    block = ours.get_layer("stage3_block2")
    for row in (re.findall(r"`\.+(_\w+|\w+\b)`", line) for line in lines if "| `..._" in line):
        old = [name for name in row if name[0] == "_"]
        assert {f"convnext_tiny_stage_3_block_2{name}" for name in old} - {
            "convnext_tiny_stage_3_block_2_stochastic_depth"  # only where it drops something
        } <= known
        assert all(hasattr(block, name) for name in row if name[0] != "_")
