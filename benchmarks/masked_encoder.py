"""Measures what masking costs: FCMAE's encoder beside the same encoder on whole images.

    python -m benchmarks.masked_encoder

Per backend one process; both take turns, so that what disturbs the machine disturbs both alike.
`forward` is `predict_on_batch` of the encoder, with 60 % of the patches hidden and with none;
`training` is `train_on_batch` of a whole FCMAE and of a classifier of 1000 classes. The ratio is
the median over the rounds, masked to whole: below 1 masking is faster. Depthwise convolutions
compute whole maps all the same, so that no ratio can be as low as the visible part.
"""

import argparse
import functools
import json
import statistics
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

RESULTS = Path(__file__).parent / "results" / "masked_encoder.json"
RATIO = 0.6
HEAD = ("backend", "task", "whole", "masked", "masked to whole (lowest to highest round)")


def main(argv=None):
    """Returns the exit status: 1 if nothing could be measured, else 0."""
    arguments = parser().parse_args(argv)
    if arguments.child:
        print(json.dumps(in_this_process(arguments)), flush=True)
        return 0
    names = ("variant", "size", "batch", "rounds")
    found = {name: getattr(arguments, name) for name in names} | {"backends": {}}
    for backend in arguments.backends:
        found["backends"][backend] = measured(backend, arguments)
        save_results(arguments.results, found | machine("keras", "numpy", *arguments.backends))
    print(table(found))
    return int(not any("forward" in row for row in found["backends"].values()))


def parser():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--backends", nargs="+", choices=BACKENDS, default=BACKENDS, help="default: all")
    add("--variant", type=variant, default="convnextv2_atto", help="default: %(default)s")
    add("--size", type=positive, default=224, help="pixels; default: %(default)s")
    add("--batch", type=positive, default=8, help="images; default: %(default)s")
    add("--rounds", type=positive, default=7, help="default: %(default)s")
    add("--results", type=Path, default=RESULTS, metavar="JSON", help="default: %(default)s")
    add("--child", action="store_true", help=argparse.SUPPRESS)
    return parser


def measured(backend, arguments):
    """Returns `{"forward", "training"}`, each with the seconds of a step, or `{"failed"}`."""
    flags = [f"--{n}={getattr(arguments, n)}" for n in ("variant", "size", "batch", "rounds")]
    environment = ENVIRONMENT | {"KERAS_BACKEND": backend}
    return answer_of("benchmarks.masked_encoder", "--child", *flags, environment=environment)


def in_this_process(arguments):
    """Returns what `measured` returns, for the backend of this process."""
    shape = (arguments.batch, arguments.size, arguments.size, 3)
    images = np.random.default_rng(0).integers(0, 256, shape).astype("float32")
    tasks = {"forward": forward, "training": training}
    return {
        name: compared(*build(arguments.variant, images), arguments.rounds)
        for name, build in tasks.items()
    }


def forward(name, images):
    """Returns the steps of the encoder on whole images and on masked ones."""
    from keras import Model

    from keras_convnext.pretraining import FCMAE, VisiblePatches
    from keras_convnext.pretraining.encoder import masked_stages

    fcmae = FCMAE(name, RATIO)

    class Masked(Model):
        def call(self, inputs):
            x = fcmae.normalized(inputs)
            hidden = fcmae.masks(x)
            visible = fcmae.masks.visible(hidden.shape[1] * hidden.shape[2])
            return masked_stages(fcmae.encoder, x, VisiblePatches(hidden, visible))[-1]

    models = fcmae.encoder, Masked()
    return [functools.partial(model.predict_on_batch, images) for model in models]


def training(name, images):
    """Returns the steps of a classifier's training and of an FCMAE's."""
    from keras_convnext import AdamW, ConvNeXt
    from keras_convnext.pretraining import FCMAE

    classifier = ConvNeXt(name, input_shape=images.shape[1:], classifier_activation="softmax")
    classifier.compile(AdamW(1e-4), "sparse_categorical_crossentropy")
    fcmae = FCMAE(name, RATIO)
    fcmae.compile(AdamW(1e-4))
    labels = np.arange(len(images))
    whole = functools.partial(classifier.train_on_batch, images, labels)
    return whole, functools.partial(fcmae.train_on_batch, images)


def compared(whole, masked, rounds, steps=3):
    """Returns seconds per step of both, and their ratio in each round."""
    for step in (whole, masked):
        step(), step()
    seconds = {"whole": [], "masked": []}
    for _ in range(rounds):
        for name, step in (("whole", whole), ("masked", masked)):
            start = time.perf_counter()
            for _ in range(steps):
                step()
            seconds[name].append((time.perf_counter() - start) / steps)
    ratios = [m / w for m, w in zip(seconds["masked"], seconds["whole"], strict=True)]
    medians = {name: round(statistics.median(values), 4) for name, values in seconds.items()}
    return medians | {"ratios": [round(ratio, 3) for ratio in sorted(ratios)]}


def table(found):
    """Returns the results as a Markdown table."""
    lines = []
    for backend, row in found["backends"].items():
        if "failed" in row:
            lines.append([backend, row["failed"], "", "", ""])
            continue
        for task, times in row.items():
            ratios = times["ratios"]
            text = f"{statistics.median(ratios):.2f} ({ratios[0]:.2f} to {ratios[-1]:.2f})"
            both = [f"{1000 * times[name]:.0f} ms" for name in ("whole", "masked")]
            lines.append([backend, task, *both, text])
    return markdown(HEAD, lines)


if __name__ == "__main__":
    sys.exit(main())
