"""Fine-tuning: frozen layers, and the learning rates of the others."""

import keras
import numpy as np
import pytest

from keras_convnext import (
    AdamW,
    ConvNeXt,
    Variant,
    fine_tuning_optimizer,
    freeze_layers,
    learning_rate_scales,
    roadmap,
)
from tests.backends import BACKEND, numpy, on_one_backend, randomise
from tests.test_roadmap import SMALL

PREFIXES = ("stem", "stage0", "downsample1", "stage1", "head_norm", "head/")  # in order


def build():
    model = ConvNeXt(
        Variant("small", (1, 1), (4, 8)),
        classes=2,
        weights=None,
        input_shape=(32, 32, 3),
        include_preprocessing=False,
    )
    return randomise(model)


def train(model, optimizer):
    model.compile(optimizer, "sparse_categorical_crossentropy")
    images = np.random.default_rng(0).standard_normal((4, 32, 32, 3)).astype("float32")
    model.train_on_batch(images, np.array([0, 1, 0, 1]))


def changed(model, action):
    """Returns the parts of the model in which `action()` changed every weight."""
    before = {w.path: numpy(w).copy() for w in model.weights}
    action()
    moved = {
        path: bool((numpy(w) != before[path]).any()) for w in model.weights if (path := w.path)
    }
    parts = {prefix: [m for p, m in moved.items() if p.startswith(prefix)] for prefix in PREFIXES}
    assert all(len(set(part)) == 1 for part in parts.values()), moved
    return [prefix for prefix, part in parts.items() if part[0]]


# JAX compiles the network for longer than all other tests of this file take
compiling = [pytest.mark.slow] if BACKEND == "jax" else []
CASES = [
    pytest.param(1, 2, marks=compiling),
    pytest.param(None, 0, marks=on_one_backend),
    pytest.param("stem", 1, marks=on_one_backend),
    pytest.param(2, 4, marks=on_one_backend),
]


@pytest.mark.parametrize(("freeze", "first"), CASES)
def test_frozen_layers_keep_their_weights_and_others_learn(freeze, first):
    model = build()
    optimizer = fine_tuning_optimizer(model, 10, learning_rate=1e-3, freeze=freeze)
    assert changed(model, lambda: train(model, optimizer)) == list(PREFIXES[first:])


@on_one_backend
def test_later_layers_learn_faster():
    """The first step of Adam is the learning rate, whatever the gradient."""
    model = build()
    optimizer = fine_tuning_optimizer(
        model, 100, learning_rate=0.01, layer_decay=0.5, weight_decay=0.0
    )
    scales = learning_rate_scales(model, 0.5)
    assert scales["stem"] == 0.125 and scales["head"] == 1
    before = {w.path: numpy(w).copy() for w in model.trainable_variables}
    train(model, optimizer)
    for weight in model.trainable_variables:
        layer = next(part for part in weight.path.split("/") if part in scales)
        step = np.abs(numpy(weight) - before[weight.path]).max()
        assert step == pytest.approx(0.01 * scales[layer], rel=0.02), weight.path


@on_one_backend
def test_the_defaults_are_the_paper_s():
    optimizer = fine_tuning_optimizer(build(), total_steps=7)
    assert isinstance(optimizer, AdamW) and optimizer.weight_decay == 1e-8
    config = optimizer.get_config()["learning_rate"]["config"]
    assert config == {
        "learning_rate": 5e-5,
        "minimum": 1e-6,
        "start": 0.0,
        "total_steps": 7,
        "warmup_steps": 0,
    }


@on_one_backend
def test_another_call_thaws_what_it_does_not_freeze():
    model = build()
    freeze_layers(model, 2)
    assert {w.path.split("/")[0] for w in model.trainable_variables} == {"head_norm", "head"}
    freeze_layers(model, None)
    assert len(model.trainable_variables) == len(build().trainable_variables)


@on_one_backend
def test_a_model_inside_another_is_frozen():
    inputs = keras.Input((32, 32, 3))
    outer = keras.Model(inputs, keras.layers.Dense(3, name="mine")(build()(inputs)))
    fine_tuning_optimizer(outer, 10, freeze=2)
    layers = {w.path.split("/")[-2] for w in outer.trainable_variables}
    assert layers == {"head_norm", "head", "mine"}


@on_one_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"freeze": 3}, "`freeze` must be None, 'stem' or a number of stages from 1 to 2, rec"),
        ({"freeze": 0}, "received 0"),
        ({"freeze": True}, "received True"),
        ({"freeze": "stage0"}, "received 'stage0'"),
        ({"freeze": [1]}, r"received \[1\]"),
        ({"freeze": 1, "layer_decay": 1.5}, "`decay` must be a number in"),
        ({"freeze": 1, "learning_rate": -1.0}, "`learning_rate` must be"),
        ({"freeze": 1, "warmup_steps": 10}, "`warmup_steps` must be"),
        ({"freeze": 1, "weight_decay": -1.0}, "`weight_decay` must be"),
    ],
)
def test_a_wrong_argument_leaves_the_model_as_it_was(arguments, message):
    model = build()
    with pytest.raises(ValueError, match=message):
        fine_tuning_optimizer(model, 10, **arguments)
    assert len(model.trainable_variables) == len(build().trainable_variables)


@on_one_backend
def test_a_model_without_blocks_cannot_be_fine_tuned():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)])
    with pytest.raises(ValueError, match="needs a model made by `ConvNeXt"):
        fine_tuning_optimizer(model, 10)


@on_one_backend
@pytest.mark.parametrize("step", ["gelu", "fewer_norms"])
def test_a_step_of_the_roadmap_cannot_be_frozen(step):
    """Its blocks end in activations or sums that have a block's name and no weights."""
    model = roadmap.build(step, SMALL, input_shape=(16, 16, 3), classes=2)
    before = len(model.trainable_variables)
    with pytest.raises(ValueError, match="needs a model made by `ConvNeXt"):
        freeze_layers(model, 1)
    assert len(model.trainable_variables) == before
