"""Finds the run that is resumed, and proves that it is the same run on the same data."""

import dataclasses
import glob
import json
import os
import sys
from pathlib import Path

import keras

from ..data import differences
from ..data.folder import order_has_changed
from . import record

# What may differ when a run is resumed: it changes where and how, not what is computed.
MAY_DIFFER = ("output", "data_dir", "jit", "remat", "distribute", "checkpoint_steps")
MAY_DIFFER += ("tensorboard", "wandb")


def find(config, resume, dataset):
    """Returns the folder of the run to resume, or `None` for a new run. Changes nothing.

    Args:
        config: a `training.run.config.Run`.
        resume: `"none"`; `"auto"`: the newest unfinished run of this configuration; or the folder
            of a run.
        dataset: the `Dataset` that is there now.

    Raises:
        ValueError: if the folder is not that of an unfinished run of this configuration, or its
            data are others now.
    """
    if resume == "none":
        return None
    if resume != "auto":
        run = _checked(Path(resume), config)
        if odd := _data_differences(run, dataset):
            raise ValueError(_changed(run, odd))
        return run
    for run in _runs(config, finished=False):
        odd = _data_differences(run, dataset)
        if not odd:
            return run
        if _same_place(run, config):
            raise ValueError(_changed(run, odd))
        _say(f"{run} is passed over, a run on other data: {odd[0]}")
    _say(f"No run of this configuration is unfinished in {config.output}: a new one begins.")
    return None


def newest(config, finished=False, here=False):
    """Returns the newest run of this configuration that is finished, or that is not; or `None`.

    With `here` on this backend and with data from this directory only.
    """
    runs = _runs(config, finished)
    return next((run for run in runs if not here or _was_here(run, config)), None)


def adopted(config, run):
    """Returns the configuration with which the run is resumed.

    A field that is younger than the run's record has the value that the run began with, unless
    another one is asked for.
    """
    return _with_absent(config, _read(run)["config"])


def _runs(config, finished):
    """Yields the folders of runs of this configuration, the newest first."""
    pattern = f"*_{glob.escape(config.name)}*/{record.CONFIG}"
    runs = [path.parent for path in Path(config.output).glob(pattern)]
    for run in sorted(runs, key=_age, reverse=True):
        try:
            is_like_it = not _differences(run, config)
        except record.RecordError as error:
            _say(f"{run} is passed over: {error}")
            continue
        if is_like_it and (run / record.RESULT).exists() == finished:
            yield run


def _age(run):
    """Returns a key that grows from older runs to newer ones.

    Two folders that were written within one tick of the file system's clock have the same time: of
    them the one with the higher number is the newer.
    """
    return run.stat().st_mtime_ns, len(run.name), run.name


def _was_here(run, config):
    return _same_place(run, config) and _read(run)["backend"] == keras.backend.backend()


def _same_place(run, config):
    then, now = _read(run)["config"].get("data_dir"), config.data_dir
    return (
        then == now or None not in (then, now) and os.path.realpath(then) == os.path.realpath(now)
    )


def _checked(run, config):
    if not (run / record.CONFIG).exists():
        raise ValueError(f"--resume={run} is not the folder of a run: it has no {record.CONFIG}.")
    if (run / record.RESULT).exists():
        raise ValueError(f"--resume={run}: this run is finished, see {run / record.RESULT}.")
    if odd := _differences(run, config):
        raise ValueError(
            f"--resume={run} is a run of another configuration: {'; '.join(odd)}. Give the same "
            "fields as then, or start anew with --resume=none."
        )
    return run


def _differences(run, config):
    """Returns, in words, the fields whose values are others than in the run's record."""
    then = _read(run)["config"]
    now = json.loads(json.dumps(dataclasses.asdict(_with_absent(config, then)), default=str))
    then, now = _by_structure(then), _by_structure(now)
    return [
        f"{field} was {_value(then, field, config)!r}, is {now.get(field)!r}"
        for field in sorted(then.keys() | now.keys())
        if field not in MAY_DIFFER and _value(then, field, config) != now.get(field)
    ]


def _by_structure(value):
    """Returns JSON values with every architecture in them without its name, which is a label."""
    if not isinstance(value, dict):
        return value
    fields = {name: _by_structure(inner) for name, inner in value.items()}
    if "dims" in fields:
        fields.pop("name", None)
        if "patch_size" in fields:  # the name of that field until 0.1
            fields["stem_stride"] = fields.pop("patch_size")
    return fields


def _value(then, field, config):
    absent = {f.name: f.metadata["absent"] for f in dataclasses.fields(config)}
    return then[field] if field in then else absent.get(field)


def _with_absent(config, then):
    younger = {
        field.name: field.metadata["absent"]
        for field in dataclasses.fields(config)
        if field.name not in then and getattr(config, field.name) == field.default
    }
    return dataclasses.replace(config, **younger)


def _data_differences(run, dataset):
    """Returns sentences about what the data lack or have since the run began."""
    then = _read(run).get("data")
    if then is None:
        if order_has_changed(dataset):
            return ["The classes may have been in another order, with 10 before 2."]
        _say(f"{run} does not say what its data were: they are not compared.")
        return []
    try:
        return differences(then, json.loads(json.dumps(dataset.fingerprint())))
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{run / record.CONFIG} is damaged: `data` is not what was written ({error!r}). Start "
            "anew with --resume=none."
        ) from error


def _changed(run, odd):
    return (
        f"The data are not those that {run} began with. {' '.join(odd)} Put them back as they were "
        "to resume it, or start anew with --resume=none."
    )


def _read(run):
    return record.read_config(run)


def _say(sentence):
    print(f"Note: {sentence}", file=sys.stderr)
