"""Measures photos of many different sizes, one by one, beside keras.applications.

    python -m benchmarks.photo_sizes

A model of input shape `(None, None, 3)`, without the classifier, for which keras.applications wants
one size, predicts the features of each photo by `predict_on_batch`, as a script over a folder does.
In the first pass every size is new, so that whatever a backend compiles per size is compiled; in
the second pass every size was seen. Each contender is a process of its own, and both passes go
through the sizes in the same random order.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks.children import answer_of
from benchmarks.contenders import BACKENDS, ENVIRONMENT
from benchmarks.flags import positive, variant
from benchmarks.machine import machine
from benchmarks.medians import save_results
from benchmarks.tables import markdown

RESULTS = Path(__file__).parent / "results" / "photo_sizes.json"
SIDES = (160, 321)  # pixels
HEAD = ("backend", "model", "first pass", "second pass", "compared with keras.applications")


def main(argv=None):
    """Returns the exit status: 1 if nothing could be measured, else 0."""
    arguments = parser().parse_args(argv)
    if arguments.contender:
        print(json.dumps(predicted(arguments)), flush=True)
        return 0
    found = {"variant": arguments.variant, "photos": arguments.photos, "backends": {}}
    for backend in arguments.backends:
        found["backends"][backend] = {
            name: measured(backend, name, arguments) for name in ("ours", "applications")
        }
        save_results(arguments.results, found | machine("keras", "numpy", *arguments.backends))
    print(table(found))
    seconds = [row for models in found["backends"].values() for row in models.values()]
    return int(not any("first" in row for row in seconds))


def parser():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--backends", nargs="+", choices=BACKENDS, default=BACKENDS, help="default: all")
    add("--variant", type=variant, default="convnext_atto", help="default: %(default)s")
    add("--photos", type=positive, default=40, metavar="N", help="default: %(default)s")
    add("--results", type=Path, default=RESULTS, metavar="JSON", help="default: %(default)s")
    add("--contender", choices=("ours", "applications"), help=argparse.SUPPRESS)
    return parser


def measured(backend, name, arguments):
    """Returns `{"first", "second"}`, seconds of all photos in each pass, or `{"failed"}`."""
    flags = ("--contender", name, "--variant", arguments.variant, "--photos", str(arguments.photos))
    environment = ENVIRONMENT | {"KERAS_BACKEND": backend}
    return answer_of("benchmarks.photo_sizes", *flags, environment=environment)


def predicted(arguments):
    """Predicts the photos twice in this process and returns the seconds of each pass."""
    model = build(arguments.contender, arguments.variant)
    model.predict_on_batch(np.zeros((1, 128, 128, 3), "uint8"))  # the backend's own start
    seconds = {}
    for number in ("first", "second"):
        start = time.perf_counter()
        for photo in photos(arguments.photos):
            model.predict_on_batch(photo)
        seconds[number] = round(time.perf_counter() - start, 3)
    return seconds


def build(contender, name):
    """Returns a model from images of any size to pooled features, with random weights."""
    import keras_convnext

    arguments = {"include_top": False, "pooling": "avg", "input_shape": (None, None, 3)}
    if contender == "ours":
        return keras_convnext.ConvNeXt(name, **arguments)
    # the function behind all of its factories: there is none for the small variants
    from keras.src.applications.convnext import ConvNeXt

    row = keras_convnext.VARIANTS[name]
    return ConvNeXt(row.depths, row.dims, weights=None, **arguments)


def photos(count):
    """Yields uint8 images `(1, height, width, 3)`, no two of one size."""
    random, sizes = np.random.default_rng(0), set()
    while len(sizes) < count:
        size = tuple(random.integers(*SIDES, 2).tolist())
        if size not in sizes:
            sizes.add(size)
            yield random.integers(0, 256, (1, *size, 3), "uint8")


def table(found):
    """Returns the results as a Markdown table, in seconds for all photos."""
    lines = []
    for backend, models in found["backends"].items():
        theirs = models["applications"]
        for name, row in models.items():
            if "failed" in row:
                lines.append([backend, name, row["failed"], "", ""])
                continue
            ratios = [f"{theirs[p] / row[p]:.2f}" for p in ("first", "second") if p in theirs]
            seconds = [f"{row[number]:.1f} s" for number in ("first", "second")]
            lines.append([backend, name, *seconds, " and ".join(ratios)])
    return markdown(HEAD, lines)


if __name__ == "__main__":
    sys.exit(main())
