"""Measures detectors, RoIAlign and non-maximum suppression beside torchvision's.

    python -m benchmarks.detection                          # Tiny, 800 x 1333 pixels, batch 1
    python -m benchmarks.detection --peer_python ~/env/bin/python   # where torchvision imports
    python -m benchmarks.detection --quick                  # checks that all run; measures nothing

Of each subject every contender is a process of its own that builds, warms up and waits; then they
take turns, several rounds. The peer of Mask R-CNN is torchvision's, with the ConvNeXt-T of
transformers; torchvision has no Cascade R-CNN. Where torchvision does not import, its rows are left
out with the reason; `--peer_python` names the interpreter of an environment in which it does,
beside torch, transformers and numpy.

Rates are images per second, and for the operations calls per second: RoIAlign of 1000 boxes from
four maps of 256 channels, non-maximum suppression of 1000 boxes. Peak memory is the resident set of
the process at most while steps ran, and without what was resident after the imports.
"""

import argparse
import contextlib
import dataclasses
import json
import sys
import time
from pathlib import Path

import numpy as np

from benchmarks import contender_process
from benchmarks.children import Child, Failed
from benchmarks.contenders import BACKENDS, ENVIRONMENT
from benchmarks.flags import positive, variant
from benchmarks.machine import machine
from benchmarks.medians import ratio, save_results, spread
from benchmarks.tables import markdown

RESULTS = Path(__file__).parent / "results" / "detection.json"
PACKAGES = ("keras", "tensorflow", "jax", "torch", "torchvision", "transformers", "numpy")
SUBJECTS = ("mask_rcnn", "cascade", "roi_align", "nms")
PEER = "torchvision"
PAUSE = 0.5  # seconds before each turn, in which the threads of the turn before fall asleep
QUICK = {"variant": "convnext_atto", "height": 96, "width": 120, "boxes": 8, "rounds": 1}
HEAD = (
    "contender",
    "per second",
    "range",
    f"to {PEER}",
    "peak memory, MB",
    f"peak to {PEER}",
    "over imports, MB",
    "build, s",
    "first step, s",
)


@dataclasses.dataclass(frozen=True)
class Case:
    """The same work for every contender of a subject.

    Attributes:
        subject: one of `SUBJECTS`.
        variant: name of a row of `keras_convnext.VARIANTS`.
        height, width: of the images in pixels.
        batch: images per step.
        boxes: of an image: proposals of a detector, and what the operations are given.
    """

    subject: str
    variant: str
    height: int
    width: int
    batch: int
    boxes: int

    @property
    def detections(self):
        """Detections per image, each with a mask."""
        return min(100, self.boxes)


@dataclasses.dataclass(frozen=True)
class Contender:
    """One contender of a subject: what it imports, and how it is built in `detectors`."""

    name: str
    libraries: tuple
    build: str
    options: dict
    environment: dict


def contenders(subject):
    """Returns the contenders of a subject by name."""
    is_model = subject in ("mask_rcnn", "cascade")
    options = {"family": subject} if is_model else {}
    function = ("ours", PEER) if is_model else (f"our_{subject}", f"{PEER}_{subject}")
    rows = [
        Contender(
            backend,
            ("keras", "keras_convnext"),
            f"detectors:{function[0]}",
            options,
            {"KERAS_BACKEND": backend},
        )
        for backend in BACKENDS
    ]
    libraries = ("torch", "torchvision", "transformers") if is_model else ("torch", "torchvision")
    rows.append(Contender(PEER, libraries, f"detectors:{function[1]}", options, {}))
    return {row.name: row for row in rows}


def main(argv=None):
    """Returns the exit status: 1 if nothing could be measured, else 0."""
    from keras_convnext.atomic import write_text

    arguments = parse(argv)
    if arguments.contender:
        serve(arguments.contender, Case(**json.loads(arguments.case)))
        return 0
    found = {}
    for subject in arguments.subjects:
        case = _case(subject, arguments)
        found[subject] = measured(case, arguments)
        print(section(found[subject]), flush=True)
        if arguments.results:
            numbers = {"subjects": found, "rounds": arguments.rounds, "steps": arguments.steps}
            save_results(arguments.results, numbers | machine(*PACKAGES))
            text = "\n\n".join(map(section, found.values()))
            write_text(arguments.results.with_suffix(".md"), f"{text}\n")
    return int(not any(rows["contenders"] for rows in found.values()))


