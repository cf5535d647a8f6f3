"""Reports a measurement: `result.json`, pictures, and a table on the screen."""

import dataclasses
import math
import os

import keras

from keras_convnext.cli import console

from ..run import pictures, record
from .measuring import transform_for

TABLE_CLASSES = 50  # more lines are read in the file
FILES = ("result.json", "confusion.png", "mistakes.png")


def result_of(classifier, split, evaluation):
    """Returns the content of `result.json`; accuracies are in [0, 1], the undefined is `None`."""
    assessment, transform = evaluation.assessment, transform_for(classifier, split)
    return {
        "model": classifier.name,
        "data": split.name,
        "images": assessment.images,
        "top1": assessment.top1,
        "top5": assessment.top5,
        "loss": assessment.loss,
        "images_per_second": round(evaluation.images_per_second, 1),
        "transform": transform and dataclasses.asdict(transform),
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "classes": per_class(evaluation),
        "mistakes": [
            {
                "image": image_name(split, example.place),
                "is": evaluation.class_names[example.label],
                "predicted": evaluation.class_names[example.predicted],
                "confidence": example.confidence,
            }
            for example in assessment.mistakes
        ],
    }


def per_class(evaluation):
    """Returns a dict for each class: its name, number of images, recall and precision."""
    assessment = evaluation.assessment
    return [
        {"class": name, "images": int(images), "recall": _known(r), "precision": _known(p)}
        for name, images, r, p in zip(
            evaluation.class_names,
            assessment.counts,
            assessment.recall,
            assessment.precision,
            strict=True,
        )
    ]


def _known(value):
    return None if math.isnan(value) else float(value)


def image_name(split, place):
    """Returns the path of an image, or its place in the split."""
    paths = getattr(split, "paths", None)
    return os.fspath(paths[place]) if paths else f"{split.name}[{place}]"


def write_report(folder, result, evaluation):
    """Writes `result.json`, `confusion.png` (up to 2000 classes) and `mistakes.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    assessment, names = evaluation.assessment, evaluation.class_names
    if assessment.confusion is not None:
        pictures.confusion(assessment, names, folder / "confusion.png")
    pictures.mistakes(assessment, names, folder / "mistakes.png")
    record.write_json(folder / "result.json", result)


def print_report(result):
    """Prints a table of the classes, if they are few, and the accuracy."""
    if len(result["classes"]) <= TABLE_CLASSES:
        rows = [
            (
                console.printable(row["class"]),
                str(row["images"]),
                _in_percent(row["recall"]),
                _in_percent(row["precision"]),
            )
            for row in result["classes"]
        ]
        console.print_table(("class", "images", "recall", "precision"), rows)
        print()
    top5 = "" if result["top5"] is None else f", top-5 {_in_percent(result['top5'])}"
    print(
        f"{result['model']} on {result['images']} images of {result['data']!r}: "
        f"top-1 {_in_percent(result['top1'])}{top5}, loss {result['loss']:.4f}, "
        f"{result['images_per_second']:g} images/s"
    )


def _in_percent(share):
    return "-" if share is None else f"{100 * share:.2f} %"
