"""The published classifiers, as `list` and `info` show them."""

import dataclasses

from keras_convnext.cli import rows
from keras_convnext.pretrained import registry, resolve

KIND, KINDS = "checkpoint", "classifiers"
COLUMNS = ("name", "params", "size", "top-1", "licence", "where")
NOT_THEIRS = ()  # flags of `list` that mean nothing here
# rows without a published accuracy come last
ORDERS = {"params": lambda row: row.params, "top1": lambda row: -(row.top1 or 0)}
SHAPES = ("depths", "dims", "kernel_sizes", "stem", "activation", "norm", "layer_scale", "grn")


def find(name, variant):
    """Returns the row of a published classifier.

    Raises:
        ValueError: if there is none, or the name is the path of a file.
    """
    row = resolve.row_of(name, variant)
    if row is None:
        raise ValueError(
            f"{name!r} is a file; `info` is about published checkpoints, named as by "
            "`keras-convnext list`. For a file use `keras-convnext verify`."
        )
    return row


def cells(row):
    top1 = "-" if row.top1 is None else f"{row.top1:.1f}"
    return row.name, rows.params(row), str(row.size), top1, row.licence.name, rows.where(row)


def as_dict(row):
    """Returns everything about a row, for JSON."""
    return {"name": row.name, **dataclasses.asdict(row), "top1": row.top1}


def details(row):
    """Returns what `info` has for JSON besides: the architecture."""
    return {"architecture": dataclasses.asdict(row.architecture())}


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
    yield from rows.last_facts(row, cached)


def _accuracy_in_words(accuracy):
    top5 = "" if accuracy.top5 is None else f", top-5 {accuracy.top5} %"
    size = "" if accuracy.size is None else f" at {accuracy.size}"
    zero_shot = " (zero-shot)" * accuracy.zero_shot
    return f"top-1 {accuracy.top1} %{top5}{size}{zero_shot}, {accuracy.source}"
