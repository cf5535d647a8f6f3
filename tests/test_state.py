"""What was changed inside a model is the same in every copy and after every way of saving it."""

import copy
import json
import pickle

import keras
import numpy as np
import pytest

from keras_convnext import ConvNeXt, Variant, fine_tuning_optimizer
from keras_convnext.pretrained.saving import save_weights
from keras_convnext.segmentation import UperNet
from keras_convnext.segmentation.heads import AuxiliaryHead, UperNetHead
from tests.backends import BACKEND, numpy, on_one_backend, randomise
from tests.saved_by_0_1 import make
from tests.test_saved_files import arrays, saved  # noqa: F401

ROW = Variant("small", (1, 1), (8, 12), layer_scale=0.1)
X = np.random.default_rng(0).uniform(0, 255, (2, 16, 16, 3)).astype("float32")


def model_with_changes():
    """Each kind of state that Keras keeps for a layer, changed after the model was built."""
    model = randomise(ConvNeXt(ROW, classes=3, input_shape=(16, 16, 3), drop_path_rate=0.1))
    first, last = (model.get_layer(f"stage{stage}_block0") for stage in (0, 1))
    model.get_layer("stem").trainable = False
    first.trainable = False
    first.gamma.trainable = True  # thawed within a frozen block
    last.norm.trainable = False
    last.pwconv1.enable_lora(2)
    last.pwconv1.lora_kernel_b.assign(0.1 * np.ones((2, 48), "float32"))
    last.pwconv2.kernel_regularizer = keras.regularizers.L2(0.01)
    last.dwconv.depthwise_constraint = keras.constraints.MaxNorm(3.0)
    last.drop_path.rate = 0.3
    first.norm.dtype_policy = keras.DTypePolicy("mixed_bfloat16")
    return model


def frozen_within_another_model():
    backbone = randomise(ConvNeXt(ROW, include_top=False, pooling="avg", input_shape=(16, 16, 3)))
    backbone.trainable = False
    return keras.Sequential([keras.Input((16, 16, 3)), backbone, keras.layers.Dense(2)])


def quantized():
    model = randomise(ConvNeXt(ROW, classes=3, input_shape=(16, 16, 3)))
    model.quantize("int8")
    return model


def by_file(ending):
    def copied(model, folder):
        model.save(folder / f"model{ending}")
        return keras.saving.load_model(folder / f"model{ending}")

    return copied


def with_weights_of(clone):
    def copied(model, folder):
        other = clone(model)
        other.set_weights(model.get_weights())
        return other

    return copied


def from_json(model):
    return keras.models.model_from_json(model.to_json())


WAYS = {
    "keras": by_file(".keras"),
    "h5": by_file(".h5"),
    "pickle": lambda model, folder: pickle.loads(pickle.dumps(model)),
    "deepcopy": lambda model, folder: copy.deepcopy(model),
    "json": with_weights_of(from_json),
    "clone": with_weights_of(keras.models.clone_model),
    "config": with_weights_of(lambda model: type(model).from_config(model.get_config())),
}


def state(model):
    layers = model._flatten_layers(include_self=False)
    configs = [json.loads(json.dumps(keras.saving.serialize_keras_object(x))) for x in layers]
    for config in configs:
        config.pop("build_config", None)
        config["config"].pop("layers", None)  # of a model inside, which follow on their own
    weights = [(weight.path.split("/")[-2:], weight.trainable) for weight in model.weights]
    return configs, weights


@pytest.fixture(scope="module")
def models():
    return {make.__name__: make() for make in (model_with_changes, frozen_within_another_model)}


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("kind", ["model_with_changes", "frozen_within_another_model"])
def test_changes_inside_are_kept(kind, way, models, tmp_path):
    model = models[kind]
    again = WAYS[way](model, tmp_path)
    for found, expected in zip(state(again), state(model), strict=True):
        assert found == expected
    np.testing.assert_allclose(numpy(again(X)), numpy(model(X)), rtol=1e-5, atol=1e-6)


@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.parametrize("way", ["keras", "clone", "json"])
def test_quantized_models_come_back(way, tmp_path):
    model = quantized()
    again = WAYS[way](model, tmp_path)
    blocks = [layer for layer in again.layers if "block" in layer.name]
    assert [block.pwconv1.quantization_mode for block in blocks] == ["int8", "int8"]
    np.testing.assert_allclose(numpy(again(X)), numpy(model(X)), rtol=1e-5, atol=1e-6)


@pytest.mark.skipif(BACKEND == "torch", reason="Keras writes no SavedModel there")
@pytest.mark.filterwarnings("ignore")  # of TensorFlow and JAX
@pytest.mark.parametrize("make_model", [model_with_changes, frozen_within_another_model, quantized])
@(pytest.mark.slow if BACKEND == "jax" else lambda test: test)  # which compiles each for long
def test_an_exported_model_computes_with_the_changes(make_model, tmp_path):
    """Of any number of images."""
    import tensorflow as tf

    model = make_model()
    model.export(str(tmp_path), verbose=False)
    served = tf.saved_model.load(str(tmp_path))
    for images in (X, X[:1]):
        np.testing.assert_allclose(served.serve(images), numpy(model(images)), atol=1e-5)


