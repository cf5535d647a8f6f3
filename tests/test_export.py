"""Exported ONNX files: equal to the model and to the originals, the same from every backend."""

import hashlib
import json
import os
import sys
import textwrap
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image

import keras_convnext
from keras_convnext import Classifier, ConvNeXt, Variant, feature_model, roadmap
from keras_convnext.cli import main
from keras_convnext.segmentation import UperNet
from tests.backends import BACKEND, numpy, on_one_backend, randomise
from tests.families import FAMILIES, V1
from tests.test_golden import (
    CASES,
    CLASSIFIERS,
    GOLDEN,
    TOLERANCE,
    build,
    expected_of,
    relative_error,
)
from tests.test_public import python
from tests.test_roadmap import SMALL

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from keras_convnext.export import (  # noqa: E402
    ExportedClassifier,
    MissingPackageError,
    export,
    int8_writers,
    onnx_file,
    placing,
    proof,
    quantization,
    runners,
    through_keras,
)
from keras_convnext.export.graph import ExportError  # noqa: E402
from keras_convnext.export.metadata import DescriptionError  # noqa: E402
from keras_convnext.export.plan import plan_of  # noqa: E402
from keras_convnext.export.runners import OnnxFile  # noqa: E402

CLOSE = 1e-5  # of the largest output: float32, another order of summation
ANY = (None, None, 3)
layers = keras.layers


def pixels(*shape, seed=1):
    return np.random.default_rng(seed).integers(0, 256, shape, "uint8")


def outputs_of(model, images):
    """Returns the outputs of a model as a list of arrays."""
    made = model(keras.ops.convert_to_tensor(images.astype("float32")), training=False)
    made = made.values() if isinstance(made, dict) else [made]
    return [keras.ops.convert_to_numpy(output) for output in made]


def check(model, path, shape, **arguments):
    """Exports a model, and runs the file on a batch of another size than the proof's."""
    made = export(model, path, **arguments)
    assert made.difference <= CLOSE and made.note is None
    runner, images = OnnxFile(path, threads=1), pixels(3, *shape)
    for found, expected in zip(runner(images).values(), outputs_of(model, images), strict=True):
        assert relative_error(found, expected) <= CLOSE
    return runner


def with_texts(source, path, **texts):
    """Writes a copy of an ONNX file with other entries in its description; returns its path."""
    model = onnx.load(source)
    told = {entry.key: entry.value for entry in model.metadata_props}
    onnx.helper.set_model_props(model, told | texts)
    onnx.save(model, path)
    return path


# ---------------------------------------------------------------- the family


def tiny(variant, **arguments):
    arguments = {"input_shape": ANY, "classes": 5, **arguments}
    return randomise(ConvNeXt(variant, **arguments))


def with_statistics(model):
    """Gives every weight a value that shows, and batch norms a variance that is one."""
    for weight in randomise(model).weights:
        if weight.path.endswith("moving_variance"):
            weight.assign(keras.ops.abs(weight) + 0.5)
    return model


V2 = FAMILIES["v2"]
MODELS = {
    **{name: (lambda row=row: tiny(row)) for name, row in FAMILIES.items()},
    "tanh": lambda: tiny(Variant("t", (1,), (8,), activation="gelu_tanh", epsilon=1e-5)),
    "clip": lambda: tiny(Variant("c", (1,), (8,), head_hidden=6, head_bias=False)),
    "logits": lambda: tiny(V1, classifier_activation=None),
    "map": lambda: tiny(V2, include_top=False),
    "average": lambda: tiny(FAMILIES["ols_hnf"], include_top=False, pooling="avg"),
    "largest": lambda: tiny(V1, include_top=False, pooling="max"),
    "encoder": lambda: tiny(Variant("e", (1,), (8,), head_norm=False), include_top=False),
    "grey": lambda: tiny(V1, input_shape=(None, None, 1)),
    "stem of stride 1": lambda: tiny(FAMILIES["rms_ols"], stem_stride=1),
    "dilated": lambda: tiny(
        Variant("d", (1, 1, 2, 1), (8, 8, 8, 8)), output_stride=8, include_top=False
    ),
    "pyramid": lambda: randomise(feature_model(tiny(V1), norms=True)),
    "named": lambda: tiny(V1, name="mine"),
}


@on_one_backend
@pytest.mark.parametrize("name", MODELS)
def test_every_kind_of_model_of_any_size(name, tmp_path):
    model = MODELS[name]()
    runner = check(model, tmp_path / "m.onnx", (45, 70, model.input_shape[-1]))
    assert json.loads(runner.texts["input"])["dtype"] == "uint8"


@on_one_backend
@pytest.mark.parametrize("step", ["resnet", "depthwise", "inverted_bottleneck", "gelu"])
def test_steps_of_the_roadmap(step, tmp_path):
    model = with_statistics(roadmap.build(step, SMALL, input_shape=ANY, classes=4))
    check(model, tmp_path / "m.onnx", (45, 70, 3))


@on_one_backend
def test_an_upernet_gives_logits_of_the_size_of_its_image(tmp_path):
    variant = Variant("u", (1, 1, 1, 1), (8, 8, 8, 16))
    model = with_statistics(UperNet(variant, classes=4, channels=8, auxiliary_channels=8))
    runner = check(model, tmp_path / "m.onnx", (97, 64, 3))
    assert runner.names == ["logits"] and runner.texts["task"] == "segmentation"
    nodes = onnx.load(tmp_path / "m.onnx").graph.node
    assert not any("auxiliary" in node.name for node in nodes)  # that head is for training


