"""The public face: names, what they import, what Keras learns of them, and its backend."""

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import zipfile
from pathlib import Path

import keras
import pytest
from PIL import Image

import keras_convnext
from keras_convnext import augmentation, backend_choice, keras_import, segmentation
from tests import saved_by_0_1
from tests.backends import BACKEND, on_one_backend
from tests.stubs import STUBS

ROOT = Path(keras_convnext.__file__).parents[1]
FACTORIES = """
    ConvNeXtAtto ConvNeXtAttoOLS ConvNeXtBase ConvNeXtFemto ConvNeXtFemtoOLS ConvNeXtIsotropicBase
    ConvNeXtIsotropicLarge ConvNeXtIsotropicSmall ConvNeXtLarge ConvNeXtLargeMLP ConvNeXtNano
    ConvNeXtNanoOLS ConvNeXtPico ConvNeXtPicoOLS ConvNeXtSmall ConvNeXtTiny ConvNeXtTinyHNF
    ConvNeXtV2Atto ConvNeXtV2Base ConvNeXtV2Femto ConvNeXtV2Huge ConvNeXtV2Large ConvNeXtV2Nano
    ConvNeXtV2Pico ConvNeXtV2Small ConvNeXtV2Tiny ConvNeXtXLarge ConvNeXtXXLarge ConvNeXtZeptoRMS
    ConvNeXtZeptoRMSOLS
""".split()
OTHERS = """
    AdamW AverageWeights Classifier ConvNeXt ConvNeXtBlock GlobalResponseNormalization LayerScale
    PyramidModel decode_predictions preprocess_input
    SimpleNorm StochasticDepth VARIANTS Variant WarmupCosine __version__ averaged_weights count_macs
    feature_model fine_tuning_optimizer freeze_layers keep_freed_memory layer_groups
    learning_rate_scales rematerialize
""".split()
MODULES = """
    augmentation classifier detection export features images interpret labels layers macs models
    optimization pictures preprocessing pretrained pretraining roadmap segmentation variants
""".split()


@on_one_backend
def test_the_public_names():
    assert sorted(keras_convnext.__all__) == sorted(FACTORIES + OTHERS + MODULES)
    assert set(keras_convnext.__all__) <= set(dir(keras_convnext))
    for name in keras_convnext.__all__:
        assert getattr(keras_convnext, name) is not None
    assert not any("Test" in name for name in dir(keras_convnext))
    with pytest.raises(AttributeError, match="'keras_convnext' has no attribute 'ConvNeXtHuge'"):
        keras_convnext.ConvNeXtHuge  # noqa: B018


@on_one_backend
@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (keras_convnext, "fine_tune", "fine_tuning_optimizer"),
        (augmentation, "Exact", "PaperAugmentation"),
        (augmentation, "Plain", "NoAugmentation"),
        (segmentation, "for_fit", "fit_metrics"),
    ],
)
def test_old_names_work_with_a_warning(module, old, new):
    with pytest.warns(DeprecationWarning, match=rf"{old}` is now called `{module.__name__}.{new}"):
        assert getattr(module, old) is getattr(module, new)
    with pytest.warns(DeprecationWarning) as found:
        exec(f"from {module.__name__} import {old}")
    assert {warning.filename for warning in found} == {"<string>"}  # the user's own line
    with pytest.raises(AttributeError, match="has no attribute 'no_name'"):
        module.no_name  # noqa: B018


@on_one_backend
def test_the_old_factories_of_test_models():
    with pytest.warns(DeprecationWarning, match=r"write `ConvNeXt\('test_convnext2', weights='im"):
        factory = keras_convnext.ConvNeXtTest2
    assert factory(weights=None).name == "test_convnext2"


@on_one_backend
@pytest.mark.parametrize("path", STUBS, ids=lambda path: path.parent.name)
def test_the_stub_is_the_generated_one(path):
    assert path.read_text() == STUBS[path](), "run `make readme`"
    assert (ROOT / "keras_convnext" / "py.typed").exists()


HIDE = """
import sys
from importlib.machinery import PathFinder

def find_spec(name, path=None, target=None, find=PathFinder.find_spec):
    return None if name.partition(".")[0] in {missing} else find(name, path, target)

PathFinder.find_spec = find_spec
"""