@on_one_backend
def test_a_config_without_changes_has_no_entry_for_them():
    """So that earlier versions read it."""
    model = ConvNeXt(ROW, classes=3, input_shape=(16, 16, 3))
    assert "inner" not in model.to_json()
    model.trainable = False
    assert "inner" not in model.to_json()


def test_training_goes_on_with_what_was_frozen(tmp_path):
    model = ConvNeXt(ROW, classes=3, input_shape=(16, 16, 3))
    model.compile(fine_tuning_optimizer(model, 10, 1e-2, freeze=1), "categorical_crossentropy")
    targets = np.eye(3, dtype="float32")[:2]
    model.fit(X, targets, verbose=0)
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert int(again.optimizer.iterations) == 1
    slots = [[numpy(variable) for variable in m.optimizer.variables] for m in (model, again)]
    for found, expected in zip(*slots, strict=True):
        np.testing.assert_array_equal(found, expected)
    before = again.get_weights()
    again.fit(X, targets, verbose=0)
    for weight, old in zip(again.weights, before, strict=True):
        moved = not np.array_equal(numpy(weight), old)
        assert moved == (not weight.path.startswith(("stem", "stage0"))), weight.path


def test_a_file_of_0_1_is_frozen_as_it_was_saved(saved, arrays):  # noqa: F811
    """Its blocks were saved as frozen; the slots of the optimizer belong to the other layers."""
    model = keras.saving.load_model(saved / "fine_tuned.keras")
    assert [weight.path for weight in model.trainable_weights] == list(arrays["trainable"])
    expected = [arrays[key] for key in arrays if key.startswith("optimizer/")]
    for variable, values in zip(model.optimizer.variables, expected, strict=True):
        np.testing.assert_array_equal(numpy(variable), values)
    nested = keras.saving.load_model(saved / "nested.keras")
    assert [weight.path for weight in nested.trainable_weights] == ["top/kernel", "top/bias"]


@on_one_backend
def test_layers_keep_their_arguments():
    arguments = {"kernel_size": 5, "expansion": 2, "epsilon": 1e-5, "layer_scale": 0.5}
    arguments |= {"drop_path_rate": 0.25, "dilation": 2, "seed": 3}
    names = {"activation": "silu", "norm": "simplenorm", "grn": True}
    block = type(make.kc.ConvNeXtBlock())(**arguments, **names)
    assert {name: getattr(block, name) for name in arguments} == arguments
    config = block.get_config()
    assert {name: config[name] for name in (*arguments, *names)} == {**arguments, **names}


@on_one_backend
@pytest.mark.parametrize("kind", [UperNetHead, AuxiliaryHead])
def test_changes_inside_a_head_are_kept(kind):
    head = kind(3, channels=4)
    shape = (1, 4, 4, 8)
    head.build([shape, shape] if kind is UperNetHead else shape)
    part = head.bottleneck if kind is UperNetHead else head.conv0
    part.bn.trainable = False
    part.conv.kernel_regularizer = keras.regularizers.L2(0.01)
    head.dropout.rate = 0.4
    again = kind.from_config(head.get_config())
    again.build_from_config(head.get_build_config())
    assert [w.trainable for w in again.weights] == [w.trainable for w in head.weights]
    assert again.get_config() == head.get_config()
    assert again.dropout.rate == 0.4 and len(again.losses) == 1


@on_one_backend
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
def test_models_with_heads_can_be_quantized(tmp_path):
    """Keras refuses a model in which any layer is not built."""
    small = Variant("small", (1, 1, 1, 1), (8, 8, 8, 8))
    shape = {"input_shape": (32, 32, 3)}
    model = UperNet(small, classes=3, channels=4, auxiliary_channels=4, **shape)
    model.quantize("int8")
    again = by_file(".keras")(model, tmp_path)
    assert again.get_layer("stage0_block0").pwconv1.quantization_mode == "int8"
    images = np.repeat(np.repeat(X, 2, axis=1), 2, axis=2)
    np.testing.assert_allclose(numpy(again(images)), numpy(model(images)), atol=1e-6)


@on_one_backend
@pytest.mark.filterwarnings("ignore:Layer .* does not have a `quantize` method")
@pytest.mark.parametrize("make_model", [quantized, model_with_changes])
def test_layouts_of_others_refuse_quantization_and_lora(make_model, tmp_path):
    with pytest.raises(ValueError, match="has no name in the layout .*LoRA or quantization"):
        save_weights(make_model(), ROW, tmp_path / "model.safetensors")
