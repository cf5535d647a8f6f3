"""Maps of what a model looks at, against numbers calculated by hand."""

import keras
import numpy as np
import pytest
from PIL import Image

from keras_convnext import ConvNeXt, Variant, interpret, pictures, roadmap
from tests.backends import compiles_long, numpy, on_one_backend, randomise
from tests.test_roadmap import SMALL, positive_variances

VARIANT = Variant("small", (1, 1), (6, 12), layer_scale=None)
CLASSES = 4
layers = keras.layers


def images(count=2, height=32, width=24, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (count, height, width, 3), "uint8")


@pytest.fixture(scope="module")
def model():
    arguments = {"input_shape": (None, None, 3), "classes": CLASSES}
    return randomise(ConvNeXt(VARIANT, **arguments), scale=0.3)


def linear(activation="softmax"):
    """A classifier whose logits are weighted sums over the pixels of a 1x1 convolution."""
    image = keras.Input((5, 4, 3))
    x = layers.Conv2D(6, 1, name="features")(image)
    x = layers.GlobalAveragePooling2D()(x)
    return randomise(
        keras.Model(image, layers.Dense(CLASSES, activation=activation, name="head")(x))
    )


@pytest.mark.parametrize(
    ("activation", "classes"), [(None, None), ("softmax", 2), ("sigmoid", [3, 0])]
)
def test_grad_cam_of_a_linear_classifier(activation, classes):
    """There the gradient is the row of the head, and the map its product with the features."""
    model, x = linear(activation), images(2, 5, 4).astype("float32")
    conv, head = model.get_layer("features"), model.get_layer("head")
    features = x @ conv.get_weights()[0][0, 0] + conv.get_weights()[1]
    kernel, bias = head.get_weights()
    best = (features.mean((1, 2)) @ kernel + bias).argmax(-1)
    chosen = best if classes is None else np.broadcast_to(classes, 2)
    expected = np.maximum((features * kernel.T[chosen][:, None, None]).sum(-1), 0)
    expected /= np.maximum(expected.max((1, 2), keepdims=True), 1e-12)
    found = interpret.grad_cam(model, x, "features", classes)
    assert found.dtype == "float32"
    np.testing.assert_allclose(found, expected, atol=1e-4)


@on_one_backend
def test_grad_cam_does_not_fade_where_the_model_is_certain():
    model, x = linear("softmax"), images(2, 5, 4).astype("float32")
    expected = interpret.grad_cam(model, x, "features", 1)
    head = model.get_layer("head")
    kernel, bias = head.get_weights()
    head.set_weights([kernel, bias + 100 * np.eye(CLASSES)[1]])
    np.testing.assert_allclose(interpret.grad_cam(model, x, "features", 1), expected, atol=1e-5)


@pytest.mark.parametrize("layer", ["stage0_block0", None])
def test_maps_of_a_convnext(model, layer):
    side = (4, 3) if layer is None else (8, 6)
    before = numpy(model(images()))
    grad = interpret.grad_cam(model, images(), layer)
    eigen = interpret.eigen_cam(model, images(), layer)
    for maps in (grad, eigen):
        assert maps.shape == (2, *side) and maps.dtype == "float32"
        assert maps.min() >= 0 and maps.max() <= 1
    assert eigen.max((1, 2)).tolist() == [1, 1]
    np.testing.assert_array_equal(numpy(model(images())), before)


def test_grad_cam_is_the_gradient(model):
    """By finite differences in the head, which is smooth."""
    last = model.get_layer("stage1_block0").output
    features = numpy(keras.Model(model.input, last)(images(1))).astype("float64")
    rest = keras.Model(last, model.get_layer("head").input)
    kernel = model.get_layer("head").get_weights()[0][:, 2]
    channels, step = features.shape[-1], 1e-2
    # every channel moved as a whole: the sum of its gradients over the map
    moved = features + step * np.concatenate([np.eye(channels), -np.eye(channels)])[:, None, None]
    logits = numpy(rest(moved.astype("float32"))) @ kernel
    weights = (logits[:channels] - logits[channels:]) / (2 * step)
    expected = np.maximum((features[0] * weights).sum(-1), 0)
    found = interpret.grad_cam(model, images(1), classes=2)[0]
    np.testing.assert_allclose(found, expected / expected.max(), atol=0.01)


