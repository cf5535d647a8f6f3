"""`list` and `info`: the published checkpoints."""

import dataclasses

from keras_convnext.cli import console
from keras_convnext.cli.flags import UsageError
from keras_convnext.pretrained import download, registry, resolve

# rows without a published accuracy come last
ORDERS = {"params": lambda row: row.params, "top1": lambda row: -(row.top1 or 0)}
SHAPES = ("depths", "dims", "kernel_sizes", "stem", "activation", "norm", "layer_scale", "grn")


def run_list(arguments):
    check_sort(arguments.sort, ORDERS, "classifiers")
    rows = registry.search(
        family=arguments.family,
        licence=arguments.licence,
        max_params=arguments.max_params,
        min_top1=arguments.min_top1,
        size=arguments.size,
        variant=arguments.variant,
        label_set=arguments.label_set,
    )
    if arguments.sort:
        rows = sorted(rows, key=ORDERS[arguments.sort])
    if arguments.json:
        console.print_json([row_as_dict(row) for row in rows])
        return 0
    columns = ("name", "params", "size", "top-1", "licence", "where")
    console.print_table(columns, [_row_as_cells(row) for row in rows])
    if not rows:
        console.say("No checkpoint meets all of these conditions.")
    return 0


def check_sort(order, orders, theirs):
    if order not in (None, *orders):
        allowed = " or ".join(orders)
        raise UsageError(f"--sort {order} is for another --task; {theirs} are sorted by {allowed}.")


def _row_as_cells(row):
    top1 = "-" if row.top1 is None else f"{row.top1:.1f}"
    return row.name, f"{row.params / 1e6:.1f}M", str(row.size), top1, row.licence.name, where(row)


def where(row):
    first = row.sources[0]
    return f"hf://{first.repo}" if first.repo else first.url.split("/")[2]


def row_as_dict(row):
    """Returns everything about a row, for JSON."""
    return {"name": row.name, **dataclasses.asdict(row), "top1": row.top1}


def run_info(arguments):
    row = resolve.row_of(arguments.name, arguments.variant)
    if row is None:
        raise ValueError(
            f"{arguments.name!r} is a file; `info` is about published checkpoints, named as by "
            "`keras-convnext list`. For a file use `keras-convnext verify`."
        )
    cached = verified_file(row)
    if arguments.json:
        architecture = dataclasses.asdict(row.architecture())
        console.print_json({**row_as_dict(row), "architecture": architecture, "cached": cached})
    else:
        console.print_table(("field", "value"), facts(row, cached))
    return 0


def verified_file(row):
    """Returns where the verified file of the row is, or `None`."""
    sources = (resolve.source_of(source, row) for source in row.sources)
    found = filter(None, map(download.cached, sources))
    return next(map(str, found), None)


def facts(row, cached=None):
    """Yields (field, text) for everything known about a row; `cached` is where its file is."""
    architecture = row.architecture()
    is_default = registry.IMAGENET.get(row.variant) == row.tag
    yield "name", row.name
    yield "also called", row.id + (', and `weights="imagenet"` of its variant' * is_default)
    yield "family", row.family
    yield from ((field, str(getattr(architecture, field))) for field in SHAPES)
    yield "parameters", f"{row.params:,}"
    yield "classes", f"{row.classes} ({row.label_set})" if row.classes else "none: features only"
    yield "evaluation", row.transform().in_words()
    if row.test_size:
        yield "better at", f"{row.test_size} pixels, crop {row.test_crop_pct}"
    yield "mean, std", f"{architecture.mean}, {architecture.std}"
    yield from (("accuracy", _accuracy_in_words(found)) for found in row.accuracy)
    yield "licence", f"{row.licence.name}, {row.licence.url}"
    yield from (("notice", text) for text in notices(row.licence, row.note))
    for source in row.sources:
        yield "source", source_in_words(source)
    yield "cached", cached or "no"


def notices(licence, note=None):
    """Returns what a `Licence` asks to be said, and the note of a row, as a list."""
    words = (licence.notice, licence.remark, note)
    kinds = (
        "non-commercial use only" * licence.non_commercial,
        "gated: its authors ask for a login and the acceptance of the licence" * licence.gated,
    )
    return [text for text in (*kinds, *words) if text]


def _accuracy_in_words(accuracy):
    top5 = "" if accuracy.top5 is None else f", top-5 {accuracy.top5} %"
    size = "" if accuracy.size is None else f" at {accuracy.size}"
    zero_shot = " (zero-shot)" * accuracy.zero_shot
    return f"top-1 {accuracy.top1} %{top5}{size}{zero_shot}, {accuracy.source}"


def source_in_words(source):
    place = source.url
    if source.repo:
        revision = f"@{source.revision}" if source.revision else ""
        place = f"hf://{source.repo}{revision}/{source.file}"
    pin = f", sha256 {source.sha256}" if source.sha256 else ", no sha256 published"
    return place + pin + ", without classifier" * (not source.top) + ", gated" * source.gated