@on_one_backend
@pytest.mark.filterwarnings("ignore:The file holds weights under 'model', 'model_ema'")
@pytest.mark.parametrize("name", CLASSIFIERS)
def test_files_equal_the_originals(name, tmp_path):
    expected, row = expected_of(name), CLASSIFIERS[name]
    model = build(row, expected["output"].ndim)
    export(model, tmp_path / "m.onnx", check=False)
    (found,) = OnnxFile(tmp_path / "m.onnx", threads=1)(expected["input"]).values()
    assert relative_error(found, expected["output"]) < TOLERANCE


def test_the_graph_is_the_same_from_every_backend():
    graph = onnx_file.model_of(plan_of(tiny(V2))).graph
    digest = hashlib.sha256(graph.SerializeToString(deterministic=True)).hexdigest()
    assert digest[:16] == "f737788020db9530"


def test_one_model_on_every_backend(tmp_path):
    model = tiny(FAMILIES["mlp"], input_shape=(32, 32, 3))
    assert export(model, tmp_path / "m.onnx").difference <= CLOSE


@on_one_backend
@pytest.mark.parametrize("keeps_products", [False, True])
def test_a_block_costs_two_transpositions_and_one_product_less(keeps_products):
    plan = plan_of(tiny(V1, include_preprocessing=True))
    graph = onnx_file.model_of(plan, keeps_products=keeps_products).graph
    kinds = [node.op_type for node in graph.node]
    blocks, stages = sum(V1.depths), len(V1.depths)
    assert kinds.count("Transpose") <= 2 * (blocks + stages) + 1  # one for the images
    assert kinds.count("Mul") == 0  # layer scale and the deviation are part of products
    assert kinds.count("MatMul") == (2 * blocks if keeps_products else 0)
    assert {"Conv", "LayerNormalization", "Gelu", "Gemm", "Softmax"} <= set(kinds)


# ---------------------------------------------------------------- models around ours


def around(*more, base=None):
    """Returns a functional model of layers behind a small ConvNeXt's map."""
    base = base or tiny(V1, include_top=False, input_shape=(32, 32, 3))
    x = base.output
    for layer in more:
        x = layer(x)
    return with_statistics(keras.Model(base.input, x))


def arithmetic():
    inputs = keras.Input((None, None, 3))
    x = layers.Rescaling(1 / 127.5, -1)(inputs)
    y = layers.Conv2D(6, 3, padding="same", strides=2)(x)
    z = layers.Conv2D(6, 1, strides=2, use_bias=False)(x)
    z = layers.AveragePooling2D(3, 1, padding="same")(z)
    y = layers.Concatenate()([keras.ops.relu(y) * 0.5 + z, layers.Maximum()([y, z]), y - z])
    y = layers.SeparableConv2D(4, 3, padding="same", activation="swish")(y)
    y = layers.UpSampling2D(2, interpolation="bilinear")(y)
    mean = keras.ops.mean(y, axis=(1, 2))
    return keras.Model(inputs, layers.Dense(2, activation="sigmoid")(mean))


def nested():
    base = tiny(V2, include_top=False, input_shape=(32, 32, 3))
    head = keras.Sequential([layers.GlobalAveragePooling2D(), layers.Dropout(0.5), layers.Dense(3)])
    augment = keras.Sequential([layers.RandomFlip(), layers.RandomRotation(0.1)])
    return randomise(keras.Sequential([keras.Input((32, 32, 3)), augment, base, head]))


def with_lora():
    model = tiny(V1, input_shape=(32, 32, 3))
    for part in ("pwconv1", "pwconv2"):
        getattr(model.get_layer("stage0_block0"), part).enable_lora(2)
    return randomise(model)


USERS = {
    "lora": with_lora,
    "dense": lambda: around(layers.GlobalAveragePooling2D(), layers.Dense(3), layers.Softmax()),
    "flat": lambda: around(layers.Flatten(), layers.Dense(4, "tanh"), layers.Dense(1, "sigmoid")),
    "convolutions": lambda: around(
        layers.ZeroPadding2D(((1, 0), (2, 1))),
        layers.Conv2D(8, 3, groups=2, activation="relu"),
        layers.BatchNormalization(),
        layers.DepthwiseConv2D(3, 2, padding="same", depth_multiplier=2, activation="elu"),
        layers.MaxPooling2D(2, 1, padding="same"),
        layers.LeakyReLU(0.1),
        layers.Permute((2, 1, 3)),
        layers.Reshape((-1, 16)),
        layers.LayerNormalization(),
        layers.Flatten(),
        layers.Dense(4, "log_softmax"),
    ),
    "transposed": lambda: around(
        layers.Conv2DTranspose(6, 3, 2, activation="relu"),
        layers.Conv2DTranspose(4, (1, 2), 3, use_bias=False),
    ),
    "activations": lambda: around(
        *map(layers.Activation, ("hard_sigmoid", "gelu", "mish", "hard_silu", "relu6", "selu")),
        layers.UpSampling2D(2),
        layers.GlobalMaxPooling2D(keepdims=True),
    ),
    "arithmetic": arithmetic,
    "nested": nested,
}


@on_one_backend
@pytest.mark.parametrize("name", USERS)
def test_models_with_layers_of_keras(name, tmp_path):
    check(USERS[name](), tmp_path / "m.onnx", (32, 32, 3))


