"""Files of weights as training scripts leave them: wrapped, in containers, under another head."""

import argparse
import functools
import pathlib

import keras
import numpy as np
import pytest
import safetensors.numpy

from keras_convnext import ConvNeXt, Variant
from keras_convnext.pretrained import WeightsError, checkpoint, files
from keras_convnext.pretrained.layouts import LAYOUTS
from keras_convnext.pretrained.saving import in_layout
from tests.backends import numpy, on_one_backend, randomise

torch = pytest.importorskip("torch")  # writes files; the library reads them without it

# timm's names depend on the variant's name alone where its pointwise layers are convolutions
SMALL = Variant("small", (1, 1), (4, 8))
V1 = Variant("v1", (1, 1, 1, 1), (4, 4, 8, 8))
SHAPE = {"input_shape": (32, 32, 3)}


@functools.cache
def model(include_top=True):
    return randomise(ConvNeXt(SMALL, classes=3, include_top=include_top, **SHAPE))


def values(found):
    return {weight.path: numpy(weight) for weight in found.weights}


def state(layout="timm"):
    return {
        name: torch.tensor(np.ascontiguousarray(array))
        for name, array in in_layout(values(model()), SMALL, layout).items()
    }


def prefixed(prefix, **more):
    return {**{prefix + name: tensor for name, tensor in state().items()}, **more}


def inner(word):
    """A wrapper around a part of the network."""
    return {name.replace("stages.0.", f"stages.0.{word}."): t for name, t in state().items()}


WRAPPED = {
    "as it is": state,
    "DataParallel": lambda: prefixed("module."),
    "torch.compile": lambda: prefixed("_orig_mod."),
    "compiled, then parallel": lambda: prefixed("module._orig_mod."),
    "parallel, then compiled": lambda: prefixed("_orig_mod.module."),
    "a compiled stage": lambda: inner("_orig_mod"),
    "a checkpointed stage": lambda: inner("_checkpoint_wrapped_module"),
    "fully sharded": lambda: prefixed("_fsdp_wrapped_module."),
    "a sharded stage": lambda: inner("_fsdp_wrapped_module"),
    "AveragedModel": lambda: prefixed("module.", n_averaged=torch.tensor(7)),
    "parallel AveragedModel": lambda: prefixed("module.module.", n_averaged=torch.tensor(7)),
    "Lightning": lambda: {"state_dict": prefixed("model."), "epoch": 3, "loops": {"a": 1}},
    "Lightning, compiled": lambda: {"state_dict": prefixed("model._orig_mod.")},
    "Lightning, of another name": lambda: {"state_dict": prefixed("net.backbone.")},
    "PyTorch's tutorial": lambda: {"epoch": 3, "model_state_dict": state(), "loss": 0.1},
    "net": lambda: {"net": prefixed("module."), "acc": 91.2, "epoch": 3},
    "backbone": lambda: {"state_dict": prefixed("backbone.")},
    "the authors' names below backbone": lambda: {
        f"backbone.{name}": tensor for name, tensor in state("official").items()
    },
    "encoder": lambda: {"model": prefixed("encoder.")},
    "containers in containers": lambda: {"state": {"model": {"state_dict": state()}}, "rank": 0},
    "moving averages alone": lambda: {"model_ema": prefixed("module."), "epoch": 1},
    "timm's averages": lambda: {"state_dict_ema": state(), "arch": "convnext"},
    "scores and paths of a script": lambda: {
        "model": state(),
        "best": np.float64(81.2),
        "top5": np.float32(95.1),
        "epoch": np.int64(3),
        "path": pathlib.Path("runs/1"),
        "args": argparse.Namespace(lr=0.1, out=pathlib.Path("runs")),
        "device": torch.device("cpu"),
    },
    "a configuration named model": lambda: {"model": {"depths": [1]}, "state_dict": state()},
    "several words": lambda: {"weights": prefixed("image_encoder.trunk.")},
}


