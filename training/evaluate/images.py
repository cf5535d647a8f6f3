"""The images that a classifier is measured on."""

import os
from pathlib import Path

import numpy as np

from keras_convnext.cli import console
from keras_convnext.cli.flags import UsageError
from keras_convnext.pretrained import registry

from .. import data
from ..data import tfds
from ..data.folder import file_split
from ..run import record
from . import subject

SPLIT = "validation"  # that is measured by default
DIVIDED = ("train", "validation")  # what one folder may be divided into
SPLITS = (*DIVIDED, "test")  # of a `Dataset`


def dataset_fields(run):
    """Returns the configuration in the record `run`, a dict.

    Raises:
        ValueError: if there is none, or it is of another task.
    """
    path = Path(run) / record.CONFIG
    if not path.exists():
        raise ValueError(
            f"{run} has no {record.CONFIG}, which says what a run was trained on: name the images "
            "with --data."
        )
    try:
        config = record.read_config(run)["config"]
        # runs of versions without that field took photos as they are stored
        fields = {"upright": False, **config, "dataset": str(config["dataset"])}
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{path} does not say what the run was trained on: name the images with --data."
        ) from error
    if "loss_average" in fields:
        raise ValueError(
            f"{run} is a run of segmentation: its scores are in {Path(run) / record.RESULT}."
        )
    return fields


def split_of(arguments):
    """Returns the Split and the class names that the command line names.

    Raises:
        ValueError, FileNotFoundError: if it is not there, or has no such split.
        UsageError: if the flags contradict each other, or name no images.
    """
    name = arguments.split or SPLIT
    if arguments.data is None:
        return _own_split(arguments.model, arguments.variant, name)
    if os.path.isdir(arguments.data):
        if arguments.data_dir:
            raise UsageError(f"--data={arguments.data} is a directory: omit --data_dir.")
        dataset = data.load("folder", arguments.data, upright=_upright(arguments))
        found = _split(dataset, name)
        _say_if_divided(dataset, name)
        return found
    if _is_prepared(arguments.data):
        return _prepared_split(
            arguments.data, arguments.data_dir, name, or_directory=arguments.data_dir is None
        )
    return _split(data.load(arguments.data, arguments.data_dir), name)


def _say_if_divided(dataset, name):
    if dataset.divided and name in DIVIDED:
        console.say(
            f"{dataset.name} has no folder for validation: a fifth of each class is taken for it, "
            "as a training does that is not told otherwise; --split=all takes both parts."
        )


def _upright(arguments):
    """Returns whether photos are turned: those of a record's run as there; for published weights
    not, as their accuracies were measured; else they are."""
    if arguments.upright is not None:
        return arguments.upright
    if (Path(arguments.model) / record.CONFIG).is_file():
        return dataset_fields(arguments.model)["upright"] is not False
    return os.path.exists(arguments.model)


def _is_prepared(name):
    """Returns whether a dataset of this name is a prepared set of TensorFlow Datasets."""
    return name not in data.OPTIONS


def _prepared_split(name, data_dir, split, or_directory=False):
    """Returns a Split of a prepared set, any that TensorFlow Datasets knows, and the class names.

    Where a set has no "validation", that stands for "test", as in a training.
    """
    builder = tfds.open_builder(name, data_dir, or_directory)
    tfds.check_features(builder)
    if split == "validation":
        split = tfds.usual_validation(builder) or split
    return tfds.read_split(builder, split), tfds.class_names(builder)


def _own_split(run, variant, name):
    if not os.path.isdir(run):
        is_address = run.startswith("hf://")
        if not (os.path.exists(run) or is_address or registry.task_of(run, variant)):
            raise FileNotFoundError(f"No file or folder {run!r}, and no weights of that name.")
        raise UsageError(f"{run} is no record that says what to measure it on: give --data.")
    fields = dataset_fields(run)
    dataset = data.of_config(fields)
    subject.say_changes(run, dataset)
    if _is_prepared(fields["dataset"]) and name not in ("train", "validation"):
        return _prepared_split(fields["dataset"], fields.get("data_dir"), name)
    return _split(dataset, name)


def _split(dataset, name):
    """Returns a Split of a Dataset, and the class names. "all" are those of the training."""
    there = [split for split in SPLITS if getattr(dataset, split) is not None]
    if name in there:
        return getattr(dataset, name), dataset.class_names
    both = dataset.train, dataset.validation
    has_all = all(hasattr(split, "paths") for split in both)
    if name != "all" or not has_all:
        names = ", ".join([*there, "all"] if has_all else there)
        raise ValueError(f"--split={name}: {dataset.name!r} has no such split, but {names}.")
    paths = [path for split in both for path in split.paths]
    labels = np.concatenate([split.labels for split in both])
    return file_split("all", paths, labels, upright=both[0].upright), dataset.class_names
