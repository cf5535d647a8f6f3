"""The end of a run of segmentation: its scores per class, its pictures."""

import dataclasses

import numpy as np

from keras_convnext.atomic import write_text
from keras_convnext.segmentation import Segmenter, scores
from keras_convnext.sizes import fitting

from ...data import stream
from ...run import record
from ...run.logs import csv_text
from . import building
from .pictures import Example, comparison

SHOWN = 8  # photographs in the picture of each split


def finish(run, served, plan, dataset, progress):
    """Writes the names of the classes, the scores and the pictures.

    `best.keras` has the weights of the epoch with the highest mean IoU of the quick validation, as
    they were validated. With them each image of the validation set, and of the test set where there
    is one, is segmented at its own size, in windows of the size of the training crops.

    Returns:
        the task's part of `result.json`.
    """
    record.write_json(run / record.CLASSES, list(dataset.class_names))
    result = {"last_mean_iou": progress.history[-1]["val_mean_iou"]}
    segmenter = segmenter_of(served, plan.config)
    splits = {"validation": dataset.validation, "test": building.test_split(plan.config)}
    for name, split in splits.items():
        if split is not None:
            result[name] = assess(run, name, split, segmenter, plan.config)
    return result


def headline(result):
    """Returns what is said first of a result."""
    splits = [name for name in ("validation", "test") if name in result]
    return ", ".join(f"{name} mean IoU {result[name]['mean_iou']:.2%}" for name in splits)


def segmenter_of(model, config):
    """Returns the paper's evaluation at one scale."""
    stride = None if config.stride is None else int(config.stride)
    return Segmenter(
        model,
        window=config.crop,
        stride=stride,
        batch_size=config.micro_batch,
        upright=False,  # nor are the masks turned
    )


def assess(run, name, split, segmenter, config):
    """Writes `<name>_classes.csv` and `<name>_overlays.png`; returns {"mean_iou": ..., ...}."""
    classes, total, examples = len(config.names), None, []
    shown = {round(n * (split.size - 1) / max(1, SHOWN - 1)) for n in range(SHOWN)}
    read = building.reader(config)
    with stream.sentences(split):
        for number, example in enumerate(split.examples().as_numpy_iterator()):
            image, labels = read(*example["image"])
            labels = np.asarray(labels)
            predicted = _fitted(segmenter, image.size, config)(image)
            found = scores(labels, predicted, classes)
            total = found if total is None else total + found
            if number in shown:
                examples.append(Example(image, labels, predicted, found.mean_iou))
    table = total.table(config.names)
    write_text(run / f"{name}_classes.csv", csv_text(table))
    comparison(examples, config.names, run / f"{name}_overlays.png")
    return {
        "images": split.size,
        "mean_iou": total.mean_iou,
        "pixel_accuracy": total.pixel_accuracy,
        "mean_accuracy": total.mean_accuracy,
        "classes": table,
    }


def _fitted(segmenter, size, config):
    """Images larger than those of the training are resized to its size, as in the paper."""
    if config.size is None or fitting(size, config.size) == 1:
        return segmenter
    return dataclasses.replace(segmenter, size=tuple(config.size))
