"""Photos that are turned by their EXIF: as a person sees them where one asks, else as stored."""

import dataclasses
import io
import json

import numpy as np
import pytest
from PIL import Image, ImageOps

from keras_convnext import Classifier, ConvNeXt, Variant, cli
from keras_convnext.detection import Detector
from keras_convnext.images import is_turned, load_image, open_image, upright_file
from keras_convnext.preprocessing import EvalTransform, tf_decode
from keras_convnext.segmentation import Segmenter, overlay
from tests import tiny_detector
from tests.backends import on_one_backend, randomise
from tests.test_segmentation import Pointwise
from training import data
from training.data import stream
from training.evaluate import command as evaluate

# What a camera's note means, in arrays: TIFF 6.0, tag 274.
SEEN = {
    1: lambda stored: stored,
    2: lambda stored: stored[:, ::-1],
    3: lambda stored: stored[::-1, ::-1],
    4: lambda stored: stored[::-1],
    5: lambda stored: stored.swapaxes(0, 1),
    6: lambda stored: np.rot90(stored, -1),
    7: lambda stored: stored[::-1, ::-1].swapaxes(0, 1),
    8: lambda stored: np.rot90(stored),
}
NOISE = np.random.default_rng(0).integers(0, 256, (40, 60, 3), "uint8")
SMALL = {"input_shape": (32, 32, 3), "classes": 3}


def photo(orientation=6, kind="JPEG"):
    """The content of a file whose EXIF says how it is turned."""
    exif, file = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(NOISE).save(file, kind, exif=exif)
    return file.getvalue()


@on_one_backend
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
@pytest.mark.parametrize("orientation", SEEN)
def test_an_image_is_turned_where_one_asks(orientation, kind):
    content = photo(orientation, kind)
    stored = np.asarray(load_image(content))
    assert stored.shape == NOISE.shape
    seen = SEEN[orientation](stored)
    with Image.open(io.BytesIO(content)) as opened:
        for source in (content, opened):
            found = load_image(source, upright=True)
            np.testing.assert_array_equal(np.asarray(found), seen)
            # not a second time
            np.testing.assert_array_equal(np.asarray(load_image(found, upright=True)), seen)
    np.testing.assert_array_equal(EvalTransform(16, upright=True)(content), EvalTransform(16)(seen))
    np.testing.assert_array_equal(EvalTransform(16)(content), EvalTransform(16)(stored))
    np.testing.assert_array_equal(tf_decode(upright_file(content)), seen)
    assert (upright_file(content) == content) == (orientation == 1)


@on_one_backend
def test_damaged_exif_and_what_is_no_image_stay_as_they_are():
    whole = photo(6)
    place = whole.index(b"MM\0*") if b"MM\0*" in whole else whole.index(b"II*\0")
    for content in (whole[:place] + b"\xff" * 12 + whole[place + 12 :], photo(9), photo(0)):
        stored = np.asarray(load_image(content))
        np.testing.assert_array_equal(np.asarray(load_image(content, upright=True)), stored)
        assert upright_file(content) == content
        assert not is_turned(open_image(content))
    assert is_turned(open_image(whole))
    for content in (b"", b"text", whole[:300]):
        assert upright_file(content) == content


@pytest.fixture(scope="module")
def model():
    return randomise(ConvNeXt(Variant("small", (1,), (8,)), **SMALL), scale=0.3)


