"""The initial values of kernels."""

import types

import keras
import numpy as np
import pytest

from keras_convnext import ConvNeXt, Variant
from keras_convnext.layers.initializers import KernelInitializer, scale_to_inputs
from keras_convnext.segmentation import UperNet
from tests.backends import numpy
from training import command, data
from training.run import compiling, distribution, plan
from training.tasks.table import TASKS

NARROW = Variant("narrow", depths=(1, 1), dims=(24, 48), kernel_sizes=5)
ENCODER = Variant("encoder", depths=(1, 1, 1, 1), dims=(8, 8, 8, 8))


def _deviations(model):
    """Returns {name of the kernel: its standard deviation}."""
    kernels = [weight for weight in model.weights if "kernel" in weight.path.split("/")[-1]]
    return {weight.path: float(np.std(numpy(weight.value))) for weight in kernels}


@pytest.mark.parametrize("gain", (0.5, 1.0))
def test_kernels_are_scaled_to_what_they_sum(gain):
    model = ConvNeXt(NARROW, weights=None, classes=50, head_init_scale=0.1)
    paper = _deviations(model)
    scale_to_inputs(model, gain)
    scaled = _deviations(model)
    # stem, 2 blocks of 3, the convolution between them, the classifier
    assert len(paper) == 9
    for path, before in paper.items():
        kind = path.split("/")[-2]
        of_head = 0.1 if before < 0.01 else 1.0
        shape = next(weight.shape for weight in model.weights if weight.path == path)
        inputs = 25 if kind == "dwconv" else np.prod(shape[:-1])
        assert before == pytest.approx(0.02 * of_head, rel=0.15), path
        assert scaled[path] == pytest.approx(before * gain / 0.02 / inputs**0.5, rel=1e-4), path


def test_kernels_follow_the_seed():
    def drawn(seed=None, dtype=None):
        return KernelInitializer(stddev=0.02, seed=seed)((64, 96), dtype)

    one = numpy(drawn(1))
    assert one.dtype == "float32" and np.array_equal(one, numpy(drawn(1)))
    assert np.std(one) == pytest.approx(0.02, rel=0.05)
    assert not np.array_equal(one, numpy(drawn(2)))
    runs = []
    for _ in range(2):
        keras.utils.set_random_seed(5)
        runs.append([numpy(drawn()), numpy(drawn())])
    assert np.array_equal(*runs) and not np.array_equal(*runs[0])
    generator = keras.random.SeedGenerator(1)
    assert not np.array_equal(numpy(drawn(generator)), numpy(drawn(generator)))
    assert keras.backend.standardize_dtype(drawn(1, "bfloat16").dtype) == "bfloat16"


def test_heads_that_begin_otherwise_are_left_alone():
    model = UperNet(ENCODER, classes=3, channels=8, auxiliary_channels=8)
    before = _deviations(model)
    scale_to_inputs(model, 1.0)
    after = _deviations(model)
    same = {path for path in before if before[path] == after[path]}
    assert same and not any("stage" in path for path in same)


def test_runs_begin_with_kernels_of_their_gain():
    devices = distribution.start("none")
    task, dataset = TASKS["classification"], data.load("digits")
    digits = command.load("digits", kernel_gain=2.0)
    schedule = plan.make(task.plan, digits, dataset.train.size, 10, devices)
    classifier = compiling.compiled(schedule, task, dataset, devices)
    streets = command.load("camvid", kernel_gain=2.0)
    schedule = plan.make(TASKS["segmentation"].plan, streets, 367, len(streets.names), devices)
    photographs = types.SimpleNamespace(train=types.SimpleNamespace(image_shape=(None, None, 3)))
    upernet = compiling.compiled(schedule, TASKS["segmentation"], photographs, devices)
    for model in (classifier, upernet):
        paths = {w.path: w.shape[0] for w in model.weights if w.path.endswith("pwconv1/kernel")}
        assert len(paths) > 5
        found = _deviations(model)
        for path, inputs in paths.items():
            assert found[path] == pytest.approx(2 / inputs**0.5, rel=0.1), path
