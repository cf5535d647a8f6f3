"""What is done to a photo before and behind a detector: resizing, masks at its size, pictures."""

import functools

import numpy as np
import pytest

from keras_convnext.detection import drawing, pasting, resizing
from tests.backends import on_one_backend
from tests.test_golden import GOLDEN

FOLDER = GOLDEN / "detection"
CASES = ("mask_tiny", "cascade_tiny")
needs_golden = pytest.mark.skipif(not FOLDER.exists(), reason=f"no golden detectors at {FOLDER}")


@functools.cache
def golden(case):
    with np.load(FOLDER / f"{case}.npz") as arrays:
        return {key: arrays[key] for key in arrays if key.startswith(("test.", "scene"))}


def mask_probabilities(arrays, image):
    """Returns the means of the stages' masks of an image's detections, float32 (n, 28, 28)."""
    count = len(arrays["test.detections.0.labels"])
    part = slice(0, count) if image == 0 else slice(count, None)
    labels = arrays[f"test.detections.{image}.labels"]
    logits = [arrays[key][part] for t in range(3) if (key := f"test.stage{t}.mask") in arrays]
    chosen = [stage[np.arange(len(labels)), labels] for stage in logits]
    return np.mean([1 / (1 + np.exp(-stage)) for stage in chosen], 0)


# Pasting


@needs_golden
@on_one_backend
@pytest.mark.parametrize("image", [0, 1])
@pytest.mark.parametrize("case", CASES)
def test_pasted_masks_are_the_published_ones(case, image):
    arrays = golden(case)
    expected = arrays[f"test.final{image}.masks"]
    found = pasting.paste_all(
        mask_probabilities(arrays, image), arrays[f"test.final{image}.boxes"], *expected.shape[1:]
    )
    assert expected.any() and found.shape == expected.shape
    # at the threshold rounding decides: one pixel of a hundred thousand may differ
    assert (found != expected).mean() < 1e-5


@on_one_backend
def test_a_pasted_mask_fills_its_box():
    window, top, left = pasting.paste(np.ones((28, 28)), (3, 5, 13, 25), 40, 30)
    whole = np.zeros((40, 30), bool)
    whole[top : top + window.shape[0], left : left + window.shape[1]] = window
    expected = np.zeros((40, 30), bool)
    expected[5:25, 3:13] = True
    np.testing.assert_array_equal(whole, expected)
    np.testing.assert_array_equal(
        pasting.paste_all(np.ones((1, 28, 28)), [(3, 5, 13, 25)], 40, 30)[0], expected
    )


@on_one_backend
@pytest.mark.parametrize("box", [(5, 5, 5, 20), (7, 7, 7, 7), (9, 3, 4, 8), (np.nan,) * 4])
def test_boxes_without_area_have_empty_masks(box):
    assert not pasting.paste_all(np.ones((1, 28, 28)), [box], 40, 30).any()


@on_one_backend
def test_a_mask_is_computed_in_bands(monkeypatch):
    crop = np.random.default_rng(0).random((28, 28))
    whole, *place = pasting.paste(crop, (2.5, 1.25, 97.0, 118.5), 120, 100)
    monkeypatch.setattr(pasting, "BAND", 700)
    banded, *same = pasting.paste(crop, (2.5, 1.25, 97.0, 118.5), 120, 100)
    assert place == same and 0.2 < whole.mean() < 0.8
    np.testing.assert_array_equal(banded, whole)


# Resizing


@on_one_backend
def test_photos_are_resized_to_the_published_sizes():
    """Sides (height, width) of photos, and what they become within 800 and 1333."""
    sizes = {
        (480, 640): (800, 1067),
        (640, 427): (1199, 800),
        (500, 334): (1198, 800),
        (300, 1200): (333, 1333),
        (800, 1333): (800, 1333),
        (1, 1): (800, 800),
        (1, 8000): (1, 1333),
    }
    for sides, expected in sizes.items():
        pixels = np.zeros((*sides, 3), "uint8")
        assert resizing.fitted(pixels, (1333, 800)).shape == (*expected, 3), sides