@on_one_backend
def test_eigen_cam_finds_what_stands_out():
    image = keras.Input((6, 5, 2))
    model = keras.Model(image, layers.Activation("linear", name="same")(image))
    x = np.zeros((1, 6, 5, 2), "float32")
    x[0, 1:3, 2:4] = [3, -4]
    expected = (x[0, ..., 0] > 0).astype("float32")
    np.testing.assert_allclose(interpret.eigen_cam(model, x)[0], expected, atol=1e-6)


def test_the_receptive_field_of_one_convolution():
    """It is the kernel's magnitudes, in the middle."""
    image = keras.Input((9, 9, 2))
    model = keras.Model(image, layers.Conv2D(3, 5, padding="same", name="conv")(image))
    randomise(model)
    kernel = np.abs(model.get_weights()[0].sum(-1)).sum(-1)
    expected = np.zeros((9, 9), "float32")
    expected[2:7, 2:7] = kernel / kernel.max()
    x = np.ones((3, 9, 9, 2), "float32")
    found = interpret.effective_receptive_field(model, x)
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_the_receptive_field_of_a_block_is_bounded(model):
    """The first block sees 7 x 7 patches of 4 x 4 pixels."""
    field = interpret.effective_receptive_field(model, images(1, 64, 64), "stage0_block0")
    rows, columns = (np.flatnonzero(field.any(axis)) for axis in (1, 0))
    middle = 8 * 4
    assert (rows[0], rows[-1]) == (columns[0], columns[-1]) == (middle - 12, middle + 15)


@on_one_backend
def test_under_channels_first():
    model = randomise(ConvNeXt(VARIANT, input_shape=(None, None, 3), classes=CLASSES))
    expected = interpret.effective_receptive_field(model, images(), "stage0_block0")
    keras.config.set_image_data_format("channels_first")
    try:
        first = ConvNeXt(VARIANT, input_shape=(3, None, None), classes=CLASSES)
        first.set_weights(model.get_weights())
        x = images().transpose(0, 3, 1, 2)
        found = interpret.effective_receptive_field(first, x, "stage0_block0")
        maps = interpret.grad_cam(first, x)
    finally:
        keras.config.set_image_data_format("channels_last")
    np.testing.assert_allclose(found, expected, atol=1e-4)
    np.testing.assert_allclose(maps, interpret.grad_cam(model, images()), atol=1e-4)


@on_one_backend
def test_under_mixed_precision():
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        model = randomise(ConvNeXt(VARIANT, input_shape=(32, 24, 3), classes=CLASSES))
    finally:
        keras.config.set_dtype_policy(before)
    assert interpret.grad_cam(model, images()).dtype == "float32"
    assert interpret.eigen_cam(model, images()).dtype == "float32"


@on_one_backend
def test_layers_that_begin_with_the_name_of_their_model_are_found():
    named = ConvNeXt(VARIANT, name="mine", input_shape=(32, 24, 3), classes=CLASSES)
    for layer in (None, "stage1_block0", "mine__stage1_block0"):
        assert interpret.layer_of(named, layer).name == "mine__stage1_block0"
    kernels = interpret.depthwise_kernels(named, "stage0_block0")
    assert kernels.shape == (6, 7, 7)


class Subclassed(keras.Model):
    def __init__(self, inner):
        super().__init__()
        self.inner = inner

    def call(self, inputs):
        return self.inner(inputs)


def nested(model, kind):
    """The model as a layer of another one, as in transfer learning."""
    if kind == "subclassed":
        return Subclassed(model)
    if kind == "sequential":
        return keras.Sequential([keras.Input((32, 24, 3)), model, layers.Dropout(0.5)])
    image = keras.Input((32, 24, 3))
    return keras.Model(image, keras.Sequential([model])(layers.Identity()(image)))


