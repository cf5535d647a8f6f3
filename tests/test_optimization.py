"""The optimizer: what the published code computes, and what Keras does to it in training."""

import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_convnext import (
    VARIANTS,
    AdamW,
    AverageWeights,
    ConvNeXt,
    Variant,
    WarmupCosine,
    averaged_weights,
    layer_groups,
    learning_rate_scales,
)
from keras_convnext.optimization import WarmupSteps
from keras_convnext.pretrained.layouts import LAYOUTS
from tests.backends import BACKEND, numpy, on_one_backend, randomise
from tests.families import FAMILIES

GOLDEN = Path(
    os.environ.get("KERAS_CONVNEXT_GOLDEN", Path(__file__).parents[2] / "shared" / "golden")
)
NAMES = ("training.npz", "training.json", "parameter_groups.json")
needs_golden = pytest.mark.skipif(
    not all((GOLDEN / name).exists() for name in NAMES), reason=f"no golden files at {GOLDEN}"
)
SMALL = Variant("small", (3, 3, 27, 3), (4, 4, 4, 4))
IMAGES = {"input_shape": (32, 32, 3), "weights": None, "include_preprocessing": False}
# float32 of sums in another order, which Adam divides by their own size
ROUNDING = {"rtol": 1e-5, "atol": 1e-6}


@functools.cache
def facts():
    with np.load(GOLDEN / "training.npz") as archive:
        arrays = {name: archive[name] for name in archive.files if name.startswith(("lr", "adamw"))}
    return arrays, json.loads((GOLDEN / "training.json").read_text())


def dense_model(optimizer=None):
    """Two layers with 3 -> 4 -> 2 features, from the same weights every time."""
    layers = [keras.layers.Dense(4, "tanh", name="first"), keras.layers.Dense(2, name="last")]
    model = keras.Sequential([keras.Input((3,)), *layers], name="net")
    randomise(model, scale=1.0)
    if optimizer:
        model.compile(optimizer, "mse")
    return model


def batches(count=32, seed=1):
    random = np.random.default_rng(seed)
    draw = lambda width: random.standard_normal((count, width)).astype("float32")  # noqa: E731
    return draw(3), draw(2)


def fit(model, data=None, epochs=1, batch_size=8, **arguments):
    x, y = data or batches()
    return model.fit(x, y, batch_size, epochs=epochs, shuffle=False, verbose=0, **arguments)


def values(model):
    return [numpy(weight).copy() for weight in model.trainable_variables]


def averages(model):
    optimizer = getattr(model.optimizer, "inner_optimizer", model.optimizer)
    return [numpy(average).copy() for _, average in optimizer.averages]


def assert_equal(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)


def assert_close(found, expected):
    assert len(found) == len(expected) > 0
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_allclose(one, other, **ROUNDING)


def differ(some, others):
    return [bool((a != b).any()) for a, b in zip(some, others, strict=True)]


# The schedule


@needs_golden
@pytest.mark.parametrize("name", ["scratch", "finetune", "v2"])
def test_the_schedule_is_the_published_one(name):
    arrays, meta = facts()
    row, expected = meta[f"lr/{name}"], arrays[f"lr/{name}"]
    steps = row["steps_per_epoch"]
    total, warmup = row["epochs"] * steps, row["warmup_epochs"] * steps
    schedule = WarmupCosine(row["base"], total, warmup, minimum=row["min"])
    assert len(expected) == total
    rates = [float(numpy(schedule(step))) for step in range(total)]
    np.testing.assert_allclose(rates, expected, rtol=1e-6)
    after = [float(numpy(schedule(step))) for step in (total, 10 * total)]
    np.testing.assert_allclose(after, row["min"], rtol=1e-6)


def test_the_schedule_takes_tensors_and_returns_from_its_config():
    schedule = WarmupCosine(1e-3, 50, 10, minimum=1e-5, start=1e-4)
    again = keras.optimizers.schedules.deserialize(keras.optimizers.schedules.serialize(schedule))
    for step in (0, 5, 9, 10, 30, 49):
        tensor = keras.ops.convert_to_tensor(step, dtype="int32")
        assert float(numpy(again(tensor))) == float(numpy(schedule(step)))
    assert float(numpy(schedule(0))) == pytest.approx(1e-4)
    assert float(numpy(schedule(9))) == float(numpy(schedule(10))) == pytest.approx(1e-3)


