"""`list` and `info` of the published UperNets, which segment."""

import dataclasses

from keras_convnext.commands import UsageError, console
from keras_convnext.commands.listing import notices, source_in_words, verified_file, where

COLUMNS = ("name", "params", "crop", "mean IoU", "six scales", "licence", "where")
ORDERS = {"params": lambda row: row.params, "mean_iou": lambda row: -row.mean_iou}
NOT_THEIRS = ("family", "min_top1")


def run_list(arguments):
    for field in NOT_THEIRS:
        if getattr(arguments, field) is not None:
            raise UsageError(f"--{field.replace('_', '-')} is of classifiers: leave it out.")
    if arguments.sort not in (None, *ORDERS):
        raise UsageError(f"--sort {arguments.sort} is of classifiers: {' or '.join(ORDERS)}.")
    found = [row for row in _rows() if _is_wanted(row, arguments)]
    if arguments.sort:
        found = sorted(found, key=ORDERS[arguments.sort])
    if arguments.json:
        console.print_json([_as_dict(row) for row in found])
        return 0
    console.print_table(COLUMNS, [_cells(row) for row in found])
    if not found:
        console.say("No UperNet meets all of these conditions.")
    return 0


def _rows():
    from keras_convnext.segmentation import checkpoints

    return checkpoints.rows()


def _is_wanted(row, arguments):
    licence = arguments.licence or row.licence.name
    return (
        arguments.variant in (None, row.variant)
        and arguments.label_set in (None, row.label_set)
        and arguments.size in (None, row.crop)
        and licence.lower() == row.licence.name.lower()
        and (arguments.max_params is None or row.params <= arguments.max_params)
    )


def _cells(row):
    figures = (f"{figure:.2f}" for figure in (row.mean_iou, row.mean_iou_multi_scale))
    params = f"{row.params / 1e6:.1f}M"
    return row.name, params, str(row.crop), *figures, row.licence.name, where(row)


def _as_dict(row):
    return {"name": row.name, **dataclasses.asdict(row)}


def run_info(arguments):
    from keras_convnext.segmentation import checkpoints

    row = checkpoints.find(arguments.name, arguments.variant)
    cached = verified_file(row)
    if arguments.json:
        console.print_json({**_as_dict(row), "cached": cached})
    else:
        console.print_table(("field", "value"), facts(row, cached))
    return 0


def facts(row, cached=None):
    """Yields (field, text) of all that is known about a row; `cached` is where its file is."""
    yield "name", row.name
    yield "also called", row.id
    yield "variant", row.variant
    yield "parameters", f"{row.params:,}"
    yield "classes", f"{row.classes} ({row.label_set})"
    yield (
        "evaluation",
        f"windows of {row.crop} pixels, images of at most {4 * row.crop} x {row.crop}",
    )
    yield "accuracy", f"mean IoU {row.mean_iou} %, one scale, {row.reference}"
    yield "accuracy", f"mean IoU {row.mean_iou_multi_scale} %, six scales, {row.reference}"
    yield "licence", f"{row.licence.name}, {row.licence.url}"
    yield from (("notice", text) for text in notices(row.licence))
    yield from (("source", source_in_words(source)) for source in row.sources)
    yield "cached", cached or "no"
