"""The detector and the annotated photographs that the command line names."""

import os
from pathlib import Path

from keras_convnext.cli.flags import UsageError
from keras_convnext.detection import Detector
from keras_convnext.detection.metrics import check_available
from keras_convnext.detection.photos import CANVASES

from ..data import coco
from ..run import record
from . import coco_set, subject
from .images import SPLIT

SIZE = (800, 1333)  # of the published evaluation: limits of the short and long side
SPLITS = ("train", "validation")


def are_meant(arguments):
    """Returns whether the data are an annotation file, or those of a record of a detector."""
    if arguments.data is not None:
        return Path(arguments.data).suffix.lower() == ".json"
    return "detector" in _fields(arguments.model)


def _fields(run):
    """Returns the configuration in the record `run`, empty if it is none."""
    try:
        return record.read_config(run)["config"]
    except record.RecordError:
        return {}


def photos_of(arguments):
    """Returns the `CocoSet` that the command line names.

    Raises:
        ValueError: if it is not there or not usable.
        UsageError: if the flags contradict each other.
        ImportError: if no package that computes the scores is installed.
    """
    check_available()
    if arguments.data is None:
        return _own_photos(arguments)
    if arguments.data_dir is not None:
        raise UsageError(f"--data={arguments.data} is an annotation file: omit --data_dir.")
    if arguments.images is None:
        raise UsageError(
            f"--data={arguments.data} is an annotation file: name the folder of its images with "
            "--images."
        )
    return coco_set.read(arguments.data, arguments.images)


def _own_photos(arguments):
    run, fields, split = arguments.model, _fields(arguments.model), arguments.split or SPLIT
    if arguments.images is not None:
        raise UsageError("--images belongs to an annotation file: name it with --data.")
    if split not in SPLITS:
        raise ValueError(
            f"--split={split}: the run has {' and '.join(SPLITS)}; other photographs are "
            "named with --data=instances.json --images=FOLDER."
        )
    dataset = coco.of_config(fields)
    subject.say_changes(run, dataset)
    return coco_set.of_split(getattr(dataset, split), fields["masks"])


def detector_of(arguments, photos):
    """Returns the `Detector` that the command line names, and the folder that gets its report.

    Published weights are downloaded if need be.

    Raises:
        ValueError, UsageError, OSError: if it is not there, or no detector.
    """
    size = SIZE
    if os.path.isdir(arguments.model):
        subject.check_finished(arguments.model)
        size = sorted(map(int, _fields(arguments.model).get("size", size)))
    if arguments.size:
        size = arguments.size, round(arguments.size * size[1] / size[0])
    source, folder = subject.source_of(arguments.model, *_data_names(arguments, photos))
    detector = Detector(
        source,
        size=tuple(size),
        canvas=arguments.canvas or CANVASES[0],
        batch_size=arguments.batch_size or 1,
        variant=arguments.variant,
        upright=False,  # nor are the boxes of annotations turned
    )
    return detector, folder


def _data_names(arguments, photos):
    """Returns what the folder of a report is called after: two sets do not share one."""
    stem = Path(photos.name).stem
    if arguments.data is None:
        return stem, arguments.split or SPLIT
    # Roboflow calls the file of every split the same
    place = Path(arguments.data).absolute().parent.name
    return (f"{place}{stem}" if stem.startswith("_") else stem,)
