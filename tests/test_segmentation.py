"""Inference, scores, pictures, masks, augmentation and rates of segmentation."""

import io
import os
import tracemalloc

import keras
import numpy as np
import pytest
from PIL import ExifTags, Image

from keras_convnext import Variant
from keras_convnext.images import ImageError
from keras_convnext.optimization import WarmupPolynomial, stage_wise_scales
from keras_convnext.segmentation import (
    SCALES,
    MeanIoU,
    PixelAccuracy,
    PixelCrossEntropy,
    Scores,
    Segmenter,
    UperNet,
    fit_metrics,
    inference,
    label_map,
    legend,
    overlay,
    palette,
    scores,
)
from keras_convnext.segmentation.augmentation import (
    CropAndDistort,
    Fit,
    distorted,
    read_pair,
    resampled,
)
from keras_convnext.segmentation.inference import in_bands, starts
from keras_convnext.segmentation.masks import LabelMap, read_mask
from keras_convnext.segmentation.resampling import resize_to
from tests import tiny_streets
from tests.backends import numpy, on_one_backend, randomise


class Pointwise:
    """Stands for a model whose logits are a function of the single pixel: windows cannot matter."""

    input_shape = (None, None, None, 3)

    def __init__(self):
        self.seen = []

    def predict_on_batch(self, images):
        self.seen.append(images.shape)
        return np.concatenate([images, images.sum(-1, keepdims=True) / 3], axis=-1) / 255


def photograph(height=100, width=130, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), "uint8")


# ---------------------------------------------------------------------------- inference


@pytest.mark.parametrize(
    "length, window, stride, expected",
    [
        (10, 20, 5, [0]),
        (20, 20, 5, [0]),
        (21, 20, 5, [0, 1]),
        (30, 20, 5, [0, 5, 10]),
        (33, 20, 5, [0, 5, 10, 13]),
        (683, 512, 341, [0, 171]),
        (2048, 512, 341, [0, 341, 682, 1023, 1364, 1536]),
    ],
)
def test_windows_cover_the_image_as_in_the_published_evaluation(length, window, stride, expected):
    found = starts(length, window, stride)
    assert found == expected
    assert all(b - a <= stride for a, b in zip(found, found[1:], strict=False))


def test_windows_leave_no_seams():
    image, whole = photograph(), Segmenter(Pointwise(), mode="whole")
    for window, stride, batch in ((32, None, 3), (40, 40, 1), (33, 7, 64)):
        slide = Segmenter(Pointwise(), window=window, stride=stride, batch_size=batch)
        np.testing.assert_allclose(
            slide.probabilities(image), whole.probabilities(image), atol=1e-6
        )
        np.testing.assert_array_equal(slide(image), whole(image))


@on_one_backend
def test_outputs_of_every_kind_become_the_same_probabilities():
    """Logits, probabilities, and one output per pixel."""
    photo, image, end = photograph(), keras.Input((None, None, 3)), keras.layers.Softmax()
    logits = randomise(keras.Model(image, keras.layers.Conv2D(2, 1)(image)), scale=0.01)
    expected = Segmenter(logits, mode="whole").probabilities(photo)
    kernel, bias = logits.get_weights()
    difference = keras.layers.Conv2D(1, 1)
    alone = keras.Model(image, difference(image))
    difference.set_weights([kernel[..., 1:] - kernel[..., :1], bias[1:] - bias[:1]])
    for made in (
        keras.Model(image, end(logits.output)),
        keras.Sequential([image, logits, end]),
        alone,
        keras.Model(image, keras.layers.Activation("sigmoid")(alone.output)),
    ):
        segment = Segmenter(made, mode="whole")
        np.testing.assert_allclose(segment.probabilities(photo), expected, rtol=1e-4, atol=1e-6)
        np.testing.assert_array_equal(segment(photo), expected.argmax(-1))
    with pytest.raises(ValueError, match="`activation` must be one of"):
        Segmenter(logits, activation="relu")


def test_the_model_sees_batches_of_one_size():
    model = Pointwise()
    Segmenter(model, window=32, batch_size=5)(photograph())
    assert set(model.seen) == {(5, 32, 32, 3)}
    model = Pointwise()
    Segmenter(model, window=100, batch_size=64)(photograph(100, 130))
    assert model.seen == [(2, 100, 100, 3)]  # and no more windows than there are