def test_the_steps_of_the_detectors():
    schedule = WarmupSteps(2e-4, (27, 33), warmup_steps=10, minimum=1e-6)
    steps = np.array([0, 5, 10, 26, 27, 32, 33, 1000])
    expected = 2e-4 * np.array([1e-3, 0.5 * 1.001, 1, 1, 0.1, 0.1, 0.01, 0.01])
    found = [float(numpy(schedule(step))) for step in steps]
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    assert float(numpy(WarmupSteps(1e-4, (2,), minimum=5e-5)(3))) == pytest.approx(5e-5)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert again.get_config() == schedule.get_config()
    for arguments, name in (((1e-4, (3, 2)), "boundaries"), ((1e-4, (2,), 0), "factor")):
        with pytest.raises(ValueError, match=f"`{name}` must be"):
            WarmupSteps(*arguments)


@on_one_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0.0, 10), "`learning_rate` must be a number > 0, received 0.0"),
        ((float("nan"), 10), "received nan"),
        ((1.0, 0), "`total_steps` must be an integer >= 1, received 0"),
        ((1.0, 2.5), "received 2.5"),
        ((1.0, 10, 10), "an integer from 0 to 9, received 10. The warm-up"),
        (
            (1.0, 10, 0, 2.0),
            r"`minimum` must be a number in \[0, 1\], received 2.0. The `learning_rate` is 1.0",
        ),
        ((1.0, 10, 0, 0.0, -1.0), "`start` must be a number >= 0, received -1.0"),
    ],
)
def test_what_no_schedule_can_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        WarmupCosine(*arguments)


# The groups


def official_names(model):
    """Returns {name in the published files: our weight} of the trained weights."""
    layout = next(layout for layout in LAYOUTS if layout.name == "official")
    return {layout.names(SMALL, w.path, "")[0]: w for w in model.trainable_variables}


@on_one_backend
@needs_golden
def test_scales_and_decay_of_each_weight_are_the_published_ones():
    """One step from ones with gradients of one: each weight tells its scale and its decay."""
    table = json.loads((GOLDEN / "parameter_groups.json").read_text())["params"]
    model = ConvNeXt(SMALL, classes=3, **IMAGES)
    names = official_names(model)
    assert set(names) == set(table)
    scales = learning_rate_scales(model, 0.8)
    ones = [np.ones(weight.shape, "float32") for weight in names.values()]
    for weight, one in zip(names.values(), ones, strict=True):
        weight.assign(one)
    optimizer = AdamW(0.5, weight_decay=0.25, learning_rate_scales=scales)
    optimizer.apply([keras.ops.convert_to_tensor(one) for one in ones], list(names.values()))
    found = [float(numpy(weight).mean()) for weight in names.values()]
    rows = [table[name] for name in names]
    expected = [1 - 0.5 * row["lr_scale"] * (1 + 0.25 * row["decay"]) for row in rows]
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    groups = layer_groups(model)
    layers = [next(part for part in w.path.split("/") if part in groups) for w in names.values()]
    assert [groups[layer] for layer in layers] == [row["layer_id"] for row in rows]


@on_one_backend
@pytest.mark.parametrize(
    ("variant", "last"),
    [
        (Variant("short", (3, 3, 9, 3), (4, 4, 4, 4)), 7),
        (Variant("iso", (18,), (4,), stem_stride=16, stem_norm=False), 7),
        (Variant("odd", (1, 2, 4, 1), (4, 4, 4, 4)), 6),
    ],
)
def test_groups_of_other_depths(variant, last):
    groups = layer_groups(ConvNeXt(variant, classes=2, **IMAGES))
    assert sorted(set(groups.values())) == list(range(last + 1))
    assert groups["stem"] == 0 and groups["head"] == groups["head_norm"] == last


