"""The evaluation transform against the references' crops, every kind of image, and bad input."""

import dataclasses
import io
import os
import random
import subprocess
import sys
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from keras_convnext import preprocessing
from keras_convnext.images import ImageError, images_in, load_image
from keras_convnext.preprocessing import EvalTransform, tf_decode
from keras_convnext.segmentation.masks import read_mask
from training.data.images import problem

SHARED = Path(__file__).resolve().parents[2] / "shared"
GOLDEN = Path(os.environ.get("KERAS_CONVNEXT_GOLDEN", SHARED / "golden"))
PIPELINE = GOLDEN / "eval_pipeline.npz"
TRANSFORMS = {
    "224": EvalTransform(224, crop_pct=0.875),
    "288": EvalTransform(288),
    "384": EvalTransform(384, resize="squash"),
}
RNG = np.random.default_rng(0)
NOISE = RNG.integers(0, 256, (37, 61, 3), dtype=np.uint8)


def golden_names():
    if not PIPELINE.exists() and "KERAS_CONVNEXT_GOLDEN" not in os.environ:
        return []  # a folder that was asked for must be there
    with np.load(PIPELINE) as arrays:
        return sorted({key.rpartition("/")[0] for key in arrays})


NAMES = golden_names()
needs_golden = pytest.mark.skipif(not NAMES, reason=f"{PIPELINE} is absent")


@pytest.fixture(scope="module")
def crops():
    with np.load(PIPELINE) as arrays:
        return {key: arrays[key] for key in arrays if key.rpartition("/")[2] in TRANSFORMS}


@pytest.fixture(scope="module")
def tf():
    return pytest.importorskip("tensorflow")


def photo(name):
    return (GOLDEN / "photos" / name).read_bytes()


def encoded(image, fmt, **options):
    buffer = io.BytesIO()
    image.save(buffer, fmt, **options)
    return buffer.getvalue()


ROOMS = ("keras_convnext", "training", "weights")


def noise_image(mode="RGB"):
    return Image.fromarray(NOISE).convert(mode)


# ---------------------------------------------------------------- the exact form


@needs_golden
@pytest.mark.parametrize("key", TRANSFORMS)
@pytest.mark.parametrize("name", NAMES)
def test_equals_the_reference_bit_for_bit(crops, name, key):
    result = TRANSFORMS[key](photo(name))
    assert result.dtype == np.uint8
    np.testing.assert_array_equal(result, crops[f"{name}/{key}"])


@needs_golden
def test_bytes_path_image_and_array_give_the_same():
    transform, name = TRANSFORMS["224"], NAMES[0]
    path = GOLDEN / "photos" / name
    image = Image.open(path).convert("RGB")
    expected = transform(photo(name))
    for source in (path, str(path), bytearray(photo(name)), image, np.asarray(image)):
        np.testing.assert_array_equal(transform(source), expected)
    batch = transform.batch([path, image])
    assert batch.shape == (2, 224, 224, 3)
    assert batch.dtype == np.uint8
    np.testing.assert_array_equal(batch, [expected, expected])


@pytest.mark.skipif(int(Image.__version__.split(".")[0]) < 13, reason="Pillow 13 changed the order")
def test_the_order_of_the_axes_is_pillows():
    sizes = random.Random(0)
    for _ in range(200):
        old, new = ([sizes.randint(1, 90) for _ in range(2)] for _ in range(2))
        image = Image.fromarray(RNG.integers(0, 256, (old[1], old[0], 3), dtype=np.uint8))
        for resample in preprocessing.FILTERS.values():
            expected = np.asarray(image.resize(new, resample))
            result = np.asarray(preprocessing._resample(image, *new, resample))
            np.testing.assert_array_equal(result, expected, err_msg=f"{old} to {new}")


@pytest.mark.parametrize("width, height", [(30, 40), (40, 30), (30, 31), (31, 30), (51, 100)])
def test_torchvisions_geometry(width, height):
    """Long side cut down to an integer, centre rounded half to even; written out the long way."""
    image = Image.fromarray(RNG.integers(0, 256, (height, width, 3), dtype=np.uint8))
    long = int(19 * max(width, height) / min(width, height))
    size = (19, long) if width < height else (long, 19)
    left, top = (int(round((side - 16) / 2.0)) for side in size)
    expected = np.asarray(image.resize(size, Image.Resampling.BILINEAR))
    result = EvalTransform(16, resize_size=19, interpolation="bilinear")(image)
    np.testing.assert_array_equal(result, expected[top : top + 16, left : left + 16])


