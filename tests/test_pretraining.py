"""The masked autoencoder: what the authors' code computes, what is hidden, `fit`, and its files."""

import dataclasses

import keras
import numpy as np
import pytest
from keras import ops
from safetensors.numpy import load_file, save_file

from keras_convnext import ConvNeXt, Variant
from keras_convnext.pretrained import WeightsError
from keras_convnext.pretrained.saving import in_layout, save_weights
from keras_convnext.pretraining import FCMAE, VisiblePatches, visible_patches
from keras_convnext.pretraining.encoder import masked_stages
from keras_convnext.pretraining.losses import patchify, reconstruction_loss, unpatchify
from tests.backends import BACKEND, numpy, on_one_backend, randomise
from tests.test_golden import GOLDEN

TINY = Variant("tiny", (1, 1, 2, 1), (8, 16, 24, 32), layer_scale=None, grn=True)
SMALL = Variant("small", (1, 1), (8, 16), layer_scale=None, grn=True)  # patches of 8 pixels
FILE = GOLDEN / "fcmae" / "fcmae.npz"
TOLERANCE = 1e-4  # of the largest magnitude: float32, other order of summation


slow_to_compile = () if BACKEND == "torch" else pytest.mark.slow


def with_gradients(model, function):
    """Returns a function of arrays, compiled where the backend compiles, that returns what
    `function` returns beside a loss, and {path: gradient of the loss by a trained weight}."""
    weights = model.trainable_weights

    def tensorflow(*arrays):
        import tensorflow as tf

        with tf.GradientTape() as tape:
            loss, rest = function(*arrays)
        return rest, tape.gradient(loss, [weight.value for weight in weights])

    def torch(*arrays):
        import torch

        loss, rest = function(*arrays)
        return rest, torch.autograd.grad(loss, [weight.value for weight in weights])

    def compiled():
        import jax

        def total(values, *arrays):
            with keras.StatelessScope(list(zip(weights, values, strict=True))):
                return function(*arrays)

        return jax.jit(jax.grad(total, has_aux=True))

    step = compiled() if BACKEND == "jax" else None

    def compute(*arrays):
        if BACKEND == "jax":
            found, rest = step([weight.value for weight in weights], *arrays)
        else:
            rest, found = {"tensorflow": tensorflow, "torch": torch}[BACKEND](*arrays)
        gradients = {w.path: numpy(g) for w, g in zip(weights, found, strict=True)}
        return keras.tree.map_structure(numpy, rest), gradients

    return compute


def close(found, expected, what=""):
    scale = max(np.abs(expected).max(), 1e-6)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE * scale, err_msg=what)


# The authors' code


@pytest.fixture(scope="module")
def golden():
    if not FILE.exists():
        pytest.skip(f"{FILE} is not there")
    with np.load(FILE) as file:
        return dict(file)


@pytest.fixture(scope="module")
def state(golden):
    """Their weights, {name: array}."""
    names = (name.removeprefix("state.") for name in golden if name.startswith("state."))
    return {name: golden[f"state.{name}"] for name in names}


@pytest.fixture(scope="module")
def file(state, tmp_path_factory):
    """A file of their weights, as their training writes it but for its container."""
    path = tmp_path_factory.mktemp("theirs") / "fcmae.safetensors"
    save_file(state, path)
    return path


@pytest.fixture(scope="module")
def theirs(file):
    """The authors' model in our classes."""
    fields = {"include_preprocessing": False, "decoder_width": 24, "grn_over": "batch"}
    return FCMAE(TINY, weights=file, **fields)