def python(code, *path, missing=(), **environment):
    """Runs code in a new process that has no settings of Keras, and returns what it did."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("KERAS_", "PYTHONPATH"))}
    kept["PYTHONPATH"] = os.pathsep.join(map(str, (*path, ROOT)))
    return subprocess.run(
        [sys.executable, "-c", HIDE.format(missing=tuple(missing)) + code],
        env={**kept, **environment},
        capture_output=True,
        text=True,
        timeout=300,
    )


@on_one_backend
def test_nothing_imports_keras_before_it_is_used():
    code = """
import keras_convnext
keras_convnext.VARIANTS, keras_convnext.labels, keras_convnext.pretrained.tags("convnext_tiny")
keras_convnext.__version__, dir(keras_convnext)
from keras_convnext import Variant, cli
from keras_convnext.detection import MASK_RCNN, Detections
from keras_convnext.segmentation import palette
heavy = {"keras", "tensorflow", "jax", "torch", "numpy.f2py"} & set(sys.modules)
assert not heavy, heavy
try:
    cli.main(["list", "--variant", "convnext_tiny", "--json"])
finally:
    heavy = {"keras", "tensorflow", "jax", "torch"} & set(sys.modules)
    assert not heavy, heavy
"""
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert "convnext_tiny" in done.stdout


@pytest.mark.skipif(BACKEND == "tensorflow", reason="which computes there")
def test_a_model_is_built_and_used_without_tensorflow(tmp_path):
    """It would take seconds and some 300 MB."""
    code = f"""
import sys
import numpy as np
from keras_convnext import ConvNeXt, Variant
from keras_convnext.segmentation import UperNet

row = Variant("small", (1, 1, 1, 1), (8, 8, 8, 8))
x = np.ones((1, 32, 32, 3), "float32")
model = ConvNeXt(row, classes=3, input_shape=(32, 32, 3))
model.predict(x, verbose=0)
model.get_layer("stem").trainable = False
model.compile("adamw", "sparse_categorical_crossentropy")
model.train_on_batch(x, np.zeros(1))
model.save_weights({str(tmp_path / "small.weights.h5")!r})
ConvNeXt(row, weights={str(tmp_path / "small.weights.h5")!r}, input_shape=(32, 32, 3))
UperNet(row, classes=3, channels=4, auxiliary_channels=4, input_shape=(32, 32, 3))
assert "tensorflow" not in sys.modules
"""
    done = python(code, KERAS_BACKEND=BACKEND)
    assert done.returncode == 0, done.stderr


# What Keras learns


@on_one_backend
def test_every_registered_class_is_in_the_table():
    pytest.importorskip("keras_hub", reason="some are for KerasHub")
    listed = set()
    functions = keras_import.REGISTERED_FUNCTIONS.items()
    for module, names in (*keras_import.REGISTERED.items(), *functions):
        for name in names:
            found = getattr(importlib.import_module(f"keras_convnext.{module}"), name)
            assert keras.saving.get_registered_name(found) == f"keras_convnext>{name}"
            listed.add(f"keras_convnext>{name}")
    for module in pkgutil.walk_packages(keras_convnext.__path__, "keras_convnext."):
        if not module.name.startswith(("keras_convnext.cli", "keras_convnext.fast")):
            importlib.import_module(module.name)
    registered = set(keras.saving.get_custom_objects())
    assert {name for name in registered if name.startswith("keras_convnext>")} == listed
    models = {name for names in keras_import.MODELS.values() for name in names}
    ours = (get for name, get in keras.saving.get_custom_objects().items() if ">" not in name)
    assert {x.__name__ for x in ours if x.__module__.startswith("keras_convnext.")} == models


def extract(names, folder):
    with zipfile.ZipFile(Path(saved_by_0_1.__file__).parent / "files.zip") as archive:
        for name in names:
            archive.extract(name, folder)


@pytest.mark.parametrize("imports", ["keras_convnext, keras", "keras, keras_convnext"])
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@on_one_backend
def test_files_load_whichever_is_imported_first(imports, tmp_path):
    """Models of files that were saved before the classes moved to other modules."""
    names = ["upernet.keras", "roadmap.keras", "overlap.keras"]
    extract(names, tmp_path)
    keras.saving.load_model(tmp_path / "overlap.keras").save(tmp_path / "overlap.h5")
    names.insert(0, "overlap.h5")
    code = f"""
import {imports}
from keras.saving import load_model
for name in {names}:
    print(type(load_model(rf"{tmp_path}/" + name)).__name__)
