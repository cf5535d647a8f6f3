"""Measures the time until the first answer, beside keras.applications.

    python -m benchmarks.startup

For each backend, in new processes that take turns, in seconds:

- **import keras**, with its backend, and **import keras_convnext** after it: what the package costs
  beyond Keras; **brings along** names the packages that were not loaded before it;
- **build**: the model with random weights;
- **first step**: the first `predict_on_batch`, or `train_on_batch`, of a batch, with all that is
  traced and compiled for it.

Medians with their range. A round before the first is not counted: after it, the files are in the
system's cache.
"""

import argparse
import dataclasses
import sys
from pathlib import Path

from benchmarks.children import Failed
from benchmarks.configuration import TASKS, Configuration
from benchmarks.contenders import BACKENDS
from benchmarks.flags import pixels, positive, variant
from benchmarks.machine import machine
from benchmarks.medians import save_results, spread
from benchmarks.rounds import process
from benchmarks.tables import markdown

RESULTS = Path(__file__).parent / "results" / "startup.json"
UNCOUNTED = 1  # rounds
HEAD = ("backend", "import keras", "import keras_convnext", "brings along")
HEAD += ("build", "keras.applications", "first step", "keras.applications")


def main(argv=None):
    """Returns the exit status: 1 if no backend could be measured in a task, else 0."""
    arguments = parser().parse_args(argv)
    found = {
        "variant": arguments.variant,
        "batch": arguments.batch,
        "size": arguments.size,
        "rounds": arguments.rounds,
        "tasks": {},
        **machine("keras", "numpy", *arguments.backends),
    }
    for task in arguments.tasks:
        beginnings, failures = measure(arguments, task)
        found["tasks"][task] = {
            "backends": {
                backend: summary(beginnings[backend], beginnings.get(f"applications-{backend}"))
                for backend in arguments.backends
                if backend in beginnings
            },
            "failures": failures,
        }
        save_results(arguments.results, found)
        print(f"{task}\n\n{table(found['tasks'][task])}\n", flush=True)
    return int(not all(of_task["backends"] for of_task in found["tasks"].values()))


def parser():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--backends", nargs="+", choices=BACKENDS, default=BACKENDS, help="default: all")
    add("--tasks", nargs="+", choices=TASKS, default=TASKS, help="default: all")
    add("--variant", type=variant, default="convnext_tiny", help="default: %(default)s")
    add("--batch", type=positive, default=8, metavar="N", help="default: %(default)s")
    add("--size", type=pixels, default=224, metavar="PIXELS", help="default: %(default)s")
    add("--rounds", type=positive, default=5, metavar="N", help="default: %(default)s")
    add("--results", type=Path, default=RESULTS, metavar="JSON")
    return parser


def measure(arguments, task):
    """Returns `{contender: [cost of the start, per round]}` and `{contender: failure}`."""
    from keras_convnext import VARIANTS

    configuration = Configuration(
        variant=arguments.variant,
        architecture=dataclasses.asdict(VARIANTS[arguments.variant]),
        batch=arguments.batch,
        size=arguments.size,
        dtype="float32",
        task=task,
    )
    names = [
        name for backend in arguments.backends for name in (backend, f"applications-{backend}")
    ]
    beginnings, failures = {name: [] for name in names}, {}
    for round_ in range(-UNCOUNTED, arguments.rounds):
        for name in list(beginnings):
            try:
                with process(name, configuration) as child:
                    begun = child.ask()
            except Failed as failure:
                del beginnings[name]
                failures[name] = str(failure)
                continue
            if round_ >= 0:
                beginnings[name].append(begun)
    return beginnings, failures


def summary(ours, applications):
    """Returns the results of one backend and task; `applications` may be `None`."""
    seconds = lambda library: [run["imports"][library]["seconds"] for run in ours]  # noqa: E731
    packages = [run["imports"]["keras_convnext"]["packages"] for run in ours]
    return {
        "import_keras_seconds": spread(seconds("keras"), 3),
        "import_keras_convnext_seconds": spread(seconds("keras_convnext"), 3),
        "brings_along": sorted(set().union(*packages) - {"keras_convnext"}),
        **_steps("", ours),
        **(_steps("applications_", applications) if applications else {}),
    }


def _steps(prefix, runs):
    names = ("build_seconds", "first_step_seconds")
    return {prefix + name: spread([run[name] for run in runs], 3) for name in names}


def table(of_task):
    """Returns the results of a task as a Markdown table."""
    lines = []
    columns = ("import_keras_seconds", "import_keras_convnext_seconds", "brings_along")
    columns += ("build_seconds", "applications_build_seconds")
    columns += ("first_step_seconds", "applications_first_step_seconds")
    for backend, of in of_task["backends"].items():
        lines.append([backend, *(_cell(of.get(column)) for column in columns)])
    failures = [f"- {name}: {why}" for name, why in of_task["failures"].items()]
    return "\n".join([markdown(HEAD, lines), *failures])


def _cell(value):
    if isinstance(value, dict):
        return f"{value['median']:.2f} ({value['range'][0]:.2f} to {value['range'][1]:.2f})"
    return ", ".join(value or ["nothing" if value == [] else ""])


if __name__ == "__main__":
    sys.exit(main())