@pytest.mark.parametrize("batch", [pytest.param("b1", marks=slow_to_compile), "b2"])
def test_the_authors_model(golden, theirs, batch):
    images, mask = golden[f"{batch}.x"], golden[f"{batch}.mask"].reshape(-1, 3, 3)
    patches = visible_patches(mask, as_one=True)

    def computed(images):
        stages = masked_stages(theirs.encoder, images, patches)
        outputs = theirs(images, patches=patches, training=True)
        loss = theirs.compute_loss(images, None, outputs)
        return loss, ([patches.unpack(stage) for stage in stages], outputs, loss)

    rest, gradients = with_gradients(theirs, computed)(ops.convert_to_tensor(images))
    stages, outputs, loss = rest
    for number, stage in enumerate(stages):
        close(stage, golden[f"{batch}.stage{number}"], f"stage {number}")
    assert (outputs["mask"] == mask).all()
    close(outputs["prediction"], golden[f"{batch}.pred"], "prediction")
    assert float(loss) == pytest.approx(float(golden[f"{batch}.loss"]), rel=TOLERANCE)
    gradients = in_layout(gradients, TINY, "fcmae")
    assert set(gradients) == {name.removeprefix("state.") for name in golden if "state." in name}
    for name, gradient in gradients.items():
        close(gradient, golden[f"{batch}.grad.{name}"], name)


@on_one_backend
def test_grn_over_each_image(golden, theirs):
    """The default: an image comes out alone as among others. The authors' does not."""
    images, mask = golden["b2.x"], golden["b2.mask"].reshape(-1, 3, 3)

    def last(as_one, part):
        patches = visible_patches(mask[part], as_one)
        images_ = ops.convert_to_tensor(images[part])
        return numpy(patches.unpack(masked_stages(theirs.encoder, images_, patches)[-1]))

    both, first = slice(0, 2), slice(0, 1)
    close(last(False, both)[:1], last(False, first))
    close(last(True, first), last(False, first))
    expected = golden["b2.stage3"]
    difference = np.abs(last(False, both) - expected).max() / np.abs(expected).max()
    assert 0.05 < difference < 1


# What is hidden has no influence


@pytest.fixture(scope="module")
def model():
    return randomise(FCMAE(TINY, 0.6, decoder_width=16, seed=1))


IMAGES = np.random.default_rng(0).integers(0, 256, (2, 96, 64, 3)).astype("float32")
MASK = np.array([[[1, 0], [0, 1], [1, 1]], [[0, 1], [1, 1], [0, 1]]])


def changed(images, mask, side):
    """Returns the images with other pixels under the mask, some of them no numbers at all."""
    hidden = mask.repeat(side, 1).repeat(side, 2)[..., None] == 1
    other = np.random.default_rng(1).uniform(-1e3, 1e3, images.shape).astype("float32")
    other[:, ::7] = np.nan
    return np.where(hidden, other, images)


@pytest.mark.parametrize("stem", ["patch", pytest.param("overlap_tiered", marks=slow_to_compile)])
def test_hidden_pixels_have_no_influence(stem):
    """None at all, on outputs and gradients: the difference is exactly zero."""
    scale = None if stem == "patch" else 0.5
    variant = Variant("two", (1, 1), (8, 16), stem=stem, layer_scale=scale, grn=scale is None)
    model = randomise(FCMAE(variant, decoder_width=8))
    images, mask = IMAGES[:, :24, :16], MASK
    patches = visible_patches(mask)

    def computed(images):
        prediction = model(images, patches=patches, training=True)["prediction"]
        return ops.sum(ops.square(prediction)), prediction

    step = with_gradients(model, computed)
    prediction, gradients = step(ops.convert_to_tensor(images))
    other, others = step(ops.convert_to_tensor(changed(images, mask, 8)))
    assert np.isfinite(prediction).all() and np.array_equal(prediction, other)
    for path, gradient in gradients.items():
        assert np.array_equal(gradient, others[path]), path
    assert all(np.abs(gradient).max() > 0 for gradient in gradients.values())


def test_without_a_mask_it_is_the_ordinary_model(model):
    patches = visible_patches(np.zeros_like(MASK))
    last = masked_stages(model.encoder, model.normalized(IMAGES), patches)[-1]
    close(numpy(patches.unpack(last)), numpy(model.encoder(IMAGES)))