def test_an_image_in_one_window_is_seen_whole():
    image = photograph(37, 47)
    model = Pointwise()
    labels = Segmenter(model, window=64)(image)
    assert model.seen == [(1, 37, 47, 3)]
    np.testing.assert_array_equal(labels, Segmenter(Pointwise(), mode="whole")(image))
    assert labels.shape == (37, 47) and labels.dtype == "uint8"


def test_windows_average_logits_and_scales_average_probabilities():
    class Places(Pointwise):
        """Logits that depend on the place in the window."""

        def predict_on_batch(self, images):
            ramp = np.arange(images.shape[2], dtype="float32")[None, None, :, None] / 16
            return np.concatenate([ramp + 0 * images[..., :1], 0 * images[..., :1]], -1)

    found = Segmenter(Places(), window=32, stride=16).probabilities(photograph(32, 48))
    ramp = np.arange(32) / 16
    logits = np.concatenate([ramp[:16], (ramp[16:] + ramp[:16]) / 2, ramp[16:]])
    np.testing.assert_allclose(found[0, :, 0], 1 / (1 + np.exp(-logits)), rtol=1e-5)
    flipped = Segmenter(Places(), mode="whole", flip=True).probabilities(photograph(32, 48))
    ramp = 1 / (1 + np.exp(-np.arange(48) / 16))
    np.testing.assert_allclose(flipped[0, :, 0], (ramp + ramp[::-1]) / 2, rtol=1e-5)


def test_sizes_and_scales_come_back_to_the_image():
    model = Pointwise()
    segment = Segmenter(model, mode="whole", size=(80, 160), scales=SCALES, flip=True)
    found = segment.probabilities(photograph(100, 130))
    assert found.shape == (100, 130, 4)
    np.testing.assert_allclose(found.sum(-1), 1, rtol=1e-5)
    heights = [shape[1] for shape in model.seen[::2]]
    assert heights == [40, 60, 80, 100, 120, 140] and len(model.seen) == 12


@pytest.mark.parametrize("size", [(40, 40), (130, 160)])
def test_views_are_averaged_whichever_is_smaller_they_or_the_image(size):
    image = photograph()
    several = Segmenter(Pointwise(), mode="whole", size=size, scales=(0.8, 1.2), flip=True)
    single = [Segmenter(Pointwise(), mode="whole", size=size, scales=(s,)) for s in several.scales]
    expected = sum(segment.probabilities(image) for segment in single) / 2
    np.testing.assert_allclose(several.probabilities(image), expected, atol=1e-5)
    assert (several(image) == expected.argmax(-1)).mean() > 0.999


@pytest.mark.parametrize("sides", [(61, 83), (37, 45), (37, 20), (5, 9), (80, 45)])
def test_bands_are_resized_as_the_whole(sides, monkeypatch):
    monkeypatch.setattr(inference, "BAND", 40)
    whole = np.random.default_rng(0).standard_normal((37, 45, 5)).astype("float32")
    bands = [*in_bands(iter(np.split(whole, [3, 4, 20])), len(whole), *sides)]
    assert len(bands) > 1
    expected = numpy(resize_to(keras.ops.convert_to_tensor(whole[None]), *sides))[0]
    np.testing.assert_allclose(np.concatenate(bands), expected, atol=1e-5)


