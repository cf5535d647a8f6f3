"""Runs one contender in its own process, which `benchmarks.rounds` starts.

    python -m benchmarks.contender_process NAME CONFIGURATION

imports the libraries, builds, makes the first step (with whatever is compiled for it) and a few
more, says so, and then answers each request `{"steps": n}` by the seconds of n steps and the peak
of memory during them.
"""

import functools
import importlib
import json
import os
import sys
import time

from benchmarks import memory
from benchmarks.configuration import Configuration
from benchmarks.contenders import CONTENDERS, device

WARM_UP = 2  # steps after the first: some libraries compile again in the second


def main(name, configuration):
    serve(lambda: begin(CONTENDERS[name], Configuration(**json.loads(configuration))))


def serve(start):
    """Says what `start` tells of a contender's beginning, and answers requests until they end.

    Args:
        start: a function that returns the step and what building it cost, a dict.
    """
    say = functools.partial(print, file=_answers(), flush=True)
    try:
        step, beginning = start()
        say(json.dumps(beginning))
        for line in sys.stdin:
            say(json.dumps(measure(step, json.loads(line)["steps"])))
    except Exception as error:
        say(json.dumps({"failed": sentence(error)}))
        raise


def _answers():
    """Returns the standard output and sends what libraries print to the error output."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    return answers


def begin(contender, configuration):
    """Returns the warmed-up step, and what building it cost.

    Raises:
        Unsupported, ImportError or whatever the library does: the contender cannot take part.
    """
    return started(contender, configuration, lambda r: check(r, configuration, contender))


def started(contender, configuration, check_result):
    """Returns the warmed-up step of a row of contenders, and what building it cost.

    Args:
        contender: has `libraries`, `build` and `options`, as of `Contender`.
        configuration: what its function takes.
        check_result: called with what the first step returns; raises if that is wrong.
    """
    imports = {library: _imported(library) for library in contender.libraries}
    before = memory.resident()
    module, _, function = contender.build.partition(":")
    build = getattr(importlib.import_module(f"benchmarks.contenders.{module}"), function)
    step, build_seconds = _timed(lambda: build(configuration, **contender.options))
    result, first_seconds = _timed(step)
    check_result(result)
    for _ in range(WARM_UP):
        step()
    return step, {
        "imports": imports,
        "after_imports_bytes": before,
        "build_seconds": build_seconds,
        "first_step_seconds": first_seconds,
        "device": device.name(),
    }


def _imported(library):
    """Returns the seconds that an import took, and the packages that it loaded."""
    before = set(sys.modules)
    _, seconds = _timed(lambda: importlib.import_module(library))
    packages = {module.partition(".")[0] for module in set(sys.modules) - before}
    packages -= {module.partition(".")[0] for module in before} | sys.stdlib_module_names
    return {"seconds": seconds, "packages": sorted(packages)}


def _timed(function):
    start = time.perf_counter()
    result = function()
    device.synchronise()
    return result, time.perf_counter() - start


def check(result, configuration, contender):
    """What a step gave is what was asked for.

    Raises:
        ValueError: if it is not.
    """
    import numpy as np

    result = np.asarray(result, "float32")
    predicts = configuration.task in ("inference", "predict") and contender.tasks != ("product",)
    shape = (configuration.images, 1000) if predicts else ()
    if result.shape != shape or not np.isfinite(result).all():
        raise ValueError(f"a step gave numbers of shape {result.shape}, expected finite {shape}")


def measure(step, steps):
    """Returns the seconds of each step, and the peak memory of these steps (or since the start)."""
    try:
        memory.forget_peak()
        since = "steps"
    except OSError:
        since = "start"
    device.forget_peak()
    seconds = [_timed(step)[1] for _ in range(steps)]
    peaks = {"peak_bytes": memory.peak(), "device_peak_bytes": device.peak()}
    return {"seconds": seconds, "peak_since": since, **peaks}


def sentence(error):
    text = " ".join(str(error).split()) or "no reason given"
    kind = type(error).__name__
    return text if kind in ("Unsupported", "ModuleNotFoundError") else f"{kind}: {text[:300]}"


if __name__ == "__main__":
    main(*sys.argv[1:])