@compiles_long
@pytest.mark.parametrize("kind", ["sequential", "functional", "subclassed"])
def test_a_model_inside_of_another_is_looked_at_as_itself(model, kind):
    whole, x = nested(model, kind), images()
    for layer in (None, "stage0_block0"):
        expected = interpret.grad_cam(model, x, layer)
        np.testing.assert_allclose(interpret.grad_cam(whole, x, layer), expected, atol=1e-5)
    np.testing.assert_allclose(
        interpret.eigen_cam(whole, x), interpret.eigen_cam(model, x), atol=1e-5
    )
    field = interpret.effective_receptive_field(model, x, "stage0_block0")
    found = interpret.effective_receptive_field(whole, x, "stage0_block0")
    np.testing.assert_allclose(found, field, atol=1e-5)
    np.testing.assert_array_equal(
        interpret.depthwise_kernels(whole), interpret.depthwise_kernels(model)
    )


@on_one_backend
@pytest.mark.parametrize("end", ["sigmoid", "linear", "layer", "operation"])
def test_one_output_speaks_for_class_1_and_against_class_0(end):
    image = keras.Input((5, 4, 3))
    x = layers.GlobalAveragePooling2D()(layers.Conv2D(6, 1, name="features")(image))
    x = layers.Dense(1, activation=end if end in ("sigmoid", "linear") else None)(x)
    ends = {"layer": layers.Activation("sigmoid"), "operation": keras.ops.sigmoid}
    model = randomise(keras.Model(image, ends.get(end, lambda x: x)(x)), scale=3)
    x = images(2, 5, 4).astype("float32")
    features = numpy(keras.Model(image, model.get_layer("features").output)(x))
    weights = model.get_weights()[2][:, 0]  # large: behind a sigmoid the gradient would vanish
    for target, sign in ((1, 1), (0, -1)):
        expected = np.maximum(sign * (features @ weights), 0)
        expected /= np.maximum(expected.max((1, 2), keepdims=True), 1e-9)
        found = interpret.grad_cam(model, x, "features", target)
        np.testing.assert_allclose(found, expected, atol=1e-4)
    logits = (features @ weights).mean((1, 2)) + model.get_weights()[3]
    np.testing.assert_array_equal(
        interpret.grad_cam(model, x, "features"),
        interpret.grad_cam(model, x, "features", (logits > 0).astype(int)),
    )
    with pytest.raises(ValueError, match="from 0 to 1"):
        interpret.grad_cam(model, x, "features", 2)


@on_one_backend
def test_a_layer_that_is_not_called_or_gives_no_map_is_named(model):
    class Partly(Subclassed):
        def __init__(self, inner):
            super().__init__(inner)
            self.unused = layers.Conv2D(3, 1, name="unused")
            self.flat = layers.Flatten(name="flat")

        def call(self, inputs):
            return self.flat(self.inner(inputs))

    with pytest.raises(ValueError, match="does not call its layer 'unused'"):
        interpret.eigen_cam(Partly(model), images(), "unused")
    with pytest.raises(ValueError, match=r"The output of flat is of shape \(2, 4\)"):
        interpret.eigen_cam(Partly(model), images(), "flat")
    maps = keras.Model(model.input, model.get_layer("stage0_block0").output)
    with pytest.raises(ValueError, match="classifier with one output"):
        interpret.grad_cam(maps, images())


@on_one_backend
def test_on_a_step_of_the_roadmap():
    model = roadmap.build("depthwise", SMALL, input_shape=(16, 16, 3), classes=3)
    positive_variances(randomise(model))
    assert interpret.layer_of(model, None).name == "stage1_block0"
    assert interpret.grad_cam(model, images(1, 16, 16)).shape == (1, 2, 2)
    assert interpret.eigen_cam(model, images(1, 16, 16), "stage0_block0_conv2").shape == (1, 4, 4)
    assert interpret.depthwise_kernels(model, "stage0_block0_conv2").shape == (5, 3, 3)
    assert interpret.depthwise_kernels(model).shape == (10, 3, 3)


@on_one_backend
def test_a_layer_that_is_bypassed_names_its_block():
    model = roadmap.build("depthwise", SMALL, input_shape=(16, 16, 3), classes=3)
    for inner, block in (("stage1_block0_conv2", "stage1_block0"), ("beside", "sum")):
        with pytest.raises(ValueError, match=f"{inner} is bypassed by .* its block, '{block}'"):
            interpret.grad_cam(model, images(1, 16, 16), inner)
        x = layers.Conv2D(3, 1, name="beside")(image := keras.Input((16, 16, 3)))
        x = layers.GlobalAveragePooling2D()(layers.Add(name="sum")([x, image]))
        model = keras.Model(image, layers.Dense(CLASSES)(x))