@on_one_backend
def test_a_model_in_mixed_precision_becomes_a_file_in_float32(tmp_path):
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = tiny(V2, input_shape=(32, 32, 3))
    finally:
        keras.config.set_dtype_policy(before)
    made = export(model, tmp_path / "m.onnx")
    assert CLOSE < made.difference < proof.ROUGH_BOUND  # that of the model's own rounding
    same = tiny(V2, input_shape=(32, 32, 3))
    (found,) = OnnxFile(tmp_path / "m.onnx")(pixels(2, 32, 32, 3)).values()
    assert relative_error(found, outputs_of(same, pixels(2, 32, 32, 3))[0]) <= CLOSE


class Twice(layers.Dense):
    def call(self, inputs, training=False):
        return 2 * super().call(inputs)


class Subclassed(keras.Model):
    def __init__(self):
        super().__init__()
        self.dense = layers.Dense(2)

    def call(self, inputs):
        return self.dense(inputs)


def subclassed():
    model = Subclassed()
    model(np.zeros((1, 3), "float32"))
    return model


def quantized():
    model = tiny(V1, input_shape=(32, 32, 3))
    model.quantize("int8")
    return model


def two_inputs():
    first, second = keras.Input((4,)), keras.Input((4,))
    return keras.Model([first, second], layers.Add()([first, second]))


def in_training():
    inputs = keras.Input((8,))
    return keras.Model(inputs, layers.Dropout(0.5)(inputs, training=True))


@on_one_backend
@pytest.mark.filterwarnings("ignore::UserWarning:keras")
@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: around(Twice(3, name="mine")), "mine is a Twice, .* how to write .* Replace it"),
        (lambda: around(layers.Lambda(abs, name="odd")), "odd is a Lambda"),
        (lambda: around(layers.Dense(3, keras.ops.sin)), "activation 'sin', which is not written"),
        (
            subclassed,
            r"is a Subclassed of no known input. Rebuild it with `keras.Model\(inputs, outputs\)`",
        ),
        (quantized, "pwconv1 is quantized .int8. by Keras"),
        (two_inputs, "takes several inputs"),
        (in_training, "called with `training=True`"),
        (lambda: around(layers.Conv2DTranspose(2, 3, padding="same")), "written are those with"),
        (lambda: around(layers.LayerNormalization(axis=(1, 2))), r"normalises the axes \[1, 2\]"),
    ],
)
def test_what_cannot_be_written_is_named(make, said, tmp_path):
    with pytest.raises(ValueError, match=said):
        export(make(), tmp_path / "m.onnx")
    assert not list(tmp_path.iterdir())


# ---------------------------------------------------------------- what is left out or free


@pytest.fixture(scope="module")
def classifier():
    return Classifier(tiny(V1, input_shape=(32, 32, 3)), labels=["ä", "b", "c", "d", "e"])


@on_one_backend
def test_normalisation_and_softmax_may_be_left_out(classifier, tmp_path):
    model, path = classifier.model, tmp_path / "m.onnx"
    export(classifier, path, preprocessing=False, softmax=False, input_shape=ANY)
    runner = OnnxFile(path)
    said = json.loads(runner.texts["input"])
    assert runner.texts["activation"] == "softmax" and runner.names == ["logits"]
    assert said["dtype"] == "float32" and "range" not in said
    images = pixels(2, 32, 32, 3)
    logits = runner((images - np.float32(said["mean"])) / np.float32(said["std"]))["logits"]
    (expected,) = outputs_of(model, images)
    assert relative_error(np.exp(logits) / np.exp(logits).sum(-1, keepdims=True), expected) < CLOSE
    assert runner(np.zeros((1, 40, 56, 3)))["logits"].shape == (1, 5)  # free sizes
    answers = ExportedClassifier(path).probabilities([images[0]])
    assert np.allclose(answers, classifier.probabilities([images[0]]), atol=1e-5)


@on_one_backend
@pytest.mark.parametrize("shape", [(96, 160, 3), (None, 160, 3)])
def test_sizes_may_be_set_that_the_model_leaves_free(shape, tmp_path):
    path = tmp_path / "m.onnx"
    assert export(tiny(V1), path, input_shape=shape).difference < CLOSE
    assert OnnxFile(path)(np.zeros((1, 96, 160, 3)))["probabilities"].shape == (1, 5)
    with pytest.raises(ValueError, match="cannot run it on"):
        OnnxFile(path)(np.zeros((1, 96, 96, 3)))


@on_one_backend
def test_probabilities_may_be_added_and_images_be_floats(tmp_path):
    model = tiny(V1, classifier_activation=None, input_shape=(32, 32, 3))
    made = export(model, tmp_path / "m.onnx", softmax=True, input_dtype="float32")
    (found,) = OnnxFile(tmp_path / "m.onnx")(pixels(2, 32, 32, 3)).values()
    assert np.allclose(found.sum(-1), 1, atol=1e-5) and made.metadata["activation"] == "none"
    plain = tiny(V1, include_preprocessing=False, input_shape=(32, 32, 3))
    made = export(plain, tmp_path / "m.onnx")
    assert json.loads(made.metadata["input"])["dtype"] == "float32"
    for wrong, said in (
        ({"input_dtype": "uint8"}, "must be 'float32'"),
        ({"preprocessing": False}, "no Normalization layers to leave out"),
        ({"input_shape": (48, 48, 3)}, r"must be \(32, 32, 3\), .* None for a size that is free"),
        ({"softmax": 1}, "`softmax` must be one of"),
    ):
        with pytest.raises(ValueError, match=said):
            export(plain, tmp_path / "m.onnx", **wrong)
    assert made.metadata["task"] == "unknown"  # nothing says how its images are normalised
    with pytest.raises(ValueError, match="does not end with a softmax or sigmoid to leave out"):
        export(tiny(V1, include_top=False), tmp_path / "m.onnx", softmax=False)
    with pytest.raises(ValueError, match="does not tell what its outputs are: pass a `Classifier`"):
        export(tiny(V1, include_top=False), tmp_path / "m.onnx", softmax=True)
    with pytest.raises(ExportError, match="ties the model to one size"):
        export(around(layers.Flatten()), tmp_path / "m.onnx", input_shape=ANY)


