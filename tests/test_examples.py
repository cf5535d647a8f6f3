"""Every public name has an example in its docstring, and it runs as printed.

An expression that stands alone has its value behind it, as a comment, which must be right. Where an
example needs an optional package, its first line is how to install it.

An example may use `photo.jpg` and `photos/`, which has one folder per class. Names of published
weights, and their usual models, stand for models of the tests' size with files of random weights.
"""

import ast
import importlib
import inspect
import io
import re
import tokenize

import keras
import numpy as np
import pytest

import keras_convnext
from docs import docstrings, reference
from keras_convnext import memory
from keras_convnext.layers import kernels_will_be_loaded
from keras_convnext.models.factory import EXAMPLE
from tests import test_docs
from tests.backends import BACKEND, EXHAUSTIVE
from tests.shape_only import shapes_only
from tests.stubs import _is_factory

pytest.importorskip("keras_hub", reason="installed apart, see the Makefile")
pytestmark = list(EXHAUSTIVE) if BACKEND != "torch" else []

PUBLIC = {
    name: reference._value(name)
    for page in reference.pages().values()
    for name in page
    if callable(reference._value(name))
}
FACTORIES = [name for name, value in PUBLIC.items() if _is_factory(value)]
SMALLER = [
    ("convnext_tiny.fb_in1k", "test_convnext.r160_in1k"),
    ('"convnext_tiny"', '"test_convnext"'),
    ("(320, 533)", "(32, 64)"),
]
NEEDED = {"coco": "pycocotools", "keras-cv": "keras_cv", "keras-hub": "keras_hub"}
NEEDED |= {"onnx": "onnxruntime"}
# Models that are built in full, without values for their weights.
SHAPES = {f"detection.{name}" for name in ("CascadeMaskRCNN", "MaskRCNN", "Settings")}
SHAPES |= {"roadmap.build", "segmentation.UperNet"}


def example_of(name):
    return docstrings.example(inspect.getdoc(PUBLIC[name]) or "")


def test_every_public_name_has_an_example():
    assert [name for name in PUBLIC if example_of(name) is None] == []


# ---------------------------------------------------------------- values behind expressions


def run(code, scope):
    """Runs an example; compares the values of its expressions with the comments behind them."""
    said = {
        token.start[0]: token.string[1:].strip()
        for token in tokenize.generate_tokens(io.StringIO(code).readline)
        if token.type == tokenize.COMMENT
    }
    tree = ast.parse(code)
    for statement in tree.body:
        if isinstance(statement, ast.Expr):
            value = _literal(said.get(statement.end_lineno, ""))
            is_call = isinstance(statement.value, ast.Call)
            assert value is not None or is_call, f"no value behind {ast.unparse(statement)}"
            if value is not None:
                found = ast.Name("_check", ast.Load())
                statement.value = ast.Call(found, [statement.value, value], [])
    scope["_check"] = check
    exec(compile(ast.fix_missing_locations(tree), "<example>", "exec"), scope)


def _literal(text):
    """Returns the expression of a comment that is a value, or `None` of one in words."""
    try:
        ast.literal_eval(text)
    except (SyntaxError, ValueError):
        return None
    return ast.parse(text, mode="eval").body


def check(found, expected):
    """Compares a value with the one that is printed, whose floats are rounded."""
    found = tuple(found.as_list()) if hasattr(found, "as_list") else found  # TensorFlow's shapes
    if keras.ops.is_tensor(found) or isinstance(found, keras.Variable):
        found = keras.ops.convert_to_numpy(found)
    found = found.tolist() if isinstance(found, (np.ndarray, np.generic)) else found
    if isinstance(expected, (list, tuple)):
        assert len(found) == len(expected) and isinstance(found, type(expected))
        for pair in zip(found, expected, strict=True):
            check(*pair)
    elif isinstance(expected, float):
        assert found == pytest.approx(expected, rel=1e-3, abs=1e-8)
    else:
        assert found == expected


@pytest.mark.parametrize(
    "code",
    [
        "1 + 1  # 3",
        "1 + 1",
        "(1, 2)  # (1, 3)",
        "[0.5]  # [0.6]",
        "[[1]]  # [1]",
        "'a'  # 'b'",
        "9999  # 10000",
    ],
)
def test_a_wrong_value_is_noticed(code):
    with pytest.raises(AssertionError):
        run(code, {})
    run("x = 1\nx + 1  # 2\n(0.3333, 'a')  # (0.3333, 'a')\nprint(x)  # one", {})


# ---------------------------------------------------------------- the examples


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    with pytest.MonkeyPatch.context() as monkeypatch:
        test_docs.furnish(tmp_path_factory.mktemp("examples"), monkeypatch)
        yield


@pytest.fixture
def forgotten_classes():
    """What an example defines and registers with Keras: other tests look at all that is there."""
    registered = keras.saving.get_custom_objects()
    before = set(registered)
    yield
    for name in set(registered) - before:
        if registered[name].__module__ == "builtins":  # of code that is in no module
            del registered[name]


def short(name):
    return name.removeprefix("keras_convnext.")


def without_random_kernels(build):
    def built(*args, **kwargs):
        with kernels_will_be_loaded(True):
            return build(*args, **kwargs)

    return built


@pytest.mark.filterwarnings("ignore::keras_convnext.pretrained.download.FirstUseNotice")
@pytest.mark.parametrize("name", [short(name) for name in PUBLIC if name not in FACTORIES])
def test_example_runs(name, place, forgotten_classes, monkeypatch):
    code = example_of(f"keras_convnext.{name}")
    for extra in re.findall(r'# pip install "keras-convnext\[(.+)\]"', code):
        pytest.importorskip(NEEDED[extra])
    test_docs.tiny_models(monkeypatch)
    monkeypatch.setattr(memory, "_set", lambda: True)  # it would be for all tests after this one
    monkeypatch.setattr(memory, "jax_has_started", lambda: False)
    blank = without_random_kernels(keras_convnext.ConvNeXtAtto)
    monkeypatch.setattr(keras_convnext, "ConvNeXtAtto", blank)
    for published, small in SMALLER:
        code = code.replace(published, small)
    if name in SHAPES:
        with shapes_only():
            run(code, {})
    else:
        run(code, {})


def test_examples_of_factories_differ_in_their_names_alone():
    for full in FACTORIES:
        package, _, name = full.rpartition(".")
        written = docstrings.example(EXAMPLE.format(name=name, package=package))
        assert example_of(full) in written, full
        assert getattr(importlib.import_module(package), name) is PUBLIC[full]


SMALLEST = [
    "ConvNeXtAtto",
    "segmentation.UperNetConvNeXtV2Atto",
    "detection.CascadeMaskRCNNConvNeXtTiny",
    "detection.MaskRCNNConvNeXtTiny",
]


@pytest.mark.parametrize("name", SMALLEST)
def test_example_of_a_factory_runs(name):
    scope = {}
    with shapes_only():
        run(example_of(f"keras_convnext.{name}"), scope)
    model = scope["model"]
    outputs = getattr(model, "outputs", None)
    assert (outputs[0].shape[-1] if outputs else model.classes) == 5
