"""Measures each faster form of `keras_convnext/fast/` alone: how fast are models without it?

    python -m benchmarks.forms

writes `benchmarks/results/forms.json` and `forms.md`. One process per backend, variant and task
builds a model with all forms and one model without each of them, which takes the portable form in
its place. They take turns, one step each and in another order each time, so that a disturbance
affects all of them alike; a row says how many times as long a step takes without the form. A second
model with all forms shows how far equal models differ. A form that does not exceed that anywhere it
is taken is to be deleted, unless it is there for memory, for half precision or for an exporter, as
its docstring then says; its rows stay, as the reason. On a CPU.
"""

import argparse
import contextlib
import dataclasses
import itertools
import json
import sys
import time
from pathlib import Path
from unittest import mock

from benchmarks.children import Child, Failed
from benchmarks.configuration import DTYPES, TASKS, Configuration
from benchmarks.contenders import BACKENDS, ENVIRONMENT, keras_models
from benchmarks.flags import pixels, positive, variant
from benchmarks.machine import machine
from benchmarks.medians import ratio, read_results, save_results, spread
from benchmarks.tables import markdown
from keras_convnext.atomic import write_text

RESULTS = Path(__file__).parent / "results" / "forms.json"
VARIANTS = ("convnext_atto", "convnext_tiny", "convnextv2_atto")
HEAD = (
    "backend",
    "variant",
    "task",
    "pixels",
    "batch",
    "dtype",
    "clock",
    "form",
    "seconds with all",
    "times without it",
)
ALL = "all"
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
WARM_UP = 2  # steps: some libraries compile again in the second


def _nothing(*_):
    """Stands for a form: Keras' own operations are taken."""


def _same(function):
    return function


@dataclasses.dataclass(frozen=True)
class Form:
    """One form, and how it is left out.

    Attributes:
        backends, tasks: where it is taken.
        without: `{attribute of the backend's file in fast/: what takes its place}`.
    """

    backends: tuple
    without: dict
    tasks: tuple = TASKS


INFERENCE, TRAINING = ("inference",), ("training",)
EVERYTHING = 2**62
FORMS = {
    "none: how far equal models differ": Form(BACKENDS, {}),
    "residual branch": Form(BACKENDS, {"residual_branch": _nothing}),
    "residual branch in pieces": Form(("torch",), {"WHOLE": EVERYTHING}),
    "factors transposed row by row, in bfloat16": Form(
        ("jax",), {"_reads_rows": lambda x: False}, TRAINING
    ),
    "gradients wait for one another": Form(("jax",), {"_after": lambda dy, x: x}, TRAINING),
    "depthwise convolution": Form(("jax", "torch"), {"depthwise_conv": _nothing}),
    "gradient of the depthwise convolution": Form(
        ("tensorflow",), {"depthwise_conv": _nothing}, TRAINING
    ),
    "small images convolved at once": Form(("torch",), {"SMALL": 0}, TRAINING),
    "products": Form(("jax",), {"dense": _nothing}),
    "products by oneDNN": Form(("torch",), {"_by_onednn": lambda dtype: False}),
    "patches as a product": Form(("jax", "torch"), {"MULTIPLIES_PATCHES": False}),
    "norm": Form(("tensorflow", "torch"), {"layer_norm": _nothing}),
    "gelu with erf": Form(("jax",), {"gelu": _nothing}),
    "gelu with erf, not erfc": Form(("tensorflow",), {"_exact": _same}, TRAINING),
    "large images one by one": Form(("tensorflow",), {"IMAGE": EVERYTHING}, INFERENCE),
    "activation by XLA": Form(("tensorflow",), {"_activation": _same}, TRAINING),
}


