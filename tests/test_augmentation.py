"""The training augmentations against the peers' pictures, Pillow, their distributions and numpy."""

import dataclasses
import functools
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest
from PIL import Image, ImageEnhance, ImageOps
from PIL.Image import Resampling, Transform

from keras_convnext import ConvNeXt, Variant
from keras_convnext.augmentation import (
    KerasCV,
    NoAugmentation,
    PaperAugmentation,
    augmented,
    crop,
    mix_and_erase,
    mixing,
    rand_augment,
    train_step,
)
from keras_convnext.augmentation import operations as op
from keras_convnext.augmentation.rand_augment import OPERATIONS, RandAugment
from keras_convnext.augmentation.resampling import changed, from_pillow, resize, to_pillow
from tests.backends import BACKEND, numpy, on_one_backend

GOLDEN = Path(
    os.environ.get("KERAS_CONVNEXT_GOLDEN", Path(__file__).parents[2] / "shared" / "golden")
)
needs_golden = pytest.mark.skipif(not GOLDEN.exists(), reason=f"{GOLDEN} is absent")
# tf.data runs the same graph whatever the backend is
RNG = np.random.default_rng(0)
FILL = (124, 116, 104)
SMALL = Variant("small", (1, 1), (8, 16))
SHIFTS = {"ShearX", "ShearY", "TranslateX", "TranslateY"}


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN / "training.npz") as arrays:
        return {key: arrays[key] for key in arrays if key.startswith(("ra/", "mix/"))}


def picture(height=375, width=500, channels=3):
    """Smooth shapes, a little noise, flat areas at both ends of the range."""
    rows, columns = np.mgrid[:height, :width].astype("float32")
    waves = [np.sin(rows / (7 + 5 * c)) + np.cos(columns / (11 + 3 * c)) for c in range(channels)]
    image = 128 + 90 * np.stack(waves, -1) + RNG.normal(0, 5, (height, width, channels))
    return np.clip(image, 0, 255).astype("uint8")


def encoded(image, kind, mode="RGB", **options):
    buffer = io.BytesIO()
    Image.fromarray(image).convert(mode).save(buffer, kind, **options)
    return buffer.getvalue()


def difference(a, b):
    return np.abs(np.asarray(a).astype(int) - np.asarray(b).astype(int))


# ---------------------------------------------------------------- RandAugment's operations


def applied(name, image, level, sign):
    fill = FILL if image.shape[-1] == 3 else FILL[0]
    return from_pillow(OPERATIONS[name](to_pillow(image), level / 10, sign, fill))


@on_one_backend
@needs_golden
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_gives_the_peers_pixels(golden, name):
    (key,) = {
        key.split("/")[2]
        for key in golden
        if re.fullmatch(rf"ra/0/{name}(Increasing|Rel)?/pos", key)
    }
    for photo in "01":
        for sign, end in ((1.0, "pos"), (-1.0, "neg")):
            ours = applied(name, golden[f"ra/{photo}/input"], 9, sign)
            gap = difference(ours, golden[f"ra/{photo}/{key}/{end}"])
            if name in SHIFTS:
                # Pillow interpolates in double precision and cuts off: where the exact value is
                # next to an integer, float32 may fall on its other side
                assert gap.max() <= 1 and (gap > 0).mean() < 1e-3
            else:
                assert not gap.any()


def pillow(name, image, level, sign):
    """The operation by Pillow itself, from the definitions of the levels."""
    s, size = level / 10, image.size
    affine = {
        "ShearX": (1, 0.3 * sign * s, 0, 0, 1, 0),
        "ShearY": (1, 0, 0, 0.3 * sign * s, 1, 0),
        "TranslateX": (1, 0, 0.45 * sign * s * size[0], 0, 1, 0),
        "TranslateY": (1, 0, 0, 0, 1, 0.45 * sign * s * size[1]),
    }
    fill = FILL if image.mode == "RGB" else FILL[0]
    if name in affine:
        return image.transform(
            size, Transform.AFFINE, affine[name], Resampling.BICUBIC, fillcolor=fill
        )
    if name == "Rotate":
        return image.rotate(30 * sign * s, Resampling.BICUBIC, fillcolor=fill)
    if name in ("Color", "Contrast", "Brightness", "Sharpness"):
        return getattr(ImageEnhance, name)(image).enhance(1 + 0.9 * sign * s)
    plain = {
        "AutoContrast": ImageOps.autocontrast,
        "Equalize": ImageOps.equalize,
        "Invert": ImageOps.invert,
        "Posterize": lambda x: ImageOps.posterize(x, max(1, 4 - int(4 * s))),
        "Solarize": lambda x: ImageOps.solarize(x, 256 - int(256 * s)),
        "SolarizeAdd": lambda x: x.point(lambda v: v + int(110 * s) if v < 128 else v),
    }
    return plain[name](image)


