"""The table of variants in docs/variants.md, generated from `VARIANTS`: `make readme` writes it."""

import re
import sys
from pathlib import Path

import keras_convnext
from keras_convnext import VARIANTS, count_macs
from keras_convnext.pretrained import registry
from tests.shape_only import shapes_only

PAGE = Path(__file__).parents[1] / "docs" / "variants.md"
BEGIN, END = "<!-- variants: begin -->", "<!-- variants: end -->"


def rows():
    """Yields (factory name, variant, parameters, multiply-adds at 224 x 224) at 1000 classes."""
    for name in keras_convnext.__all__:
        if not re.match("ConvNeXt(?!Block).", name):
            continue
        with shapes_only():
            model = getattr(keras_convnext, name)(weights=None)
        yield name, VARIANTS[model.name], model.count_params(), count_macs(model, (224, 224, 3))


def table():
    order = list(VARIANTS)
    lines = [
        "| factory | blocks per stage | channels | parameters | GMACs | published weights "
        "| `imagenet` |",
        "|---|---|---|---:|---:|---:|---|",
    ]
    for name, variant, parameters, macs in sorted(rows(), key=lambda row: order.index(row[1].name)):
        depths, dims = ("-".join(map(str, x)) for x in (variant.depths, variant.dims))
        imagenet = registry.IMAGENET.get(variant.name)
        cells = (f"`{name}`", depths, dims, f"{parameters:,}", f"{macs / 1e9:.2f}")
        cells += (len(registry.tags(variant.name)), f"`{imagenet}`" if imagenet else "none")
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines)


def replaced(text):
    """Returns `text` with the generated table between its marks."""
    before, rest = text.split(BEGIN)
    return f"{before}{BEGIN}\n{table()}\n{END}{rest.split(END)[1]}"


if __name__ == "__main__":
    if sys.argv[1:] != ["--write"]:
        sys.exit("usage: python -m tests.variant_table --write")
    PAGE.write_text(replaced(PAGE.read_text()))
