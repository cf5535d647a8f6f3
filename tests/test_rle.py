"""Masks as run lengths and polygons as masks, equal to COCO's own code."""

import json

import numpy as np
import pytest

from keras_convnext.detection import rle
from tests.backends import on_one_backend

pytestmark = on_one_backend
RANDOM = np.random.default_rng(0)
MASKS = {
    "empty": np.zeros((5, 7), bool),
    "full": np.ones((5, 7), bool),
    "first pixel": np.eye(1, 12, 0, dtype=bool).reshape(3, 4),
    "last pixel": np.eye(1, 12, 11, dtype=bool).reshape(3, 4),
    "two columns": np.repeat([[False, True, True, False]], 6, 0),
    "noise": RANDOM.random((37, 29)) < 0.5,
    "rows": np.repeat(np.arange(64)[:, None] % 3 == 0, 50, 1),
    "large": np.pad(np.ones((900, 1100), bool), ((700, 0), (300, 900))),
}
POLYGONS = {
    "triangle": [[2.0, 1.0, 30.5, 8.25, 11.0, 25.0]],
    "outside of the image": [[-12.3, -7.0, 80.0, 9.5, 20.0, 90.0, -3.0, 30.0]],
    "crosses itself": [[2, 2, 30, 30, 30, 2, 2, 30]],
    "twice the same corner": [[5, 5, 5, 5, 25, 6, 25, 6, 12, 22, 5, 5]],
    "no area": [[3, 3, 20, 3, 3, 3]],
    "touches all sides": [[0, 0, 40, 0, 40, 32, 0, 32]],
    "two that overlap": [[1, 1, 20, 1, 20, 20, 1, 20], [10, 10, 35, 10, 35, 30, 10, 30]],
    "random": [RANDOM.uniform(-5, 45, 40).tolist()],
}
SIZE = (32, 40)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_masks_are_written_and_read(mask):
    written = json.loads(json.dumps(rle.encode(mask)))
    assert written["size"] == list(mask.shape)
    np.testing.assert_array_equal(rle.decode(written), mask)
    assert rle.area(written) == mask.sum()
    rows, columns = np.nonzero(mask)
    corner = [columns.min(), rows.min()] if mask.any() else [0, 0]
    sides = [columns.max() + 1 - corner[0], rows.max() + 1 - corner[1]] if mask.any() else [0, 0]
    assert rle.bbox(written) == [*corner, *sides]


def test_a_known_mask():
    """4 pixels outside, 2 of the object, 3 outside: in text "423", the digits at 48."""
    mask = np.zeros((3, 3), bool)
    mask[1:, 1] = True
    assert rle.encode(mask) == {"size": [3, 3], "counts": "423"}
    numbers = {"size": [3, 3], "counts": [4, 2, 3]}
    np.testing.assert_array_equal(rle.decode(numbers), mask)
    assert rle.compress(numbers) == rle.encode(mask)
    in_two_runs = {"size": [3, 3], "counts": [4, 1, 0, 1, 3]}
    assert rle.compress(in_two_runs) == rle.encode(mask)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_a_window_is_written_as_the_whole_mask(mask):
    whole = np.pad(mask, ((3, 0), (4, 2)))
    assert rle.encode(mask, whole.shape, 3, 4) == rle.encode(whole)


@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_text_equals_that_of_pycocotools(mask):
    theirs = pytest.importorskip("pycocotools.mask")
    expected = theirs.encode(np.asfortranarray(mask.astype("uint8")))
    ours = rle.encode(mask)
    assert ours["counts"] == expected["counts"].decode()
    np.testing.assert_array_equal(rle.decode(expected), mask)
    assert rle.area(ours) == theirs.area(expected)
    assert rle.bbox(ours) == theirs.toBbox(expected).tolist()


