"""The published detectors, as `list` and `info` show them."""

import dataclasses

from keras_convnext.cli import rows
from keras_convnext.pretrained import registry
from keras_convnext.pretrained.heads import NAMES

KIND, KINDS = "detector", "detectors"
COLUMNS = ("name", "params", "box AP", "mask AP", "licence", "where")
ORDERS = {"params": lambda row: row.params, "box_ap": lambda row: -row.box_ap}
NOT_THEIRS = ("family", "min_top1")
LONGEST_SIDE = 1333  # of the evaluated images


def find(name, variant):
    """Returns the row of that name; raises a ValueError if there is none."""
    return registry.find(name, variant, "detection")


def cells(row):
    scores = (f"{score:.1f}" for score in (row.box_ap, row.mask_ap))
    return row.name, rows.params(row), *scores, row.licence.name, rows.where(row)


def as_dict(row):
    """Returns everything about a row, for JSON."""
    scores = {"box_ap": row.box_ap, "mask_ap": row.mask_ap}
    return {"name": row.name, **dataclasses.asdict(row), **scores}


def details(row):
    """Returns what `info` has for JSON besides: nothing."""
    return {}


def facts(row, cached=None):
    """Yields (field, text) for everything known about a row; `cached` is where its file is."""
    yield "name", row.name
    yield "also called", row.id
    yield "detector", NAMES[row.head]
    yield "variant", row.variant
    yield "parameters", f"{row.params:,}"
    yield "classes", f"{row.classes} ({row.label_set})"
    yield "evaluation", f"short side {row.size}, long side {LONGEST_SIDE} at most"
    for score in row.accuracy:
        scores = f"AP {score.box_ap} % of boxes, {score.mask_ap} % of masks"
        yield "accuracy", f"{scores}, {score.source}"
    yield from rows.last_facts(row, cached)