@on_one_backend
@pytest.mark.parametrize("options", [{"window": 64}, {"mode": "whole", "size": (256, 256)}])
def test_memory_is_that_of_a_row_of_windows_or_of_what_the_model_saw(options):
    class Many(Pointwise):
        def predict_on_batch(self, images):
            return (images[..., :1] - 128) * np.linspace(-1, 1, 150, dtype="float32")

    image = photograph(1000, 1000)
    tracemalloc.start()
    labels = Segmenter(Many(), **options)(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert labels.shape == (1000, 1000) and {0, 149} <= set(np.unique(labels))
    assert peak < 250e6  # all logits are 600 MB, a row of windows and what the model saw 40 MB


@on_one_backend
def test_images_may_be_smaller_than_the_model_takes():
    model = UperNet(Variant("v", (1, 1, 1, 1), (8, 8, 8, 8)), channels=8, auxiliary_channels=8)
    assert Segmenter(model, scales=(0.5, 1.0))(photograph(20, 30)).shape == (20, 30)
    strip = Segmenter(model, mode="whole", size=(128, 32), scales=(0.5,))
    assert strip(photograph(200, 10)).shape == (200, 10)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"mode": "windows"}, "`mode` must be one of"),
        ({"window": 31}, "`window` must be an integer >= 32, received 31"),
        ({"batch_size": 0}, "`batch_size` must be an integer >= 1, received 0"),
        ({"window": 40, "stride": 41}, "from 1 to the `window` of 40"),
        ({"stride": 2.5}, "`stride` must be an integer >= 1, received 2.5"),
        ({"size": 512}, "`size` must be `None` or .long, short.*, received 512"),
        ({"size": (0, 0)}, "two numbers of pixels >= 32, received .0, 0."),
        ({"scales": ()}, "`scales` must be numbers > 0"),
    ],
)
def test_wrong_options_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        Segmenter(Pointwise(), **options)


def test_a_model_of_one_size_says_so():
    model = Pointwise()
    model.input_shape = (None, 64, 64, 3)
    assert Segmenter(model, window=64)(photograph(100, 100)).shape == (100, 100)
    with pytest.raises(ValueError, match=r"takes images of \(64, 64, 3\), received \(40, 70, 3\)"):
        Segmenter(model, mode="whole")(photograph(40, 70))


# ---------------------------------------------------------------------------- scores


def test_scores_by_hand():
    labels = np.array([[0, 0, 1, 1, 255, 2]])
    predicted = np.array([[0, 1, 1, 1, 0, 0]])
    found = scores(labels, predicted, 4)
    np.testing.assert_allclose(found.iou[:3], [1 / 3, 2 / 3, 0])
    assert np.isnan(found.iou[3])
    assert found.mean_iou == pytest.approx(1 / 3)
    assert found.pixel_accuracy == pytest.approx(3 / 5)
    assert found.mean_accuracy == pytest.approx((1 / 2 + 1 + 0) / 3)
    twice = found + found
    assert twice.mean_iou == found.mean_iou and twice.confusion.sum() == 10
    table = found.table(["a", "b", "c", "d"])
    assert table[1] == {"class": "b", "iou": pytest.approx(2 / 3), "accuracy": 1.0, "share": 0.4}
    assert table[3]["iou"] is None and table[3]["share"] == 0


def test_scores_of_nothing():
    found = scores(np.full((2, 2), 255), np.zeros((2, 2), int), 3)
    assert np.isnan(found.mean_iou)
    assert isinstance(found, Scores)


@pytest.mark.parametrize(
    "labels, predicted, message",
    [
        (np.zeros((2, 3), int), np.zeros((3, 2), int), "must have one shape"),
        (np.full((1, 1), 7), np.zeros((1, 1), int), "label must be in 0 to 2 or 255, received 7"),
        (np.zeros((1, 1), int), np.full((1, 1), 3), "prediction must be in 0 to 2, received 3"),
        (np.full((1, 1), 1 / 255), np.zeros((1, 1), int), "label must be a whole number"),
    ],
)
def test_wrong_labels_are_refused(labels, predicted, message):
    with pytest.raises(ValueError, match=message):
        scores(labels, predicted, 3)


# ---------------------------------------------------------------------------- pictures


