"""Reports the measurement of a detector: `result.json`, `classes.csv`, pictures, and a table."""

import keras

from keras_convnext.atomic import write_text
from keras_convnext.cli import console

from ..data.listing import counted
from ..run import pictures, record
from ..run.logs import csv_text
from .detection_mistakes import HEADINGS, SHOWN_SCORE

TABLE_CLASSES = 100  # more lines are read in the file
FILES = ("result.json", "classes.csv", "mistakes.png")


def result_of(name, detector, photos, evaluation):
    """Returns the content of `result.json`; scores are in [0, 1], the undefined is `None`."""
    return {
        "model": name,
        "data": photos.name,
        "path": photos.path,
        "split": photos.split,
        "images": evaluation.box.images,
        "objects": evaluation.box.objects,
        "box": evaluation.box.summary(),
        "mask": evaluation.mask and evaluation.mask.summary(),
        "images_per_second": round(evaluation.images_per_second, 3),
        "transform": {"size": list(detector.size), "canvas": detector.canvas},
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "classes": per_class(evaluation),
        "classes_not_in_the_data": list(evaluation.other_classes),
        "mistakes": [
            {
                "kind": mistake.kind,
                "image": mistake.image,
                "class": mistake.name,
                "box": [round(float(side), 2) for side in mistake.box],
                "value": round(mistake.value, 4),
            }
            for kind in HEADINGS
            for mistake in evaluation.mistakes[kind]
        ],
    }


def per_class(evaluation):
    """Returns a dict per class: its name, number of objects, and its scores, `None` without any."""
    rows = [
        {"class": row.name, "objects": row.objects, "box_ap": row.ap, "box_ap50": row.ap50}
        for row in evaluation.box.classes
    ]
    if evaluation.mask is not None:
        for row, scores in zip(rows, evaluation.mask.classes, strict=True):
            row |= {"mask_ap": scores.ap, "mask_ap50": scores.ap50}
    return rows


def write_report(folder, result, evaluation):
    """Writes `result.json`, `classes.csv` and `mistakes.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / "classes.csv", csv_text(result["classes"]))
    draw_mistakes(evaluation, folder / "mistakes.png")
    record.write_json(folder / "result.json", result)


def draw_mistakes(evaluation, path):
    """Draws the worst mistakes of a `DetectionEvaluation`, under a heading for each kind of which
    there are some; `path` is of the PNG."""
    sections = [
        (heading, [(each.truth, each.found, each.title) for each in evaluation.mistakes[kind]])
        for kind, heading in HEADINGS.items()
        if evaluation.mistakes[kind]
    ]
    note = (
        f"Left: what is annotated. Right: what was detected, with scores from {SHOWN_SCORE:g}. "
        "Each class has one colour; the mistake is framed in red."
    )
    pictures.pairs(sections, note if sections else "No mistakes.", path)


def print_report(result):
    """Prints a table of the classes, if they are few, and the scores."""
    if len(result["classes"]) <= TABLE_CLASSES:
        columns = list(result["classes"][0])
        rows = [
            (console.printable(row["class"]), str(row["objects"]))
            + tuple(_in_percent(row[name]) for name in columns[2:])
            for row in result["classes"]
        ]
        console.print_table([name.replace("_", " ") for name in columns], rows)
        print()
    others = result["classes_not_in_the_data"]
    if others:
        print(f"Not measured: {counted(len(others), 'class')} of the model, absent from the data.")
    for kind in ("box", "mask"):
        if result[kind] is not None:
            scores = (f"{name.upper()} {_in_percent(v)}" for name, v in result[kind].items())
            print(f"{kind}: {', '.join(scores).replace('_', ' ')}")
    print(
        f"{result['model']} on {result['images']} images of {result['data']!r}: "
        f"{', '.join(_headline(result))}, {result['images_per_second']:g} images/s"
    )


def _headline(result):
    return [
        f"{kind} AP {_in_percent(result[kind]['ap'])}"
        for kind in ("box", "mask")
        if result[kind] is not None
    ]


def _in_percent(share):
    return "-" if share is None else f"{100 * share:.2f} %"