@on_one_backend
@pytest.mark.parametrize("channels", (1, 3))
@pytest.mark.parametrize("name", OPERATIONS)
def test_an_operation_is_pillows_at_any_level_and_shape(name, channels):
    photo = picture(40, 56, channels)
    flat = np.full((24, 32, channels), 77, "uint8")
    for image in (photo, flat):
        reference = Image.fromarray(image if channels == 3 else image[..., 0])
        for level, sign in ((0.0, 1.0), (3.7, -1.0), (10.0, 1.0)):
            theirs = np.array(pillow(name, reference, level, sign)).reshape(image.shape)
            gap = difference(applied(name, image, level, sign), theirs)
            assert gap.max() <= (name in SHIFTS)
            assert (gap > 0).mean() < 5e-3


@on_one_backend
def test_posterizing_keeps_one_bit_at_least():
    image = picture(16, 16)
    for bits in (1, 0, -1):
        np.testing.assert_array_equal(op.posterize(to_pillow(image), bits), image & 128)


@on_one_backend
def test_two_of_fifteen_operations_are_drawn_with_equal_chances(monkeypatch):
    """What is changed is a tally of what was applied."""
    names = list(OPERATIONS)
    one = np.eye(len(names), dtype=int)
    tally = {name: lambda x, s, sign, fill, i=i: x + one[i] for i, name in enumerate(names)}
    monkeypatch.setattr(rand_augment, "OPERATIONS", tally)
    policy = RandAugment.parse("rand-m9-mstd0.5-inc1")
    counts = 8000
    empty = np.zeros(len(names), int)
    drawn = np.stack([policy(empty, u, FILL) for u in RNG.random((counts, policy.draws))])
    # 2 x 0.5 applied in the mean; each count is binomial, 5 standard deviations allowed
    assert drawn.sum() == pytest.approx(counts, abs=5 * (2 * counts * 0.25) ** 0.5)
    np.testing.assert_allclose(drawn.sum(0), counts / 15, atol=5 * (counts / 15) ** 0.5)
    assert drawn.max() == 2  # with replacement
    np.testing.assert_allclose(np.bincount(drawn.sum(1)) / counts, (0.25, 0.5, 0.25), atol=0.03)


@on_one_backend
def test_levels_are_normal_around_the_magnitude_and_cut_off(monkeypatch):
    note = {"Note": lambda image, strength, sign, fill: (10 * strength, sign)}
    monkeypatch.setattr(rand_augment, "OPERATIONS", note)
    policy = RandAugment(magnitude=9, deviation=0.5, count=1, probability=1)
    levels, signs = np.transpose([policy(None, u, FILL) for u in RNG.random((4000, 5))])
    assert levels.max() == 10 and levels.min() > 6.5
    # cut off at 10, two standard deviations above: -0.5 * 0.0085
    assert levels.mean() == pytest.approx(8.996, abs=0.04)
    assert levels.std() == pytest.approx(0.49, abs=0.04)
    assert (signs > 0).mean() == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize(
    "text",
    ["", "rand", "rand-m9", "rand-m9-inc0", "rand-m9-inc1-x3", "m9-inc1", 9, "rand-m9-mstd-inc1"],
)
def test_an_unknown_policy_says_how_one_is_written(text):
    with pytest.raises(ValueError, match="rand-m9-mstd0.5-inc1"):
        RandAugment.parse(text)