@on_one_backend
def test_each_block_can_be_a_group():
    """As ConvNeXt V2's small models are fine-tuned: the stem learns with the first block, the
    downsampling with the block behind it."""
    model = ConvNeXt(Variant("short", (2, 1, 3), (4, 4, 4)), classes=2, **IMAGES)
    groups = layer_groups(model, each_block=True)
    blocks = [
        groups[f"stage{s}_block{b}"] for s, depth in enumerate((2, 1, 3)) for b in range(depth)
    ]
    assert blocks == list(range(6)) and groups["head"] == groups["head_norm"] == 6
    assert (groups["stem"], groups["downsample1"], groups["downsample2"]) == (0, 2, 3)
    scales = learning_rate_scales(model, 0.5, each_block=True)
    assert (scales["head"], scales["stage2_block2"], scales["stem"]) == (1, 0.5, 0.5**6)


@on_one_backend
def test_groups_of_a_model_inside_another():
    inner = ConvNeXt(FAMILIES["v1"], classes=2, **IMAGES)
    inputs = keras.Input((32, 32, 3))
    outer = keras.Model(inputs, keras.layers.Dense(3, name="mine")(inner(inputs)))
    groups = layer_groups(inner)
    assert layer_groups(outer) == {**groups, "mine": max(groups.values())}
    with pytest.raises(ValueError, match="needs a model made by `ConvNeXt"):
        layer_groups(dense_model())
    with pytest.raises(ValueError, match=r"`decay` must be a number in \(0, 1\], received 0"):
        learning_rate_scales(inner, 0)


# The steps


def variables_of(arrays, scales):
    for name in scales:
        with keras.name_scope(name):
            yield keras.Variable(arrays[f"adamw/{name}/init"], name="weight")


@needs_golden
def test_weights_and_averages_follow_the_published_optimizer():
    arrays, meta = facts()
    row = meta["adamw"]
    scales = {name: group["lr_scale"] for name, group in row["groups"].items()}
    variables = list(variables_of(arrays, scales))
    optimizer = AdamW(
        float(arrays["adamw/lr"][0]),
        0.05,
        *row["betas"],
        row["eps"],
        learning_rate_scales=scales,
        use_ema=True,
        ema_momentum=row["ema"],
    )
    found = {(name, kind): [] for name in scales for kind in ("weights", "ema")}
    for step, rate in enumerate(arrays["adamw/lr"]):
        optimizer.learning_rate = float(rate)
        grads = [keras.ops.convert_to_tensor(arrays[f"adamw/{n}/grads"][step]) for n in scales]
        optimizer.apply(grads, variables)
        for name, (variable, average) in zip(scales, optimizer.averages, strict=True):
            found[name, "weights"].append(numpy(variable).copy())
            found[name, "ema"].append(numpy(average).copy())
    assert step == 39
    for (name, kind), computed in found.items():
        expected = arrays[f"adamw/{name}/{kind}"]
        error = np.abs(np.stack(computed) - expected).max() / np.abs(expected).max()
        assert error < 1e-6, (name, kind, error)


def test_averages_of_a_model_that_the_first_step_builds():
    model = keras.Sequential([keras.layers.Dense(4), keras.layers.Dense(4)])
    model.compile(AdamW(1e-3, use_ema=True, ema_momentum=1.0), "mse")
    x, y = np.ones((4, 8), "float32"), np.ones((4, 4), "float32")
    model.train_on_batch(x, y)
    for weight, average in model.optimizer.averages:
        assert np.abs(numpy(average) - numpy(weight)).max() < 2e-3


@pytest.mark.skipif(BACKEND != "tensorflow", reason="of tensorflow")
@pytest.mark.parametrize("call", ["train_on_batch", "fit"])
@pytest.mark.parametrize("options", [{}, {"use_ema": True, "gradient_accumulation_steps": 2}])
def test_the_first_step_is_traced_once(call, options):
    model = keras.Sequential([keras.Input((8,)), keras.layers.Dense(4)])
    traced = []
    step = model.train_step
    model.train_step = lambda data: traced.append(data) or step(data)
    model.compile(AdamW(1e-3, **options), "mse")
    x, y = np.ones((4, 8), "float32"), np.ones((4, 4), "float32")
    before = numpy(model.layers[0].kernel).copy()
    for _ in range(2):
        getattr(model, call)(x, y, **({"verbose": 0} if call == "fit" else {}))
    assert len(traced) == 1
    assert np.abs(numpy(model.layers[0].kernel) - before).min() > 1e-4
    assert all(np.abs(numpy(momentum)).min() > 0 for momentum in model.optimizer._momentums)


