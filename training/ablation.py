"""Trains the steps of the roadmap with one equal budget and compares them, as in Figure 2.

    KERAS_BACKEND=torch python -m training.ablation --data_dir DIR [--seeds 0 1 2] [--output DIR]

The steps are those that the paper keeps; `--steps` takes others, such as `kernel_size_11`. Each
step and seed is a run of `training.train` with its own record; a command that was stopped resumes
where it was. `roadmap.csv`, `roadmap.png` and `runs.csv`, a line per run, are written to the output
once all have ended.
Accuracies are of the last epoch: the best one would be chosen on the test images.
"""

import argparse
import json
import statistics
import subprocess
import sys
from pathlib import Path

from keras_convnext import count_macs
from keras_convnext.atomic import write_text
from keras_convnext.macs import trained_parameters
from keras_convnext.roadmap import STEPS

from . import command
from .run import pictures, record, resuming, shell
from .run.logs import csv_text
from .tasks.classification import building

EXPERIMENT = "cifar10_roadmap"
KEPT = [name for name, step in STEPS.items() if step.kept]


def main(arguments=None):
    given = _parser().parse_args(arguments)
    output = Path(given.output)
    fields = {"data_dir": given.data_dir, "output": given.output, "tensorboard": False}
    runs = {
        (step, seed): command.load(EXPERIMENT, given.smoke, step=step, seed=seed, **fields)
        for seed in given.seeds
        for step in given.steps
    }
    for run in runs.values():
        if found := _finished(run):
            then = record.read_config(found)
            print(f"{run.step}, seed {run.seed}: taken from {found}, commit {then['commit']}")
        else:
            _train(run, given.smoke)
    results = {key: _result(run) for key, run in runs.items()}
    write_text(output / "runs.csv", csv_text(list(results.values())))
    rows = [
        _row(runs[step, given.seeds[0]], [results[step, seed]["accuracy"] for seed in given.seeds])
        for step in given.steps
    ]
    write_text(output / "roadmap.csv", csv_text(rows))
    pictures.roadmap(rows, output / "roadmap.png", _budget(*runs.values()))
    for row in rows:
        print(f"{row['step']:22} {row['macs'] / 1e6:7.2f} M  {_percent(row)}")


def _parser():
    parser = argparse.ArgumentParser(
        prog=shell.entry("ablation"),
        description="Trains the steps of the roadmap with one equal budget and compares them.",
        allow_abbrev=False,
    )
    parser.add_argument("--data_dir", required=True, help="where TensorFlow Datasets has cifar10")
    parser.add_argument("--output", default="records/roadmap", help="folder of records and result")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--steps",
        nargs="+",
        default=KEPT,
        choices=tuple(STEPS),
        metavar="STEP",
        help=f"of {', '.join(STEPS)}; those that the paper keeps by default",
    )
    parser.add_argument("--smoke", action="store_true", help="a few steps, tiny")
    return parser


def _train(run, smoke):
    """In a process of its own: memory and compiled programs of one network end with it."""
    fields = ("step", "seed", "data_dir", "output", "tensorboard")
    flags = [f"--{field}={getattr(run, field)}" for field in fields] + ["--smoke"] * smoke
    command = [sys.executable, "-m", f"{shell.PACKAGE}.train"]
    command += ["--config", EXPERIMENT, "--resume=auto"]
    status = subprocess.run([*command, *flags]).returncode
    if status:
        raise SystemExit(status)


def _finished(run):
    """Returns the folder of a finished run like this one, on this backend and data; or `None`."""
    return resuming.newest(run, finished=True, here=True)


def _result(run):
    """Returns what the list of runs says of one."""
    folder = _finished(run)
    result = json.loads((folder / record.RESULT).read_text())
    scores = {"accuracy": result["last_accuracy"], "seconds": result["training_seconds"]}
    return {"step": run.step, "seed": run.seed, **scores, "record": folder.name}


def _row(run, accuracies):
    """Returns what the table says of one step, of a run and the accuracies of all; in [0, 1]."""
    network = building.network(run, run.published_classes)
    return {
        "step": run.step,
        "macs": count_macs(network),
        "parameters": trained_parameters(network),
        "accuracy": statistics.mean(accuracies),
        "spread": statistics.stdev(accuracies) if len(accuracies) > 1 else None,
        "seeds": len(accuracies),
    }


def _budget(run, *others):
    seeds = {run.seed, *(other.seed for other in others)}
    return (
        f"CIFAR-10, {run.train_split}, {run.epochs} epoch{'s' * (run.epochs > 1)}, {len(seeds)} "
        f"seed{'s' * (len(seeds) > 1)}: how soon a network learns, not how far it gets"
    )


def _percent(row):
    spread = "" if row["spread"] is None else f" +- {100 * row['spread']:.1f}"
    return f"{100 * row['accuracy']:.1f}{spread} %"


if __name__ == "__main__":
    main()