@on_one_backend
@pytest.mark.parametrize("step", ["depthwise", "gelu", "resnet"])
def test_what_has_no_kernels_says_what_has(step):
    """A block of the roadmap is a sum or an activation, whose convolution has a name of its own."""
    model = roadmap.build(step, SMALL, input_shape=(16, 16, 3), classes=3)
    with pytest.raises(ValueError, match=r"'stage0_block0'\. It has (.+)\.") as caught:
        interpret.depthwise_kernels(model, "stage0_block0")
    names = str(caught.value).split("It has ")[1].rstrip(".").split(", ")
    if step == "resnet":
        assert names == ["none such"]
        return
    kernels = [interpret.depthwise_kernels(model, name) for name in names]
    np.testing.assert_array_equal(interpret.depthwise_kernels(model), kernels[-1])


# ---------------------------------------------------------------- pictures


@on_one_backend
def test_kernels_and_their_sheet(model):
    kernels = interpret.depthwise_kernels(model, "stage1_block0")
    weights = numpy(model.get_layer("stage1_block0").dwconv.kernel)
    assert kernels.shape == (12, 7, 7)
    np.testing.assert_array_equal(kernels[3], weights[:, :, 3, 0])
    sheet = pictures.kernel_sheet(kernels, columns=5, scale=2)
    assert sheet.shape == (3 * 16, 5 * 16, 3) and sheet.dtype == "uint8"
    row, column = np.unravel_index(kernels[6].argmax(), (7, 7))
    red, _, blue = sheet[16 + 2 * row, 16 + 2 * column]
    assert red > blue or kernels[6].max() < -kernels[6].min() / 3
    assert (sheet[-3, -3] == 60).all()  # 12 kernels leave three places


@on_one_backend
@pytest.mark.parametrize("channels", [(3,), (1,), ()])
def test_an_overlay_keeps_what_is_cold(channels):
    image = np.random.default_rng(0).integers(0, 256, (20, 30, *channels), "uint8")
    cold = pictures.overlay(image, np.zeros((4, 6)))
    expected = image.reshape(20, 30, -1)
    assert cold.dtype == "uint8"
    np.testing.assert_array_equal(cold, np.broadcast_to(expected, (20, 30, 3)))
    hot = pictures.overlay(image, np.ones((4, 6)), opacity=1)
    assert (hot == hot[0, 0]).all()


@on_one_backend
def test_pictures_are_saved(tmp_path):
    field = np.geomspace(1e-6, 1, 12).reshape(3, 4)
    picture = pictures.side_by_side(pictures.field_picture(field), np.zeros((3, 4)), least=7)
    assert picture.shape == (9, 12 + 4 + 12, 3)
    pictures.save_png(picture, tmp_path / "field.png")
    with Image.open(tmp_path / "field.png") as file:
        np.testing.assert_array_equal(np.asarray(file), picture)
    with pytest.raises(ValueError, match=r"end in \.png"):
        pictures.save_png(picture, tmp_path / "field.jpg")


@on_one_backend
@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: interpret.grad_cam(m, images()[0]), "4 axes"),
        (lambda m: interpret.grad_cam(m, images(), "stage9_block0"), "It has .*stage1_block0"),
        (lambda m: interpret.grad_cam(m, images(), "head"), "no layer 'head' with an output"),
        (lambda m: interpret.grad_cam(m, images(), None, 4), "from 0 to 3"),
        (lambda m: interpret.grad_cam(m, images(), None, [1]), "one int per image"),
        (lambda m: interpret.grad_cam(m, images(), None, 1.5), "one int per image"),
        (lambda m: interpret.depthwise_kernels(m, "stem"), "'stem'. It has .*stage1_block0"),
    ],
)
def test_what_is_wrong_is_said(model, call, message):
    with pytest.raises(ValueError, match=message):
        call(model)


@on_one_backend
def test_the_pictures_old_names_say_the_new_ones():
    with pytest.warns(DeprecationWarning, match="keras_convnext.pictures.overlay"):
        assert interpret.overlay is pictures.overlay
    with pytest.raises(AttributeError, match="no attribute 'colors'"):
        _ = interpret.colors
