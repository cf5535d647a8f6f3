"""Measures the speed of keras_convnext beside every installed peer and the machine's own limit.

    python -m benchmarks.run                        # Tiny, 224 pixels, batch 8, float32
    python -m benchmarks.run --variants convnext_atto convnext_base --batches 1 32 --sizes 384
    python -m benchmarks.run --dtypes bfloat16 --tasks inference --contenders torch transformers
    python -m benchmarks.run --scaling              # grows with size and batch, beside Swin, DeiT
    python -m benchmarks.run --users                # predict and fit of photos, beside Keras' own
    python -m benchmarks.run --quick                # checks that all run; its numbers mean nothing

A configuration is a variant, a size, a batch, a dtype and a task. Each contender of a configuration
is a process of its own that builds, warms up and waits; then they take turns, several rounds, so
that what disturbs the machine disturbs all alike. How to read the table:

- **images/s**: the median of the rounds; a round's value is the batch divided by the median time of
  its steps. Inference takes numpy and returns numpy, through what a user calls
  (`predict_on_batch`; `model(x)` for those named `-call`); a training step ends with the loss.
  With `--users` a step is a pass over photos, see `benchmarks/contenders/users.py`.
- **to eager PyTorch, to keras.applications**: the ratio of images/s within each round, its median
  and range. The second is that on the same backend.
- **of the limit**: the multiply-adds of the model's convolutions and dense layers, two operations
  each, per second, as a fraction of the best matrix product of the same dtype in the same round,
  by any of the installed libraries. A training step counts as three forward passes. 100 % is out
  of reach: depthwise convolutions, norms and GELU are bound by memory. Of other architectures
  (Swin, DeiT, ResNet-50) multiply-adds are not counted.
- **peak memory**: the resident set of the process at most while steps ran, after the warm-up; and
  the same without what was resident right after the imports, before there was a model. On a GPU
  the first is the device's memory (of JAX, which cannot forget a peak, since the beginning).
  Where the system cannot forget one either, the file says `"peak_since": "start"`.
- **build, first step**: seconds until there is a model, and seconds of the first step with all that
  is compiled for it.

All contenders of a configuration are in memory at once; where that is too much, `--fresh` has a new
process for each turn. What could not be measured stands below the table with its reason. bfloat16
is the policy `bfloat16` in inference and `mixed_bfloat16` in training, for the PyTorch peers
`.to(bfloat16)` and autocast.

On a GPU, times are synchronised, images stay on the device between the steps, and `tf32`,
`torch.compile(mode="max-autotune")` and channels last are measured too; `python -m benchmarks.gpu`
is one run of all that in ten minutes. All that is about GPUs is not yet measured.
"""

import argparse
import dataclasses
import itertools
import json
import math
import sys
import tempfile
from pathlib import Path

from benchmarks import scaling, tables
from benchmarks.children import Child, Failed
from benchmarks.configuration import DTYPES, TASKS, USER_TASKS, Configuration
from benchmarks.contenders import BACKENDS, CONTENDERS, PRODUCT, PRODUCTS, exported
from benchmarks.findings import findings
from benchmarks.flags import pixels, positive, variant
from benchmarks.machine import gpus, machine
from benchmarks.medians import read_results, save_results
from benchmarks.rounds import Plan, measure

RESULTS = Path(__file__).parent / "results" / "speed.json"
PACKAGES = ("keras", "tensorflow", "jax", "torch", "transformers", "timm", "numpy")
PACKAGES += ("onnx", "onnxruntime", "openvino")


def main(argv=None):
    """Returns the exit status: 1 if nothing could be measured, else 0."""
    arguments = parse(argv)
    results = known(arguments.results)
    measured = {}
    with tempfile.TemporaryDirectory() as folder:
        for configuration in configurations(arguments):
            found = one(configuration, arguments, folder)
            measured[configuration.name] = found
            print(tables.section(configuration.name, found), flush=True)
            if arguments.results:
                keep(arguments.results, results | measured)
    if arguments.scaling:
        print(scaling.draw(measured, arguments.results.with_suffix(".png")))
    return int(not any(found["contenders"] for found in measured.values()))


STEPS, IMAGES = 5, 20  # of a turn, at least: the first steps after a pause are slower
USUAL = {
    "variants": ["convnext_tiny"],
    "batches": [8],
    "sizes": [224],
    "dtypes": ["float32"],
    "tasks": list(TASKS),
    "rounds": 5,
    "side": 16384 if gpus() else 4096,
    "results": RESULTS,
}
QUICK = {
    "batches": [2],
    "sizes": [32],
    "rounds": 1,
    "steps": 2,
    "side": 256,
    "results": None,
}


SCALING = {
    "batches": [1, 2, 4, 8, 16, 32],
    "sizes": [96, 128, 160, 224, 288, 384],
    "tasks": ["inference"],
    "contenders": [*BACKENDS, "transformers", "transformers-swin", "transformers-deit"],
    "results": RESULTS.with_name("scaling.json"),
}
USERS = {
    "batches": [16],
    "sizes": [96, 224],
    "tasks": list(USER_TASKS),
    "steps": 1,
    "results": RESULTS.with_name("users.json"),
}


def parse(argv):
    parser = flags()
    arguments = parser.parse_args(argv)
    usual = USUAL | (SCALING if arguments.scaling else {}) | (USERS if arguments.users else {})
    usual |= QUICK if arguments.quick else {}
    for name, value in usual.items():
        if getattr(arguments, name) is None:
            setattr(arguments, name, value)
    if arguments.scaling and not arguments.results:
        parser.error("--quick keeps nothing: say by --results where --scaling shall draw.")
    return arguments


