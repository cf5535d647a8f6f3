"""Files that earlier versions saved load with the outputs that they had then."""

import pathlib
import re
import zipfile

import keras
import numpy as np
import pytest

from keras_convnext import ConvNeXt, Variant, roadmap
from tests.backends import numpy
from tests.saved_by_0_1 import make

FOLDER = pathlib.Path(make.__file__).parent
NAMES = ("v1", "v2", "overlap", "upernet", "roadmap", "fine_tuned", "nested")


@pytest.fixture(scope="module")
def saved(tmp_path_factory):
    """The folder of the files."""
    folder = tmp_path_factory.mktemp("saved_by_0_1")
    with zipfile.ZipFile(FOLDER / "files.zip") as archive:
        archive.extractall(folder)
    return folder


@pytest.fixture(scope="module")
def arrays():
    with np.load(FOLDER / "outputs.npz") as file:
        return dict(file)


def same_output(model, name, arrays):
    expected = arrays[name]
    largest = np.abs(expected).max()
    np.testing.assert_allclose(
        numpy(model(arrays["images"])), expected, rtol=0, atol=1e-5 * largest
    )


@pytest.mark.parametrize("name", NAMES)
def test_models_come_back(name, saved, arrays):
    model = keras.saving.load_model(saved / f"{name}.keras", compile=False)
    same_output(model, name, arrays)


@pytest.mark.parametrize("name", NAMES)
def test_weights_fit_a_new_model(name, saved):
    model = NEW.get(name, getattr(make, name))()
    model.load_weights(saved / f"{name}.weights.h5")
    whole = keras.saving.load_model(saved / f"{name}.keras", compile=False)
    for weight, expected in zip(model.weights, whole.weights, strict=True):
        # Sequential puts its name before the paths of its layers until it is saved
        assert re.sub(r"^sequential(_\d+)?/", "", weight.path) == expected.path
        np.testing.assert_array_equal(numpy(weight), numpy(expected))


def a_step_of_the_roadmap():
    end = Variant("end", (1, 1), make.DIMS[:2])
    regime = roadmap.Regime("small", (1, 1), 4, end)
    return roadmap.build("depthwise", regime, classes=3, drop_path_rate=0.1, **make.ALL)


# models that version 0.1 made by functions of other names
NEW = {
    "fine_tuned": lambda: ConvNeXt(
        Variant("fine_tuned", (1, 1), make.DIMS[:2]), classes=3, **make.ALL
    ),
    "roadmap": a_step_of_the_roadmap,
}