CLIPPING = [
    {"global_clipnorm": 0.1},
    pytest.param({"clipnorm": 0.1}, marks=on_one_backend),
    pytest.param({}, marks=on_one_backend),
]


@pytest.mark.parametrize("clip", CLIPPING)
def test_accumulated_batches_are_one_large_batch(clip):
    """With a schedule, averages and clipping: all of them count updates, not batches."""

    def trained(batch_size, steps):
        schedule = WarmupCosine(0.1, 8, 3)
        optimizer = AdamW(
            schedule, use_ema=True, ema_momentum=0.8, gradient_accumulation_steps=steps, **clip
        )
        model = dense_model(optimizer)
        fit(model, epochs=4, batch_size=batch_size)
        return model

    large, small = trained(16, None), trained(4, 4)
    assert_close(values(small), values(large))
    assert_close(averages(small), averages(large))
    assert int(small.optimizer.iterations) == int(large.optimizer.iterations) == 8
    before, average = values(small), averages(small)
    fit(small, batches(12), batch_size=4)  # three of four: no update yet
    assert_equal(values(small), before)
    assert_equal(averages(small), average)


def test_clipping_keeps_the_norm_of_all_gradients_together():
    random = np.random.default_rng(0)
    shapes = [(3, 4), (4,)]
    gradients = [
        [size * random.standard_normal(s).astype("float32") for s in shapes]
        for size in (9, 0.01, 1)
    ]

    def after(gradients, **clip):
        variables = [keras.Variable(np.ones(shape, "float32")) for shape in shapes]
        optimizer = AdamW(0.1, **clip)
        for grads in gradients:
            optimizer.apply([keras.ops.convert_to_tensor(g) for g in grads], variables)
        return [numpy(variable) for variable in variables]

    def clipped(grads):
        norm = np.sqrt(sum((g**2).sum() for g in grads))
        return [g * min(1, 0.5 / norm) for g in grads]

    found = after(gradients, global_clipnorm=0.5)
    assert_close(found, after([clipped(grads) for grads in gradients]))
    assert not np.allclose(found[0], after(gradients)[0], rtol=1e-2)


def test_a_weight_without_gradient_stays():
    variables = [keras.Variable(np.ones((2, 2), "float32")) for _ in range(3)]
    optimizer = AdamW(0.1, use_ema=True)
    optimizer.build(variables)
    ones = keras.ops.ones((2, 2))
    with pytest.warns(UserWarning, match="Gradients do not exist"):
        optimizer.apply([ones, None, ones], variables)
    changed = [bool((numpy(variable) != 1).any()) for variable in variables]
    assert changed == [True, False, True]


@pytest.mark.parametrize("when", ["first", "later"])
def test_float16_skips_the_step_of_an_infinite_gradient(when):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        model = dense_model(AdamW(0.1, use_ema=True, ema_momentum=0.5))
    finally:
        keras.config.set_dtype_policy(policy)
    assert isinstance(model.optimizer, keras.optimizers.LossScaleOptimizer)
    x, y = batches(8)
    model.optimizer.build(model.trainable_variables)
    if when == "later":
        model.train_on_batch(x, y)
    before, average = values(model), averages(model)
    scale = float(numpy(model.optimizer.dynamic_scale))
    model.train_on_batch(x, y + 1e30)
    assert float(numpy(model.optimizer.dynamic_scale)) == scale / 2
    assert_equal(values(model), before)
    if when == "later":
        assert_equal(averages(model), average)
        with averaged_weights(model):
            assert_equal(values(model), average)
        assert_equal(values(model), before)
    else:
        assert averages(model) == []
    model.train_on_batch(x, y)
    assert all(differ(values(model), before))
    if when == "first":  # the skipped step is not the first of the averages
        expected = [(a + b) / 2 for a, b in zip(values(model), before, strict=True)]
        assert_close(averages(model), expected)


