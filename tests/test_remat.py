"""Blocks that are computed again for their gradients: the same numbers as without."""

import keras
import numpy as np
import pytest

from keras_convnext import ConvNeXt, Variant, rematerialize
from keras_convnext.layers import ConvNeXtBlock
from keras_convnext.pretraining import FCMAE
from tests.backends import compiles_long, numpy, on_one_backend, randomise
from training import command
from training.run import compiling, distribution, plan
from training.tasks.table import TASKS

SMALL = Variant(name="small", depths=(1, 1), dims=(8, 16), stem_stride=4)
V2 = Variant(name="small_v2", depths=(1, 1), dims=(8, 16), stem_stride=4, grn=True)
BLOCKS = ["stage0_block0", "stage1_block0"]


def network(variant=SMALL, **arguments):
    """Returns a model that drops branches, with weights that show in its output."""
    keras.utils.set_random_seed(1)
    arguments = {"input_shape": (16, 16, 3), "classes": 3, "drop_path_rate": 0.5} | arguments
    return randomise(ConvNeXt(variant, **arguments))


def images(count=6):
    random = np.random.default_rng(0)
    return 255 * random.random((count, 16, 16, 3), "float32"), np.arange(count) % 3


def fitted(model):
    """Returns the losses of three steps and all variables, the states of the seeds included."""
    model.compile(keras.optimizers.SGD(0.1), "sparse_categorical_crossentropy")
    losses = [float(model.train_on_batch(*images())) for _ in range(3)]
    return [np.array(losses), *map(numpy, model.variables)]


@pytest.fixture(scope="module")
def expected():
    return fitted(network())


def assert_equal(found, expected):
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=1e-4, atol=1e-5)  # of other orders of sums


def flags(model):
    return [model.get_layer(name).remat for name in BLOCKS]


def test_training_steps_are_those_without(expected, monkeypatch):
    """Stochastic depth included: the second computation drops what the first one did."""
    asked, remat = [], keras.remat
    monkeypatch.setattr(keras, "remat", lambda function: asked.append(1) or remat(function))
    model = network()
    rematerialize(model)
    assert_equal(fitted(model), expected)
    assert asked


def test_a_scope_of_keras_asks_for_the_same(expected):
    with keras.RematScope(mode="full"):
        model = network()
    assert_equal(fitted(model), expected)
    assert flags(model) == [True, True]
    assert np.isfinite(model.predict(images()[0], verbose=0)).all()


@on_one_backend
def test_a_scope_may_name_blocks():
    with keras.RematScope(mode="list_of_layers", layer_names=BLOCKS[1:]):
        model = network()
    model(images()[0], training=True)
    assert flags(model) == [False, True]


def test_v2_in_half_precision_with_frozen_layers():
    def trained(remat):
        keras.config.set_dtype_policy("mixed_bfloat16")
        try:
            model = network(V2)
        finally:
            keras.config.set_dtype_policy("float32")
        model.get_layer(BLOCKS[0]).trainable = False
        rematerialize(model, remat)
        return fitted(model)

    for ours, theirs in zip(trained(True), trained(False), strict=True):
        np.testing.assert_allclose(ours, theirs, rtol=0.02, atol=0.02)  # of bfloat16


@compiles_long
def test_masked_pretraining():
    """Blocks see visible patches, which are no argument that a gradient is taken of."""

    def trained(remat):
        keras.utils.set_random_seed(1)
        model = randomise(FCMAE(V2, decoder_width=8, seed=0))
        rematerialize(model, remat)
        model.compile(keras.optimizers.SGD(0.1))
        losses = [float(model.train_on_batch(images()[0])) for _ in range(2)]
        return [np.array(losses), *map(numpy, model.variables)]

    assert_equal(trained(True), trained(False))


@on_one_backend
def test_nothing_is_kept_but_the_inputs():
    """What autograd keeps can be counted on PyTorch."""
    import torch

    x = torch.ones((2, 32, 32, 8), requires_grad=True)

    def kept(remat):
        block, numbers = ConvNeXtBlock(drop_path_rate=0.5), []
        block.remat = remat
        block.build(x.shape)

        def pack(tensor):
            numbers.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            block(x, training=True)
        return sum(numbers)

    assert kept(True) < 1.1 * x.numel() < kept(False) / 9


@on_one_backend
def test_the_trainer_asks_for_it():
    def planned(*flags):
        config = command.from_command_line(["--config=digits", "--smoke", *flags]).config
        task, devices = TASKS["classification"], distribution.start("none")
        schedule = plan.make(task.plan, config, 1437, 10, devices)
        dataset = task.building.load(config)
        return schedule, compiling.compiled(schedule, task, dataset, devices)

    def flags_of(model):
        return {layer.remat for layer in model.layers if isinstance(layer, ConvNeXtBlock)}

    (usual, model), (saving, other) = planned(), planned("--remat=true")
    assert flags_of(model) == {False} and flags_of(other) == {True}
    assert saving._values_kept() < usual._values_kept() / 2
    with pytest.raises(SystemExit):
        command.from_command_line(["--config=cifar10_roadmap", "--remat=true"])


@on_one_backend
def test_models_without_blocks_are_refused():
    with pytest.raises(ValueError, match="has no ConvNeXtBlock"):
        rematerialize(keras.Sequential([keras.layers.Dense(1)]))
