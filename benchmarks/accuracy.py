"""Draws published accuracy against measured speed, from the results of `benchmarks.run`.

    python -m benchmarks.run --variants convnext_tiny convnext_small convnext_base \\
        --sizes 224 384 --tasks inference
    python -m benchmarks.accuracy

A point is a model at a size for which an accuracy is published: ImageNet-1K top-1, trained on
ImageNet-1K alone (ours by `convnext_*.fb_in1k`, see `keras-convnext list`; the peers' from
`contenders/peers.py`); and the images per second of one contender. Points of one contender and size
are joined.
"""

import argparse
import sys
from pathlib import Path

from benchmarks.configuration import DTYPES
from benchmarks.contenders import BACKENDS, CONTENDERS
from benchmarks.contenders.peers import PEERS
from benchmarks.flags import positive
from benchmarks.medians import read_results
from benchmarks.run import RESULTS

RECIPE = "fb_in1k"  # the tag of the weights whose accuracies the paper compares with the peers'
SHOWN = (*BACKENDS, "tensorflow-onednn", "transformers")
SHOWN += tuple(f"transformers-{kind}" for kind in PEERS)


def main(argv=None):
    """Returns the exit status: 1 if the results have no point, else 0."""
    arguments = parser().parse_args(argv)
    found = points(read_results(arguments.results), arguments.batch, arguments.dtype)
    if not found:
        what = f"inference in {arguments.dtype} at batch {arguments.batch} with published accuracy"
        print(f"{arguments.results} has no {what}; see --help.", file=sys.stderr)
        return 1
    print(draw(found, arguments))
    return 0


def parser():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--results", type=Path, default=RESULTS, metavar="JSON", help="default: %(default)s")
    add("--batch", type=positive, default=8, metavar="N", help="default: %(default)s")
    add("--dtype", choices=DTYPES, default="float32", help="default: %(default)s")
    picture = RESULTS.with_name("accuracy_speed.png")
    add("--picture", type=Path, default=picture, metavar="PNG", help="default: %(default)s")
    return parser


def top1(contender, variant, size):
    """Returns `(title, percent)` of a contender's model, or `None` if no accuracy is published."""
    from keras_convnext.pretrained import registry

    if kind := CONTENDERS[contender].peer:
        peer = PEERS[kind].get(variant)
        return (peer.title, peer.top1[size]) if peer and size in peer.top1 else None
    tags = RECIPE, f"{RECIPE}_{size}"
    rows = [row for row in registry.rows() if row.variant == variant and row.tag in tags]
    published = [a.top1 for row in rows for a in row.accuracy if a.size == size and a.top1]
    return (variant, published[0]) if published else None


def points(results, batch, dtype):
    """Returns `{(contender, size): [(images per second, percent, title)]}`, the fastest first.

    Args:
        results: of `benchmarks.run`.
        batch, dtype: those of the configurations that are taken.
    """
    found = {}
    wanted = {"batch": batch, "dtype": dtype, "task": "inference"}
    for of in results.values():
        configuration = of["configuration"]
        if not wanted.items() <= configuration.items():
            continue
        variant, size = configuration["variant"], configuration["size"]
        for name in [name for name in SHOWN if name in of["contenders"]]:
            if published := top1(name, variant, size):
                title, percent = published
                rate = of["contenders"][name]["images_per_second"]["median"]
                found.setdefault((name, size), []).append((rate, percent, title))
    return {line: sorted(of_line, reverse=True) for line, of_line in found.items()}


def draw(found, arguments):
    """Writes the PNG, a line per contender and size; returns its path."""
    from matplotlib.figure import Figure

    from keras_convnext.atomic import replacing

    figure = Figure(figsize=(8, 5), layout="constrained")
    panel = figure.subplots()
    names = list(dict.fromkeys(name for name, _ in found))
    for (name, size), of_line in sorted(found.items()):
        rates, percents, titles = zip(*of_line, strict=True)
        style = "-" if size == 224 else "--"
        panel.plot(
            rates,
            percents,
            style,
            color=f"C{names.index(name)}",
            marker="o",
            label=f"{name} {size}px",
        )
        if place := _place_of_titles(name, names):
            for rate, percent, title in of_line:
                panel.annotate(title, (rate, percent), place, textcoords="offset points")
    panel.set(xscale="log", ylabel="published ImageNet-1K top-1, %")
    panel.set_xlabel(f"measured images per second, batch {arguments.batch}, {arguments.dtype}")
    panel.xaxis.set_major_formatter("{x:g}")
    panel.xaxis.set_minor_formatter("{x:g}")
    panel.margins(x=0.2)
    panel.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize="small")
    with replacing(arguments.picture) as draft:
        figure.savefig(draft, dpi=150)
    return arguments.picture


def _place_of_titles(name, names):
    """Returns where the titles of a line stand, in points, or `None`: once is enough for ours."""
    if CONTENDERS[name].peer:
        return 4, -10
    first = next((other for other in names if not CONTENDERS[other].peer), None)
    return (4, 6) if name == first else None


if __name__ == "__main__":
    sys.exit(main())