def test_the_notation_of_a_policy_is_read():
    assert RandAugment.parse("rand-m9-mstd0.5-inc1") == RandAugment(9, 0.5, 2, 0.5)
    assert RandAugment.parse("rand-n3-m7-inc1-p1-mstd0") == RandAugment(7, 0, 3, 1)
    with pytest.raises(ValueError, match=re.escape("`m` must be a number in [0, 10], received 11")):
        RandAugment.parse("rand-m11-inc1")


# ---------------------------------------------------------------- crops


@on_one_backend
@pytest.mark.parametrize("channels", (1, 2, 3))
@pytest.mark.parametrize("shape", [(375, 500), (300, 90), (50, 40), (64, 64), (1, 7)])
def test_resizing_is_pillows(shape, channels):
    image = picture(*shape, channels)
    ours = changed(lambda x: resize(x, 64), image)
    planes = [Image.fromarray(image[..., c]) for c in range(channels)]
    theirs = [np.array(plane.resize((64, 64), Resampling.BICUBIC)) for plane in planes]
    np.testing.assert_array_equal(ours, np.stack(theirs, -1))


@on_one_backend
def test_crops_have_the_areas_and_ratios_of_the_recipe():
    def boxes(height, width):
        uniform = RNG.random((4000, crop.DRAWS))
        draws = [crop.random_box(height, width, u, (0.08, 1.0), (3 / 4, 4 / 3)) for u in uniform]
        return np.transpose(draws)

    top, left, height, width = boxes(400, 400)
    assert top.min() == left.min() == 0
    assert (top + height).max() == (left + width).max() == 400
    area, ratio = height * width / 400**2, width / height
    assert 0.079 < area.min() and area.max() <= 1
    assert 0.74 < ratio.min() and ratio.max() < 1.35
    assert np.log(ratio).mean() == pytest.approx(0, abs=0.02)
    # every target up to 3/4 fits whatever its ratio is: uniform there
    share, _ = np.histogram(area, bins=[0.08, 0.2, 0.32, 0.44, 0.56, 0.68])
    assert share.std() / share.mean() < 0.1
    _, left, height, width = boxes(10, 400)  # nothing fits often: then the centre
    assert height.max() == 10 and width.max() <= 14 and 193 in left


@on_one_backend
def test_padding_takes_every_place_of_the_framed_image(tf):
    image = np.arange(1, 17, dtype="uint8").reshape(4, 4, 1)
    framed = np.pad(image, [(1, 1), (1, 1), (0, 0)])
    places = {framed[y : y + 4, x : x + 4].tobytes() for y in range(3) for x in range(3)}
    augment = PaperAugmentation(4, 2, channels=1, padding=1, flip=0, rand_augment=None)
    images = many(tf, augment, [image] * 200)
    assert {found.tobytes() for found in images} == places


@functools.cache
def traced(augment):
    """`augment.image`, traced once however many datasets use it."""
    import tensorflow as tf

    return tf.function(augment.image)


def many(tf, augment, images, seed=7, epoch=0, first=0, threads=1):
    """Returns the images augmented with the keys `(seed, epoch, first + i)`"""
    images = tf.data.Dataset.from_tensor_slices(images).enumerate(first)
    key = lambda i: tf.stack([tf.constant(seed, tf.int64), epoch, i])  # noqa: E731
    images = images.map(lambda i, x: traced(augment)(x, key(i)), num_parallel_calls=threads)
    return list(images.as_numpy_iterator())


@on_one_backend
def test_half_of_the_images_are_mirrored(tf):
    image = np.zeros((8, 8, 1), "uint8")
    image[:, 0] = 255
    augment = PaperAugmentation(
        8, 2, channels=1, crop_scale=(1, 1), crop_ratio=(1, 1), rand_augment=None, flip=0.3
    )
    found = many(tf, augment, [image] * 2000)
    assert {x.tobytes() for x in found} == {image.tobytes(), image[:, ::-1].tobytes()}
    assert np.mean([x[0, 0, 0] == 0 for x in found]) == pytest.approx(0.3, abs=0.05)


# ---------------------------------------------------------------- statelessness