@on_one_backend
def test_the_numbers_of_a_large_model_are_in_a_second_file(wide, tmp_path, monkeypatch):
    whole = export(wide, tmp_path / "m.onnx").bytes
    monkeypatch.setattr(onnx_file, "LARGEST", 10_000)
    made = export(wide, tmp_path / "l.onnx", input_shape=ANY)
    assert made.difference <= CLOSE and made.bytes > 0.95 * whole
    numbers = tmp_path / "l.onnx.data"
    assert {path.name for path in tmp_path.iterdir()} == {"m.onnx", "l.onnx", "l.onnx.data"}
    assert numbers.stat().st_size > 0.8 * whole
    images = pixels(2, 32, 32, 3)
    found, expected = (OnnxFile(tmp_path / name)(images)["logits"] for name in ("l.onnx", "m.onnx"))
    assert relative_error(found, expected) < CLOSE
    with pytest.raises(ExportError, match="more than 2 GB of numbers"):
        export(wide, tmp_path / "h.onnx", dtype="float16")


@on_one_backend
def test_images_in_0_to_1_are_floats(tmp_path):
    """A layer before ours that normalises them does not make them pixels."""
    inputs = keras.Input((32, 32, 3))
    x = layers.Normalization(mean=0.5, variance=0.04)(inputs)
    x = tiny(V1, include_preprocessing=False, input_shape=(32, 32, 3))(x)
    made = export(keras.Model(inputs, x), tmp_path / "m.onnx")
    assert json.loads(made.metadata["input"]) == {
        "layout": "NHWC",
        "dtype": "float32",
        "channels": 3,
    }
    assert made.difference <= CLOSE and made.metadata["task"] == "unknown"


@on_one_backend
def test_channels_first(tmp_path):
    keras.config.set_image_data_format("channels_first")
    try:
        model = tiny(V1, input_shape=(3, None, None), include_top=False)
        made = export(model, tmp_path / "m.onnx")
    finally:
        keras.config.set_image_data_format("channels_last")
    assert made.difference <= CLOSE
    runner, images = OnnxFile(tmp_path / "m.onnx"), pixels(2, 3, 40, 56)
    (found,), (expected,) = runner(images).values(), outputs_of(model, images)
    assert found.shape[1] == V1.dims[-1] and relative_error(found, expected) <= CLOSE
    assert json.loads(runner.texts["input"])["layout"] == "NCHW"
    assert runner.texts["task"] == "features"


@on_one_backend
def test_a_file_is_compared_on_the_images_that_are_given(tmp_path):
    model = tiny(V1)
    export(model, tmp_path / "m.onnx", images=pixels(20, 40, 48, 3))
    plan, runner = plan_of(model), OnnxFile(tmp_path / "m.onnx")
    bright = np.full((1, 40, 48, 3), 255, "uint8")
    images = proof.images_for(plan, bright)
    assert images.shape == (3, 40, 48, 3) and (images[2] == 255).all()
    assert proof.proven(plan, runner, bright) <= CLOSE


# ---------------------------------------------------------------- smaller numbers


@pytest.fixture(scope="module")
def wide():
    """A classifier that is large enough for its numbers to be most of a file."""
    variant = Variant("wide", (1, 1), (32, 96), layer_scale=None, grn=True)
    return Classifier(tiny(variant, input_shape=(32, 32, 3), classifier_activation=None))


@on_one_backend
def test_float16_is_half_as_large(wide, tmp_path):
    whole = export(wide, tmp_path / "m.onnx")
    half = export(wide, tmp_path / "h.onnx", dtype="float16")
    assert half.bytes < 0.6 * whole.bytes and CLOSE < half.difference < 1e-2
    runner = OnnxFile(tmp_path / "h.onnx")
    assert runner.texts == whole.metadata
    assert runner(pixels(1, 32, 32, 3))["logits"].dtype == "float32"


@on_one_backend
def test_int8_agrees_and_says_how_much(wide, tmp_path):
    images = pixels(24, 32, 32, 3)
    whole = export(wide, tmp_path / "m.onnx")
    made = export(wide, tmp_path / "q.onnx", quantize="int8", calibration=images)
    agreement = made.agreement
    assert made.difference <= CLOSE and made.metadata == whole.metadata
    assert agreement.bytes == made.bytes < 0.45 * whole.bytes == 0.45 * agreement.float_bytes
    found, expected = (OnnxFile(tmp_path / f"{name}.onnx")(images)["logits"] for name in "qm")
    assert agreement.top1 == np.mean(found.argmax(-1) == expected.argmax(-1)) >= 0.9
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    assert agreement.cosine == pytest.approx(min((found * expected).sum(1) / lengths), rel=1e-5)
    kinds = [node.op_type for node in onnx.load(tmp_path / "q.onnx").graph.node]
    assert "QuantizeLinear" in kinds and agreement.images == 24