@pytest.mark.parametrize("weight", [None, "image", "pixel"])
def test_the_metrics_of_fit_are_keras_own(weight):
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 4, (3, 5, 7)).astype("uint8")
    labels[0, :2] = 255
    logits = draw.standard_normal((3, 5, 7, 4)).astype("float32")
    arguments = {"num_classes": 4, "ignore_class": 255, "sparse_y_pred": False, "dtype": "float32"}
    ours, theirs = MeanIoU(**arguments), keras.metrics.MeanIoU(**arguments)
    accuracy, mean = PixelAccuracy(), keras.metrics.Mean()
    for _ in range(2):
        per_image = draw.random(3).astype("float32")
        given = np.broadcast_to(per_image[:, None, None], labels.shape)
        theirs.update_state(labels, logits, None if weight is None else given)
        counted = (labels != 255) * (1 if weight is None else given)
        mean.update_state(labels == logits.argmax(-1), counted)
        given = {None: None, "image": per_image, "pixel": given}[weight]
        ours.update_state(labels, logits, given)
        accuracy.update_state(labels, logits, given)
    np.testing.assert_allclose(numpy(ours.total_cm), numpy(theirs.total_cm), rtol=1e-5)
    assert float(ours.result()) == pytest.approx(float(theirs.result()))
    assert float(accuracy.result()) == pytest.approx(float(mean.result()))
    assert MeanIoU.from_config(ours.get_config()).num_classes == 4


def test_the_pixels_of_a_long_epoch_are_counted():
    _, metric = fit_metrics(2)
    metric.total_cm.assign(np.array([[1.5e9, 1.5e9], [0, 1e9]]))
    metric.update_state(np.zeros((1, 2, 2), "uint8"), np.zeros((1, 2, 2, 2), "float32"))
    assert float(metric.result()) == pytest.approx((1.5 / 3 + 1 / 2.5) / 2)


def _results(labels, logits, weight=None):
    """Returns loss, accuracy and mean IoU of labels in any form."""
    metrics = fit_metrics(logits.shape[-1])
    for metric in metrics:
        metric.update_state(labels, logits, weight)
    loss = PixelCrossEntropy()(labels, logits, weight)
    return [float(numpy(value)) for value in (loss, *(metric.result() for metric in metrics))]


@pytest.fixture(scope="module")
def answers():
    """Labels (2, 2, 5) of three classes, a row of which is ignored, and logits."""
    draw = np.random.default_rng(0)
    labels = draw.integers(0, 3, (2, 2, 5)).astype("uint8")
    labels[0, 1] = 255
    return labels, draw.standard_normal((2, 2, 5, 3)).astype("float32")


FORMS = {
    "a channel axis": lambda labels: labels[..., None],
    "int64": lambda labels: labels.astype("int64"),
    "whole floats": lambda labels: labels.astype("float32")[..., None],
    "one-hot": lambda labels: labels[..., None] == np.arange(3),
    "one-hot floats": lambda labels: (labels[..., None] == np.arange(3)).astype("float32"),
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_labels_of_every_usual_form(form, answers):
    labels, logits = answers
    expected = _results(labels, logits)
    np.testing.assert_allclose(_results(form(labels), logits), expected, rtol=1e-6)
    one = _results(labels[1:], logits[1:])
    np.testing.assert_allclose(_results(form(labels[1:]), logits[1:]), one, rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda labels: np.where(labels == 2, 3, labels),  # such as classes that count from 1
        lambda labels: labels.astype("int32") - 1,
        lambda labels: labels.astype("float32") / 255,
        lambda labels: (labels[..., None] == np.arange(3)).astype("uint8") * 255,
        lambda labels: np.full((*labels.shape, 3), 1 / 3, "float32"),
    ],
    ids=["too large", "negative", "divided by 255", "one-hot times 255", "soft"],
)
def test_labels_that_are_no_class_are_noticed(wrong, answers):
    labels, logits = answers
    assert np.isnan(_results(wrong(labels), logits)).all()


def test_a_wrong_label_of_weight_0_does_not_matter(answers):
    labels, logits = answers
    wrong = np.where(np.arange(2)[:, None, None] == 0, 7, labels)
    metrics = fit_metrics(3)
    for weight in (np.array([0, 1], "float32"), np.broadcast_to([[[0]], [[1]]], labels.shape)):
        for form in (weight, weight[..., None]):
            for metric in metrics:
                metric.reset_state()
                metric.update_state(wrong, logits, form.astype("float32"))
                assert float(metric.result()) == pytest.approx(
                    _results(labels[1:], logits[1:])[1 + metrics.index(metric)]
                )


