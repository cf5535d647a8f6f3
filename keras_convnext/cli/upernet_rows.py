"""`list` and `info` of the published UperNets, which segment."""

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

COLUMNS = ("name", "params", "crop", "mean IoU", "six scales", "licence", "where")
ORDERS = {"params": lambda row: row.params, "mean_iou": lambda row: -row.mean_iou}
NOT_THEIRS = ("family", "min_top1")


def run_list(arguments):
    for field in NOT_THEIRS:
        if getattr(arguments, field) is not None:
            flag = field.replace("_", "-")
            raise UsageError(f"--{flag} is for classifiers only: leave it out.")
    check_sort(arguments.sort, ORDERS, "UperNets")
    found = _search(arguments)
    if arguments.sort:
        found = sorted(found, key=ORDERS[arguments.sort])
    if arguments.json:
        console.print_json([_as_dict(row) for row in found])
        return 0
    console.print_table(COLUMNS, [_cells(row) for row in found])
    if not found:
        console.say("No UperNet meets all of these conditions.")
    return 0


def _search(arguments):
    fields = ("variant", "label_set", "licence", "size", "max_params")
    conditions = {field: getattr(arguments, field) for field in fields}
    return registry.search(task="segmentation", **conditions)


def _cells(row):
    scores = (f"{score:.2f}" for score in (row.mean_iou, row.mean_iou_multi_scale))
    params = f"{row.params / 1e6:.1f}M"
    return row.name, params, str(row.size), *scores, row.licence.name, where(row)


def _as_dict(row):
    scores = {"mean_iou": row.mean_iou, "mean_iou_multi_scale": row.mean_iou_multi_scale}
    return {"name": row.name, **dataclasses.asdict(row), "crop": row.size, **scores}


def run_info(arguments):
    row = registry.find(arguments.name, arguments.variant, "segmentation")
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
    yield "licence", f"{row.licence.name}, {row.licence.url}"
    yield from (("notice", text) for text in notices(row.licence))
    yield from (("source", source_in_words(source)) for source in row.sources)
    yield "cached", cached or "no"