def test_packing_and_its_inverse():
    x = np.arange(2 * 6 * 4 * 3, dtype="float32").reshape(2, 6, 4, 3)
    for as_one in (False, True):
        patches = visible_patches(MASK, as_one)
        packed = numpy(patches.pack(ops.convert_to_tensor(x)))
        assert packed.shape == ((1, 8, 2, 3) if as_one else (2, 4, 2, 3))
        assert np.array_equal(packed.reshape(2, 2, 2, 2, 3)[1, 1], x[1, 4:6, 0:2])
        hidden = MASK.repeat(2, 1).repeat(2, 2)[..., None] == 1
        expected = np.where(hidden, 0, x)
        assert np.array_equal(numpy(patches.unpack(patches.pack(x))), expected)
        assert np.array_equal(numpy(patches.hide(x)), expected)


# The loss


def test_the_loss():
    random = np.random.default_rng(0)
    images = random.uniform(size=(2, 4, 6, 3)).astype("float32")
    hidden = np.array([[[True, False, False], [False, False, True]]] * 2)
    prediction = random.normal(size=(2, 2, 3, 12)).astype("float32")
    patch = images[0, 2:4, 4:6].ravel()  # row 1, column 2
    assert np.array_equal(numpy(patchify(images, 2))[0, 1, 2], patch)
    assert np.array_equal(numpy(unpatchify(patchify(images, 2), 2)), images)
    target = numpy(patchify(images, 2)).astype("float64")
    plain = ((prediction - target) ** 2).mean(-1)[hidden].mean()
    found = reconstruction_loss(images, prediction, hidden, normalized=False)
    assert float(found) == pytest.approx(plain, rel=1e-6)
    centred = target - target.mean(-1, keepdims=True)
    target = centred / np.sqrt(target.var(-1, ddof=1, keepdims=True) + 1e-6)
    normal = ((prediction - target) ** 2).mean(-1)[hidden].mean()
    assert float(reconstruction_loss(images, prediction, hidden)) == pytest.approx(normal, rel=1e-5)
    of_each = [
        float(reconstruction_loss(images[i : i + 1], prediction[i : i + 1], hidden[i : i + 1]))
        for i in range(2)
    ]
    found = reconstruction_loss(images, prediction, hidden, weights=np.array([0.0, 3.0]))
    assert float(found) == pytest.approx(1.5 * of_each[1], rel=1e-5)


# fit


def test_fit_and_resume(tmp_path):
    """Masks differ from step to step, the loss falls, and a model that was saved in between goes on
    as if nothing had happened."""
    keras.utils.set_random_seed(0)
    images = np.repeat(IMAGES[:1, :32, :32], 4, 0).astype("uint8")
    model = FCMAE(SMALL, decoder_width=16, seed=3)
    masks = [numpy(model.masks(images, training=True)) for _ in range(2)]
    assert (masks[0] != masks[1]).any() and (masks[0].sum((1, 2)) == 10).all()
    model.compile(keras.optimizers.Adam(1e-3))
    losses = fit(model, images, epochs=3)
    assert losses[-1] < losses[0]
    before = model.evaluate(images, verbose=0)
    assert model.evaluate(images, verbose=0) == before  # the same masks each time
    model.save(tmp_path / "model.keras")
    again = keras.saving.load_model(tmp_path / "model.keras")
    assert again.get_config() == model.get_config()
    last = [fit(trained, images) for trained in (model, again)]
    # TensorFlow adds up in another order each time, unless it is told to be deterministic
    atol = 1e-5 if BACKEND == "tensorflow" else 0
    np.testing.assert_allclose(*last, rtol=atol)
    for weight, other in zip(model.variables, again.variables, strict=True):
        np.testing.assert_allclose(numpy(weight), numpy(other), 0, atol, err_msg=weight.path)