@pytest.mark.parametrize("shape", [(2, 5), (2, 5, 2), (2, 2, 5, 4), (3, 2, 5)])
def test_masks_of_other_shapes_are_refused(shape, answers):
    for function in (PixelCrossEntropy(), *(metric.update_state for metric in fit_metrics(3))):
        with pytest.raises(ValueError, match=r"Masks must be \(batch, 2, 5\) like the images"):
            function(np.zeros(shape, "uint8"), answers[1])


def test_a_single_logit_is_refused(answers):
    with pytest.raises(ValueError, match="a logit for each class, two or more, received one"):
        PixelCrossEntropy()(answers[0], answers[1][..., :1])


@on_one_backend
@pytest.mark.parametrize("classes", [1, 11, 150, 255])
def test_colours_differ(classes):
    colours = palette(classes)
    assert len(np.unique(colours[:classes], axis=0)) == classes
    assert not colours[classes:].any()


@on_one_backend
def test_label_maps_keep_the_labels(tmp_path):
    labels = np.array([[0, 1, 2], [2, 1, 255]], "uint8")
    label_map(labels, 3).save(tmp_path / "labels.png")
    np.testing.assert_array_equal(read_mask(tmp_path / "labels.png"), labels)
    with Image.open(tmp_path / "labels.png") as image:
        assert image.convert("RGB").getpixel((1, 0)) == tuple(palette(3)[1])


@on_one_backend
def test_overlays_leave_what_is_ignored():
    image = photograph(2, 3)
    labels = np.array([[0, 1, 255], [255, 255, 255]])
    found = overlay(image, labels, 2, opacity=1.0)
    np.testing.assert_array_equal(found[0, :2], palette(2)[:2])
    np.testing.assert_array_equal(found[1], image[1])
    np.testing.assert_array_equal(overlay(image, np.full((2, 3), -1), 2), image)
    with pytest.raises(ValueError, match="`labels` must be"):
        overlay(image, labels[:1], 2)
    with pytest.raises(ValueError, match="`opacity` must be"):
        overlay(image, labels, 2, opacity=55)
    with pytest.raises(ValueError, match=r"in \[0, 255\], received -1 to 300"):
        label_map(np.array([[-1, 300]]), 2)


@on_one_backend
def test_a_legend_names_what_is_there():
    names = [f"class {n}" for n in range(11)]
    whole, part = legend(names), legend(names, {3: 0.25, 1: 0.75})
    assert whole.height > part.height > 20 and whole.mode == "RGB"
    assert part.getpixel((10, 14)) == tuple(palette(11)[1])  # the largest stands first


# ---------------------------------------------------------------------------- masks


@on_one_backend
def test_values_become_classes():
    labels = LabelMap(3, first=1, ignored=7)
    found = labels(np.array([[0, 1, 2, 3, 7, 255]]))
    np.testing.assert_array_equal(found, [[255, 0, 1, 2, 255, 255]])
    with pytest.raises(ValueError, match=r"values \[4, 9\]; allowed are 1 to 3 of the 3 classes"):
        labels(np.array([9, 4, 1]))
    with pytest.raises(ValueError, match=r"values \[-1, 300\]"):
        LabelMap(3)(np.array([-1, 300]))
    np.testing.assert_array_equal(LabelMap(255)(np.array([0, 254, 255])), [0, 254, 255])
    assert LabelMap(3, first=1, ignored=0)(0) == LabelMap(3, ignored=254)(254) == 255


@on_one_backend
@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"classes": 256}, "1 to 255 classes"),
        ({"classes": 255, "first": 1}, r"values in \[0, 254\], received `classes`=255 and"),
        ({"classes": 3, "ignored": 2}, "received 2; the classes are 0 to 2"),
        ({"classes": 3, "ignored": 300}, r"a value in \[0, 255\] that is no class, received 300"),
        ({"classes": 3, "ignored": -1}, "received -1"),
        ({"classes": 3, "values": (0, 255)}, "`values` must be 3 different numbers"),
        ({"classes": 2, "values": (0, 0)}, "`values` must be 2 different numbers"),
        ({"classes": 2, "values": (0, 256)}, r"numbers in \[0, 255\]"),
        ({"classes": 2, "values": (0, 9), "ignored": 9}, "the classes are 0, 9"),
        ({"classes": 2, "colours": (((0, 0, 0), 0),)}, "a colour for each of the 2 classes"),
        ({"classes": 1, "colours": (((0, 0), 0),)}, r"pairs \(\(red, green, blue\), class\)"),
        ({"classes": 1, "first": 1, "colours": (((0, 0, 0), 0),)}, "`colours` excludes"),
    ],
)
def test_wrong_maps_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        LabelMap(**arguments)