def test_averages_start_at_weights_that_were_loaded_after_building():
    model = dense_model(AdamW(0.1, use_ema=True, ema_momentum=0.5))
    model.optimizer.build(model.trainable_variables)
    randomise(model, seed=5)
    before = values(model)
    model.train_on_batch(*batches(8))
    expected = [(a + b) / 2 for a, b in zip(values(model), before, strict=True)]
    assert_close(averages(model), expected)


# Files


def test_a_reloaded_model_trains_on_as_if_it_had_never_been_saved(tmp_path):
    optimizer = AdamW(
        WarmupCosine(0.1, 20, 2),
        weight_decay=0.5,
        exclude=["first/kernel"],
        learning_rate_scales={"first": 0.25},
        global_clipnorm=1.0,
        use_ema=True,
        ema_momentum=0.9,
    )
    model, (x, y) = dense_model(optimizer), batches(8)
    for _ in range(2):
        model.train_on_batch(x, y)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert isinstance(again.optimizer, AdamW)
    assert again.optimizer.get_config() == model.optimizer.get_config()
    assert_equal(values(again), values(model))
    assert_equal(averages(again), averages(model))
    before = values(model)
    for each in (model, again):
        for _ in range(2):
            each.train_on_batch(x, y)
    assert all(differ(values(model), before))
    assert_close(values(again), values(model))
    assert_close(averages(again), averages(model))


def test_excluded_weights_have_no_decay():
    """Without gradients decay alone changes a weight."""
    model = dense_model()
    before, variables = values(model), model.trainable_variables
    optimizer = AdamW.from_config(AdamW(0.1, 0.5, exclude=["first/ker"]).get_config())
    optimizer.apply([keras.ops.zeros(v.shape) for v in variables], variables)
    changed = dict(zip([v.path for v in variables], differ(values(model), before), strict=True))
    assert [path for path in changed if changed[path]] == ["net/last/kernel"]


@on_one_backend
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"beta_1": 1.0}, r"`beta_1` must be a number in \[0, 1\), received 1.0"),
        ({"epsilon": 0}, "`epsilon` must be a number > 0, received 0"),
        ({"weight_decay": None}, "`weight_decay` must be a number >= 0, received None"),
        ({"weight_decay": -1.0}, "received -1.0"),
        ({"gradient_accumulation_steps": 0}, "`gradient_accumulation_steps` must be None or an"),
        ({"learning_rate_scales": {"stem": 0}}, r"learning_rate_scales\['stem'\]"),
        ({"exclude": "kernel"}, "must be a list of regular expressions"),
        ({"exclude": ["("]}, r"`exclude` must be regular expressions, received '\('"),
        ({"ema_momentum": 2.0, "use_ema": True}, "`ema_momentum` must be in the range"),
    ],
)
def test_what_no_optimizer_can_be(arguments, message):
    with pytest.raises(ValueError, match=message):
        AdamW(0.1, **arguments)


@on_one_backend
def test_scales_of_another_model_are_an_error():
    optimizer = AdamW(0.1, learning_rate_scales={"stem": 0.5})
    with pytest.raises(ValueError, match="which names 'stem'; the weights are 'net/first/kernel'"):
        optimizer.build(dense_model().trainable_variables)


# The averages


def averaging_model():
    return dense_model(AdamW(0.05, use_ema=True, ema_momentum=0.9))


def test_averages_are_swapped_in_and_the_weights_are_back_to_the_bit():
    model = averaging_model()
    fit(model)
    before, average = values(model), averages(model)
    assert all(differ(before, average))
    with averaged_weights(model) as inside:
        assert inside is model
        assert_equal(values(model), average)
    assert_equal(values(model), before)
    with pytest.raises(RuntimeError, match="on the way"), averaged_weights(model):
        raise RuntimeError("on the way")
    assert_equal(values(model), before)
    assert_equal(averages(model), average)


def test_before_the_first_step_the_averages_are_the_weights():
    model = averaging_model()
    before = values(model)
    with averaged_weights(model):
        assert_equal(values(model), before)