def fit(model, images, **arguments):
    return model.fit(images, batch_size=2, shuffle=False, verbose=0, **arguments).history["loss"]


@pytest.mark.skipif(BACKEND == "jax", reason="the same step as for arrays")
def test_fit_of_a_dataset():
    import tensorflow as tf

    images = np.repeat(IMAGES[:1, :32, :32], 4, 0)
    data = tf.data.Dataset.from_tensor_slices(images).batch(2)
    found = []
    for given in (images, data):
        model = randomise(FCMAE(SMALL, decoder_width=8, seed=3))
        model.compile(keras.optimizers.SGD(1e-3))
        size = {} if given is data else {"batch_size": 2}
        found.append(model.fit(given, shuffle=False, verbose=0, **size))
    losses = [each.history["loss"] for each in found]
    np.testing.assert_allclose(*losses, rtol=1e-5)


@on_one_backend
def test_mixed_precision():
    images = IMAGES[:, :32, :32]
    for policy in ("mixed_bfloat16", "mixed_float16"):
        keras.config.set_dtype_policy(policy)
        try:
            model = FCMAE(SMALL, decoder_width=8, seed=0)
        finally:
            keras.config.set_dtype_policy("float32")
        outputs = model(images)
        assert keras.backend.standardize_dtype(outputs["prediction"].dtype) == "float32"
        assert model.encoder.get_layer("stage0_block0").compute_dtype == policy[6:]
        model.compile("adam")
        assert np.isfinite(fit(model, images)).all()
        assert all(np.isfinite(numpy(weight)).all() for weight in model.weights)


@on_one_backend
def test_labels_losses_and_weights(model):
    outputs = model(IMAGES)
    with pytest.warns(UserWarning, match="learns without labels: those of the data are ignored"):
        labelled = model.compute_loss(IMAGES, np.zeros(2), outputs)
    assert float(labelled) == float(model.compute_loss(IMAGES, None, outputs))
    other = FCMAE(TINY, decoder_width=8)
    other.compile("adam", loss="mse")
    with pytest.raises(ValueError, match="compile it with an optimizer alone"):
        other.fit(IMAGES, verbose=0)


# Files


@on_one_backend
def test_their_file_and_ours(theirs, state, file, tmp_path):
    """What is written is what was read, to the bit, and the encoder alone goes both ways too."""
    save_weights(theirs, TINY, tmp_path / "ours.safetensors", "fcmae")
    written = load_file(tmp_path / "ours.safetensors")
    assert written.keys() == state.keys()
    for name, array in state.items():
        assert np.array_equal(written[name], array), name
    save_weights(theirs.encoder, TINY, tmp_path / "encoder.safetensors", "fcmae")
    written = load_file(tmp_path / "encoder.safetensors")
    assert written.keys() == {name for name in state if name.startswith("encoder.")}
    for path in (file, tmp_path / "encoder.safetensors"):
        model = ConvNeXt(TINY, include_top=False, include_preprocessing=False, weights=path)
        pairs = zip(model.weights, theirs.encoder.weights, strict=True)
        assert all(np.array_equal(numpy(a), numpy(b)) for a, b in pairs)
    model = FCMAE(TINY, decoder_width=24, weights=tmp_path / "encoder.safetensors")
    assert np.array_equal(numpy(model.encoder.weights[0]), numpy(theirs.encoder.weights[0]))
    with pytest.raises(ValueError, match="`layout='official'` writes classifiers"):
        save_weights(ConvNeXt(TINY, classes=3), TINY, tmp_path / "no.safetensors", "fcmae")