@on_one_backend
def test_images_in_a_folder_per_class_tell_the_accuracy(tmp_path):
    model = tiny(V1, input_shape=(32, 32, 3))
    labels = [["n00000001", "cat"], ["n00000002", "dog"], *(["", name] for name in "cde")]
    (tmp_path / "names.json").write_text(json.dumps(labels))
    classifier = Classifier(model, labels=tmp_path / "names.json")
    photos = pixels(6, 32, 32, 3)
    best = classifier.probabilities(photos).argmax(-1)
    wrong = (best[0] + 1) % 5
    for number, (image, true) in enumerate(zip(photos, [wrong, *best[1:]], strict=True)):
        wnid, name = labels[true]
        folder = tmp_path / "photos" / (wnid if wnid and number % 2 else name)
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(folder / f"{number}.png")
    options = {"quantize": "int8", "calibration": tmp_path / "photos"}
    found = export(classifier, tmp_path / "m.onnx", **options).agreement
    assert found.images == 6 and found.float_accuracy == pytest.approx(5 / 6)
    assert found.accuracy == pytest.approx(5 / 6)  # both agree in all of them
    assert found.top1 == 1
    (tmp_path / "photos" / "elsewhere").mkdir()
    Image.fromarray(photos[0]).save(tmp_path / "photos" / "elsewhere" / "p.png")
    found = export(classifier, tmp_path / "m.onnx", **options).agreement
    assert found.images == 7 and found.accuracy is found.float_accuracy is None


@on_one_backend
@pytest.mark.parametrize(("names", "right"), [(["probabilities"], 2 / 3), (["logits"], 1 / 3)])
def test_one_output_tells_two_classes_apart(names, right):
    outputs, truth = np.array([[0.4], [0.7], [-1.0]]), np.array([0, 1, 1])
    assert quantization._accuracy(outputs, names, truth) == pytest.approx(right)
    assert quantization._accuracy(outputs, names, None) is None


@on_one_backend
def test_a_block_that_int8_spoils_stays_in_float(tmp_path):
    """One hidden channel is a thousand times larger than the others, and matters as little."""
    model = tiny(Variant("v", (2, 2), (16, 16)), input_shape=(32, 32, 3))
    block = model.get_layer("stage1_block0")
    bias, kernel = (numpy(part) * 1 for part in (block.pwconv1.bias, block.pwconv2.kernel))
    bias[0], kernel[0] = 3000, 1e-4
    kernel[1:] *= 30
    block.pwconv1.bias.assign(bias)
    block.pwconv2.kernel.assign(kernel)
    made = export(model, tmp_path / "m.onnx", quantize="int8", calibration=pixels(16, 32, 32, 3))
    assert made.agreement.left_in_float[0] == "stage1_block0"
    assert made.agreement.cosine > 0.95


@on_one_backend
def test_an_agreement_that_stays_low_is_said(wide, tmp_path, monkeypatch):
    monkeypatch.setattr(quantization, "COSINE", 1.1)  # which no two files reach
    images = pixels(4, 32, 32, 3)
    with pytest.warns(UserWarning, match=r"int8.onnx: in int8, the best .* with 2 blocks left in"):
        export(wide, tmp_path / "int8.onnx", quantize="int8", calibration=images)


@pytest.mark.slow
@on_one_backend
@pytest.mark.filterwarnings("ignore:.* in int8, the best class")
def test_the_sizes_of_atto_are_those_that_are_told(tmp_path):
    keras.utils.set_random_seed(0)
    model = ConvNeXt("convnext_atto", input_shape=(32, 32, 3), classes=1000)
    images = pixels(8, 32, 32, 3)
    made = export(model, tmp_path / "m.onnx", quantize="int8", calibration=images)
    assert made.agreement.float_bytes <= 15.0e6 and made.bytes <= 4.9e6


@on_one_backend
def test_calibration_and_int8_belong_together(wide, tmp_path):
    images = pixels(2, 32, 32, 3)
    for wrong, said in (
        ({"quantize": "int8"}, "belong together"),
        ({"calibration": images}, "belong together"),
        ({"quantize": "int4", "calibration": images}, "must be one of"),
        ({"quantize": "int8", "calibration": images, "dtype": "float16"}, "begins from float32"),
        ({"quantize": "int8", "calibration": images[:, :16]}, r"shape \(None, 32, 32, 3\)"),
        ({"quantize": "int8", "calibration": []}, r"a list of images or a folder; received"),
    ):
        with pytest.raises(ValueError, match=said):
            export(wide, tmp_path / "m.onnx", **wrong)