@on_one_backend
def test_resizing_is_bilinear_without_antialiasing():
    from keras import ops

    pixels = np.random.default_rng(0).integers(0, 256, (37, 53, 3), "uint8")
    for size in ((80, 91), (20, 13), (37, 99), (1, 1)):
        tensor = ops.convert_to_tensor(pixels[None].astype("float32"))
        expected = ops.image.resize(tensor, size, "bilinear", data_format="channels_last")
        found = resizing.resized(pixels, *size).astype("float32")
        # of what another order of summation rounds to the other side
        assert np.abs(found - ops.convert_to_numpy(expected)[0]).max() < 0.5 + 1e-3


@on_one_backend
def test_there_are_two_fixed_canvases():
    assert resizing.canvas_of((800, 1067)) == (800, 1088)
    assert resizing.canvas_of((1199, 800)) == (1216, 800)
    for sides, expected in {
        (800, 1067): (800, 1344),
        (333, 1333): (800, 1344),
        (800, 800): (800, 1344),
        (1199, 800): (1344, 800),
    }.items():
        assert resizing.canvas_of(sides, (800, 1333)) == expected


# Drawing

PHOTO = np.full((300, 400, 3), 120, "uint8")
BOXES = [(50, 60, 200, 220), (150, 100, 380, 290)]


@on_one_backend
def test_a_picture_shows_masks_boxes_and_names():
    plain = np.asarray(drawing.draw(PHOTO, BOXES, least=1))
    assert plain.shape == PHOTO.shape
    assert (plain != 120).any(-1)[60:221, 50].all()  # the left side of the first box
    assert not (plain != 120).any(-1)[70:90, 60:190].any()
    colours = {tuple(plain[150, 50]), tuple(plain[289, 300])}
    assert len(colours) == 2
    window = np.ones((100, 80), bool)
    masked = np.asarray(
        drawing.draw(PHOTO, BOXES, None, [(window, 80, 70), (window, 150, 250)], 1, 1)
    )
    assert tuple(masked[120, 100]) == tuple(plain[150, 50])  # inside: the colour of its box
    assert (masked[80, 70:150] > masked[120, 100]).any(-1).all()  # its edge is lighter
    kinds = np.asarray(drawing.draw(PHOTO, BOXES, least=1, kinds=[61, 1]))
    assert tuple(kinds[150, 50]) == tuple(kinds[289, 300]) == tuple(plain[289, 300])
    named = np.asarray(drawing.draw(PHOTO, BOXES, ["dog 98 %", "person 91 %"], least=1))
    above = (named != plain).any(-1)
    assert above[45:60, 52:90].mean() > 0.9  # a label above the box


@on_one_backend
@pytest.mark.parametrize("sides", [(1, 1), (3, 200), (40, 30), (2000, 150)])
def test_photos_of_any_size_can_be_drawn_on(sides):
    photo = np.full((*sides, 3), 90, "uint8")
    box = (0, 0, sides[1], sides[0])
    picture = drawing.draw(photo, [box, box, box], ["a long name of a class 97 %"] * 3)
    times = max(1, -(-480 // max(sides)))
    assert picture.size == (sides[1] * times, sides[0] * times)
    assert (np.asarray(picture) != 90).any()


@on_one_backend
def test_labels_do_not_cover_one_another():
    taken = []
    for _ in range(4):
        corner = drawing._place(
            (50, 60, 200, 220), (90, 20), drawing.Image.new("RGB", (400, 300)), taken
        )
        taken.append((*corner, corner[0] + 90, corner[1] + 20))
    pairs = [(a, b) for i, a in enumerate(taken) for b in taken[:i]]
    assert not any(drawing._overlap(*pair) for pair in pairs)


@on_one_backend
def test_nothing_found_is_the_photo():
    np.testing.assert_array_equal(np.asarray(drawing.draw(PHOTO, [], [], [], least=1)), PHOTO)