@on_one_backend
def test_a_damaged_file_of_theirs(state, tmp_path):
    path = tmp_path / "file.safetensors"
    kernel = "encoder.stages.0.0.dwconv.kernel"
    for change, message in (
        ({kernel: state[kernel][:48]}, "shape: encoder.stages.0.0.dwconv.weight is"),
        ({"mask_token": state["mask_token"] * np.nan}, "not finite: mask_token"),
        ({"decoder.1.dwconv.bias": np.zeros(24, "float32")}, "unused: decoder.1.dwconv.bias"),
    ):
        save_file({**state, **change}, path)
        with pytest.raises(WeightsError, match=message):
            FCMAE(TINY, decoder_width=24, weights=path)
    save_file({n: a for n, a in state.items() if n != "pred.bias"}, path)
    with pytest.raises(WeightsError, match="missing: pred.bias for decoder/pred/bias"):
        FCMAE(TINY, decoder_width=24, weights=path)


@pytest.mark.parametrize("grn", [True, False])
def test_the_encoder_goes_on_as_a_classifier(tmp_path, grn):
    variant = Variant("tiny", (1, 1), (8, 16), layer_scale=None if grn else 1e-6, grn=grn)
    model = randomise(FCMAE(variant, decoder_width=8))
    path = tmp_path / "mine.weights.h5"
    model.encoder.save_weights(path)
    features = ConvNeXt(variant, include_top=False, weights=path)
    close(numpy(features(IMAGES)), numpy(model.encoder(IMAGES)))
    classifier = ConvNeXt(variant, classes=5, weights=path, input_shape=(96, 64, 3))
    block = "stage1_block0"
    kernels = [m.get_layer(block).pwconv1.kernel for m in (classifier, model.encoder)]
    assert np.array_equal(*map(numpy, kernels))
    np.testing.assert_allclose(numpy(classifier(IMAGES)).sum(-1), 1, rtol=1e-5)


@on_one_backend
@pytest.mark.parametrize("grn", [True, False])
@pytest.mark.parametrize("suffix", [".weights.h5", ".keras"])
def test_a_whole_model_is_a_file_of_weights(tmp_path, grn, suffix):
    variant = dataclasses.replace(SMALL, layer_scale=None if grn else 0.5, grn=grn)
    model = randomise(FCMAE(variant, decoder_width=8))
    path = tmp_path / f"whole{suffix}"
    (model.save if suffix == ".keras" else model.save_weights)(path)
    again = FCMAE(variant, decoder_width=8, weights=path)
    pairs = zip(model.weights, again.weights, strict=True)
    assert all(np.array_equal(numpy(a), numpy(b)) for a, b in pairs)
    classifier = ConvNeXt(variant, classes=5, weights=path)
    kernels = [m.get_layer("stage1_block0").pwconv1.kernel for m in (classifier, model.encoder)]
    assert np.array_equal(*map(numpy, kernels))


# Pictures


@pytest.mark.parametrize("normalize", [True, False])
def test_reconstructions(normalize):
    model = randomise(FCMAE(TINY, decoder_width=8, normalize_targets=normalize))
    picture = model.reconstructions(IMAGES, MASK)
    size = model.patch_size
    assert picture.dtype == "uint8" and picture.shape[2] == 3
    times = 3  # 96 pixels are enlarged to at least 256
    height = len(picture) - 2 * 96 * times - 4  # of the headings
    headings = picture[:height]
    assert 24 <= height <= 48 and (headings[0] == 255).all() and (headings[:, 192:196] == 255).all()
    for start in (0, 196, 392):  # each has one, in the middle
        dark = np.flatnonzero((headings[:, start : start + 192, 0] < 128).any(0))
        assert dark.size > 20 and abs(dark[0] + dark[-1] - 192) <= 4
    first = picture[height : height + 96 * times]
    parts = [first[::times, start : start + 64 * times : times] for start in (0, 196, 392)]
    assert np.array_equal(parts[0], IMAGES[0].astype("uint8"))
    assert (parts[1][:size, :size] == 127).all()
    visible = np.s_[:size, size:]
    assert np.array_equal(parts[1][visible], parts[0][visible])
    assert np.array_equal(parts[2][visible], parts[0][visible])
    assert (parts[2][:size, :size] != parts[0][:size, :size]).any()