@on_one_backend
@pytest.mark.parametrize("case", WRAPPED)
def test_a_known_wrapping_is_no_reason_to_refuse(tmp_path, case):
    torch.save(WRAPPED[case](), tmp_path / "w.pth")
    fresh = randomise(ConvNeXt(SMALL, classes=3, **SHAPE), seed=9)
    checkpoint.open(tmp_path / "w.pth").read_as(SMALL).load_into(fresh)
    expected = values(model())
    for path, array in values(fresh).items():
        np.testing.assert_array_equal(array, expected[path], err_msg=path)


def refusal(tmp_path, content, variant=SMALL, **arguments):
    torch.save(content, tmp_path / "w.pth")
    with pytest.raises(WeightsError) as caught:
        ConvNeXt(variant, weights=tmp_path / "w.pth", **SHAPE, **arguments)
    return str(caught.value)


@on_one_backend
def test_what_a_wrapping_leaves_over_is_named(tmp_path):
    ones = torch.ones(4)
    message = refusal(tmp_path, {"state_dict": prefixed("model.", **{"model.stages.0.more": ones})})
    assert "unused: stages.0.more" in message
    message = refusal(tmp_path, {"state_dict": prefixed("model.", **{"loss.weight": ones})})
    assert "foreign: loss.weight" in message and "include_top=False" in message
    short = {name: t for name, t in prefixed("module.").items() if "0.gamma" not in name}
    message = refusal(tmp_path, short)
    assert "missing: stages.0.blocks.0.gamma" in message


@on_one_backend
def test_two_networks_in_one_file_are_refused(tmp_path):
    both = {**prefixed("student."), **prefixed("teacher.")}
    message = refusal(tmp_path, both)
    assert "'student.'" in message and "'teacher.'" in message


@on_one_backend
def test_what_is_beside_the_weights_is_no_weight(tmp_path):
    name = next(iter(state()))
    for value in np.float64(1), pathlib.Path("x"):
        assert f"['{name}'] are no tensors" in refusal(tmp_path, {**state(), name: value})


@on_one_backend
def test_buffers_beside_the_weights_have_any_plain_dtype(tmp_path):
    dtypes = "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "bool"
    saved = {dtype: np.ones(3, dtype) for dtype in dtypes}
    safetensors.numpy.save_file(saved, tmp_path / "w.safetensors")
    found = files.read(tmp_path / "w.safetensors")
    assert {name: tensor.dtype for name, tensor in found.items()} == {d: d for d in dtypes}
    for name, tensor in found.items():
        np.testing.assert_array_equal(tensor.read(), saved[name])


@on_one_backend
def test_a_torchscript_archive_is_named(tmp_path):
    torch.jit.save(torch.jit.script(torch.nn.Linear(1, 1)), tmp_path / "w.pt")
    with pytest.raises(WeightsError, match="TorchScript archive.*state_dict"):
        files.read(tmp_path / "w.pt")


@on_one_backend
def test_names_that_become_equal_without_their_wrapper_are_refused(tmp_path):
    both = {**state(), "_orig_mod.stem.0.weight": torch.ones(4, 3, 4, 4)}
    assert "_orig_mod.stem.0.weight" in refusal(tmp_path, both)


@on_one_backend
def test_the_choice_between_a_network_and_its_averages_is_said(tmp_path):
    torch.save({"model_ema": prefixed("module."), "model": state()}, tmp_path / "w.pth")
    with pytest.warns(UserWarning, match="'model', 'model_ema': those under 'model' are read"):
        checkpoint.open(tmp_path / "w.pth")


@on_one_backend
def test_a_table_knows_every_name_that_it_gives():
    for layout in LAYOUTS:
        pattern, body = layout.pattern("p."), layout.body("p.")
        for name in (layout.names(V1, path, "p.") for path in values(model())):
            assert all(map(pattern.fullmatch, name[:1])), (layout.name, name)
        blocks = layout.names(V1, "stage1_block2/dwconv/kernel", "p.")
        assert all(name.startswith(body) for name in blocks)
        heads = layout.names(V1, "head/kernel", "p.")
        assert not any(name.startswith(body) for name in heads)