@on_one_backend
def test_openvino(wide, tmp_path):
    pytest.importorskip("openvino")
    path = tmp_path / "m.xml"
    made = export(wide, path, input_shape=ANY)
    assert made.difference <= CLOSE and made.format == "OpenVINO"
    assert {file.name for file in tmp_path.iterdir()} == {"m.xml", "m.bin"}
    assert made.bytes == sum(file.stat().st_size for file in tmp_path.iterdir())
    images = pixels(3, 48, 56, 3)
    answer = ExportedClassifier(path)
    expected = wide.probabilities([images[0]])
    assert np.allclose(answer.probabilities([images[0]]), expected, atol=1e-5)
    assert answer.description["transform"] == json.loads(made.metadata["transform"])
    pytest.importorskip("nncf")
    files = {file: file.read_bytes() for file in tmp_path.iterdir()}
    calibration = pixels(8, 32, 32, 3)
    small = export(
        wide, path, quantize="int8", calibration=calibration, images=pixels(4, 32, 32, 3)
    )
    assert {file.name for file in tmp_path.iterdir()} == {"m.xml", "m.bin"}
    assert all(file.read_bytes() != content for file, content in files.items())
    assert small.agreement.bytes == small.bytes < 0.55 * small.agreement.float_bytes
    assert small.agreement.float_bytes == pytest.approx(made.bytes, rel=0.02)
    found = runners.OpenVinoFile(path)(pixels(4, 32, 32, 3))["logits"].astype("float64")
    expected = outputs_of(wide.model, pixels(4, 32, 32, 3))[0].astype("float64")
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    assert small.agreement.cosine == pytest.approx(
        min((found * expected).sum(1) / lengths), rel=1e-4
    )
    assert runners.OpenVinoFile(path).texts == made.metadata | small.metadata


@on_one_backend
def test_a_file_that_openvino_cannot_load_is_refused(tmp_path):
    pytest.importorskip("openvino")
    (tmp_path / "n.xml").write_text("<net/>")
    with pytest.raises(ValueError, match="OpenVINO cannot load it"):
        ExportedClassifier(tmp_path / "n.xml")


@on_one_backend
def test_openvino_leaves_in_float_what_it_is_told(wide, tmp_path, capsys):
    openvino = pytest.importorskip("openvino")
    pytest.importorskip("nncf")
    export(wide, tmp_path / "m.xml", check=False)
    images = pixels(8, 32, 32, 3)
    writer = int8_writers.OpenVinoWriter(tmp_path / "m.xml", tmp_path / "q.xml", images)
    blocks = {quantization._group(name) for name in writer.nodes}
    assert blocks == {"stem", "stage0_block0", "downsample1", "stage1_block0", "head"}

    def in_float(excluded):
        writer.write(excluded)
        model = openvino.Core().read_model(tmp_path / "q.xml")
        ops = [op for op in model.get_ordered_ops() if op.get_type_name() in writer.KINDS]
        return {op.get_friendly_name() for op in ops if weights_of(op) == "float32"}

    def weights_of(op):
        while op.get_type_name() != "Constant":
            op = op.input_value(1 if op.get_type_name() in writer.KINDS else 0).get_node()
        return op.get_element_type().to_dtype()

    spared = [name for name in writer.nodes if quantization._group(name) == "stage1_block0"]
    assert in_float([]) == set() and in_float(spared) == set(spared) != set()
    assert capsys.readouterr().out == ""  # no bars


# ---------------------------------------------------------------- by Keras' own exporters


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["m.tflite", "m.pt2", "m"] if BACKEND != "jax" else ["m"])
def test_formats_of_keras_from_every_backend(name, tmp_path):
    """On JAX all of them go the same way, through another process."""
    model = tiny(V2, input_shape=(32, 32, 3))
    for _ in range(2 if BACKEND == "tensorflow" and name == "m" else 1):  # it replaces the first
        made = export(model, tmp_path / name)
        assert made.difference <= CLOSE and made.bytes > 4 * model.count_params()
    assert [path.name for path in tmp_path.iterdir()] == [name]


@on_one_backend
def test_formats_of_keras_hold_the_model_as_it_is(tmp_path):
    model = tiny(V1, input_shape=(32, 32, 3))
    for wrong in ({"softmax": False}, {"preprocessing": False}, {"dtype": "float16"}):
        with pytest.raises(ValueError, match=f"omit `{list(wrong)[0]}`, or write one of .onnx"):
            export(model, tmp_path / "m.pt2", **wrong)
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "photo.jpg").touch()
    (tmp_path / "file").touch()
    (tmp_path / "m.bin").write_bytes(b"mine")
    (tmp_path / "n.onnx.data").write_bytes(b"mine")
    (tmp_path / "o.onnx").mkdir()
    before = sorted(tmp_path.iterdir())
    for name, error, said in (
        ("photos", FileExistsError, "has files that are no SavedModel"),
        ("file", FileExistsError, "file' is a file, and a SavedModel is a folder"),
        (
            "m.xml",
            FileExistsError,
            "m.bin' is where the numbers of m.xml go, and there is no m.xml",
        ),
        ("n.onnx", FileExistsError, "n.onnx.data' is where the numbers of n.onnx go"),
        ("o.onnx", IsADirectoryError, "o.onnx' is a folder"),
    ):
        with pytest.raises(error, match=said):
            export(None, tmp_path / name)  # said before the model is looked at
    assert sorted(tmp_path.iterdir()) == before