def test_borders_are_black_where_the_crop_is_larger_than_the_image():
    white = Image.new("RGB", (20, 10), "white")
    result = EvalTransform(13, resize_size=10)(white)  # 10 rows, 1 before and 2 after
    expected = np.zeros((13, 13, 3), np.uint8)
    expected[1:11] = 255
    np.testing.assert_array_equal(result, expected)


def test_an_image_of_one_pixel():
    for transform in TRANSFORMS.values():
        result = transform(np.full((1, 1, 3), (1, 2, 3), np.uint8))
        assert result.shape == (transform.size, transform.size, 3)
        assert (result == (1, 2, 3)).all()
    assert EvalTransform(1)(NOISE).shape == (1, 1, 3)


@pytest.mark.parametrize(
    "arguments, short_side",
    [
        (dict(size=224, crop_pct=0.875), 256),
        (dict(size=288, crop_pct=0.95), 303),
        (dict(size=224, crop_pct=0.965), 232),
        (dict(size=224), 224),
        (dict(size=224, crop_pct=1.0), 224),
        (dict(size=224, resize_size=236), 236),
    ],
)
def test_short_side(arguments, short_side):
    transform = EvalTransform(**arguments)
    assert transform.short_side == short_side
    assert transform._resized(500, 1000) == (short_side, 2 * short_side)


def test_an_empty_batch_and_a_batch_array():
    transform = EvalTransform(16)
    assert transform.batch([]).shape == (0, 16, 16, 3)
    np.testing.assert_array_equal(transform.batch(NOISE[None])[0], transform(NOISE))


def test_is_a_value():
    assert EvalTransform(224) == EvalTransform(224)
    assert len({EvalTransform(224), EvalTransform(224), EvalTransform(288)}) == 2
    with pytest.raises(dataclasses.FrozenInstanceError):
        EvalTransform(224).size = 1


# ---------------------------------------------------------------- every kind of image

MODES = ["1", "L", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "HSV", "I", "F", "LA", "RGBX"]


@pytest.mark.parametrize("mode", MODES)
def test_pil_modes(mode):
    image = noise_image("RGB" if mode in ("RGBX", "LAB") else mode)
    image = Image.new("LAB", (61, 37), (100, 120, 130)) if mode == "LAB" else image.convert(mode)
    before = image.tobytes()
    loaded = load_image(image)
    assert (loaded.mode, loaded.size) == ("RGB", (61, 37))
    np.testing.assert_array_equal(np.asarray(loaded), np.asarray(image.convert("RGB")))
    assert image.tobytes() == before


def test_premultiplied_grey():
    grey = noise_image("L")
    image = Image.merge("LA", (grey, Image.new("L", grey.size, 255))).convert("La")
    np.testing.assert_array_equal(np.asarray(load_image(image))[..., 0], np.asarray(grey))


@pytest.mark.parametrize("mode", ["I;16", "I;16B", "I", "F"])
def test_more_than_eight_bits_are_clipped_as_in_the_reference(mode):
    values = np.array([[0, 7, 255, 256, 9999]], "i4")
    dtypes = {"I;16": "<u2", "I;16B": ">u2", "I": "i4", "F": "f4"}
    image = Image.frombytes(mode, (5, 1), values.astype(dtypes[mode]).tobytes())
    with pytest.warns(UserWarning, match="values above 255, which become white.*divide them by"):
        loaded = load_image(image)
    assert np.asarray(loaded)[0].tolist() == [[v] * 3 for v in (0, 7, 255, 255, 255)]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load_image(Image.frombytes(mode, (3, 1), values[:, :3].astype(dtypes[mode]).tobytes()))


def palette_with_transparency():
    image = noise_image().quantize(64)
    image.info["transparency"] = bytes(10)
    return image