@on_one_backend
def test_a_classifier_turns_photos_and_an_evaluation_does_not(model, tmp_path, capsys):
    content = photo()
    stored, seen = Classifier(model).probabilities([NOISE, np.rot90(NOISE, -1)])
    np.testing.assert_allclose(Classifier(model).probabilities(photo(6, "PNG")), seen, rtol=1e-5)
    for given in (EvalTransform(32, 0.875), {"upright": False}):
        found = Classifier(model, transform=given).probabilities(photo(6, "PNG"))
        np.testing.assert_allclose(found, stored, rtol=1e-5)
    (tmp_path / "a.jpg").write_bytes(content)
    model.save(tmp_path / "m.keras")
    found = []
    for flags in ([], ["--upright"], ["--no-upright"]):
        command = ["predict", "--model", str(tmp_path / "m.keras"), "--json", *flags]
        assert cli.main([*command, str(tmp_path / "a.jpg")]) == 0
        found.append(json.loads(capsys.readouterr().out)["results"])
    assert found[0] == found[1] != found[2]


@on_one_backend
def test_objects_and_labels_are_of_the_photo_as_it_is_seen(tmp_path):
    path = tmp_path / "a.jpg"
    path.write_bytes(photo())
    detect = Detector(tiny_detector.build(), size=(64, 96), threshold=0)
    found = detect(path)
    assert found.size == (60, 40)
    width, height = found.draw(path).size  # a small photo is drawn larger
    assert 60 * width == 40 * height
    expected = detect(load_image(path, upright=True))
    np.testing.assert_array_equal(found.boxes, expected.boxes)
    as_stored = dataclasses.replace(detect, upright=False)(path)
    width, height = as_stored[:1].draw(path).size
    assert as_stored.size == (40, 60) and 40 * width == 60 * height
    segment = Segmenter(Pointwise(), mode="whole")
    labels = segment(path)
    assert labels.shape == (60, 40) and overlay(path, labels, 3).shape == (60, 40, 3)
    labels = dataclasses.replace(segment, upright=False)(path)
    assert overlay(path, labels, 3, upright=False).shape == (40, 60, 3)


@pytest.fixture
def folder(tmp_path):
    """A folder for a class each, with turned photos in three of the formats."""
    for name in ("cat", "dog"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for orientation, kind in ((1, "JPEG"), (6, "JPEG"), (8, "PNG"), (3, "WEBP")):
            path = tmp_path / "photos" / name / f"{orientation}.{kind.lower()}"
            noise = np.random.default_rng([len(name), orientation, ord(name[0])])
            exif = Image.Exif()
            exif[0x0112] = orientation
            picture = Image.fromarray(noise.integers(0, 256, (40, 60, 3), "uint8"))
            picture.save(path, kind, exif=exif)
    return tmp_path / "photos"


@on_one_backend
def test_trainings_on_a_folder_turn_photos_unless_told_otherwise(folder):
    transform = EvalTransform(32, resize="squash")
    for upright in (None, True, False):
        dataset = data.load("folder", folder, upright=upright)
        turned = upright is not False
        assert ("as they are stored" in dataset.summary) != turned
        for split in (dataset.train, dataset.validation):
            (batch,) = stream.evaluation_batches(split, transform, split.size)
            for path, pixels in zip(split.paths, batch[0].numpy(), strict=True):
                image = ImageOps.exif_transpose(Image.open(path)) if turned else Image.open(path)
                expected = transform.tf(np.asarray(image.convert("RGB")))
                np.testing.assert_array_equal(pixels, expected)
    with pytest.raises(data.DataError, match="`upright`, which belongs to folder"):
        data.load("digits", upright=True)
    assert data.load("digits", upright=False).train.size


@on_one_backend
def test_an_evaluation_says_with_a_flag_how_photos_are_taken(folder, model, tmp_path, capsys):
    model.save(tmp_path / "m.keras")
    arguments = evaluate._parser().parse_args
    given = [str(tmp_path / "m.keras"), "--data", str(folder), "--split", "all"]
    names = (given, [*given, "--no-upright"], ["convnext_tiny.fb_in1k", *given[1:]])
    assert [evaluate.split_of(arguments(line))[0].upright for line in names] == [True, False, False]
    assert evaluate.main([*given[:1], "--data", "digits", "--upright"]) == 2
    assert "--upright is for --data with a directory" in capsys.readouterr().err