VALUES = np.array([[0, 1], [1, 0]], "uint8")
MASKS = {
    "L": Image.fromarray(VALUES),
    "P": label_map(VALUES, 2),
    "RGB": Image.fromarray(np.stack([VALUES] * 3, -1)),
    "RGBA": Image.fromarray(np.stack([*[VALUES] * 3, 255 - VALUES], -1)),
    "LA": Image.fromarray(np.stack([VALUES, 255 - VALUES], -1)),
    "I;16": Image.fromarray(VALUES.astype("uint16")),
    "I": Image.fromarray(VALUES.astype("int32")),
    "F": Image.fromarray(VALUES.astype("float32")),
    "1": Image.fromarray(VALUES.astype(bool)),
}


@on_one_backend
@pytest.mark.parametrize("mode", MASKS)
def test_masks_of_every_kind_are_read(mode, tmp_path):
    path = tmp_path / ("mask.tif" if mode in "FI" else "mask.png")
    MASKS[mode].save(path)
    with Image.open(path) as image:
        assert image.mode == mode
    np.testing.assert_array_equal(read_mask(path), VALUES)
    np.testing.assert_array_equal(LabelMap(2)(read_mask(path.read_bytes())), VALUES)


@on_one_backend
def test_black_and_white_masks_are_two_classes():
    labels = LabelMap(2, values=(0, 255))
    np.testing.assert_array_equal(labels(np.array([[0, 255]])), [[0, 1]])
    with pytest.raises(ValueError, match=r"values \[128\]; allowed are 0, 255 of .*, and none for"):
        labels(np.array([128]))
    labels = LabelMap(2, values=(7, 3), ignored=0)
    np.testing.assert_array_equal(labels(np.array([0, 3, 7, 255])), [255, 1, 0, 255])


@on_one_backend
def test_colours_are_classes(tmp_path):
    colours = ((0, 0, 0), (128, 64, 0), (0, 0, 64), (9, 9, 9))
    labels = LabelMap(2, colours=tuple(zip(colours, (0, 1, 255, 1), strict=True)))
    wanted = np.array([[0, 1], [2, 3]])
    picture = Image.fromarray(np.array(colours, "uint8")[wanted])
    for number, image in enumerate((picture, picture.quantize(4))):
        image.save(tmp_path / f"{number}.png")
        found = labels(read_mask(tmp_path / f"{number}.png", labels.in_colour))
        np.testing.assert_array_equal(found, [[0, 1], [255, 1]])
    with pytest.raises(ValueError, match=r"colours \[\(1, 2, 3\)\], which belong to no class"):
        labels(np.array([[[1, 2, 3], [0, 0, 0]]]))


@on_one_backend
def test_masks_with_fractions_are_refused(tmp_path):
    Image.fromarray(np.full((2, 2), 0.5, "float32")).save(tmp_path / "mask.tif")
    with pytest.raises(ImageError, match="has fractions or NaN from 0.5 to 0.5"):
        read_mask(tmp_path / "mask.tif")


@on_one_backend
def test_postscript_is_no_mask(tmp_path, monkeypatch):
    (tmp_path / "gs").write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\nexit 1\n")
    (tmp_path / "gs").chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    (tmp_path / "mask.png").write_bytes(
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n%%EOF\n"
    )
    with pytest.raises(ImageError, match="Cannot read a mask"):
        read_mask(tmp_path / "mask.png")
    assert not (tmp_path / "ran").exists()


