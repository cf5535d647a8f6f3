"""The published UperNets, which segment, as `list` and `info` show them."""

import dataclasses

from keras_convnext.cli import rows
from keras_convnext.pretrained import registry

KIND, KINDS = "UperNet", "UperNets"
COLUMNS = ("name", "params", "crop", "mean IoU", "six scales", "licence", "where")
ORDERS = {"params": lambda row: row.params, "mean_iou": lambda row: -row.mean_iou}
NOT_THEIRS = ("family", "min_top1")


def find(name, variant):
    """Returns the row of that name; raises a ValueError if there is none."""
    return registry.find(name, variant, "segmentation")


def cells(row):
    scores = (f"{score:.2f}" for score in (row.mean_iou, row.mean_iou_multi_scale))
    return row.name, rows.params(row), str(row.size), *scores, row.licence.name, rows.where(row)


def as_dict(row):
    """Returns everything about a row, for JSON."""
    scores = {"mean_iou": row.mean_iou, "mean_iou_multi_scale": row.mean_iou_multi_scale}
    return {"name": row.name, **dataclasses.asdict(row), "crop": row.size, **scores}


def details(row):
    """Returns what `info` has for JSON besides: nothing."""
    return {}


def facts(row, cached=None):
    """Yields (field, text) for everything known about a row; `cached` is where its file is."""
    yield "name", row.name
    yield "also called", row.id
    yield "variant", row.variant
    yield "parameters", f"{row.params:,}"
    yield "classes", f"{row.classes} ({row.label_set})"
    yield (
        "evaluation",
        f"windows of {row.size} pixels, images of at most {4 * row.size} x {row.size}",
    )
    for score in row.accuracy:
        scales = "one scale" if score.scales == 1 else "six scales"
        yield "accuracy", f"mean IoU {score.mean_iou} %, {scales}, {score.source}"
    yield from rows.last_facts(row, cached)
