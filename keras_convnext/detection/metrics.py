"""COCO's average precision and recall of detected boxes and masks, and a table of the classes.

They are computed by `faster-coco-eval` where it is installed, else by `pycocotools`
(`pip install "keras_convnext[coco]"`); both give the same numbers.
Source: arXiv 1405.0312, and https://cocodataset.org/#detection-eval.
"""

import contextlib
import dataclasses
import io

import numpy as np

from keras_convnext import checks
from keras_convnext.detection.annotations import checked_results, checked_truth

KINDS = {"box": "bbox", "mask": "segm"}
DETECTIONS = (1, 10, 100)  # the most that count per image and class
# Where the arrays of an evaluation hold what: thresholds 0.5, 0.55, ..., 0.95; areas; detections.
AP50, AP75 = 0, 5
ALL, SMALL, MEDIUM, LARGE = range(4)
ONE, TEN, HUNDRED = range(3)


@dataclasses.dataclass(frozen=True)
class ClassScores:
    """The scores of one class.

    Attributes:
        name: of the class.
        objects: number of its objects, without crowds.
        ap: average precision, the mean over the thresholds of IoU 0.5, 0.55, ..., 0.95, in
            [0, 1]; `None` without objects.
        ap50: at IoU 0.5; `None` without objects.
        ar100: the part of its objects that 100 detections per image find, the mean over the same
            thresholds; `None` without objects.

    Example:
        from keras_convnext.detection import ClassScores
        cat = ClassScores("cat", objects=12, ap=0.41, ap50=0.66, ar100=0.52)
        f"{cat.name}: {100 * cat.ap:.1f}"  # "cat: 41.0"
    """

    name: str
    objects: int
    ap: float | None
    ap50: float | None
    ar100: float | None


@dataclasses.dataclass(frozen=True)
class DetectionScores:
    """COCO's scores of a set, each a mean over its classes with objects, in [0, 1].

    A score is `None` where the set has no object that it is about, such as no small one.

    Attributes:
        kind: `"box"` or `"mask"`: what is compared.
        images: number of images.
        objects: number of objects, without crowds.
        ap: average precision, over the thresholds of IoU 0.5, 0.55, ..., 0.95.
        ap50, ap75: at one threshold.
        ap_small, ap_medium, ap_large: of objects below 32 x 32 pixels, up to 96 x 96, and above.
        ar1, ar10, ar100: average recall with so many detections per image and class.
        ar_small, ar_medium, ar_large: with 100, of objects of these sizes.
        classes: a `ClassScores` per category, in the order of their ids.

    Example:
        # pip install "keras-convnext[coco]"
        from keras_convnext.detection import average_precision
        image = {"id": 1, "height": 64, "width": 64}
        cat = {"image_id": 1, "category_id": 1, "bbox": [4, 8, 36, 42]}
        names = [{"id": 1, "name": "cat"}]
        truth = {"images": [image], "annotations": [cat], "categories": names}
        average_precision(truth, [cat | {"score": 0.9}]).ap  # 1.0
    """

    kind: str
    images: int
    objects: int
    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    classes: tuple

    def summary(self):
        """Returns the twelve scores of COCO as a dict, in COCO's order."""
        return {name: getattr(self, name) for name in SCORES}

    def table(self):
        """Returns a dict per class: `class`, `objects`, `ap`, `ap50` and `ar100`."""
        rows = map(dataclasses.asdict, self.classes)
        return [{"class": row.pop("name"), **row} for row in rows]


SCORES = tuple(
    field.name
    for field in dataclasses.fields(DetectionScores)
    if field.name.startswith(("ap", "ar"))
)