@on_one_backend
def test_images_are_a_function_of_seed_epoch_and_index(tf):
    augment = PaperAugmentation(32, 10)
    files = [encoded(picture(60, 80), "JPEG") for _ in range(24)]
    images = many(tf, augment, files)
    for other in (many(tf, augment, files), many(tf, augment, files, threads=4)):
        np.testing.assert_array_equal(images, other)
    np.testing.assert_array_equal(images[9:], many(tf, augment, files[9:], first=9))
    for key in ({"seed": 8}, {"epoch": 1}, {"first": 24}):
        others = many(tf, augment, files, **key)
        assert not any(np.array_equal(a, b) for a, b in zip(images, others, strict=True))


@on_one_backend
def test_batches_are_a_function_of_seed_epoch_and_step(tf):
    augment = PaperAugmentation(32, 10)
    draw = lambda *key: drawn(tf, augment, 16, key)  # noqa: E731
    for name, values in draw(1, 2, 3).items():
        np.testing.assert_array_equal(values, draw(1, 2, 3)[name])
    keys = [draw(*key)["noise_key"] for key in ((1, 2, 3), (0, 2, 3), (1, 1, 3), (1, 2, 4))]
    assert len({key.tobytes() for key in keys}) == 4


def drawn(tf, augment, size, key):
    """Returns the inputs of a black batch, as numpy arrays."""
    shape = (size, augment.image_size, augment.image_size, augment.channels)
    images, labels = tf.zeros(shape, tf.uint8), tf.zeros(size, tf.int64)
    inputs, _, _ = augment.batch(images, labels, None, tf.constant(key, tf.int64))
    return {name: value.numpy() for name, value in inputs.items()}


# ---------------------------------------------------------------- erasing and mixing


@on_one_backend
def test_a_quarter_of_the_images_is_erased(tf):
    boxes = drawn(tf, PaperAugmentation(224, 2, channels=1), 8000, (0, 0, 0))["erase"]
    top, left, bottom, right = boxes[boxes[:, 2] > 0].T
    assert len(top) / 8000 == pytest.approx(0.25, abs=0.025)
    assert (top >= 0).all() and (left >= 0).all() and max(bottom.max(), right.max()) <= 224
    area, aspect = (bottom - top) * (right - left) / 224**2, (bottom - top) / (right - left)
    assert 0.019 < area.min() and area.max() < 0.34
    assert area.mean() == pytest.approx((0.02 + 1 / 3) / 2, abs=0.01)
    assert 0.28 < aspect.min() and aspect.max() < 3.5
    assert np.log(aspect).mean() == pytest.approx(0, abs=0.06)
    none = drawn(tf, PaperAugmentation(8, 2, erase=0), 50, (0, 0, 0))["erase"]
    assert not none.any()


@on_one_backend
def test_one_lambda_of_mixup_or_cutmix_for_each_batch(tf):
    augment = PaperAugmentation(32, 2)
    mix = mixing.Mixing(0.8, 1.0, 1.0, 0.5)
    steps = tf.data.Dataset.range(2000).map(lambda step: mix.draw(32, (0, 0, step)))
    blend, box = next(steps.batch(2000).as_numpy_iterator())
    share, target = blend.T
    area = (box[:, 2] - box[:, 0]) * (box[:, 3] - box[:, 1]) / 32**2
    cut = share == 1
    assert cut.mean() == pytest.approx(0.5, abs=0.05)
    np.testing.assert_allclose(target[cut], 1 - area[cut], atol=1e-6)  # the real box
    np.testing.assert_allclose(target[~cut], share[~cut])
    assert not box[~cut].any()
    # Beta(0.8, 0.8): mean 1/2, variance 1 / (4 * 2.6)
    assert share[~cut].mean() == pytest.approx(0.5, abs=0.04)
    assert share[~cut].var() == pytest.approx(1 / 10.4, abs=0.015)
    inputs = drawn(tf, augment, 6, (0, 0, 5))
    for name in ("blend", "cut", "noise_mean", "noise_std"):
        assert (inputs[name] == inputs[name][0]).all()