@on_one_backend
def test_an_ensemble_of_our_models_is_two_networks(tmp_path):
    inputs = keras.Input((32, 32, 3))
    models = [ConvNeXt(SMALL, classes=3, input_tensor=inputs, name=name) for name in "ab"]
    both = keras.Model(inputs, keras.layers.Add()([model.output for model in models]))
    both.save_weights(tmp_path / "x.weights.h5")
    with pytest.raises(WeightsError, match="holds two networks, below 'a.*' and 'b"):
        ConvNeXt(SMALL, weights=tmp_path / "x.weights.h5", include_top=False, **SHAPE)


# ---------------------------------------------------------------- a head of the user's own


def flat(base):
    pooled = keras.layers.GlobalAveragePooling2D()(base.output)
    return keras.Model(base.input, keras.layers.Dense(2, name="mine")(pooled))


def nested(base):
    pooled = keras.layers.GlobalAveragePooling2D()
    return keras.Sequential(
        [keras.Input((32, 32, 3)), base, pooled, keras.layers.Dense(2, name="mine")]
    )


@functools.cache
def ours_under(around):
    base = randomise(ConvNeXt(V1, include_top=False, **SHAPE))
    return base, around(base)


@functools.cache
def theirs_under(around):
    from keras.src.applications.convnext import ConvNeXt as Applications

    base = Applications(
        depths=V1.depths,
        projection_dims=V1.dims,
        name="convnext_mine",
        include_preprocessing=False,
        include_top=False,
        weights=None,
        **SHAPE,
    )
    return randomise(base), around(base)


@pytest.mark.parametrize("suffix", [".keras", ".weights.h5", ".h5"])
@pytest.mark.parametrize("around", [flat, nested])
@pytest.mark.parametrize("made", [ours_under, theirs_under])
def test_a_backbone_is_taken_from_under_another_head(tmp_path, made, around, suffix):
    base, whole = made(around)
    path = tmp_path / f"tuned{suffix}"
    (whole.save_weights if suffix == ".weights.h5" else whole.save)(path)
    with pytest.warns(UserWarning, match="left out, as no part of v1: mine/0, mine/1"):
        loaded = ConvNeXt(
            V1, weights=path, include_top=False, include_preprocessing=made is ours_under, **SHAPE
        )
    images = np.random.default_rng(0).uniform(0, 1, (1, 32, 32, 3)).astype("float32")
    expected = numpy(base(images))
    np.testing.assert_allclose(numpy(loaded(images)), expected, atol=1e-4 * abs(expected).max())


@on_one_backend
@pytest.mark.parametrize("suffix", [".keras", ".weights.h5"])
def test_the_optimizer_of_a_model_inside_is_no_weight(tmp_path, suffix):
    base = randomise(ConvNeXt(SMALL, classes=3, **SHAPE))
    base.compile("adam", "mse")
    base.optimizer.build(base.trainable_variables)
    whole = keras.Sequential([keras.Input((32, 32, 3)), base, keras.layers.Rescaling(2.0)])
    path = tmp_path / f"whole{suffix}"
    (whole.save_weights if suffix == ".weights.h5" else whole.save)(path)
    loaded = ConvNeXt(SMALL, weights=path, **SHAPE)
    for found, expected in zip(loaded.get_weights(), base.get_weights(), strict=True):
        np.testing.assert_array_equal(found, expected)


@on_one_backend
@pytest.mark.parametrize("around", [flat, nested])
def test_a_foreign_head_is_named_as_such(tmp_path, around):
    path = tmp_path / "tuned.keras"
    ours_under(around)[1].save(path)
    with pytest.raises(WeightsError, match="no classifier of ours, but mine/0, mine/1") as caught:
        ConvNeXt(V1, weights=path, **SHAPE)
    assert "include_top=False" in str(caught.value)
    with pytest.raises(WeightsError, match="foreign: mine/0"):
        ConvNeXt(V1, weights=path, classes=2, **SHAPE)