def average_precision(truth, results, kind="box"):
    """Compares detections with the objects of a set of images.

    Detections count as in COCO: at most 100 per image and class, those of highest score; on a crowd
    (`iscrowd`) they are neither right nor wrong; in images without objects they are wrong. Those of
    a class without objects in the whole set do not count, as it has no precision.

    Args:
        truth: the content of a COCO annotation file, a dict with the lists `images` (`id`,
            `height`, `width`), `annotations` (`image_id`, `category_id`, `bbox`, `segmentation`,
            `iscrowd`, `area`) and `categories` (`id`, `name`). Boxes are (x, y, width, height) in
            pixels, segmentations polygons or RLE; an `area` that is missing is computed.
        results: detections in COCO's results format, dicts with `image_id`, `category_id`, `score`,
            `bbox` and, for masks, `segmentation` (RLE), such as `Detections.to_coco` returns.
        kind: `"box"` or `"mask"`. Masks count by their own areas, boxes by those in `truth`.

    Returns:
        the `DetectionScores`.

    Raises:
        ValueError: if `truth` or `results` are not such, see the message.
        ImportError: if neither `pycocotools` nor `faster-coco-eval` is installed.

    Example:
        # pip install "keras-convnext[coco]"
        from keras_convnext.detection import average_precision
        image, names = {"id": 1, "height": 64, "width": 64}, [{"id": 1, "name": "cat"}]
        cat = {"image_id": 1, "category_id": 1, "bbox": [4, 8, 36, 42]}
        truth = {"images": [image], "annotations": [cat], "categories": names}
        scores = average_precision(truth, [cat | {"score": 0.9}])
        scores.ap50  # 1.0
    """
    checks.one_of("kind", kind, tuple(KINDS))
    coco, evaluation = _implementation()
    known = checked_truth(truth, masks=kind == "mask")
    found = checked_results(results, known, masks=kind == "mask")
    with contextlib.redirect_stdout(io.StringIO()):  # they print their progress
        sets = [_indexed(coco, known, rows) for rows in (known.objects, found)]
        measured = evaluation(*sets, KINDS[kind])
        measured.params.maxDets = list(DETECTIONS)
        measured.evaluate()
        measured.accumulate()
    return _scores(kind, known, measured.eval["precision"], measured.eval["recall"])


def check_available():
    """Raises an ImportError that says what to install, if nothing computes the scores."""
    _implementation()


def _implementation():
    """Returns the classes of a set and of an evaluation."""
    with contextlib.suppress(ImportError):
        from faster_coco_eval import COCO, COCOeval_faster

        return COCO, COCOeval_faster
    try:
        from pycocotools.coco import COCO
        from pycocotools.cocoeval import COCOeval
    except ImportError:
        raise ImportError(
            "COCO's scores need the package pycocotools or faster-coco-eval: install one with "
            '`pip install "keras_convnext[coco]"`.'
        ) from None
    return COCO, COCOeval


def _indexed(coco, truth, rows):
    found = coco()
    sizes = {truth.images[key]: size for key, size in truth.sizes.items()}
    found.dataset = {
        "images": [
            {"id": number, **dict(zip(("height", "width"), sizes.get(number, ()), strict=False))}
            for number in truth.images.values()
        ],
        "categories": [{"id": number} for number in truth.categories.values()],
        "annotations": rows,
    }
    found.createIndex()
    return found


def _scores(kind, truth, precision, recall):
    """Returns the DetectionScores.

    Args:
        kind: of the scores.
        truth: a `Truth`.
        precision: (thresholds, recalls, classes, areas, detections), -1 where there is none.
        recall: (thresholds, classes, areas, detections), the same.
    """
    sizes = {"small": SMALL, "medium": MEDIUM, "large": LARGE}
    most = {"1": ONE, "10": TEN, "100": HUNDRED}
    values = {
        "ap": precision[:, :, :, ALL, HUNDRED],
        "ap50": precision[AP50, :, :, ALL, HUNDRED],
        "ap75": precision[AP75, :, :, ALL, HUNDRED],
        **{f"ap_{name}": precision[:, :, :, area, HUNDRED] for name, area in sizes.items()},
        **{f"ar{name}": recall[:, :, ALL, place] for name, place in most.items()},
        **{f"ar_{name}": recall[:, :, area, HUNDRED] for name, area in sizes.items()},
    }
    means = {name: _mean(array) for name, array in values.items()}
    objects = np.zeros(len(truth.names), "int64")
    for row in truth.objects:
        objects[row["category_id"] - 1] += not row["iscrowd"]
    columns = [values[name] for name in ("ap", "ap50", "ar100")]
    of_classes = tuple(
        ClassScores(name, int(count), *(_mean(array[..., place]) for array in columns))
        for place, (name, count) in enumerate(zip(truth.names, objects, strict=True))
    )
    return DetectionScores(kind, len(truth.images), int(objects.sum()), **means, classes=of_classes)


def _mean(values):
    known = values[values > -1]
    return float(known.mean()) if known.size else None