@on_one_backend
def test_what_is_switched_off_does_not_happen(tf):
    def kinds(**options):
        draws = [
            drawn(tf, PaperAugmentation(16, 2, **options), 1, (0, 0, step)) for step in range(12)
        ]
        return {
            "none" if d["blend"][0, 1] == 1 else "cut" if d["blend"][0, 0] == 1 else "mixup"
            for d in draws
        }

    assert kinds(cutmix=0) == {"mixup"}
    assert kinds(mixup=0, switch=0) <= {"cut", "none"}
    assert kinds(mixup=0, cutmix=0) == kinds(mix_probability=0) == {"none"}


def inputs_of(image, **parameters):
    """A batch with nothing to do but `parameters`."""
    count, *_, channels = image.shape
    inputs = {
        "image": image,
        "erase": np.zeros((count, 4), "int32"),
        "noise_key": np.stack([np.arange(count), np.arange(count) ** 2], 1).astype("int32"),
        "noise_mean": np.full((count, channels), 100, "float32"),
        "noise_std": np.full((count, channels), 50, "float32"),
        "cut": np.zeros((count, 4), "int32"),
        "blend": np.ones((count, 2), "float32"),
    }
    return {**inputs, **parameters}


def mixed(inputs, targets):
    tensors = {name: keras.ops.convert_to_tensor(value) for name, value in inputs.items()}
    return [numpy(x) for x in mix_and_erase(tensors, keras.ops.convert_to_tensor(targets))]


@needs_golden
def test_mixed_targets_are_the_peers(tf, golden):
    labels = golden["mix/labels"]
    targets = PaperAugmentation(8, 5).targets(labels).numpy()
    blend = np.full((4, 2), 0.7, "float32")
    _, soft = mixed(inputs_of(np.zeros((4, 8, 8, 3), "uint8"), blend=blend), targets)
    np.testing.assert_allclose(soft, golden["mix/target_lam0.7_smooth0.1"], atol=1e-6)


def hashed(key, count):
    """The noise's hash once more, in numpy's unsigned arithmetic."""
    x = np.arange(count, dtype="uint32") + np.uint32(key[0])
    x = (x ^ (x >> 16)) * np.uint32(0x7FEB352D) + np.uint32(key[1])
    return (x ^ (x >> 15)) * np.uint32(2**32 - 0x7B935975)


def reference_noise(key, shape):
    from statistics import NormalDist

    uniform = ((hashed(key, np.prod(shape)) >> 9) + 0.5) / 2**23
    return np.vectorize(NormalDist().inv_cdf)(uniform).reshape(shape)


def test_the_device_step_is_what_numpy_computes():
    """The same numbers on every backend, erasing before mixing."""
    image = RNG.integers(0, 256, (4, 6, 10, 3), dtype="uint8")
    erase = np.array([[0, 0, 3, 4], [0, 0, 0, 0], [1, 2, 6, 10], [5, 9, 6, 10]], "int32")
    cut, blend = np.tile([[1, 3, 4, 8]], (4, 1)).astype("int32"), np.full((4, 2), (0.6, 0.3), "f4")
    inputs = inputs_of(image, erase=erase, cut=cut, blend=blend)
    targets = np.eye(4, dtype="float32")
    ours, soft = mixed(inputs, targets)
    expected = image.astype("float64")
    for i, (top, left, bottom, right) in enumerate(erase):
        noise = 100 + 50 * reference_noise(inputs["noise_key"][i], image.shape[1:])
        expected[i, top:bottom, left:right] = noise[top:bottom, left:right]
    partners = expected[::-1]
    expected = 0.6 * expected + 0.4 * partners
    expected[:, 1:4, 3:8] = partners[:, 1:4, 3:8]
    np.testing.assert_allclose(ours, expected, atol=2e-3)  # erfinv in float32
    np.testing.assert_allclose(soft, 0.3 * targets + 0.7 * targets[::-1], atol=1e-6)
    assert ours.dtype == soft.dtype == np.float32


def test_a_batch_without_anything_drawn_stays():
    image, targets = RNG.integers(0, 256, (3, 5, 5, 1), dtype="uint8"), np.eye(3, dtype="float32")
    ours, soft = mixed(inputs_of(image), targets)
    np.testing.assert_array_equal(ours, image)
    np.testing.assert_array_equal(soft, targets)


