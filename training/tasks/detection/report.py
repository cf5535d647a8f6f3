"""The end of a run of detection: COCO's scores at the photographs' own sizes."""

import dataclasses

from keras_convnext.atomic import write_text
from keras_convnext.detection import Detector

from ...evaluate import coco_set, detecting, detection_report
from ...run import record
from ...run.logs import csv_text


def finish(run, served, plan, dataset, progress):
    """Writes the names of the classes and the scores.

    `best.keras` has the weights of the epoch with the highest box AP of the quick validation. With
    them the objects of each validation image are detected at its own size, and COCO's scores are
    measured; `detections.json` has what was detected in COCO's format.

    Returns:
        the task's part of `result.json`.
    """
    categories = dataset.train.file.categories
    record.write_json(run / record.CLASSES, [[str(key), name] for key, name in categories.items()])
    return {"validation": assess(run, dataset.validation, served, plan.config)}


def headline(result):
    """Returns what is said first of a result."""
    parts = [
        f"{kind} AP {scores['ap']:.2%}, AP50 {scores['ap50']:.2%}"
        for kind, scores in result["validation"].items()
        if kind != "images"
    ]
    return "validation " + "; ".join(parts)


def assess(run, split, model, config):
    """Writes `validation_classes.csv`, `validation_mistakes.png` and `detections.json`; returns
    {"box": scores, ...}.

    Args:
        run: the folder of the record.
        split: a `CocoSplit`.
        model: the `DetectionModel`.
        config: a `DetectConfig`.
    """
    categories = [list(pair) for pair in split.file.categories.items()]
    detector = Detector(
        model,
        size=tuple(map(int, config.size)),
        threshold=0,
        labels=categories,
        canvas="fixed",
        batch_size=config.micro_batch,
        upright=False,  # nor are the boxes of annotations turned
    )
    labels = {key: label for label, key in enumerate(split.file.categories)}
    photos = coco_set.of_split(split, config.masks)
    found = detecting.evaluate(detector, photos, labels=labels)
    record.write_json(run / "detections.json", found.results)
    detection_report.draw_mistakes(found, run / "validation_mistakes.png")
    kinds = {"box": found.box, "mask": found.mask}
    kinds = {kind: scores for kind, scores in kinds.items() if scores is not None}
    rows = [
        {"kind": kind, **dataclasses.asdict(row)}
        for kind, scores in kinds.items()
        for row in scores.classes
    ]
    write_text(run / "validation_classes.csv", csv_text(rows))
    return {"images": split.size} | {kind: _numbers(scores) for kind, scores in kinds.items()}


def _numbers(scores):
    """Returns the numbers of `DetectionScores` over all classes."""
    return {"images": scores.images, "objects": scores.objects, **scores.summary()}
