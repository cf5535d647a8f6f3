"""Trains every step of the roadmap with one equal budget and compares them, as in Figure 2.

    KERAS_BACKEND=torch python -m training.ablation --data_dir DIR [--seeds 0 1 2] [--output DIR]

Each step and seed is a run of `training.train` with its own record; a command that was stopped goes
on where it was. `roadmap.csv` and `roadmap.png` are written to the output once all have ended.
"""

import argparse
import csv
import io
import json
import statistics
import subprocess
import sys
from pathlib import Path

from keras_convnext import count_macs
from keras_convnext.atomic import write_text
from keras_convnext.roadmap import STEPS
from training import building, config, pictures, record

EXPERIMENT = "cifar10_roadmap"
KEPT = [name for name, step in STEPS.items() if step.kept]


def main(arguments=None):
    given = _parser().parse_args(arguments)
    output = Path(given.output)
    for seed in given.seeds:
        for step in given.steps:
            if not _finished(output, step, seed):
                _train(given, step, seed)
    rows = [_row(output, step, given.seeds) for step in given.steps]
    _write_table(rows, output / "roadmap.csv")
    pictures.roadmap(rows, output / "roadmap.png", _budget(output, given.steps[0], given.seeds))
    for row in rows:
        print(f"{row['step']:22} {row['macs'] / 1e6:7.2f} M  {_percent(row)}")


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m training.ablation",
        description="Trains every step of the roadmap with one equal budget and compares them.",
        allow_abbrev=False,
    )
    parser.add_argument("--data_dir", required=True, help="where TensorFlow Datasets has cifar10")
    parser.add_argument("--output", default="records/roadmap", help="folder of records and result")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--steps", nargs="+", default=KEPT, choices=tuple(STEPS), metavar="STEP")
    parser.add_argument("--smoke", action="store_true", help="a few steps, tiny")
    return parser


def _train(given, step, seed):
    """In a process of its own: memory and compiled programs of one network end with it."""
    fields = {"step": step, "seed": seed, "data_dir": given.data_dir, "output": given.output}
    flags = [f"--{name}={value}" for name, value in fields.items()] + ["--tensorboard=false"]
    command = [sys.executable, "-m", "training.train", "--config", EXPERIMENT, "--resume=auto"]
    status = subprocess.run([*command, *flags, *["--smoke"] * given.smoke]).returncode
    if status:
        raise SystemExit(status)


def _finished(output, step, seed):
    """-> the folder of the finished run of a step and seed, or `None`."""
    for path in sorted(Path(output).glob(f"*_{EXPERIMENT}*/{record.RESULT}")):
        fields = _fields(path.parent)
        if (fields["step"], fields["seed"]) == (step, seed):
            return path.parent
    return None


def _fields(run):
    return json.loads((run / record.CONFIG).read_text())["config"]


def _row(output, step, seeds):
    """-> what the table says of one step; accuracies are in [0, 1]."""
    runs = [_finished(output, step, seed) for seed in seeds]
    accuracies = [json.loads((run / record.RESULT).read_text())["accuracy"] for run in runs]
    network = building.network(config.load(EXPERIMENT, step=step), 3, 10)
    spread = statistics.stdev(accuracies) if len(accuracies) > 1 else None
    return {
        "step": step,
        "macs": count_macs(network),
        "parameters": network.count_params(),
        "accuracy": statistics.mean(accuracies),
        "spread": spread,
        "seeds": len(accuracies),
    }


def _budget(output, step, seeds):
    fields = _fields(_finished(output, step, seeds[0]))
    return (
        f"CIFAR-10, {fields['train_split']}, {fields['epochs']} epochs, {len(seeds)} seed"
        f"{'s' * (len(seeds) > 1)}: how soon a network learns, not how far it gets"
    )


def _percent(row):
    spread = "" if row["spread"] is None else f" +- {100 * row['spread']:.1f}"
    return f"{100 * row['accuracy']:.1f}{spread} %"


def _write_table(rows, path):
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    write_text(path, text.getvalue())


if __name__ == "__main__":
    main()
