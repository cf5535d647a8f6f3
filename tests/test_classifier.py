"""From photographs to answers: models of every kind, their transforms and their labels."""

import json

import keras
import numpy as np
import pytest
from PIL import Image

import keras_convnext
from keras_convnext import Classifier, ConvNeXt, Variant, labels, named_weights
from keras_convnext.preprocessing import EvalTransform
from tests.backends import on_one_backend, randomise

SMALL = Variant("small", (1,), (8,))
SIDE = 32
NAMES = ("ant", "bee", "cat")
layers = keras.layers


@pytest.fixture(autouse=True)
def nowhere(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_CONVNEXT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("KERAS_CONVNEXT_OFFLINE", "1")


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for number in range(3):
        pixels = np.random.default_rng(number).integers(0, 256, (40, 50, 3), "uint8")
        Image.fromarray(pixels).save(folder / f"{number}.png")
    (folder / "notes.txt").write_text("no image")
    return folder


@pytest.fixture(scope="module")
def model():
    return randomise(ConvNeXt(SMALL, classes=3, input_shape=(SIDE, SIDE, 3)), scale=0.3)


def head(*ends, units=3, size=8):
    """A model whose logits are multiples of the mean of the first colour."""
    kernel = np.zeros((3, units), "float32")
    kernel[0] = np.linspace(0.04, -0.02, units)
    dense = layers.Dense(units, kernel_initializer=keras.initializers.Constant(kernel))
    front = [keras.Input((size, size, 3)), layers.GlobalAveragePooling2D(), dense]
    return keras.Sequential([*front, *ends])


# ---------------------------------------------------------------- one object


def test_a_photo_a_list_and_a_folder(model, photos):
    classify = Classifier(model, labels=NAMES, batch_size=2)
    expected = model.predict_on_batch(classify.transform.batch(sorted(photos.glob("*.png"))))
    found = classify(photos, top=2)
    assert list(found) == [str(photos / f"{number}.png") for number in range(3)]
    for (best, second), row in zip(found.values(), expected, strict=True):
        assert best.index == row.argmax() and best.name == NAMES[best.index] and best.id is None
        assert best.probability >= second.probability
        assert best.probability == pytest.approx(row.max(), abs=1e-5)
    path = photos / "1.png"
    first = classify(path)
    assert [p.index for p in first] == np.argsort(-expected[1]).tolist()
    for same in (path.read_bytes(), Image.open(path), np.asarray(Image.open(path)), str(path)):
        np.testing.assert_allclose(classify.probabilities(same), expected[1], atol=1e-5)
    several = classify.probabilities([path, photos / "0.png"])
    np.testing.assert_allclose(several, expected[[1, 0]], atol=1e-5)
    assert several.dtype == "float32" and classify.probabilities([]).shape == (0, 3)
    assert [row[0].index for row in classify([path, path])] == [first[0].index] * 2
    assert classify.labels == NAMES and classify.model is model and classify.name == "small"
    assert classify.transform == EvalTransform(SIDE, 0.875, upright=True)


@on_one_backend
def test_transforms_and_labels_may_be_given(model, photos, tmp_path):
    assert Classifier(model, transform={"resize": "squash"}).transform.resize == "squash"
    from_36 = Classifier(model, transform={"resize_size": 36}).transform
    assert from_36 == EvalTransform(SIDE, resize_size=36, upright=True)
    own = EvalTransform(SIDE, 1.0, interpolation="bilinear")
    assert Classifier(model, transform=own).transform is own
    (tmp_path / "names.txt").write_text("\n".join(NAMES))
    for given in (list(NAMES), {0: "ant", 1: "bee", 2: "cat"}, {"bee": 1, "cat": 2, "ant": 0}):
        assert Classifier(model, labels=given).labels == NAMES
    assert Classifier(model, labels=tmp_path / "names.txt").labels == NAMES
    assert Classifier(model).labels == ("class 0", "class 1", "class 2")


@on_one_backend
def test_a_grey_model_sees_grey(photos):
    grey = ConvNeXt(SMALL, classes=2, input_shape=(SIDE, SIDE, 1))
    classify = Classifier(grey)
    luma = Image.fromarray(classify.transform(photos / "0.png")).convert("L")
    np.testing.assert_array_equal(classify.pixels(photos / "0.png")[..., 0], np.asarray(luma))
    assert classify(photos / "0.png")[0].probability >= 0.5


# ---------------------------------------------------------------- what outputs mean

ENDS = {
    "softmax of the layer": ([layers.Activation("softmax")], "none"),
    "softmax layer": ([layers.Softmax()], "none"),
    "nested": ([keras.Sequential([layers.Dropout(0.1), layers.Softmax()])], "none"),
    "softmax, then passed on": (
        [layers.Softmax(), layers.Dropout(0.1), layers.Reshape((3,))],
        "none",
    ),
    "sigmoid": ([layers.Activation("sigmoid")], "none"),
    "logits": ([], "softmax"),
    "logits behind nothing": ([layers.Activation("linear"), layers.Dropout(0.1)], "softmax"),
}


@on_one_backend
@pytest.mark.parametrize("end", ENDS)
def test_outputs_are_recognised_by_the_graph(end):
    ends, activation = ENDS[end]
    classify = Classifier(head(*ends))
    assert classify.activation == activation
    pixels = np.full((1, 8, 8, 3), 100, "uint8")
    outputs = np.asarray(classify.model.predict_on_batch(pixels))
    if activation == "softmax":
        outputs = np.exp(outputs) / np.exp(outputs).sum()
    np.testing.assert_allclose(classify.of_pixels(pixels), outputs, rtol=1e-5)


@on_one_backend
def test_a_loss_of_binary_cross_entropy_means_independent_classes():
    model = head()
    model.compile(loss=keras.losses.BinaryCrossentropy(from_logits=True))
    assert Classifier(model).activation == "sigmoid"
    assert Classifier(head(), activation="sigmoid").activation == "sigmoid"


@on_one_backend
def test_one_output_tells_two_classes_apart():
    images = np.array([[[[0, 0, 0]]], [[[250, 0, 0]]]], "uint8").repeat(8, 1).repeat(8, 2)
    logits = images[:, 0, 0, 0] * 0.04
    second = 1 / (1 + np.exp(-logits))
    for model in (head(units=1), head(layers.Activation("sigmoid"), units=1)):
        classify = Classifier(model, labels=["cat", "dog"])
        found = classify.probabilities(images)
        np.testing.assert_allclose(found, np.stack([1 - second, second], -1), atol=1e-6)
        assert classify(images)[1][0].name == "dog"
    alone = Classifier(head(units=1), labels=["dog"])
    np.testing.assert_allclose(alone.probabilities(images)[:, 0], second, rtol=1e-5)


class Subclassed(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs, training=False):
        return self.inner(inputs)


@on_one_backend
def test_a_subclassed_model_is_read_by_its_numbers():
    image = np.full((8, 8, 3), 200, "uint8")
    fields = {"transform": EvalTransform(8)}
    softmaxed, plain = head(layers.Softmax()), head()
    expected = softmaxed.predict_on_batch(image[None])[0]
    for inner, activation in ((softmaxed, "none"), (plain, "softmax")):
        classify = Classifier(Subclassed(inner), **fields)
        np.testing.assert_allclose(classify.probabilities(image), expected, rtol=1e-5)
        assert classify.activation == activation and classify.classes == 3
    unclear = Subclassed(head(layers.Activation("sigmoid")))
    with pytest.raises(ValueError, match="Say it with `activation=`"):
        Classifier(unclear, **fields).probabilities(image)
    found = Classifier(unclear, activation="none", **fields).probabilities(image)
    np.testing.assert_allclose(found, unclear.predict_on_batch(image[None])[0], rtol=1e-6)


# ---------------------------------------------------------------- what a model knows


def test_published_weights_are_known_after_saving(model, tmp_path):
    """The model says where its weights are from: its transform and its labels."""
    row = keras_convnext.pretrained.find("convnext_tiny.fb_in1k")
    names = labels.class_names("imagenet1k")
    published = ConvNeXt(SMALL, input_shape=(SIDE, SIDE, 3))
    published.published = row.name
    published.save(tmp_path / "m.keras")
    loaded = keras.saving.load_model(tmp_path / "m.keras")
    assert loaded.published == row.name
    for source in (loaded, tmp_path / "m.keras"):
        classify = Classifier(source)
        assert classify.row == row and classify.names == names
        assert classify.transform == EvalTransform(
            SIDE, row.crop_pct, interpolation="bicubic", upright=True
        )
    backbone = ConvNeXt(SMALL, include_top=False, input_shape=(SIDE, SIDE, 3), pooling="avg")
    backbone.published = (
        "convnext_base.fb_in22k_ft_in1k_384"  # squashed, unlike others of that size
    )
    own = keras.Sequential([keras.Input((SIDE, SIDE, 3)), backbone, layers.Dense(3)])
    assert Classifier(own).transform.resize == "squash" and not Classifier(own).has_names
    assert "published" not in model.get_config()


@on_one_backend
def test_the_address_of_a_published_file_is_known():
    row = named_weights.row_of("hf://timm/convnext_tiny.fb_in1k")
    assert row == keras_convnext.pretrained.find("convnext_tiny.fb_in1k")
    for unknown in ("hf://timm/convnext_tiny.fb_in1k/other.bin", "hf://me/mine"):
        assert named_weights.row_of(unknown) is None
    assert named_weights.row_of("hf://timm/convnext_tiny.fb_in1k", "convnext_base") is None


@on_one_backend
def test_the_folder_of_a_training(model, photos, tmp_path):
    model.save(tmp_path / "best.keras")
    (tmp_path / "classes.json").write_text(json.dumps(NAMES))
    for source in (tmp_path, str(tmp_path / "best.keras")):
        assert Classifier(source).labels == NAMES
    expected = Classifier(model).probabilities(photos)
    np.testing.assert_allclose(Classifier(tmp_path).probabilities(photos), expected, atol=1e-6)


@on_one_backend
def test_the_transform_of_a_training(model, tmp_path):
    model.save(tmp_path / "best.keras")
    file, side = tmp_path / "transform.json", Classifier(model).transform.size
    file.write_text(json.dumps({"size": side, "crop_pct": 1.0, "upright": False}))
    assert Classifier(tmp_path).transform == EvalTransform(side, 1.0)
    turned = Classifier(tmp_path, transform={"upright": True}).transform
    assert turned == EvalTransform(side, 1.0, upright=True)
    squashed = Classifier(tmp_path, transform={"resize": "squash"}).transform
    assert squashed == EvalTransform(side, resize="squash")
    given = EvalTransform(side, 0.5)
    for content in ("", "[]", "{}", '{"size": 0}', '{"size": 8, "code": "x"}', "[" * 100_000):
        file.write_text(content)
        with pytest.raises(ValueError, match="transform.json: is no transform"):
            Classifier(tmp_path)
        assert Classifier(tmp_path, transform=given).transform == given


# ---------------------------------------------------------------- refusals


@on_one_backend
@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda t: Classifier(t), FileNotFoundError, "a folder, and no best.keras is in it"),
        (lambda t: Classifier(t / "a.keras"), FileNotFoundError, "No file '.*a.keras'"),
        (lambda t: Classifier(t / "run"), FileNotFoundError, "written no best.keras yet"),
        (lambda t: Classifier("convnext_tinny"), ValueError, "convnext_tiny"),
        (lambda t: Classifier("convnext_base.clip_laion2b"), ValueError, "a CLIP embedding"),
        (lambda t: Classifier(head(), labels=["a"]), ValueError, "names 1 classes, .* has 3"),
        (lambda t: Classifier(head(), labels="imagenet1k"), ValueError, "names 1000 .* has 3"),
        (lambda t: Classifier(head(), labels="imagenet22k"), ValueError, "are not known here"),
        (lambda t: Classifier(head(), transform={"size": 9}), ValueError, "8 pixels, .* gives 9"),
        (lambda t: Classifier(head(), transform=9), TypeError, "EvalTransform, a dict"),
        (lambda t: Classifier(head(), activation="relu"), ValueError, "`activation` must be one"),
        (lambda t: Classifier(head(), batch_size=0), ValueError, "`batch_size`"),
        (lambda t: Classifier(""), ValueError, "Unknown weights ''"),
        (lambda t: Classifier(head(), variant="convnext_tiny"), ValueError, "omit `variant=`"),
        (lambda t: Classifier(head(), transform={"sise": 8}), TypeError, "`sise`: .* `size`"),
        (lambda t: Classifier(head())(None), TypeError, "`images` .* received NoneType"),
        (lambda t: Classifier(7), TypeError, "a name, a path or a Keras model, received int"),
        (lambda t: Classifier(head())(t), ValueError, "No images in"),
        (lambda t: Classifier(head())([b"x"]), ValueError, r"images\[0\]: Cannot read"),
        (lambda t: Classifier(head())(b"", top=0), ValueError, "`top`"),
    ],
)
def test_what_cannot_be_meant_is_said(tmp_path, make, error, message):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(error, match=message):
        make(tmp_path)


