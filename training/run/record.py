"""A run's record: a folder with plan, circumstances, log, checkpoints, models and result."""

import contextlib
import dataclasses
import datetime
import json
import os
import subprocess
from pathlib import Path

import keras
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from keras_convnext.atomic import write_text
from keras_convnext.environment import processor, versions
from keras_convnext.untrusted import json_of, text_of
from keras_convnext.version import __version__
from keras_convnext.whole_models import BEST as BEST
from keras_convnext.whole_models import CLASSES as CLASSES
from keras_convnext.whole_models import CONFIG
from keras_convnext.whole_models import TRANSFORM as TRANSFORM

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
RESULT = "result.json"


class RecordError(ValueError):
    """A record cannot be read; says what is wrong with it."""


def begin(config, dataset):
    """Makes the folder of a new run and writes what it begins with; returns the folder.

    Raises:
        OSError: if no folder can be made.
    """
    folder = new_folder(config.output, config.name)
    write_json(folder / CONFIG, {**circumstances(config), "data": dataset.fingerprint()})
    return folder


def read_config(run):
    """Returns the content of the `config.json` of a run, a dict with `"config"`, a dict.

    Raises:
        RecordError: if it is damaged or not a run's.
    """
    path = Path(run) / CONFIG
    try:
        content = json_of(text_of(path))
        return {**content, "config": dict(content["config"]), "backend": content["backend"]}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RecordError(f"{path} is not a configuration of a run ({error!r}).") from error


def new_folder(output, name):
    """Returns a new folder `<output>/<date>_<name>`, numbered if the name is taken."""
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
        table.add_row(f"[bold]{name}[/]", escape(value))
    Console(highlight=False).print(table)


def circumstances(config):
    """Returns what a reader needs to repeat the run."""
    return {
        "config": dataclasses.asdict(config),
        "backend": keras.backend.backend(),
        "machine": f"{processor()}, {os.cpu_count()} cores",
        "versions": versions(*PACKAGES),
        "commit": _commit(),
    }


def _commit():
    """Returns the state of the clone that this code is of, else the version of the package."""
    clone = Path(__file__).parents[2]
    if not (clone / ".git").exists():  # a folder above it may be that of another project
        return f"keras_convnext {__version__}"
    command = ["git", "-C", str(clone), "describe", "--always", "--dirty"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return "unknown"