"""
    done = python(code, KERAS_BACKEND=BACKEND)
    expected = ["PyramidModel", "SegmentationModel", "Functional", "PyramidModel"]
    assert done.stdout.split() == expected, done.stderr


SMALL_SAVING = """
known = {}
def get_custom_objects(): return known
def register_keras_serializable(package, name):
    return lambda value: known.update({f"{package}>{name}": value})
"""


@pytest.fixture
def small_keras(tmp_path):
    """The folder of a package `keras` that is imported at once, and says what it was given."""
    package = tmp_path / "keras"
    package.mkdir()
    (package / "__init__.py").write_text("import os; backend = os.environ.get('KERAS_BACKEND')")
    (package / "saving.py").write_text(SMALL_SAVING)
    return tmp_path


SAY = "import keras.saving; print(keras.backend, len(keras.saving.known))"
COUNT = sum(
    len(names)
    for table in (keras_import.REGISTERED, keras_import.MODELS, keras_import.REGISTERED_FUNCTIONS)
    for names in table.values()
)


@on_one_backend
def test_our_classes_are_registered_once_keras_is_there(small_keras):
    for code in (
        f"import keras_convnext; {SAY}",
        f"import keras, keras_convnext; {SAY}",
        f"import keras_convnext.names; import keras; import keras_convnext; {SAY}",
        "import keras_convnext, importlib.util; importlib.util.find_spec('keras');" + SAY,
    ):
        done = python(code, small_keras, KERAS_BACKEND="torch")
        assert done.stdout.split() == ["torch", str(COUNT)], done.stderr


# Which backend Keras gets


@on_one_backend
@pytest.mark.parametrize(
    ("missing", "settings", "expected"),
    [
        ((), {}, ("None", "")),  # TensorFlow, by Keras' own choice
        (("tensorflow", "torch"), {}, ("jax", "")),
        (("tensorflow", "jax"), {}, ("torch", "")),
        (("tensorflow",), {}, ("jax", "Keras runs on jax, because TensorFlow is not installed")),
        (("tensorflow",), {"KERAS_BACKEND": "torch"}, ("torch", "")),
        (("jax",), {"file": "torch"}, ("None", "")),
        (("tensorflow", "torch"), {"file": "tensorflow"}, ("jax", "")),  # Keras wrote that
        (("tensorflow", "torch"), {"file": None}, ("jax", "")),
        (("tensorflow",), {"KERAS_BACKEND": "numpy"}, ("numpy", "")),
        (
            ("tensorflow", "jax", "torch"),
            {},
            (None, "none is installed. Install one: `pip install jax`"),
        ),
        (
            ("jax", "tensorflow"),
            {"KERAS_BACKEND": "jax"},
            (None, "'jax' by KERAS_BACKEND, and it is not installed: `pip install jax` or set "),
        ),
        (("jax",), {"file": "jax"}, (None, "keras.json, and it is not installed: `pip inst")),
    ],
)
def test_the_backend_that_is_installed_is_taken(small_keras, missing, settings, expected):
    if "file" in settings:
        backend = settings["file"]
        content = {"backend": backend} if backend else ["?"]
        (small_keras / "keras.json").write_text(json.dumps(content))
    environment = {k: v for k, v in settings.items() if k != "file"}
    environment["KERAS_HOME"] = str(small_keras)
    done = python(f"import keras_convnext; {SAY}", small_keras, missing=missing, **environment)
    backend, message = expected
    assert done.stdout.split()[:1] == ([backend] if backend else []), done.stderr
    assert message in done.stderr and (message or not done.stderr)
    if backend is None:
        assert done.stderr.splitlines()[-1].startswith("keras_convnext.backend_choice.BackendError")


@on_one_backend
def test_the_command_says_the_line_that_is_missing(tmp_path):
    extract(["v1.keras"], tmp_path)
    Image.new("RGB", (32, 32)).save(tmp_path / "photo.png")
    model, photo = str(tmp_path / "v1.keras"), str(tmp_path / "photo.png")
    code = f"""
from keras_convnext.cli import main
sys.exit(main(["predict", "--model", {model!r}, {photo!r}]))
"""
    done = python(code, missing=backend_choice.BACKENDS)
    assert done.returncode == 1
    assert done.stderr.startswith("keras-convnext predict: Keras needs a backend and none is inst")
    assert "Traceback" not in done.stderr and len(done.stderr.splitlines()) == 1