def test_a_model_with_averages_is_fitted_twice_evaluated_and_saved(tmp_path):
    model, straight = averaging_model(), averaging_model()
    fit(model)
    with averaged_weights(model):
        model.evaluate(*batches(), verbose=0)
        model.save(tmp_path / "averages.keras")
    average = averages(model)
    assert_equal(values(keras.saving.load_model(tmp_path / "averages.keras")), average)
    model.evaluate(*batches(), verbose=0)
    model.save(tmp_path / "model.keras")
    fit(model)
    model.train_on_batch(*batches(8))
    fit(straight, epochs=2)
    straight.train_on_batch(*batches(8))
    assert_equal(values(model), values(straight))
    assert_equal(averages(model), averages(straight))
    model.save(tmp_path / "model.keras")
    assert_equal(values(keras.saving.load_model(tmp_path / "model.keras")), values(model))


class Weights(keras.callbacks.Callback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def on_epoch_end(self, epoch, logs=None):
        self.seen.append(values(self.model))


def test_the_callback_validates_with_averages_and_trains_on_with_weights():
    held_out = batches(seed=2)
    model, plain = averaging_model(), averaging_model()
    kept = Weights()
    swap = AverageWeights(until_epoch_end=False)
    history = fit(model, epochs=3, validation_data=held_out, callbacks=[swap, kept])
    plain_kept = Weights()
    raw = fit(plain, epochs=3, validation_data=held_out, callbacks=[plain_kept])
    assert_equal(values(model), values(plain))
    assert_equal(averages(model), averages(plain))
    for found, expected in zip(kept.seen, plain_kept.seen, strict=True):
        assert_equal(found, expected)
    assert history.history["loss"] == raw.history["loss"]
    with averaged_weights(model):
        loss = model.evaluate(*held_out, verbose=0)
        predicted = model.predict(held_out[0], verbose=0)
    assert history.history["val_loss"][-1] == pytest.approx(loss, rel=1e-6)
    assert raw.history["val_loss"][-1] != pytest.approx(loss, rel=1e-3)
    swap = AverageWeights()
    assert model.evaluate(*held_out, verbose=0, callbacks=[swap]) == pytest.approx(loss)
    np.testing.assert_allclose(model.predict(held_out[0], verbose=0, callbacks=[swap]), predicted)
    assert_equal(values(model), values(plain))


@pytest.mark.parametrize(("place", "best_epoch"), [(0, 1), (3, 1), (3, 2)])
def test_what_was_measured_is_what_other_callbacks_keep(place, best_epoch, tmp_path):
    """Wherever the callback is listed, and also where the last epoch is the best."""
    average = [averages_after(epochs) for epochs in (1, 2, 3)]
    held_out = exact_data(average[best_epoch])
    model, plain = averaging_model(), averaging_model()
    kept, path = Weights(), tmp_path / "best.keras"
    callbacks = [
        kept,
        keras.callbacks.ModelCheckpoint(path, save_best_only=True),
        keras.callbacks.EarlyStopping(patience=9, restore_best_weights=True),
    ]
    callbacks.insert(place, AverageWeights())
    losses = fit(model, epochs=3, validation_data=held_out, callbacks=callbacks).history["val_loss"]
    for found, expected in zip(kept.seen, average, strict=True):
        assert_equal(found, expected)
    assert int(np.argmin(losses)) == best_epoch
    assert_equal(values(keras.saving.load_model(path)), average[best_epoch])
    assert_equal(values(model), average[best_epoch])
    fit(plain, epochs=3)
    assert_equal(averages(model), averages(plain))  # the training was that of the weights


def averages_after(epochs):
    model = averaging_model()
    fit(model, epochs=epochs)
    return averages(model)


def exact_data(weights):
    """Data whose targets are what a model with these weights predicts."""
    model, (x, _) = dense_model(), batches(seed=2)
    model.set_weights(weights)
    return x, model.predict(x, verbose=0)


def test_an_epoch_without_validation_keeps_the_weights():
    model, plain = averaging_model(), averaging_model()
    kept, plain_kept = Weights(), Weights()
    arguments = {"epochs": 2, "validation_data": batches(seed=2), "validation_freq": 2}
    fit(model, callbacks=[AverageWeights(), kept], **arguments)
    fit(plain, callbacks=[plain_kept], **arguments)
    assert_equal(kept.seen[0], plain_kept.seen[0])
    assert_equal(kept.seen[1], averages(plain))
    assert_equal(values(model), values(plain))


class StopInTheMiddle(keras.callbacks.Callback):
    def on_test_batch_end(self, batch, logs=None):
        raise RuntimeError("stopped")


def test_an_evaluation_cut_short_leaves_the_weights():
    model = averaging_model()
    fit(model)
    before, average = values(model), averages(model)
    with pytest.raises(RuntimeError, match="stopped"), averaged_weights(model):
        model.evaluate(*batches(), verbose=0, callbacks=[StopInTheMiddle()])
    assert_equal(values(model), before)
    swap = AverageWeights()
    with pytest.raises(RuntimeError, match="stopped"):
        model.evaluate(*batches(), verbose=0, callbacks=[swap, StopInTheMiddle()])
    swap.restore()
    assert_equal(values(model), before)
    with pytest.raises(RuntimeError, match="stopped"):
        model.evaluate(*batches(), verbose=0, callbacks=[swap, StopInTheMiddle()])
    plain = averaging_model()
    fit(plain)
    fit(model, callbacks=[swap])  # puts the weights back itself
    fit(plain)
    assert_equal(values(model), values(plain))
    assert_equal(averages(model), averages(plain))
    assert all(differ(averages(model), average))


class AverageInTheMiddle(keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
        if batch == 1:
            with averaged_weights(self.model):
                self.loss = self.model.evaluate(*batches(), verbose=0)


def test_averages_within_an_epoch_do_not_change_the_training():
    model, plain = averaging_model(), averaging_model()
    swap = AverageInTheMiddle()
    fit(model, callbacks=[swap])
    fit(plain, [array[:16] for array in batches()])  # where the callback was
    with averaged_weights(plain):
        assert plain.evaluate(*batches(), verbose=0) == pytest.approx(swap.loss)
    fit(plain, [array[16:] for array in batches()])
    assert_equal(values(model), values(plain))
    assert_equal(averages(model), averages(plain))


@on_one_backend
def test_without_averages_the_error_says_how_to_keep_some():
    model = dense_model(AdamW(0.1))
    with pytest.raises(ValueError, match=r"AdamW\(..., use_ema=True\)"), averaged_weights(model):
        pass
    with pytest.raises(ValueError, match="use_ema=True"):
        fit(model, callbacks=[AverageWeights()])
    model.compile("sgd", "mse")
    with pytest.raises(ValueError, match="SGD keeps no averages"), averaged_weights(model):
        pass
    with pytest.raises(ValueError, match="is not compiled"), averaged_weights(dense_model()):
        pass


# What differs from Keras' AdamW


@on_one_backend
def test_epsilon_stands_where_pytorch_has_it():
    """With gradients as small as epsilon, as they are behind a layer scale of 1e-6."""
    import torch

    random = np.random.default_rng(0)
    start = random.standard_normal((4, 3)).astype("float32")
    gradient = torch.tensor(1e-8 * random.standard_normal((4, 3)).astype("float32"))
    ours, theirs, keras_s = keras.Variable(start), torch.tensor(start), keras.Variable(start)
    theirs.grad = gradient
    reference = torch.optim.AdamW([theirs], lr=0.01, weight_decay=0.05, eps=1e-8)
    optimizer = AdamW(0.01)
    other = keras.optimizers.AdamW(0.01, 0.05, epsilon=1e-8)
    for _ in range(3):
        reference.step()
        optimizer.apply([gradient], [ours])
        other.apply([gradient], [keras_s])
    np.testing.assert_allclose(numpy(ours), theirs.numpy(), rtol=1e-6)
    assert not np.allclose(numpy(keras_s), theirs.numpy(), rtol=1e-6)


@on_one_backend
def test_many_tensors_at_once_are_updated_as_each_alone():
    """PyTorch has a path of its own; this holds it against that of the other backends."""
    found = []
    for together in (True, False):
        model = dense_model()
        variables = model.trainable_variables
        optimizer = AdamW(0.1, 0.5, learning_rate_scales={"first": 0.5}, use_ema=True)
        optimizer.build(variables)
        for step in range(5):
            gradients = [keras.ops.full(v.shape, step - 1.5) for v in variables]
            if together:
                optimizer.apply(gradients)
                continue
            for gradient, variable in zip(gradients, variables, strict=True):
                optimizer.update_step(gradient, variable, optimizer.learning_rate)
            optimizer.iterations.assign_add(1)
        found.append([numpy(v).copy() for pair in optimizer.averages for v in pair])
    assert_close(*found)


@on_one_backend
@pytest.mark.parametrize("family", FAMILIES)
def test_decay_falls_on_kernels_only(family):
    """Not on biases, norms, layer scale and Global Response Normalization."""
    variables = ConvNeXt(FAMILIES[family], classes=2, **IMAGES).trainable_variables
    decayed = [v.path for v in variables if AdamW(0.1)._use_weight_decay(v)]
    assert decayed == [v.path for v in variables if v.path.endswith("/kernel")]


@on_one_backend
@pytest.mark.parametrize("depths", sorted({v.depths for v in VARIANTS.values()}))
def test_groups_rise_by_one_in_every_variant(depths):
    variant = Variant("narrow", depths, (2,) * len(depths))
    groups = layer_groups(ConvNeXt(variant, classes=2, **IMAGES))
    assert list(groups.values()) == sorted(groups.values())
    assert set(groups.values()) == set(range(groups["head"] + 1))
    long = 0 if len(depths) == 1 else 2
    for stage, depth in enumerate(depths):
        found = [groups[f"stage{stage}_block{block}"] for block in range(depth)]
        size = 3 if stage == long else depth
        assert found == [found[0] + block // size for block in range(depth)]
        assert stage == 0 or groups[f"downsample{stage}"] == found[0]


def test_averages_of_bfloat16_weights_are_float32():
    weight = keras.Variable(np.ones((2, 2)), dtype="bfloat16")
    optimizer = AdamW(0.01, use_ema=True)
    for _ in range(2):
        optimizer.apply([keras.ops.ones((2, 2), "bfloat16")], [weight])
    ((_, average),) = optimizer.averages
    # 0.9999 is 1 in bfloat16: such an average would not move
    assert average.dtype == "float32" and 0 < 1 - numpy(average).max() < 1e-5


# Two devices


def trained_with_everything():
    """Returns weights, averages, losses: clipping on each step, accumulation, scales, averages."""
    optimizer = AdamW(
        WarmupCosine(0.1, 20, 2),
        learning_rate_scales={"first": 0.5},
        global_clipnorm=0.1,
        use_ema=True,
        ema_momentum=0.9,
        gradient_accumulation_steps=2,
    )
    model = dense_model(optimizer)
    history = fit(model, epochs=3, validation_data=batches(seed=2), callbacks=[AverageWeights()])
    before = values(model)
    with averaged_weights(model):
        average = values(model)
    assert all(differ(before, average))
    assert_equal(values(model), before)
    fit(model)
    losses = [np.array(history.history[name]) for name in ("loss", "val_loss")]
    return [*before, *average, *values(model), *losses]


def train_on_two_devices():
    """In a process of its own: devices are made before the backend starts."""
    if BACKEND == "tensorflow":
        import tensorflow as tf

        halves = [tf.config.LogicalDeviceConfiguration()] * 2
        device = tf.config.list_physical_devices("CPU")[0]
        tf.config.set_logical_device_configuration(device, halves)
    single = trained_with_everything()
    if BACKEND == "tensorflow":
        strategy = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
        assert strategy.num_replicas_in_sync == 2
        with strategy.scope():
            double = trained_with_everything()
    else:
        devices = keras.distribution.list_devices()
        assert len(devices) == 2
        keras.distribution.set_distribution(keras.distribution.DataParallel(devices=devices))
        double = trained_with_everything()
    assert_close(double, single)


@pytest.mark.slow
@pytest.mark.skipif(BACKEND == "torch", reason="Keras has no distribution on PyTorch")
def test_two_devices_train_as_one():
    program = "from tests import test_optimization as t; t.train_on_two_devices()"
    two = {"XLA_FLAGS": "--xla_force_host_platform_device_count=2", "TF_CPP_MIN_LOG_LEVEL": "3"}
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=Path(__file__).parents[1],
        env={**os.environ, **two},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
