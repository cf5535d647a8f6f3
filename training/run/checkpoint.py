"""Checkpoints: everything a run needs to resume to the bit, written whole or not at all.

A checkpoint is a folder `step-00000123/` with `state.safetensors` (every variable of the model,
its optimizer and its metrics: raw weights, moving averages, moments, counters, seed generators),
`progress.json` (epoch, step, history, best) and `manifest.json` (size and sha256 of the other
two). It is written under another name, synced to disk and renamed, so that a folder of that name
is complete; what a later fault of the disk does to it is found by the manifest.
"""

import contextlib
import json
import os
import re
import shutil
from pathlib import Path

import keras
import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from keras_convnext.pretrained.download import sha256_of

NAME = re.compile(r"step-(\d{8})")
STATE, PROGRESS, MANIFEST = "state.safetensors", "progress.json", "manifest.json"
KEEP = 2  # the newest, and one more in case that a fault of the disk harms it


class CheckpointError(RuntimeError):
    """A checkpoint cannot be written, or does not belong to this run; says what to do."""


def arrays(model):
    """Returns {name: array} of every variable of a compiled and built model."""
    return {name: array(variable) for name, variable in _variables(model).items()}


def save(folder, values, progress):
    """Writes a checkpoint, then removes those that are older.

    The last two stay, and the best epoch's.

    Args:
        folder: of the run's checkpoints.
        values: what `arrays` returned.
        progress: dict of JSON values with `"step"`, the number of steps since the start of the
            run, and `"best"`, `None` or a dict with the `"step"` of the best epoch.

    Returns:
        the checkpoint's folder.

    Raises:
        CheckpointError: if it cannot be written; the checkpoints before it are untouched.
    """
    folder = Path(folder)
    final = folder_of(folder, progress["step"])
    draft = folder / f".tmp-{final.name}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(draft, ignore_errors=True)
        _write(draft, values, progress)
        _put_in_place(draft, final)
    except (OSError, SafetensorError) as error:
        shutil.rmtree(draft, ignore_errors=True)
        raise CheckpointError(_not_written(folder, final, error)) from error
    _remove_older(folder, progress)
    return final


def folder_of(folder, step):
    """Returns the place of the checkpoint of a step since the start of the run."""
    return Path(folder) / f"step-{step:08d}"


def newest(folder):
    """Returns the newest intact checkpoint in `folder`, or `None`; damaged ones are printed."""
    for path in reversed(_all(folder)):
        reason = damage(path)
        if reason is None:
            return path
        print(f"Checkpoint {path} is passed over: {reason}")
    return None


def set_damaged_aside(folder):
    """Renames damaged checkpoints in `folder`, so that they are not counted among those kept."""
    for path in _all(folder):
        if reason := damage(path):
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            os.replace(path, aside)
            print(f"Checkpoint {path} is damaged and set aside as {aside.name}: {reason}")


def damage(path):
    """Returns what is wrong with the checkpoint `path`, or `None`."""
    if not path.is_dir():
        return "it is not there"
    try:
        manifest = json.loads((path / MANIFEST).read_text())
        for name, expected in manifest.items():
            if _fingerprint(path / name) != expected:
                return f"{name} is not what was written"
        return None if set(manifest) == {STATE, PROGRESS} else f"{MANIFEST} is not ours"
    except (OSError, ValueError, AttributeError) as error:
        return f"{type(error).__name__}: {error}"


def read_progress(path):
    """Returns the progress that was saved with the checkpoint `path`."""
    return json.loads((Path(path) / PROGRESS).read_text())


def restore(path, model):
    """Puts a checkpoint's variables into `model`, compiled and built as when it was saved.

    Raises:
        CheckpointError: if the file's variables are not exactly those of the model.
    """
    saved = load_file(Path(path) / STATE)
    variables = _variables(model)
    _check(path, saved, variables)
    for name, variable in variables.items():
        variable.assign(saved[name])


def _write(draft, values, progress):
    draft.mkdir()
    save_file(values, draft / STATE)
    (draft / PROGRESS).write_text(json.dumps(progress, indent=1) + "\n")
    manifest = {name: _fingerprint(draft / name) for name in (STATE, PROGRESS)}
    (draft / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n")
    for file in draft.iterdir():
        _sync(file)
    _sync(draft)


def _put_in_place(draft, final):
    # the same step again, after a resume in the middle of the epoch: ours is the newer
    shutil.rmtree(final, ignore_errors=True)
    os.replace(draft, final)
    _sync(final.parent)


def _remove_older(folder, progress):
    best = progress["best"] and progress["best"]["step"]
    # what is newer than this step was damaged when the run was resumed, and protects nothing
    reached = [path for path in _all(folder) if _step(path) <= progress["step"]]
    for path in reached[:-KEEP]:
        if _step(path) != best:
            shutil.rmtree(path, ignore_errors=True)
    for draft in Path(folder).glob(".tmp-*"):  # of a run that was killed
        shutil.rmtree(draft, ignore_errors=True)


def _step(path):
    return int(NAME.fullmatch(path.name)[1])


def _all(folder):
    """Returns the checkpoints in `folder`, the oldest first."""
    with contextlib.suppress(FileNotFoundError):
        return sorted(path for path in Path(folder).iterdir() if NAME.fullmatch(path.name))
    return []


def _variables(model):
    """Returns {name: variable}; the number keeps apart what Keras gives equal paths."""
    groups = {
        "model": model.variables,
        "optimizer": model.optimizer.variables,
        "metrics": model.metrics_variables,
    }
    return {
        f"{group}/{number:05d}/{variable.path}": variable
        for group, variables in groups.items()
        for number, variable in enumerate(variables)
    }


def array(variable):
    """Returns the value of a variable, also of one that has copies on several devices."""
    value = variable.value
    if keras.backend.backend() == "tensorflow":
        value = value.read_value()  # under a strategy, a plain tensor of what the copies hold
    return np.array(keras.ops.convert_to_numpy(value), order="C")


def _check(path, saved, variables):
    shapes = {name: tuple(variable.shape) for name, variable in variables.items()}
    found = {name: array.shape for name, array in saved.items()}
    names = shapes.keys() | found.keys()
    odd = sorted(name for name in names if shapes.get(name) != found.get(name))
    if odd:
        raise CheckpointError(
            f"{path} was written by another model, optimizer or version: {len(odd)} variables "
            f"differ, the first is {odd[0]} ({found.get(odd[0])} in the file, "
            f"{shapes.get(odd[0])} here). Resume with the configuration of that run, or start "
            "anew with --resume=none."
        )


def _fingerprint(path):
    return {"bytes": path.stat().st_size, "sha256": sha256_of(path)}


def _sync(path):
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _not_written(folder, final, error):
    last = next(iter(reversed(_all(folder))), None)
    kept = f"The last complete one is {last}." if last else "There is none before it."
    reason = getattr(error, "strerror", None) or error  # without the name of the draft
    return (
        f"The checkpoint {final} could not be written: {reason}. {kept} Free some space or correct "
        "the permissions, then resume with --resume=auto."
    )
