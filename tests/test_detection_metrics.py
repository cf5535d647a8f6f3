"""COCO's scores: equal to pycocotools', on sets with everything that a set may have."""

import contextlib
import copy
import io
import json

import numpy as np
import pytest

from keras_convnext.detection import rle
from keras_convnext.detection.metrics import SCORES, average_precision
from tests.annotated_shapes import CATEGORIES, CROWDED, EMPTY, tiny_set
from tests.backends import on_one_backend

pytest.importorskip("pycocotools")
pytestmark = on_one_backend

KINDS = {"box": "bbox", "mask": "segm"}


@pytest.fixture(scope="module")
def truth():
    return tiny_set()[0]


def exact(truth):
    """The ground truth as results: a detection for each object but the crowds."""
    return [
        {
            **{name: row[name] for name in ("image_id", "category_id", "bbox", "segmentation")},
            "score": 0.9,
        }
        for row in truth["annotations"]
        if not row["iscrowd"]
    ]


def inexact(truth, seed=0):
    """Detections that are shifted, of other classes, twice there, missing, or of nothing."""
    random, found = np.random.default_rng(seed), []
    sizes = {row["id"]: (row["height"], row["width"]) for row in truth["images"]}
    for row in truth["annotations"] * 3:
        height, width = sizes[row["image_id"]]
        x, y, w, h = np.add(row["bbox"], random.normal(0, 2, 4)).round(2)
        x, y = min(max(x, 0), width - 4), min(max(y, 0), height - 4)
        w, h = min(max(w, 3), width - x), min(max(h, 3), height - y)
        mask = np.zeros((height, width), bool)
        mask[int(y) : int(np.ceil(y + h)), int(x) : int(np.ceil(x + w))] = True
        if random.random() < 0.8:
            found.append(
                {
                    "image_id": row["image_id"],
                    "category_id": int(random.choice([row["category_id"]] * 3 + [3, 7, 99])),
                    "bbox": [float(side) for side in (x, y, w, h)],
                    "segmentation": rle.encode(mask),
                    "score": float(random.random().__round__(1)),  # many are equal
                }
            )
    empty = truth["images"][EMPTY]["id"]
    return [*found, {**found[0], "image_id": empty, "segmentation": _full(sizes[empty])}]


def _full(size):
    return rle.encode(np.ones(size, bool))