def test_noise_is_normal_and_independent():
    keys = RNG.integers(-(2**31), 2**31, (64, 2)).astype("int32")
    keys[1] = keys[0] + (1, 0)  # neighbouring keys
    noise = numpy(train_step.normal_noise(keras.ops.convert_to_tensor(keys), (32, 32, 3)))
    flat = noise.reshape(64, -1)
    n = noise.size
    assert abs(noise.mean()) < 5 / n**0.5
    assert noise.var() == pytest.approx(1, abs=5 * (2 / n) ** 0.5)
    assert (noise**4).mean() == pytest.approx(3, abs=5 * (96 / n) ** 0.5)
    assert np.isfinite(noise).all() and 3.8 < np.abs(noise).max() < 5.5
    for axis in (1, 2, 3):  # neighbours in rows, columns and channels
        a, b = np.split(np.take(noise, [0, 1], axis), 2, axis)
        assert abs((a * b).mean()) < 5 / a.size**0.5
    between = np.corrcoef(flat) - np.eye(64)
    assert np.abs(between).max() < 6 / flat.shape[1] ** 0.5


def test_noise_does_not_depend_on_how_the_batch_is_divided():
    keys = RNG.integers(0, 2**31, (4, 2)).astype("int32")
    whole = numpy(train_step.normal_noise(keras.ops.convert_to_tensor(keys), (5, 7, 3)))
    half = numpy(train_step.normal_noise(keras.ops.convert_to_tensor(keys[2:]), (5, 7, 3)))
    np.testing.assert_array_equal(whole[2:], half)


# ---------------------------------------------------------------- sources


SOURCES = {
    "jpeg": lambda x: encoded(x, "JPEG", quality=100, subsampling=0),
    "grey jpeg": lambda x: encoded(x, "JPEG", "L", quality=100),
    "cmyk jpeg": lambda x: encoded(x, "JPEG", "CMYK", quality=100),
    "progressive": lambda x: encoded(x, "JPEG", progressive=True, quality=100),
    "png": lambda x: encoded(x, "PNG"),
    "rgba png": lambda x: encoded(x, "PNG", "RGBA"),
    "palette png": lambda x: encoded(x, "PNG", "P"),
    "grey png": lambda x: encoded(x, "PNG", "L"),
    "webp": lambda x: encoded(x, "WEBP", lossless=True),
    "gif": lambda x: encoded(x, "GIF"),
    "bmp": lambda x: encoded(x, "BMP"),
}


@on_one_backend
@pytest.mark.parametrize("channels", (3, 1))
@pytest.mark.parametrize("kind", SOURCES)
def test_any_kind_of_file(tf, kind, channels):
    """The whole image as the crop, so that Pillow says what must come out."""
    data = SOURCES[kind](picture(48, 48))
    options = {"crop_scale": (1, 1), "crop_ratio": (1, 1), "flip": 0, "rand_augment": None}
    (ours,) = many(tf, PaperAugmentation(48, 2, channels=channels, **options), [data])
    assert ours.shape == (48, 48, channels)
    with Image.open(io.BytesIO(data)) as image:
        theirs = np.array(image.convert("RGB").convert("L" if channels == 1 else "RGB"))
    assert difference(ours, theirs.reshape(ours.shape)).max() <= 2  # two versions of libjpeg
    (plain,) = many(tf, NoAugmentation(48, 2, channels=channels), [data])
    np.testing.assert_array_equal(plain, ours)


@on_one_backend
def test_float_images_are_rounded(tf):
    image = np.array([[0.4, 0.6], [255.0, -3.0]], "float32")[..., None]
    (found,) = many(tf, NoAugmentation(2, 2, channels=1), [image])
    np.testing.assert_array_equal(found[..., 0], [[0, 1], [255, 0]])


@on_one_backend
def test_a_crop_of_a_jpeg_is_the_crop_of_its_pixels(tf):
    data = encoded(picture(), "JPEG", quality=95)
    box = lambda height, width: (37, 101, 150, 211)  # noqa: E731
    ours = crop.cropped(tf.constant(data), 3, box).numpy()
    theirs = np.array(Image.open(io.BytesIO(data)).crop((101, 37, 312, 187)))
    gap = difference(ours, theirs)
    assert gap[1:-1, 1:-1].max() <= 2  # colours at the border are interpolated without neighbours