@on_one_backend
def test_what_belongs_together_is_replaced_together_or_not_at_all(tmp_path, monkeypatch):
    (tmp_path / "m").mkdir()
    before = {"m.xml": "old", "m.bin": "old", "m/saved_model.pb": "old"}
    for name, text in before.items():
        (tmp_path / name).write_text(text)

    def found():
        files = [file for file in tmp_path.rglob("*") if file.is_file()]
        return {file.relative_to(tmp_path).as_posix(): file.read_text() for file in files}

    with pytest.raises(FileNotFoundError), placing.drafts(tmp_path / "m.xml") as draft:
        draft.with_suffix(".bin").write_text("new")  # and no model, so that its move fails
    assert found() == before
    move, moves, faults = os.replace, [], [OSError]

    def failing(source, target):
        moves.append(Path(target))
        if Path(target) == tmp_path / "m" and len(moves) == 2 and faults:
            raise faults.pop()(5, "Input/output error", str(source))
        move(source, target)

    monkeypatch.setattr(os, "replace", failing)
    with pytest.raises(OSError, match="Input/output"), placing.drafts(tmp_path / "m") as draft:
        draft.mkdir()
        (draft / "saved_model.pb").write_text("new")
    assert found() == before and len(moves) == 3
    for name in ("m", "m.xml"):
        moves.clear()
        with placing.drafts(tmp_path / name) as draft:
            draft.mkdir() if name == "m" else draft.write_text("new")
            beside = draft / "saved_model.pb" if name == "m" else draft.with_suffix(".bin")
            beside.write_text("new")
    assert found() == dict.fromkeys(before, "new") and len(list(tmp_path.iterdir())) == 3
    assert [path.name for path in moves] == ["m.xml", "m.bin", "m.bin", "m.xml"]
    assert moves[2:] == [tmp_path / "m.bin", tmp_path / "m.xml"]


@on_one_backend
def test_another_process_that_takes_too_long_is_ended(tmp_path, monkeypatch):
    pytest.importorskip("tensorflow")
    monkeypatch.setattr(through_keras, "SECONDS", 0.05)
    with pytest.raises(ExportError, match="which was ended after 0.05 seconds, its limit"):
        export(tiny(V1, input_shape=(32, 32, 3)), tmp_path / "m")
    assert not list(tmp_path.iterdir())


@on_one_backend
@pytest.mark.filterwarnings("ignore")  # PyTorch warns of each size that it takes for a constant
def test_keras_own_export_to_onnx_has_a_free_batch(tmp_path):
    """On PyTorch, where Keras asks the input of a norm for its width, which is a symbol there."""
    model = tiny(V1, input_shape=(32, 32, 3))
    images = pixels(3, 32, 32, 3)
    (expected,) = outputs_of(model, images)
    model.export(str(tmp_path / "m.onnx"), format="onnx", verbose=False)
    (found,) = OnnxFile(tmp_path / "m.onnx")(images).values()
    assert relative_error(found, expected) < CLOSE


@on_one_backend
def test_an_upernet_equals_the_original(tmp_path):
    if "transformers_upernet" not in CASES:
        pytest.skip("no golden UperNet")
    row = CASES["transformers_upernet"]
    model = UperNet(
        Variant("golden", tuple(row["depths"]), tuple(row["dims"])),
        weights=GOLDEN / row["file"],
        channels=row["head_channels"],
        auxiliary_channels=row["aux_channels"],
        include_preprocessing=False,
    )
    export(model, tmp_path / "m.onnx", check=False)
    with np.load(GOLDEN / row["expected"]) as expected:
        found = OnnxFile(tmp_path / "m.onnx", threads=1)(expected["input"])["logits"]
        assert relative_error(found, expected["logits"]) < TOLERANCE


# ---------------------------------------------------------------- the proof and the file


@on_one_backend
def test_a_file_that_computes_something_else_is_refused(tmp_path, monkeypatch):
    model, path = tiny(V1, input_shape=(32, 32, 3)), tmp_path / "ä 'm'.onnx"
    export(model, path)
    runner, plan, before = OnnxFile(path), plan_of(model), path.read_bytes()
    randomise(model, seed=5)
    with pytest.raises(proof.ProofError, match="differs from small_v1 by .* nothing was written"):
        proof.proven(plan, runner)
    monkeypatch.setattr(proof, "BOUND", -1.0)
    with pytest.raises(proof.ProofError):
        export(model, path)
    assert path.read_bytes() == before and list(tmp_path.iterdir()) == [path]
    assert export(model, path, check=False).note == "not compared with the model, as asked for"
    assert path.read_bytes() != before


@on_one_backend
def test_without_its_packages_the_line_that_is_missing_is_said(tmp_path, monkeypatch):
    model = tiny(V1, input_shape=(32, 32, 3))
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "pip install onnxruntime" in export(model, tmp_path / "m.onnx").note
    with pytest.raises(ImportError, match="Running an ONNX file needs the package 'onnxruntime'"):
        OnnxFile(tmp_path / "m.onnx")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackageError, match="An ONNX file needs .* `pip install onnx`, or"):
        export(model, tmp_path / "n.onnx")
    assert not (tmp_path / "n.onnx").exists()


# ---------------------------------------------------------------- answers from the file alone


@on_one_backend
def test_an_exported_classifier_answers_without_keras(classifier, tmp_path):
    path, photo = tmp_path / "m.onnx", tmp_path / "photo.png"
    export(classifier, path)
    Image.fromarray(pixels(60, 44, 3)).save(photo)
    code = f"""
from keras_convnext.cli import main
assert main(["run", r"{path}", r"{photo}", "--json"]) == 0
assert "keras" not in sys.modules
"""
    done = python(code, missing=["keras", "torch", "jax", "tensorflow"])
    assert done.returncode == 0, done.stderr
    (found,) = json.loads(done.stdout)["results"]
    expected = classifier(photo)
    assert [row["name"] for row in found["predictions"]] == [best.name for best in expected]
    for row, best in zip(found["predictions"], expected, strict=True):
        assert row["probability"] == pytest.approx(best.probability, rel=1e-4)
    assert ExportedClassifier(path).transform == classifier.transform


