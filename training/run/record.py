"""What a run leaves: a folder with its plan, circumstances, log, checkpoints, models and result."""

import contextlib
import dataclasses
import datetime
import json
import os
import subprocess
from pathlib import Path

import keras
from rich.console import Console
from rich.table import Table

from keras_convnext.atomic import write_text
from keras_convnext.environment import processor, versions

PACKAGES = (
    "keras",
    "keras-cv",
    "tensorflow",
    "tensorflow-datasets",
    "jax",
    "torch",
    "numpy",
    "pillow",
    "scikit-learn",
)
# What may differ when a run is resumed: it changes where and how, not what is computed.
MAY_DIFFER = ("output", "data_dir", "jit", "distribute", "checkpoint_steps", "tensorboard", "wandb")
CONFIG, RESULT, CLASSES = "config.json", "result.json", "classes.json"


def open_run(config, resume, devices):
    """-> the folder of the run: an unfinished one to go on with, or a new one.

    Args:
        config: a `Config`.
        resume: `"none"`, `"auto"` or the folder of a run.
        devices: a `Distribution`; its first process makes the folder.

    Raises:
        ValueError: if the folder to resume is not that of an unfinished run of this configuration.
        OSError: if no folder can be made.
    """
    folder = _folder(config, resume) if devices.is_chief else None
    devices.wait_for_all()
    return folder or newest(config)


def _folder(config, resume):
    if resume == "auto" and (found := newest(config)):
        return found
    if resume not in ("none", "auto"):
        return _checked(Path(resume), config)
    folder = new_folder(config.output, config.name)
    write_json(folder / CONFIG, circumstances(config))
    return folder


def newest(config, finished=False, here=False):
    """-> the newest run of this configuration that is finished, or that is not; or `None`.

    With `here` on this backend and with data from this directory only.
    """
    runs = [path.parent for path in Path(config.output).glob(f"*_{config.name}*/{CONFIG}")]
    for run in sorted(runs, key=lambda run: run.stat().st_mtime, reverse=True):
        like_it = (run / RESULT).exists() == finished and not _differences(run, config)
        if like_it and (not here or _was_here(run, config)):
            return run
    return None


def _was_here(run, config):
    then = json.loads((run / CONFIG).read_text())
    same_data = then["config"]["data_dir"] == config.data_dir
    return same_data and then["backend"] == keras.backend.backend()


def _checked(run, config):
    if not (run / CONFIG).exists():
        raise ValueError(f"--resume={run} is not the folder of a run: it has no {CONFIG}.")
    if (run / RESULT).exists():
        raise ValueError(f"--resume={run}: this run is finished, see {run / RESULT}.")
    if odd := _differences(run, config):
        raise ValueError(
            f"--resume={run} is a run of another configuration: {'; '.join(odd)}. Give the same "
            "fields as then, or start anew with --resume=none."
        )
    return run


def _differences(run, config):
    """-> in words, the fields whose values are others than in the run's record."""
    then = json.loads((run / CONFIG).read_text())["config"]
    now = json.loads(json.dumps(dataclasses.asdict(config), default=str))
    return [
        f"{field} was {then.get(field)!r}, is {now.get(field)!r}"
        for field in sorted(then.keys() | now.keys())
        if field not in MAY_DIFFER and then.get(field) != now.get(field)
    ]


def new_folder(output, name):
    """-> a new folder `<output>/<date>_<name>`, numbered if the name is taken."""
    stem = f"{datetime.date.today().isoformat()}_{name}"
    for number in range(1, 10_000):
        folder = Path(output) / (stem if number == 1 else f"{stem}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise FileExistsError(f"{Path(output) / stem} and 9999 more exist: clear {output}.")


def write_json(path, content):
    """Writes atomically: the file is the old one or the new one, never half of it."""
    write_text(path, json.dumps(content, indent=2, default=str) + "\n")


def print_plan(plan, model):
    """Prints what the run will do, before its first step."""
    table = Table(show_header=False, box=None, pad_edge=False)
    for name, value in plan.rows(model):
        table.add_row(f"[bold]{name}[/]", value)
    Console(highlight=False).print(table)


def circumstances(config):
    """-> what a reader needs to repeat the run."""
    return {
        "config": dataclasses.asdict(config),
        "backend": keras.backend.backend(),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "versions": versions(*PACKAGES),
        "commit": _commit(),
    }


def _commit():
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return "unknown"