def flags():
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.run",
        description=__doc__.partition("\n")[0],
        epilog="contenders:\n" + "\n".join(f"  {row.name:28}{row.about}" for row in _all()),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    several = {"nargs": "+", "metavar": "NAME"}
    add("--variants", type=variant, **several, help="default: convnext_tiny")
    add("--batches", type=positive, nargs="+", metavar="N", help="images; default: 8")
    add("--sizes", type=pixels, nargs="+", metavar="PIXELS", help="default: 224")
    add("--dtypes", choices=DTYPES, **several, help="default: float32; " + _of(DTYPES))
    every = TASKS + USER_TASKS
    add("--tasks", choices=every, **several, help="default: inference, training; " + _of(every))
    add("--contenders", choices=list(CONTENDERS), **several, help="default: all, see below")
    add("--rounds", type=positive, metavar="N", help="turns of each contender; default: 5")
    add(
        "--steps",
        type=positive,
        metavar="N",
        help=f"in a turn; default: {STEPS}, and {IMAGES} images at least",
    )
    add("--side", type=positive, metavar="N", help="of the matrices of the limit")
    add("--fresh", action="store_true", help="a new process each turn: slower, takes less memory")
    add("--patience", type=positive, default=3600, metavar="SECONDS", help="for an answer")
    add("--results", type=Path, metavar="JSON", help="merged by configuration; beside it the table")
    asks = parser.add_mutually_exclusive_group().add_argument
    asks("--scaling", action="store_true", help="also draw how the cost grows with size and batch")
    asks(
        "--users", action="store_true", help="predict and fit of photos, beside keras.applications"
    )
    add("--quick", action="store_true", help="Tiny at 32 pixels once, to see that all runs")
    parser.set_defaults(together=False, deadline=math.inf)  # for `benchmarks.gpu`
    return parser


def _of(names):
    return "of " + ", ".join(names)


def _all():
    return CONTENDERS.values()


def configurations(arguments):
    """Yields the configurations that the flags name."""
    from keras_convnext import VARIANTS

    named = (arguments.tasks, arguments.dtypes, arguments.variants)
    images = list(itertools.product(arguments.sizes, arguments.batches))
    if arguments.scaling:
        images = scaling.cross(arguments.sizes, arguments.batches)
    for task, dtype, name, (size, batch) in itertools.product(*named, images):
        yield Configuration(
            variant=name,
            architecture=dataclasses.asdict(VARIANTS[name]),
            batch=batch,
            size=size,
            dtype=dtype,
            task=task,
            side=arguments.side,
            on_device=bool(gpus()),
        )


def one(configuration, arguments, folder):
    """Measures one configuration; returns the results with hardware and versions."""
    names = contenders(configuration.task, arguments.contenders)
    configuration, failures = with_exports(configuration, names, folder)
    names = [name for name in names if name not in failures]
    steps = arguments.steps or max(STEPS, -(-IMAGES // configuration.batch))
    plan = Plan(arguments.rounds, steps, arguments.fresh, arguments.patience)
    plan = dataclasses.replace(plan, together=arguments.together, deadline=arguments.deadline)
    turns, failed = measure(configuration, names, plan, _progress)
    return {
        **findings(configuration, turns, failures | failed),
        "rounds": plan.rounds,
        "steps": plan.steps,
        **machine(*PACKAGES),
    }


def contenders(task, chosen):
    """Returns the names of the chosen contenders (default: all for this machine) with this task."""
    usual = [row.name for row in _all() if row.gpu in (None, bool(gpus()))]
    names = chosen or usual
    if not set(names) & set(PRODUCTS):
        names = names + [name for name in usual if name in PRODUCTS]
    return [name for name in names if {task, *PRODUCT} & set(CONTENDERS[name].tasks)]


def with_exports(configuration, names, folder):
    """Writes the ONNX files that contenders need, where they are not there yet.

    Returns the configuration with their folder, and `{contender: reason}` where an export failed.
    """
    configuration = dataclasses.replace(configuration, folder=str(folder))
    wanting = {name: CONTENDERS[name].exported for name in names if CONTENDERS[name].exported}
    failures = {}
    for kind in dict.fromkeys(wanting.values()):
        if exported.file_of(configuration, kind).exists():
            continue
        task = json.dumps(dataclasses.asdict(configuration))
        environment = {"KERAS_BACKEND": "torch"}
        try:
            with Child(
                "benchmarks.contenders.exported", task, kind, environment=environment
            ) as child:
                child.ask()
        except Failed as failure:
            of_kind = [name for name, wanted in wanting.items() if wanted == kind]
            failures |= dict.fromkeys(of_kind, f"no export: {failure}")
    return configuration, failures


def known(path):
    """Returns the results of earlier runs.

    Raises:
        SystemExit: if the file is not one of results.
    """
    try:
        return read_results(path) if path else {}
    except (OSError, ValueError) as error:
        raise SystemExit(f"{path} is no file of results: {error}") from None


def _progress(text):
    print(text, file=sys.stderr, flush=True)


def keep(path, results):
    """Writes the results as JSON, and their tables beside them in a `.md` file of the same name."""
    from keras_convnext.atomic import write_text

    save_results(path, results)
    write_text(path.with_suffix(".md"), tables.document(results))


if __name__ == "__main__":
    sys.exit(main())