@pytest.mark.parametrize("fmt", ["PNG", "GIF"])
def test_transparent_palettes_keep_their_colours_without_a_warning(fmt):
    image = palette_with_transparency()
    options = {"transparency": 3} if fmt == "GIF" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loaded = load_image(encoded(image, fmt, **options))
        again = load_image(image)
    del image.info["transparency"]
    for result in (loaded, again):
        np.testing.assert_array_equal(np.asarray(result), np.asarray(image.convert("RGB")))


def test_transparency_is_dropped_and_not_blended():
    pixel = np.array([[[10, 20, 30, 0]]], np.uint8)
    for source in (pixel, Image.fromarray(pixel), encoded(Image.fromarray(pixel), "PNG")):
        assert np.asarray(load_image(source)).tolist() == [[[10, 20, 30]]]
    assert Image.fromarray(pixel).info.get("transparency") is None


def test_the_callers_image_keeps_its_transparency():
    image = palette_with_transparency()
    load_image(image)
    assert image.info["transparency"] == bytes(10)


def test_the_first_frame_of_an_animation():
    frames = [Image.new("RGB", (4, 3), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "PNG", save_all=True, append_images=frames[1:])
    assert load_image(data).getpixel((0, 0)) == (255, 0, 0)


@pytest.mark.parametrize("fmt", ["JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"])
def test_file_formats(fmt):
    data = encoded(noise_image(), fmt)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    np.testing.assert_array_equal(np.asarray(load_image(memoryview(data))), expected)


@pytest.mark.parametrize(
    "array, expected",
    [
        (NOISE, NOISE),
        (NOISE[::-1, ::2], NOISE[::-1, ::2]),  # not contiguous
        (NOISE[..., 0], np.repeat(NOISE[..., :1], 3, -1)),
        (NOISE[..., :1], np.repeat(NOISE[..., :1], 3, -1)),
        (np.concatenate([NOISE, NOISE[..., :1]], -1), NOISE),
        (NOISE.astype("float16"), NOISE),
        (np.minimum(NOISE, 254) + 0.4, np.minimum(NOISE, 254)),
        (np.array([[0.5, 1.5, 2.51]]), np.repeat([[[0], [2], [3]]], 3, -1)),
        (np.array([[0.0, 1.0]]), np.repeat([[[0], [1]]], 3, -1)),
    ],
)
def test_arrays(array, expected):
    np.testing.assert_array_equal(np.asarray(load_image(array)), expected)


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "array, message",
    [
        (np.zeros((2, 3, 4, 3), np.uint8), r"shape \(2, 3, 4, 3\).*\(H, W, 3\).*batch"),
        (np.zeros(5, np.uint8), r"shape must be \(H, W\)"),
        (np.zeros((5, 5, 2), np.uint8), r"shape \(5, 5, 2\)"),
        (np.zeros((5, 0, 3), np.uint8), "no pixels"),
        (np.zeros((5, 5, 0), np.uint8), "shape must be"),
        (np.zeros((5, 5), np.int64), "dtype int64.*must be uint8.*astype"),
        (np.zeros((5, 5), bool), "must be uint8"),
        (np.array([[1.0, np.nan]]), "NaN or infinite"),
        (np.array([[1.0, np.inf]]), "NaN or infinite"),
        (np.array([[-1.5, 200.0]]), r"from -1.5 to 200, allowed is \[0, 255\].*clip"),
        (np.array([[0.0, 256.0]]), r"allowed is \[0, 255\]"),
        (np.array([[0.25, 1.0]]), r"look like the range \[0, 1\].*Multiply the array by 255"),
    ],
)
def test_bad_arrays(array, message):
    with pytest.raises(ImageError, match=message):
        load_image(array)


