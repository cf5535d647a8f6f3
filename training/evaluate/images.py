"""The images that a classifier is measured on."""

import os
from pathlib import Path

import numpy as np

from training import data
from training.data.folder import file_split
from training.evaluate import subject
from training.run import record

SPLITS = ("train", "validation", "test", "all")


def dataset_fields(run):
    """Returns the configuration in the record `run`, a dict.

    Raises:
        ValueError: if there is none, or it is of another task.
    """
    path = Path(run) / record.CONFIG
    try:
        config = record.read_config(run)["config"]
        # runs of versions without that field took photos as they are stored
        fields = {"upright": False, **config, "dataset": str(config["dataset"])}
    except (ValueError, KeyError) as error:
        raise ValueError(
            f"{path} does not say what the run was trained on ({type(error).__name__}): name the "
            "images with --data."
        ) from error
    if "loss_average" in fields:
        raise ValueError(
            f"{run} is a run of segmentation: its scores are in {Path(run) / record.RESULT}."
        )
    return fields


def split_of(arguments):
    """Returns the Split and the class names that the command line names.

    Raises:
        ValueError: if it is not there, or has no such split.
    """
    if arguments.data is None:
        dataset = _own_dataset(arguments.model)
    elif os.path.isdir(arguments.data):
        if arguments.data_dir:
            raise ValueError(f"--data={arguments.data} is a directory: omit --data_dir.")
        dataset = data.load("folder", arguments.data, upright=_upright(arguments))
    else:
        special = arguments.split if arguments.split not in SPLITS else None
        dataset = data.load(arguments.data, arguments.data_dir, validation_split=special)
        return _split(dataset, "validation" if special else arguments.split), dataset.class_names
    return _split(dataset, arguments.split), dataset.class_names


def _upright(arguments):
    """Returns whether photos are turned: those of a record's run as there; for published weights
    not, as their accuracies were measured; else they are."""
    if arguments.upright is not None:
        return arguments.upright
    if (Path(arguments.model) / record.CONFIG).is_file():
        return dataset_fields(arguments.model)["upright"] is not False
    return os.path.exists(arguments.model)


def _own_dataset(run):
    if not os.path.isdir(run):
        raise ValueError(f"{run} is no record that says what to measure it on: give --data.")
    dataset = data.of_config(dataset_fields(run))
    subject.say_changes(run, dataset)
    return dataset


def _split(dataset, name):
    if name in ("train", "validation", "test") and getattr(dataset, name) is not None:
        return getattr(dataset, name)
    both = dataset.train, dataset.validation
    if name != "all" or not all(hasattr(split, "paths") for split in both):
        raise ValueError(
            f"--split={name}: {dataset.name!r} has train and validation; directories have all, a "
            "set of TensorFlow Datasets by its name has the splits that it was prepared with."
        )
    paths = [path for split in both for path in split.paths]
    labels = np.concatenate([split.labels for split in both])
    return file_split("all", paths, labels, upright=both[0].upright)