def main(argv=None):
    """Returns the exit status: 1 if something could not be measured, else 0."""
    arguments = parser().parse_args(argv)
    if arguments.child:
        print(json.dumps(measured(**json.loads(arguments.child))), flush=True)
        return 0
    found, failed = read_results(arguments.results).get("seconds", {}), False
    named = arguments.backends, arguments.variants, arguments.tasks
    for backend, name, task in itertools.product(*named):
        numbers = f"{arguments.size} {arguments.batch} {arguments.dtype} {arguments.clock}"
        place = f"{backend} {name} {task} {numbers}"
        try:
            found[place] = ask(backend, _request(arguments, backend, name, task))
        except Failed as failure:
            failed = True
            print(f"{place}: {failure}", file=sys.stderr)
        rows = {"seconds": found} | machine("keras", "numpy", *BACKENDS)
        save_results(arguments.results, rows)
    write_text(arguments.results.with_suffix(".md"), table(found) + "\n")
    print(table(found))
    return int(failed)


def parser():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    add = parser.add_argument
    add("--backends", nargs="+", choices=BACKENDS, default=BACKENDS, help="default: all")
    add("--variants", nargs="+", type=variant, default=VARIANTS, help="default: %(default)s")
    add("--tasks", nargs="+", choices=TASKS, default=TASKS, help="default: both")
    add("--forms", nargs="+", choices=FORMS, default=tuple(FORMS), help="default: all")
    add("--batch", type=positive, default=4, help="images per step; default: %(default)s")
    add("--size", type=pixels, default=224, help="pixels; default: %(default)s")
    add("--dtype", choices=DTYPES, default="float32", help="default: %(default)s")
    add("--rounds", type=positive, default=5, help="default: %(default)s")
    add(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: processor time, which other work on the machine disturbs less",
    )
    add("--results", type=Path, default=RESULTS, metavar="JSON", help="default: %(default)s")
    add("--child", help=argparse.SUPPRESS)
    return parser


def _request(arguments, backend, name, task):
    names = ("forms", "batch", "size", "dtype", "rounds", "clock")
    return {name: getattr(arguments, name) for name in names} | {
        "backend": backend,
        "variant": name,
        "task": task,
    }


def ask(backend, request):
    """Returns what `measured` returns, from a process of the backend."""
    environment = ENVIRONMENT | {"KERAS_BACKEND": backend}
    with Child("benchmarks.forms", "--child", json.dumps(request), environment=environment) as it:
        return it.ask()


def measured(backend, variant, task, forms, batch, size, dtype, rounds, clock):
    """Returns `{form: seconds of its model's step in each round}`; `ALL` has all forms."""
    from keras_convnext.variants import VARIANTS

    row = dataclasses.asdict(VARIANTS[variant])
    configuration = Configuration(variant, row, batch, size, dtype, task)
    taken = {name for name in forms if backend in FORMS[name].backends}
    names = [ALL, *(name for name in FORMS if name in taken and task in FORMS[name].tasks)]
    steps = {name: keras_models.ours(configuration) for name in names}
    for name in names:
        for _ in range(WARM_UP):
            _timed(name, steps[name], CLOCKS[clock])
    seconds = {name: [] for name in names}
    for turn in range(rounds):
        first = turn % len(names)  # what comes first in a turn may be slower
        for name in names[first:] + names[:first]:
            seconds[name].append(round(_timed(name, steps[name], CLOCKS[clock]), 5))
    return seconds


def _timed(name, step, clock):
    """Returns the seconds of one step without the form of that name. The form is missing while a
    backend traces the step, and also later: PyTorch never traces."""
    with without(name):
        start = clock()
        step()
        return clock() - start


@contextlib.contextmanager
def without(name):
    """Leaves a form out, or none for `ALL`."""
    from keras_convnext import fast

    with contextlib.ExitStack() as stack:
        for attribute, other in FORMS[name].without.items() if name != ALL else ():
            stack.enter_context(mock.patch.object(fast.forms, attribute, other))
        yield


def table(found):
    """Returns the results as a Markdown table: medians, and the ratios of each round."""
    lines = []
    for place, seconds in found.items():
        whole = spread(seconds[ALL], 3)["median"]
        for name, values in seconds.items():
            if name != ALL:
                times = ratio(values, seconds[ALL])
                least, greatest = times["range"]
                cells = f"{whole:g}", f"{times['median']:.2f} ({least:.2f} to {greatest:.2f})"
                lines.append([*place.split(), name, *cells])
    return markdown(HEAD, lines)


if __name__ == "__main__":
    sys.exit(main())