@on_one_backend
def test_models_that_are_no_classifiers_of_images_in_0_to_255():
    plain = {"input_shape": (SIDE, SIDE, 3), "classes": 3}
    for made, message in (
        (ConvNeXt(SMALL, include_top=False, input_shape=(SIDE, SIDE, 3)), "Segmenter"),
        (ConvNeXt(SMALL, include_preprocessing=False, **plain), "include_preprocessing=True"),
        (ConvNeXt(SMALL, classes=3, input_shape=(SIDE, 64, 3)), "square RGB or grey"),
    ):
        with pytest.raises(ValueError, match=message):
            Classifier(made)
    broken = head(layers.Rescaling(float("nan")))
    with pytest.raises(ValueError, match="NaN or infinite outputs"):
        Classifier(broken, activation="none").probabilities(np.zeros((8, 8, 3), "uint8"))


# ---------------------------------------------------------------- as keras.applications


@on_one_backend
@pytest.mark.parametrize(
    ("preds", "top", "message"),
    [
        (np.zeros((1, 10)), 5, r"\(images, 1000\) .* received shape \(1, 10\)"),
        (np.zeros(1000), 5, r"received shape \(1000,\)"),
        (np.full((1, 1000), np.nan), 5, "`preds` has NaN"),
        (np.zeros((1, 1000)), 0, "`top` must be"),
    ],
)
def test_wrong_predictions_are_refused(preds, top, message):
    with pytest.raises(ValueError, match=message):
        labels.decode_predictions(preds, top)


@on_one_backend
def test_preprocess_and_decode_as_keras_applications():
    images = np.random.default_rng(0).uniform(0, 255, (2, 8, 8, 3))
    assert keras_convnext.preprocess_input(images) is images
    preds = np.random.default_rng(1).random((2, 1000)).astype("float32")
    found = keras_convnext.decode_predictions(preds, top=3)
    assert [len(best) for best in found] == [3, 3]
    best = int(preds[1].argmax())
    assert found[1][0] == (*labels.class_names("imagenet1k")[best], float(preds[1].max()))
    with pytest.warns(DeprecationWarning, match="now called `preds=`"):
        assert labels.decode_predictions(probabilities=preds, top=3) == found
