"""`list` and `info` of the published detectors."""

import dataclasses

from keras_convnext.cli import console
from keras_convnext.cli.classifier_rows import (
    check_sort,
    notices,
    source_in_words,
    verified_file,
    where,
)
from keras_convnext.cli.flags import UsageError
from keras_convnext.pretrained import registry
from keras_convnext.pretrained.heads import NAMES

COLUMNS = ("name", "params", "box AP", "mask AP", "licence", "where")
ORDERS = {"params": lambda row: row.params, "box_ap": lambda row: -row.box_ap}
NOT_THEIRS = ("family", "min_top1")
LONGEST_SIDE = 1333  # of the evaluated images


def run_list(arguments):
    for field in NOT_THEIRS:
        if getattr(arguments, field) is not None:
            flag = field.replace("_", "-")
            raise UsageError(f"--{flag} is for classifiers only: leave it out.")
    check_sort(arguments.sort, ORDERS, "detectors")
    fields = ("variant", "label_set", "licence", "size", "max_params")
    conditions = {field: getattr(arguments, field) for field in fields}
    found = registry.search(task="detection", **conditions)
    if arguments.sort:
        found = sorted(found, key=ORDERS[arguments.sort])
    if arguments.json:
        console.print_json([_as_dict(row) for row in found])
        return 0
    console.print_table(COLUMNS, [_cells(row) for row in found])
    if not found:
        console.say("No detector meets all of these conditions.")
    return 0


def _cells(row):
    scores = (f"{score:.1f}" for score in (row.box_ap, row.mask_ap))
    return row.name, f"{row.params / 1e6:.1f}M", *scores, row.licence.name, where(row)


def _as_dict(row):
    scores = {"box_ap": row.box_ap, "mask_ap": row.mask_ap}
    return {"name": row.name, **dataclasses.asdict(row), **scores}


def run_info(arguments):
    row = registry.find(arguments.name, arguments.variant, "detection")
    cached = verified_file(row)
    if arguments.json:
        console.print_json({**_as_dict(row), "cached": cached})
    else:
        console.print_table(("field", "value"), facts(row, cached))
    return 0


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
    yield "licence", f"{row.licence.name}, {row.licence.url}"
    yield from (("notice", text) for text in notices(row.licence))
    yield from (("source", source_in_words(source)) for source in row.sources)
    yield "cached", cached or "no"