@on_one_backend
def test_pictures_are_no_masks(tmp_path):
    Image.fromarray(photograph(4, 4)).save(tmp_path / "photo.png")
    with pytest.raises(ImageError, match="Save it as a grey or palette PNG"):
        read_mask(tmp_path / "photo.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ImageError, match="Cannot read a mask"):
        read_mask(tmp_path / "text.png")


# ---------------------------------------------------------------------------- augmentation

LABELS = LabelMap(3)


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    root = tiny_streets.write(tmp_path_factory.mktemp("pairs"), count=1)
    return [(root / folder / "deeper" / "0.png").read_bytes() for folder in ("images", "masks")]


def made(augmentation, pair, index=0):
    import tensorflow as tf

    return augmentation.image(tf.constant(pair), (0, 0, tf.constant(index, tf.int64))).numpy()


@on_one_backend
def test_image_and_mask_are_cut_alike(pair):
    """Where nothing is distorted, the colour of a pixel tells its label."""
    augmentation = CropAndDistort(32, LABELS, size=(96, 64), distort=False, scale=(0.7, 1.5))
    for index in range(8):
        result = made(augmentation, pair, index)
        pixels, labels = result[..., :3].astype(int), result[..., 3]
        valid = labels != 255
        nearest = np.abs(pixels[..., None, :] - tiny_streets.COLOURS.astype(int)).sum(-1).argmin(-1)
        assert (nearest == labels)[valid].mean() > 0.9
        assert valid.any()


@on_one_backend
def test_the_augmentation_is_a_function_of_its_key(pair):
    augmentation = CropAndDistort(32, LABELS)
    np.testing.assert_array_equal(made(augmentation, pair, 3), made(augmentation, pair, 3))
    assert (made(augmentation, pair, 3) != made(augmentation, pair, 4)).any()


@on_one_backend
def test_an_image_smaller_than_the_crop_is_filled_up(pair):
    plain = {"distort": False, "flip": 0.0, "scale": (1.0, 1.0), "category_limit": 1.0}
    result = made(CropAndDistort(80, LABELS, **plain), pair)
    image, labels = tiny_streets.draw(0)
    np.testing.assert_array_equal(result[:48, :64, :3], image)
    np.testing.assert_array_equal(result[:48, :64, 3], labels)
    assert (result[48:, :, 3] == 255).all() and (result[:, 64:, 3] == 255).all()
    np.testing.assert_array_equal(result[60, 70, :3], [124, 116, 104])


@on_one_backend
def test_crops_of_a_single_class_are_drawn_again():
    labels = np.zeros((64, 64), "uint8")
    labels[:, 48:] = 1
    whole = {limit: CropAndDistort(16, LabelMap(2), category_limit=limit) for limit in (0.75, 1.0)}
    corners = np.random.default_rng(0).random((200, 10, 2))
    shares = {}
    for limit, augmentation in whole.items():
        crops = [
            augmentation._chosen_crop(Image.fromarray(labels), (64, 64), corner)[0]
            for corner in corners
        ]
        shares[limit] = np.mean([len(np.unique(crop)) > 1 for crop in crops])
    assert shares[1.0] < 0.4 and shares[0.75] > 0.8


@on_one_backend
def test_resampling_is_that_of_keras():
    image = photograph(20, 30)
    found = resampled(Image.fromarray(image), (45, 37), (5, 6, 20, 22), Image.Resampling.BILINEAR)
    whole = keras.ops.image.resize(image.astype("float32"), (37, 45), interpolation="bilinear")
    expected = numpy(whole)[6:28, 5:25]
    assert np.abs(np.asarray(found).astype("float32") - expected).max() <= 1


@on_one_backend
def test_distortion_without_draws_changes_nothing():
    image = Image.fromarray(photograph(8, 8))
    assert distorted(image, np.full(9, 0.9)) == image
    grey = Image.new("RGB", (4, 4), (100, 100, 100))
    brighter = distorted(grey, [0.1, 0.9, *[0.9] * 7])
    assert brighter.getpixel((0, 0)) == (125, 125, 125)  # 100 + 0.8 * 32
    contrasted = distorted(grey, [0.9, 0, 0.1, 0.9, *[0.9] * 5])
    assert contrasted.getpixel((0, 0)) == (140, 140, 140)
    turned = distorted(Image.new("RGB", (4, 4), (200, 50, 50)), [0.9] * 7 + [0.1, 0.99])
    assert turned.getpixel((0, 0))[1] > 100  # red becomes orange


@on_one_backend
def test_frames_for_validation(pair):
    image, labels = tiny_streets.draw(0)
    result = made(Fit(60, 70, LABELS), pair)
    np.testing.assert_array_equal(result[:48, :64, :3], image)
    np.testing.assert_array_equal(result[:48, :64, 3], labels)
    smaller = made(Fit(24, 70, LABELS), pair)
    np.testing.assert_array_equal(smaller[:, :64, :3], image[12:36])
    np.testing.assert_array_equal(smaller[:, :64, 3], labels[12:36])
    assert (smaller[:, 64:, 3] == 255).all()


@on_one_backend
def test_validation_has_the_scale_of_the_training(pair):
    plain = {"distort": False, "flip": 0.0, "scale": (1.0, 1.0), "category_limit": 1.0}
    for size in (None, (96, 72), (24, 32)):
        trained = made(CropAndDistort(96, LABELS, size=size, **plain), pair)
        np.testing.assert_array_equal(made(Fit(96, 96, LABELS, size=size), pair), trained)


@on_one_backend
def test_a_photo_that_exif_turns_is_told_from_a_wrong_size(pair):
    """Its mask was drawn as a person sees the photo."""
    upright, exif = Image.open(io.BytesIO(pair[1])).rotate(90, expand=True), Image.Exif()
    for told, hint in ((6, "; its EXIF turns it: save it upright"), (1, ""), (3, "")):
        exif[ExifTags.Base.Orientation] = told
        files = io.BytesIO(), io.BytesIO()
        Image.open(io.BytesIO(pair[0])).save(files[0], "PNG", exif=exif)
        upright.save(files[1], "PNG")
        message = f"has 48 x 64 pixels, its image 64 x 48: they must be equal{hint}.$"
        with pytest.raises(ImageError, match=message):
            read_pair(*(file.getvalue() for file in files), LABELS)


@on_one_backend
@pytest.mark.parametrize("fault", ["size", "value"])
def test_wrong_masks_are_refused(fault, pair, tmp_path):
    mask = np.zeros((48, 64), "uint8")
    mask = mask[:40] if fault == "size" else mask + 9
    Image.fromarray(mask).save(tmp_path / "mask.png")
    message = {"size": "64 x 40 pixels, its image 64 x 48", "value": r"values \[9\]"}[fault]
    with pytest.raises(Exception, match=message):
        made(CropAndDistort(32, LABELS), [pair[0], (tmp_path / "mask.png").read_bytes()])


# ---------------------------------------------------------------------------- rates


def test_the_schedule_of_the_paper():
    schedule = WarmupPolynomial(1e-4, 160_000, 1500)
    steps = np.array([0, 750, 1500, 80_000, 160_000, 170_000])
    found = [float(numpy(schedule(step))) for step in steps]
    line = 1e-4 * np.clip(1 - steps / 160_000, 0, 1)
    expected = line * np.array([1e-6, 0.5 + 0.5e-6, 1, 1, 1, 1])
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-12)
    again = keras.saving.deserialize_keras_object(keras.saving.serialize_keras_object(schedule))
    assert again.get_config() == schedule.get_config()
    with pytest.raises(
        ValueError, match="`warmup_steps` must be an integer from 0 to 99, received 100"
    ):
        WarmupPolynomial(1e-4, 100, 100)


@on_one_backend
def test_the_rates_of_the_paper():
    model = UperNet(Variant("v", (1, 1, 2, 1), (8, 8, 8, 8)), channels=8, auxiliary_channels=8)
    scales = stage_wise_scales(model, 0.9, 12)
    expected = {"stem": 13, "downsample3": 13, "stage0_block0": 12, "stage2_block1": 10}
    expected["stage3_block0"] = 9
    for name, power in expected.items():
        assert scales[name] == pytest.approx(0.9**power)
    assert not {"norm0", "decode_head", "auxiliary_head"} & set(scales)  # those have 1
    assert stage_wise_scales(model, 0.9, 6)["stage3_block0"] == pytest.approx(0.9**3)
    for name, arguments in (("decay", (0, 6)), ("depth", (0.9, 2))):
        with pytest.raises(ValueError, match=f"`{name}` must be a"):
            stage_wise_scales(model, *arguments)