@on_one_backend
def test_what_is_no_image_is_refused(tf):
    augment = PaperAugmentation(8, 2)
    with pytest.raises(tf.errors.InvalidArgumentError):
        many(tf, augment, [b"no image at all"])
    with pytest.raises(ValueError, match=r"shape \(h, w, 3\), received \(8, 8, 1\)"):
        augment.image(tf.zeros((8, 8, 1), tf.uint8), (0, 0, 0))
    with pytest.raises(ValueError, match="uint8, or float in"):
        augment.image(tf.zeros((8, 8, 3), tf.int32), (0, 0, 0))
    with pytest.raises(ValueError, match="pass arrays"):
        PaperAugmentation(8, 2, channels=4, rand_augment=None).image(
            tf.constant(encoded(picture(9, 9), "PNG")), (0, 0, 0)
        )
    small = PaperAugmentation(32, 2, padding=2)
    with pytest.raises(tf.errors.InvalidArgumentError, match="smaller than `image_size` = 32"):
        small.image(tf.zeros((8, 8, 3), tf.uint8), (0, 0, 0))


@on_one_backend
def test_four_channels_as_arrays(tf):
    augment = PaperAugmentation(8, 2, channels=4, rand_augment=None)
    (image,) = many(tf, augment, [picture(20, 30, 4)])
    assert image.shape == (8, 8, 4)
    assert drawn(tf, augment, 2, (0, 0, 0))["noise_mean"].shape == (2, 4)


# ---------------------------------------------------------------- options


@on_one_backend
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"image_size": 0}, "`image_size` must be an integer >= 1, received 0"),
        ({"classes": 2.0}, "`classes` must be an integer >= 1, received 2.0"),
        ({"channels": True}, "`channels` must be an integer"),
        ({"channels": 5}, "defined for 1 or 3 channels"),
        ({"padding": -1}, "`padding` must be an integer >= 0"),
        ({"mean": (124.0, 116.0, 104.0)}, "Divide values of range [0, 255] by 255"),
        ({"std": ()}, "`std` must hold one number per channel"),
        ({"crop_scale": (0, 1)}, "0 < a <= b <= 1, received (0, 1)"),
        ({"crop_ratio": (2, 1)}, "`crop_ratio` must be two numbers"),
        ({"flip": 1.5}, "`flip` must be a number in [0, 1], received 1.5"),
        ({"erase": float("nan")}, "`erase` must be a number in [0, 1]"),
        ({"mixup": -0.1}, "`mixup` must be a number >= 0, received -0.1. 0 switches it off."),
        ({"cutmix": None}, "`cutmix` must be a number >= 0"),
        ({"mix_probability": 2}, "`mix_probability`"),
        ({"switch": "half"}, "`switch`"),
        ({"label_smoothing": -1}, "`label_smoothing`"),
        ({"rand_augment": "rand-m9"}, "rand-m9-mstd0.5-inc1"),
    ],
)
def test_an_option_out_of_range_is_refused_in_a_sentence(options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        PaperAugmentation(**{"image_size": 8, "classes": 2, **options})


@on_one_backend
def test_without_keras_cv_the_error_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "keras_cv", None)
    with pytest.raises(ImportError, match=re.escape('pip install "keras_convnext[keras-cv]"')):
        KerasCV(8, 2)


def test_both_kinds_have_the_same_options():
    names = [
        [field.name for field in dataclasses.fields(kind)] for kind in (PaperAugmentation, KerasCV)
    ]
    assert names[0] == names[1]


# ---------------------------------------------------------------- training


def batches(tf, augment, images, size=4):
    """Returns a dataset of two batches as `fit` takes them, with sample weights."""
    labels = tf.range(len(images), dtype=tf.int64) % augment.classes
    weights = tf.linspace(0.5, 1.5, len(images))
    key = lambda place: tf.stack([tf.constant(3, tf.int64), 0, place])  # noqa: E731
    dataset = tf.data.Dataset.from_tensor_slices((images, labels, weights)).enumerate()
    dataset = dataset.map(lambda i, x: (traced(augment)(x[0], key(i)), *x[1:]))
    dataset = dataset.batch(size, drop_remainder=True).enumerate()
    return dataset.map(lambda step, x: augment.batch(*x, key(step)))