def reference(truth, results, kind, folder):
    """The twelve numbers as pycocotools itself computes them from files."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = copy.deepcopy(truth)
    for row in truth["annotations"]:
        row["id"] += 1  # it takes an object of id 0 for one that was not found
    keys = ("image_id", "category_id", "score", {"box": "bbox", "mask": "segmentation"}[kind])
    (folder / "truth.json").write_text(json.dumps(truth))
    (folder / "found.json").write_text(json.dumps([{k: r[k] for k in keys} for r in results]))
    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(folder / "truth.json")
        measured = COCOeval(known, known.loadRes(str(folder / "found.json")), KINDS[kind])
        measured.evaluate()
        measured.accumulate()
        measured.summarize()
    return [None if value == -1 else value for value in measured.stats]


@pytest.mark.parametrize("kind", KINDS)
def test_scores_are_those_of_pycocotools(truth, kind, tmp_path, capsys):
    for seed in (0, 1):
        results = inexact(truth, seed)
        found = average_precision(truth, results, kind)
        expected = reference(truth, results, kind, tmp_path)
        assert list(found.summary()) == list(SCORES)
        assert list(found.summary().values()) == pytest.approx(expected, abs=1e-12)
        assert 0.1 < found.ap < 0.9 and found.ap_large is None
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("kind", KINDS)
def test_the_ground_truth_as_detections_scores_one(truth, kind):
    """Although the ids of the objects begin with 0."""
    found = average_precision(truth, exact(truth), kind)
    assert (found.kind, found.images, found.objects) == (kind, 5, 15)
    assert (found.ap, found.ap50, found.ap75, found.ap_small, found.ar100) == (1, 1, 1, 1, 1)
    assert found.table() == [
        {"class": name, "objects": objects, "ap": score, "ap50": score, "ar100": score}
        for name, objects, score in zip(
            CATEGORIES.values(), (8, 3, 4, 0), (1, 1, 1, None), strict=True
        )
    ]


@pytest.mark.parametrize("kind", KINDS)
def test_without_detections_the_score_is_zero(truth, kind):
    found = average_precision(truth, [], kind)
    assert (found.ap, found.ap50, found.ar1, found.ar100, found.ap_large) == (0, 0, 0, 0, None)
    assert [row.ap for row in found.classes] == [0, 0, 0, None]


def test_what_counts_as_in_coco(truth):
    """Crowds take detections without a score; images without objects make them wrong; a class
    without objects has no precision; polygons and lengths are masks, too."""
    crowd = next(row for row in truth["annotations"] if row["iscrowd"])
    assert crowd["image_id"] == truth["images"][CROWDED]["id"]
    on_it = [{**exact(truth)[0], **{k: crowd[k] for k in ("image_id", "category_id", "bbox")}}]
    assert average_precision(truth, on_it + exact(truth)).ap == 1
    wrong = {**exact(truth)[0], "image_id": truth["images"][EMPTY]["id"], "score": 1.0}
    assert average_precision(truth, [wrong, *exact(truth)]).classes[0].ap < 1
    of_nothing = {**wrong, "category_id": 99}
    assert average_precision(truth, [of_nothing, *exact(truth)]).ap == 1
    image = {"id": 1, "height": 20, "width": 20}
    square = {"image_id": 1, "category_id": 5, "segmentation": [[2, 2, 12, 2, 12, 12, 2, 12]]}
    mask = np.zeros((20, 20), bool)
    mask[2:12, 2:12] = True
    runs = np.diff(np.flatnonzero(np.diff(mask.T.ravel(), prepend=False)), prepend=0).tolist()
    lengths = {"size": [20, 20], "counts": [*runs, 400 - sum(runs)]}
    small = {"images": [image], "annotations": [square], "categories": [{"id": 5}]}
    results = [{"image_id": 1, "category_id": 5, "score": 0.5, "segmentation": lengths}]
    found = average_precision(small, results, "mask")
    assert (found.ap, found.classes[0].name) == (pytest.approx(1), "5")
    half = copy.deepcopy(lengths)
    half["counts"] = [runs[0], 10, 390 - runs[0]]
    assert average_precision(small, [{**results[0], "segmentation": half}], "mask").ap50 == 0


def test_order_and_numbering_do_not_matter(truth):
    results = inexact(truth)
    expected = average_precision(truth, results).summary()
    other = copy.deepcopy(truth)
    for rows in other.values():
        rows.reverse()
    scaled = [{**row, "score": row["score"] / 7 - 3} for row in results]
    assert average_precision(other, scaled).summary() == pytest.approx(expected)
    numbers = {row["id"]: place for place, row in enumerate(other["images"][::-1])}
    for row in (*other["annotations"], *scaled):
        row["image_id"] = numbers[row["image_id"]]
    for row in other["images"]:
        row["id"] = numbers[row["id"]]
    for row in other["annotations"]:
        del row["id"]  # not needed
    assert average_precision(other, scaled).summary() == pytest.approx(expected)


def test_false_detections_below_all_others_cost_nothing_and_above_them_something(truth):
    found = exact(truth)
    wrong = [{**row, "bbox": [0.0, 0.0, 1.0, 1.0], "score": 0.1} for row in found]
    assert average_precision(truth, found + wrong).ap == 1
    assert average_precision(truth, found + [{**r, "score": 1.0} for r in wrong]).ap < 0.6
    half = average_precision(truth, found[::2])
    assert half.ap < 1 and half.ar100 < 1 and half.ar1 <= half.ar10 <= half.ar100


def without(row, *names):
    return {key: value for key, value in row.items() if key not in names}


WRONG = {
    "no list": (lambda t, r: t.pop("images"), "has no list 'images'"),
    "no images": (lambda t, r: t["images"].clear(), "has no images"),
    "image twice": (lambda t, r: t["images"].append(t["images"][0]), "image id 100"),
    "category twice": (lambda t, r: t["categories"].append({"id": 7}), "category id 7"),
    "object twice": (lambda t, r: t["annotations"].append(t["annotations"][1]), "annotation id 2"),
    "unknown image": (lambda t, r: t["annotations"][0].update(image_id=5), "image_id 5"),
    "unknown category": (lambda t, r: r[0].update(category_id=4), "category_id 4"),
    "text id": (lambda t, r: t["images"][0].update(id="a"), "whole number"),
    "negative box": (lambda t, r: t["annotations"][0].update(bbox=[0, 0, -1, 5]), "bbox of four"),
    "box of NaN": (lambda t, r: r[0].update(bbox=[0, 0, float("nan"), 5]), "bbox of four"),
    "no box": (lambda t, r: r[0].pop("bbox"), "bbox of four"),
    "huge score": (lambda t, r: r[0].update(score=10**400), "finite score"),
    "huge box": (lambda t, r: r[0].update(bbox=[1, 2, 3, 10**400]), "four finite numbers"),
    "score": (lambda t, r: r[0].update(score=float("inf")), "finite score"),
    "no score": (lambda t, r: r[0].pop("score"), "finite score"),
    "crowd": (lambda t, r: t["annotations"][0].update(iscrowd=2), "iscrowd"),
    "area": (lambda t, r: t["annotations"][0].update(area=-1), "area"),
    "no dict": (lambda t, r: r.append([1]), "must be a dict"),
}


@pytest.mark.parametrize("change, message", WRONG.values(), ids=WRONG)
def test_what_cannot_be_compared_is_refused(truth, change, message):
    truth = copy.deepcopy(truth)
    results = exact(truth)
    change(truth, results)
    with pytest.raises(ValueError, match=message):
        average_precision(truth, results)


def test_masks_that_cannot_be_compared_are_refused(truth):
    results = exact(truth)
    for mask, message in (
        (None, "no segmentation"),
        ([], "no segmentation"),
        (_full((3, 3)), "result number 1 has a mask that cannot be read"),
        ({"size": [120, 160], "counts": "0"}, "cannot be read"),
        ({"size": [120, 160], "counts": [5, 2**40]}, "cannot be read"),
        ([[0, 0, 1e300, 0, 1e300, 1e300]], "cannot be read"),
    ):
        changed = [{**results[0], "segmentation": mask}, *results[1:]]
        with pytest.raises(ValueError, match=message):
            average_precision(truth, changed, "mask")
    with pytest.raises(ValueError, match="`kind` must be one of"):
        average_precision(truth, results, "boxes")
    with pytest.raises(ValueError, match="must be a list"):
        average_precision(truth, {"image_id": 1})