@pytest.mark.parametrize("polygons", POLYGONS.values(), ids=POLYGONS)
def test_polygons_equal_those_of_pycocotools(polygons):
    theirs = pytest.importorskip("pycocotools.mask")
    expected = theirs.merge(theirs.frPyObjects(polygons, *SIZE))
    np.testing.assert_array_equal(rle.decode(polygons, *SIZE), theirs.decode(expected))
    assert rle.compress(polygons, *SIZE)["counts"] == expected["counts"].decode()
    assert rle.area(polygons, *SIZE) == theirs.area(expected)


def test_many_random_polygons_equal_those_of_pycocotools():
    theirs = pytest.importorskip("pycocotools.mask")
    for corners in (3, 4, 8, 60):
        for step in (None, 0.5, 0.1):
            for _ in range(20):
                polygon = RANDOM.uniform(-8, 48, 2 * corners)
                polygon = polygon if step is None else np.rint(polygon / step) * step
                expected = theirs.frPyObjects([polygon.tolist()], *SIZE)[0]
                ours = rle.compress([polygon.tolist()], *SIZE)
                assert ours["counts"] == expected["counts"].decode(), polygon.tolist()


def test_a_rectangle_of_whole_pixels_is_filled():
    mask = rle.decode([[3, 2, 10, 2, 10, 6, 3, 6]], 8, 12)
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (2, 5, 3, 9)
    assert mask.sum() == 4 * 7


@pytest.mark.parametrize(
    "segmentation, message",
    [
        ({"size": [3, 3], "counts": [4, 2, 2]}, "add up to 8 pixels, an image of .* has 9"),
        ({"size": [3, 3], "counts": [4, -2, 7]}, r"must be in \[0, 9\]"),
        ({"size": [3, 3], "counts": [4, 2.5, 2.5]}, "list of whole numbers"),
        ({"size": [3, 3], "counts": [4, 10**30]}, "list of whole numbers"),
        ({"size": [3, 3], "counts": [[4], [2, 3]]}, "list of whole numbers"),
        ({"size": [3, 3], "counts": ""}, "is damaged: it is empty, cut"),
        ({"size": [3, 3], "counts": "42S"}, "is damaged: it is empty, cut"),
        ({"size": [3, 3], "counts": "42\n"}, "is damaged: it is empty, cut"),
        ({"size": [3, 3], "counts": "P" * 50 + "1"}, "numbers above any image"),
        ({"size": [10**9, 10**9], "counts": [10**18]}, "at most 268435456 pixels"),
        ({"size": [3], "counts": [9]}, r"must be \(height, width\), received \[3\]"),
        ({"size": [3, 0], "counts": []}, "`width` must be an integer >= 1"),
        ({"size": [4, 3], "counts": [12]}, r"is of an image of \(4, 3\), the image has \(3, 3\)"),
        ({"counts": [9]}, r"must have 'size' and 'counts', received \['counts'\]"),
        ("423", "dict of run lengths or a list of polygons, received str"),
        ([[1, 2, 3, 4]], "3 corners or more, received 4 numbers"),
        ([[1, 2, 3, 4, 5, 6, 7]], "3 corners or more, received 7 numbers"),
        ([[1, 2, 3, 4, 5, float("nan")]], "must be pixels near the image, not infinite"),
        ([["a", "b", "c", "d", "e", "f"]], "must be a list of numbers x, y"),
        ([[0, 0, 10**6, 0, 0, 10**6]], "outline must be shorter than 838860 pixels"),
    ],
)
def test_damaged_segmentations_end_in_one_sentence(segmentation, message):
    with pytest.raises(ValueError, match=message):
        rle.decode(segmentation, 3, 3)


def test_polygons_need_the_size_of_the_image():
    with pytest.raises(ValueError, match="pass its `height` and `width`"):
        rle.decode([[0, 0, 5, 0, 5, 5]])
    with pytest.raises(
        ValueError, match=r"\(5, 7\) at \(0, 1\) is not within an image of \(5, 7\)"
    ):
        rle.encode(np.ones((5, 7), bool), (5, 7), 0, 1)