def parse(argv):
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.detection",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    names = (*BACKENDS, PEER)
    add("--subjects", nargs="+", choices=SUBJECTS, default=SUBJECTS, help="default: all")
    add("--contenders", nargs="+", choices=names, default=names, help="default: all")
    add("--variant", type=variant, default="convnext_tiny", help="default: %(default)s")
    add("--height", type=positive, default=800, help="pixels; default: %(default)s")
    add("--width", type=positive, default=1333, help="pixels; default: %(default)s")
    add("--batch", type=positive, default=1, help="images; default: %(default)s")
    add("--boxes", type=positive, default=1000, help="of an image; default: %(default)s")
    add("--rounds", type=positive, default=5, help="turns of each; default: %(default)s")
    add("--steps", type=positive, default=3, help="in a turn; default: %(default)s")
    add("--patience", type=positive, default=1800, metavar="SECONDS", help="for an answer")
    add("--peer_python", default=sys.executable, metavar="PATH", help=f"interpreter for {PEER}")
    add("--results", type=Path, default=RESULTS, metavar="JSON", help="default: %(default)s")
    add("--quick", action="store_true", help="tiny and once, to see that all run; keeps nothing")
    add("--contender", help=argparse.SUPPRESS)
    add("--case", help=argparse.SUPPRESS)
    arguments = parser.parse_args(argv)
    if arguments.quick:
        vars(arguments).update(QUICK, results=None, steps=1)
    return arguments


def _case(subject, arguments):
    names = [field.name for field in dataclasses.fields(Case)][1:]
    return Case(subject, **{name: getattr(arguments, name) for name in names})


def measured(case, arguments):
    """Returns what was found of a subject, and why of the others nothing."""
    turns, failures, rows = {}, {}, contenders(case.subject)
    with contextlib.ExitStack() as stack:
        for round_ in range(-1, arguments.rounds):  # -1: each is started, alone
            for name in arguments.contenders:
                if name in failures:
                    continue
                try:
                    if round_ < 0:
                        turns[name] = _Turns(rows[name], case, arguments, stack)
                    else:
                        turns[name].take(arguments.steps)
                except Failed as failure:
                    failures[name] = str(failure)
                    turns.pop(name, None)
    rates = {name: case.batch / np.array(turn.seconds) for name, turn in turns.items()}
    peer = turns.get(PEER)
    found = {
        name: {
            "per_second": spread(rates[name], 3),
            "to_peer": ratio(rates[name], rates[PEER], 3) if peer else None,
            "peak_bytes": turn.peak,
            "peak_to_peer": round(turn.peak / peer.peak, 3) if peer else None,
            "peak_over_imports_bytes": turn.peak - turn.beginning["after_imports_bytes"],
            "build_seconds": round(turn.beginning["build_seconds"], 2),
            "first_step_seconds": round(turn.beginning["first_step_seconds"], 2),
        }
        for name, turn in turns.items()
    }
    return {"case": dataclasses.asdict(case), "contenders": found, "failures": failures}


class _Turns:
    """What one contender did in its turns: seconds per step, and its peak of memory."""

    def __init__(self, row, case, arguments, stack):
        flags = ("--contender", row.name, "--case", json.dumps(dataclasses.asdict(case)))
        self.child = stack.enter_context(
            Child(
                "benchmarks.detection",
                *flags,
                environment=ENVIRONMENT | row.environment,
                patience=arguments.patience,
                python=arguments.peer_python if row.name == PEER else sys.executable,
            )
        )
        self.beginning = self.child.ask()
        self.seconds, self.peak = [], 0

    def take(self, steps):
        time.sleep(PAUSE)
        found = self.child.ask({"steps": steps})
        self.seconds.append(float(np.median(found["seconds"])))
        self.peak = max(self.peak, found["peak_bytes"])


def serve(name, case):
    """Builds a contender in this process and answers requests, see `contender_process`."""
    row = contenders(case.subject)[name]
    contender_process.serve(lambda: contender_process.started(row, case, lambda r: check(r, case)))


def check(result, case):
    """Raises a ValueError if a step gave something else than was asked for."""
    shapes = {
        "roi_align": (case.batch, case.boxes, 7, 7, 256),
        "nms": (case.batch, case.boxes),
    }
    if case.subject in shapes:
        values, shape = result, shapes[case.subject]
    else:
        values, shape = result["boxes"], (case.batch, case.detections, 4)
    values = np.asarray(values, "float32")
    if values.shape != shape or not np.isfinite(values).all():
        raise ValueError(f"a step gave numbers of shape {values.shape}, expected finite {shape}")


def section(found):
    """Returns a heading, the table of a subject, and a line for what could not be measured."""
    case = found["case"]
    what = f"{case['height']} x {case['width']} pixels, batch {case['batch']}"
    lines = [f"## {case['subject']}, {case['variant']}, {what}", ""]
    rows = [[name, *_cells(row)] for name, row in found["contenders"].items()]
    lines.append(markdown(HEAD, rows, "---:"))
    lines += ["", *(f"- {name}: {why}" for name, why in found["failures"].items())]
    return "\n".join(lines).rstrip()


def _cells(row):
    low, high = row["per_second"]["range"]
    return [
        f"{row['per_second']['median']:.3g}",
        f"{low:.3g} to {high:.3g}",
        f"{row['to_peer']['median']:.2f}" if row["to_peer"] else "",
        f"{row['peak_bytes'] / 1e6:.0f}",
        f"{row['peak_to_peer']:.2f}" if row["peak_to_peer"] else "",
        f"{row['peak_over_imports_bytes'] / 1e6:.0f}",
        f"{row['build_seconds']:.1f}",
        f"{row['first_step_seconds']:.1f}",
    ]


if __name__ == "__main__":
    sys.exit(main())