def photos(count=8):
    return [picture(40, 50) for _ in range(count)]


def small_model(**compiled):
    keras.utils.set_random_seed(0)
    model = augmented(ConvNeXt(SMALL, input_shape=(32, 32, 3), classes=5))
    loss = keras.losses.CategoricalCrossentropy()
    model.compile(keras.optimizers.SGD(0.1), loss, weighted_metrics=["accuracy"], **compiled)
    return model


@pytest.mark.parametrize("kind", (PaperAugmentation, KerasCV, NoAugmentation))
def test_fit_takes_the_batches(tf, kind):
    if kind is KerasCV:
        pytest.importorskip("keras_cv")
    model = small_model()
    before = [numpy(weight) for weight in model.trainable_weights]
    history = model.fit(batches(tf, kind(32, 5), photos()), epochs=1, verbose=0).history
    assert np.isfinite(history["loss"][0])
    after = [numpy(weight) for weight in model.trainable_weights]
    assert any(np.abs(a - b).max() > 1e-4 for a, b in zip(before, after, strict=True))


def test_fit_computes_the_loss_of_the_mixed_batch(tf):
    """One step of plain SGD, against the same step on what `mix_and_erase` returns."""
    dataset = batches(tf, PaperAugmentation(32, 5, erase=1.0), photos(4))
    ((inputs, targets, weights),) = dataset.as_numpy_iterator()
    images, soft = mixed(inputs, targets)
    ours, plain = small_model(), small_model()
    ours.fit(dataset, verbose=0)
    plain.train_on_batch(images, soft, weights)
    for a, b in zip(ours.weights, plain.weights, strict=True):
        np.testing.assert_allclose(numpy(a), numpy(b), atol=1e-5, err_msg=a.path)


def test_the_weights_are_shared_and_plain_images_pass(tf):
    model = ConvNeXt(SMALL, input_shape=(32, 32, 3), classes=5)
    training = augmented(model)
    assert [a is b for a, b in zip(model.weights, training.weights, strict=True)]
    assert training.name == model.name
    images = np.stack([picture(32, 32) for _ in range(2)])
    np.testing.assert_allclose(
        training.predict(images, verbose=0), model.predict(images, verbose=0), atol=1e-6
    )
    ((inputs, *_),) = batches(tf, PaperAugmentation(32, 5), photos(4)).as_numpy_iterator()
    np.testing.assert_allclose(
        numpy(training(inputs)), model.predict(inputs["image"], verbose=0), atol=1e-6
    )


def test_mixed_precision(tf):
    policy = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_bfloat16")
    try:
        history = (
            small_model().fit(batches(tf, PaperAugmentation(32, 5), photos()), verbose=0).history
        )
    finally:
        keras.config.set_dtype_policy(policy)
    assert np.isfinite(history["loss"][0])


@pytest.mark.skipif(BACKEND != "tensorflow", reason="XLA by request is TensorFlow's")
def test_fit_compiled_by_xla(tf):
    dataset = batches(tf, PaperAugmentation(32, 5), photos())
    losses = [
        small_model(jit_compile=jit).fit(dataset, verbose=0).history["loss"][0]
        for jit in (True, False)
    ]
    np.testing.assert_allclose(*losses, rtol=1e-4)


MIRRORED = """
import keras, numpy as np, tensorflow as tf
from keras_convnext import ConvNeXt
from keras_convnext.augmentation import PaperAugmentation
from tests import test_augmentation as t
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
with tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"]).scope():
    model = t.small_model(jit_compile=False)
data = t.batches(tf, PaperAugmentation(32, 5, rand_augment=None), t.photos())
history = model.fit(data, verbose=0).history
assert np.isfinite(history["loss"][0]), history
"""


@pytest.mark.slow
@pytest.mark.skipif(BACKEND != "tensorflow", reason="a strategy of TensorFlow")
def test_fit_on_two_devices():
    """In a process of its own: devices are divided before TensorFlow starts."""
    root = Path(__file__).parents[1]
    command = [sys.executable, "-c", MIRRORED]
    done = subprocess.run(command, cwd=root, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