def test_a_perfect_prediction_is_the_original():
    from keras_convnext.pretraining import pictures

    model = FCMAE(TINY, decoder_width=8)
    normalized = model.normalized(IMAGES)
    target = patchify(normalized, 32)
    mean, deviation = pictures.moments(target)
    found = model.pixels(pictures._predicted(model, normalized, (target - mean) / deviation))
    np.testing.assert_allclose(found, IMAGES, atol=0.05)


# Bad input


@on_one_backend
@pytest.mark.parametrize("ratio", [0, 1, -0.5, 2, float("nan"), "half"])
def test_mask_ratios_outside_of_0_and_1(ratio):
    with pytest.raises(ValueError, match="`mask_ratio` must be"):
        FCMAE(TINY, ratio)


@on_one_backend
def test_wrong_arguments():
    for arguments, message in (
        ({"grn_over": "images"}, "`grn_over` must be one of"),
        ({"decoder_depth": 0}, "`decoder_depth` must be"),
        ({"decoder_width": 1.5}, "`decoder_width` must be"),
        ({"channels": 0}, "`channels` must be"),
        ({"stem_stride": 3}, "`stem_stride` must be"),
    ):
        with pytest.raises(ValueError, match=message):
            FCMAE(TINY, **arguments)
    with pytest.raises(ValueError, match="Nearest: 'convnextv2_atto'"):
        FCMAE("convnextv2_ato")
    with pytest.raises(TypeError, match="`variant` must be the name"):
        FCMAE(3)


@on_one_backend
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((2, 100, 96, 3), "must be multiples of 32, received 100 x 96. Crop or resize"),
        ((2, 32, 32, 3), "leaves none of the 1 patches of 32 x 32 pixels visible"),
        ((2, 96, 96, 1), "received an array of shape \\(2, 96, 96, 1\\).*`channels=`"),
        ((96, 96, 3), "takes images \\(batch, height, width, 3\\)"),
    ],
)
def test_wrong_images(model, shape, message):
    with pytest.raises(ValueError, match=message):
        model(np.zeros(shape, "float32"))


@on_one_backend
@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (np.zeros((2, 9)), "must be \\(batch, rows, columns\\)"),
        (np.full((2, 3, 3), 2), "of 0 and 1"),
        (np.array([[[0, 1], [1, 1]], [[0, 0], [1, 1]]]), "leaves 1 to 2"),
        (np.ones((1, 2, 2)), "at least one"),
    ],
)
def test_wrong_masks(mask, message):
    with pytest.raises(ValueError, match=message):
        visible_patches(mask)


@on_one_backend
def test_a_mask_of_another_size(model):
    with pytest.raises(ValueError, match="have 3 x 2 patches, received a mask of 2 x 3"):
        model(IMAGES, patches=visible_patches(MASK.swapaxes(1, 2)))


@on_one_backend
def test_the_number_of_visible_patches():
    model = FCMAE(TINY, 0.9, decoder_width=8)
    assert model.masks.visible(10) == 1  # and not 0, as in floating-point numbers
    assert FCMAE(TINY, 0.6, decoder_width=8).masks.visible(49) == 19
    assert model.mask_ratio == 0.9 and model.patch_size == 32


@on_one_backend
def test_grey_and_small_images():
    model = FCMAE(TINY, channels=1, stem_stride=1, decoder_width=8)
    assert model.patch_size == 8
    outputs = model(np.zeros((2, 32, 32, 1), "float32"))
    assert outputs["prediction"].shape == (2, 4, 4, 64)
    assert (numpy(outputs["mask"]).sum((1, 2)) == 10).all()
    assert model.reconstructions(np.zeros((1, 32, 32, 1))).shape[2] == 3
    assert isinstance(VisiblePatches(outputs["mask"], 6), VisiblePatches)