@on_one_backend
def test_the_lines_for_other_programs_run(classifier, exported, monkeypatch):
    monkeypatch.chdir(exported.parent)
    lines = keras_convnext.export.__doc__.split("nor Keras:")[1].split("See")[0]
    images = pixels(3, 32, 32, 3)
    lines = textwrap.dedent(lines).replace("tiny.onnx", "m.onnx")
    exec(lines, scope := {"pixels": images})
    best = classifier.of_pixels(images).argmax(-1)
    assert scope["answers"] == [classifier.labels[index] for index in best]


@on_one_backend
@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("keras_convnext", "2", "Export the model again"),
        ("task", "segmentation", "is for segmentation"),
        ("transform", '{"size": 1000000}', "'transform' of its description is damaged"),
        ("transform", '{"sides": 3}', "'transform'"),
        ("transform", "[" * 100_000, "'transform'"),
        ("names", '["a", "b"]', "'names'"),
        ("names", '["a", 2, "b", "c", "d"]', "'names'"),
        ("input", '{"layout": "NHWC", "channels": 3}', "'input'"),
        ("classes", "-1", "'classes'"),
        ("activation", "exp", "'activation'"),
    ],
)
def test_damaged_descriptions_are_refused(key, value, said, exported):
    path = with_texts(exported, exported.with_name("damaged.onnx"), **{key: value})
    with pytest.raises(DescriptionError, match=said):
        ExportedClassifier(path)


@pytest.fixture(scope="module")
def exported(classifier, tmp_path_factory):
    path = tmp_path_factory.mktemp("exported") / "m.onnx"
    export(classifier, path)
    return path


@on_one_backend
def test_the_commands(classifier, tmp_path, capsys):
    model, path, photo = (str(tmp_path / name) for name in ("m.keras", "m.onnx", "p.png"))
    classifier.model.save(model)
    Image.fromarray(pixels(60, 44, 3)).save(photo)
    (tmp_path / "names.txt").write_text("\n".join(classifier.labels), encoding="utf-8")
    labels = ["--labels", str(tmp_path / "names.txt")]
    assert main(["export", model, "--to", path, "--dynamic", "--json", *labels]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["largest difference"] <= CLOSE and said["task"] == "classification"
    assert main(["run", path, photo, "-k", "1"]) == 0
    assert classifier(photo)[0].name in capsys.readouterr().out
    assert main(["export", model, "--to", path]) == 1
    assert "exists already; --force replaces it." in capsys.readouterr().err
    (tmp_path / "m.onnx.data").write_bytes(b"numbers")
    assert main(["export", model, "--to", path]) == 1
    assert "exists already; --force replaces it, with m.onnx.data." in capsys.readouterr().err
    (tmp_path / "m.onnx.data").unlink()
    (tmp_path / "s.bin").write_bytes(b"mine")
    assert main(["export", "no such model", "--to", str(tmp_path / "s.xml"), "--force"]) == 1
    assert "s.bin' is where the numbers of s.xml go" in capsys.readouterr().err
    more = ["--force", "--no-softmax", "--check=off", *labels]
    assert main(["export", model, "--to", path, *more]) == 0
    assert "as asked for" in capsys.readouterr().out
    assert main(["run", path, photo, "-k", "1"]) == 0
    assert classifier(photo)[0].name in capsys.readouterr().out
    assert main(["export", model, "--to", "m.h5"]) == 2
    small = ["--int8", "--calibration", str(tmp_path), "--json"]
    assert main(["export", model, "--to", str(tmp_path / "q.onnx"), *small]) == 0
    assert json.loads(capsys.readouterr().out)["int8"]["images"] == 1
    assert main(["export", model, "--to", str(tmp_path / "r.onnx"), "--int8"]) == 2
    (tmp_path / "broken.onnx").write_bytes(b"no model")
    assert main(["run", str(tmp_path / "broken.onnx"), photo]) == 1
    assert "ONNX Runtime cannot load it" in capsys.readouterr().err


@on_one_backend
def test_files_from_elsewhere_are_refused_in_a_sentence(exported, tmp_path, capsys):
    helper, photo = onnx.helper, tmp_path / "p.png"
    Image.fromarray(pixels(60, 44, 3)).save(photo)
    texts = OnnxFile(exported).texts

    def said(inputs, outputs, width):
        nodes = [helper.make_node("Identity", ["a"], [name]) for name in outputs]
        infos = [
            [helper.make_tensor_value_info(name, 1, ["n", width, 32, 3]) for name in names]
            for names in (inputs, outputs)
        ]
        model = helper.make_model(
            helper.make_graph(nodes, "elsewhere", *infos),
            opset_imports=[helper.make_opsetid("", 18)],
            ir_version=9,
        )
        helper.set_model_props(model, texts)
        onnx.save(model, tmp_path / "m.onnx")
        assert main(["run", str(tmp_path / "m.onnx"), str(photo)]) == 1
        return capsys.readouterr().err

    assert "m.onnx: it takes 2 inputs and returns 1 outputs" in said("ab", "c", 32)
    assert "m.onnx returns 2 outputs: a classifier returns one" in said("a", "bc", 32)
    wrong = said("a", "b", 31)
    assert "ONNX Runtime cannot run it on float32 images of shape" in wrong and "x32x32x3" in wrong
    assert "'classes' of its description is damaged" in said("a", "b", 32)


@on_one_backend
def test_the_public_names():
    assert keras_convnext.export.export is export
    assert all(hasattr(keras_convnext.export, name) for name in keras_convnext.export.__all__)