def bad_png_sizes():
    """A PNG whose header promises 60000 x 60000 pixels."""
    data = bytearray(encoded(noise_image(), "PNG"))
    data[16:24] = (60000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    return bytes(data)


def tiff(pixels):
    return encoded(Image.fromarray(pixels), "TIFF")


@pytest.mark.parametrize(
    "pixels, message",
    [
        (np.linspace(0, 1, 64, dtype="float32").reshape(8, 8), r"mode F.* the range \[0, 1\]"),
        (np.linspace(-1, 1, 64, dtype="float32").reshape(8, 8), r"from -1 to 1, allowed is"),
        (np.full((8, 8), np.nan, "float32"), "NaN or infinite"),
        (np.full((8, 8), -5, "int32"), r"mode I: values from -5 to -5, allowed is \[0, 255\]"),
    ],
)
def test_files_and_pil_images_keep_the_rules_of_arrays(pixels, message):
    """They would be black pictures."""
    for source in (tiff(pixels), Image.fromarray(pixels)):
        with pytest.raises(ImageError, match=message):
            load_image(source)


def test_a_file_of_floats_in_0_to_255_is_an_image():
    found = np.asarray(load_image(tiff(NOISE[..., 0].astype("float32"))))
    np.testing.assert_array_equal(found, NOISE[..., :1].repeat(3, -1))


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"


@pytest.mark.skipif(os.name != "posix", reason="needs a shell")
def test_no_image_starts_a_program(tmp_path, monkeypatch):
    """Pillow would run Ghostscript on PostScript, whatever the file's name."""
    ghostscript, trace = tmp_path / "gs", tmp_path / "was_run"
    ghostscript.write_text(f"#!/bin/sh\ntouch {trace}\nexit 1\n")
    ghostscript.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    file = tmp_path / "cat.jpg"
    file.write_bytes(POSTSCRIPT)
    for source in (file, POSTSCRIPT):
        with pytest.raises(ImageError, match="one of the formats JPEG, PNG"):
            load_image(source)
        with pytest.raises(ImageError, match="Cannot read a mask"):
            read_mask(source)
    assert problem(POSTSCRIPT) == "not an image" and not trace.exists()


def test_image_files_are_opened_in_one_place():
    """Where the formats are named."""
    root = Path(__file__).resolve().parents[1]
    files = [path for room in ROOMS for path in (root / room).rglob("*.py")]
    found = [path.name for path in files if "Image.open(" in path.read_text(encoding="utf-8")]
    assert found == ["images.py"]


def test_a_video_is_no_image_and_it_is_said_what_to_do(tmp_path):
    (tmp_path / "clip.mov").write_bytes(bytes(100))
    with pytest.raises(ImageError, match=r"clip\.mov is a video.*`ffmpeg -i .*clip\.mov frames/"):
        load_image(tmp_path / "clip.mov")


def test_the_images_of_a_folder(tmp_path):
    for name in ("b.JPG", "a.jfif", "deep/c.tif", ".hidden.png", "notes.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    expected = [tmp_path / name for name in ("a.jfif", "b.JPG", "deep/c.tif")]
    assert images_in(tmp_path) == expected


BAD_DATA = {
    "text": (b"hello, this is not an image", "27 bytes of data.*complete image file.*JPEG, PNG"),
    "empty": (b"", "from 0 bytes of data"),
    "truncated JPEG": (encoded(noise_image(), "JPEG")[:1500], "1500 bytes of data.*truncated"),
    "truncated PNG": (encoded(noise_image(), "PNG")[:1500], "Cannot read an image from 1500 bytes"),
    "header alone": (encoded(noise_image(), "JPEG")[:20], "Cannot read an image from 20 bytes"),
    "bomb": (bad_png_sizes(), "DecompressionBombError"),
}


@pytest.mark.parametrize("case", BAD_DATA)
def test_bad_data(case, tmp_path):
    data, message = BAD_DATA[case]
    with pytest.raises(ImageError, match=message):
        load_image(data)
    path = tmp_path / "broken.jpg"
    path.write_bytes(data)
    with pytest.raises(ImageError, match=r"Cannot read an image from '.*broken\.jpg'"):
        load_image(path)


@pytest.mark.filterwarnings("ignore")  # Pillow's own, about what it finds damaged
def test_corrupted_files_raise_nothing_else():
    flips = np.random.default_rng(1)
    for fmt in ("JPEG", "PNG", "GIF", "BMP", "WEBP", "TIFF"):
        data = np.frombuffer(encoded(noise_image(), fmt), np.uint8)
        for _ in range(40):
            broken = data.copy()
            broken[flips.integers(0, min(len(data), 400), 6)] = flips.integers(0, 256, 6)
            try:
                load_image(broken.tobytes())  # many a flip leaves a readable image
            except ImageError:
                pass


def test_bad_paths(tmp_path):
    with pytest.raises(ImageError, match=r"'.*absent\.jpg'.*FileNotFoundError"):
        load_image(tmp_path / "absent.jpg")
    with pytest.raises(ImageError, match="Cannot read an image from"):
        load_image(str(tmp_path))


def test_pil_images_without_pixels_or_with_a_broken_file():
    with pytest.raises(ImageError, match=r"PIL image.*no pixels.*\(0, 5\)"):
        load_image(Image.new("RGB", (0, 5)))
    lazy = Image.open(io.BytesIO(BAD_DATA["truncated JPEG"][0]))
    with pytest.raises(ImageError, match="PIL image of mode RGB and size .61, 37.*truncated"):
        load_image(lazy)


@pytest.mark.parametrize("source", [None, 3, [[1, 2]], io.BytesIO(b"")])
def test_things_that_are_no_image(source):
    with pytest.raises(TypeError, match="bytes, a path, a PIL image or an array, received"):
        load_image(source)


def test_batch_names_the_position():
    with pytest.raises(ImageError, match=r"^sources\[1\]: Cannot read an image from 1 bytes"):
        EvalTransform(16).batch([NOISE, b"x"])


@pytest.mark.parametrize("source", ["photo.jpg", Path("photo.jpg"), b"x", NOISE, noise_image()])
def test_batch_refuses_a_single_image(source):
    with pytest.raises(TypeError, match="must be a list of images.*call the transform itself"):
        EvalTransform(16).batch(source)


def test_an_elongated_image_cannot_fill_the_memory():
    strip = np.zeros((1, 60000), np.uint8)
    with pytest.raises(ImageError, match=r"\(60000, 1\): too elongated.*MAX_IMAGE_PIXELS"):
        EvalTransform(224)(strip)
    assert EvalTransform(224, resize="squash")(strip).shape == (224, 224, 3)


@pytest.mark.parametrize(
    "arguments, message",
    [
        (dict(size=0), "`size` must be an integer >= 1, received 0. It is a number of pixels."),
        (dict(size=224.0), "`size` must be an integer"),
        (dict(size=True), "`size` must be an integer"),
        (dict(size=(224, 224)), "`size` must be an integer"),
        (dict(crop_pct=0), r"`crop_pct` must be None or a number in \(0, 1\].*received 0"),
        (dict(crop_pct=87.5), r"\(0, 1\]"),
        (dict(crop_pct=float("nan")), r"\(0, 1\]"),
        (dict(crop_pct="0.9"), r"\(0, 1\]"),
        (dict(resize="crop"), r"`resize` must be one of \['shortest', 'squash'\], received 'crop'"),
        (dict(interpolation="lanczos"), r"\['bicubic', 'bilinear'\], received 'lanczos'"),
        (dict(resize_size=-1), "`resize_size` must be an integer >= 1"),
        (dict(resize_size=232, crop_pct=0.9), "`crop_pct` must be None or 1 with.*resize_size=232"),
        (dict(resize="squash", crop_pct=0.9), "`crop_pct` must be None or 1 with"),
        (dict(resize="squash", resize_size=256), "`resize_size` must be None, received 256"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        EvalTransform(**{"size": 224, **arguments})


# ---------------------------------------------------------------- the tf.data form


@needs_golden
def test_tf_form_is_within_one_level_of_the_exact_form(tf, crops):
    """From the file's bytes, through a dataset, as in an evaluation; measured, printed, bounded."""
    means, largest = {}, {}
    for key, transform in TRANSFORMS.items():
        dataset = tf.data.Dataset.from_tensor_slices([photo(name) for name in NAMES])
        dataset = dataset.map(lambda data, to=transform.tf: to(tf_decode(data)))
        for name, result in zip(NAMES, dataset.as_numpy_iterator(), strict=True):
            difference = np.abs(result.astype(int) - crops[f"{name}/{key}"])
            means[f"{name}/{key}"], largest[f"{name}/{key}"] = difference.mean(), difference.max()
    for name, mean in means.items():
        print(f"{name}: mean {mean:.4f}, largest {largest[name]}")
    print(f"all: mean {np.mean(list(means.values())):.4f}, largest mean {max(means.values()):.4f}")
    assert max(means.values()) <= 1, max(means, key=means.get)


GEOMETRIES = [
    EvalTransform(32),
    EvalTransform(32, crop_pct=0.875, interpolation="bilinear"),
    EvalTransform(32, resize_size=29),
    EvalTransform(33, resize="squash"),
]


@pytest.mark.parametrize("transform", GEOMETRIES, ids=repr)
def test_tf_form_has_the_exact_geometry(tf, transform):
    """A smooth image shows a shift of a fraction of a pixel; sizes are unknown to the graph."""
    mapped = tf.function(transform.tf, input_signature=[tf.TensorSpec((None, None, 3), tf.uint8)])
    for height, width in [(40, 64), (65, 41), (100, 31), (20, 9), (5, 90), (1, 1), (32, 32)]:
        rows, columns = np.mgrid[0:height, 0:width]
        ramp = np.stack([rows * 200 / height, columns * 200 / width, rows * 0], -1)
        image = (30 + ramp).astype(np.uint8)
        result = mapped(image).numpy()
        assert result.dtype == np.uint8
        difference = np.abs(result.astype(int) - transform(image))
        assert difference.max() <= 2, (height, width)
        assert difference.mean() <= 0.5, (height, width)


def deep_png():
    grey = NOISE[..., 0].astype(np.uint16) * 3
    return encoded(Image.fromarray(grey), "PNG")


DECODED = {
    "JPEG": encoded(noise_image(), "JPEG"),
    "progressive JPEG": encoded(noise_image(), "JPEG", progressive=True),
    "grey JPEG": encoded(noise_image("L"), "JPEG"),
    "CMYK JPEG": encoded(noise_image("CMYK"), "JPEG"),
    "PNG": encoded(noise_image(), "PNG"),
    "1-bit PNG": encoded(noise_image("1"), "PNG"),
    "grey PNG": encoded(noise_image("L"), "PNG"),
    "grey and alpha PNG": encoded(noise_image("LA"), "PNG"),
    "RGBA PNG": encoded(noise_image("RGBA"), "PNG"),
    "palette PNG": encoded(palette_with_transparency(), "PNG"),
    "GIF": encoded(noise_image().quantize(64), "GIF"),
    "BMP": encoded(noise_image(), "BMP"),
    "palette BMP": encoded(noise_image().quantize(64), "BMP"),
    "RGBA BMP": encoded(noise_image("RGBA"), "BMP"),
    "WebP": encoded(noise_image(), "WEBP"),
    "RGBA WebP": encoded(noise_image("RGBA"), "WEBP"),
    "TIFF": encoded(noise_image(), "TIFF"),
}


@pytest.mark.parametrize("name", DECODED)
def test_tf_decode_equals_load_image(tf, name):
    expected = np.asarray(load_image(DECODED[name]))
    np.testing.assert_array_equal(tf_decode(DECODED[name]), expected)
    (result,) = tf.data.Dataset.from_tensors(DECODED[name]).map(tf_decode)
    np.testing.assert_array_equal(result, expected)


@pytest.mark.filterwarnings("ignore:.*values above 255")
def test_tf_decode_clips_16_bits_like_load_image(tf):
    np.testing.assert_array_equal(tf_decode(deep_png()), np.asarray(load_image(deep_png())))


@pytest.mark.parametrize("case", ["text", "empty", "truncated JPEG", "truncated PNG"])
def test_tf_decode_of_bad_data(tf, case):
    dataset = tf.data.Dataset.from_tensors(BAD_DATA[case][0]).map(tf_decode)
    with pytest.raises(tf.errors.InvalidArgumentError):
        list(dataset)


@pytest.mark.parametrize("shape, dtype", [((8, 8, 3), "float32"), ((8, 8, 1), "uint8")])
def test_tf_form_refuses_other_tensors(tf, shape, dtype):
    with pytest.raises(ValueError, match="must be a uint8 tensor .H, W, 3., received.*tf_decode"):
        EvalTransform(16).tf(tf.zeros(shape, dtype))


def test_the_exact_form_leaves_tensorflow_alone():
    code = (
        "import sys, numpy as np; from keras_convnext.preprocessing import EvalTransform; "
        "EvalTransform(8)(np.zeros((9, 9, 3), np.uint8)); assert 'tensorflow' not in sys.modules"
    )
    environment = {**os.environ, "KERAS_BACKEND": "jax"}
    root = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root, env=environment)
