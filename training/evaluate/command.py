"""Measures a trained or published classifier or detector on a set of labelled images.

    python -m training.evaluate records/2026-01-31_folder
    python -m training.evaluate records/2026-01-31_folder --data other_photos --split all
    python -m training.evaluate mine.keras --data photos
    python -m training.evaluate convnext_tiny.fb_in1k --data imagenet_v2 --data_dir ~/sets
    python -m training.evaluate mask_rcnn_convnext_tiny.fb_in1k_ft_coco \\
        --data annotations/instances_val2017.json --images val2017

A record's folder stands for its `best.keras`, and without `--data` for the validation split that it
was trained beside. Figures go to the screen and, with the worst mistakes, into a folder.

Classifiers get a confusion matrix. Images go through the tf.data form of the transform; what is
published of this project's ports was measured by `weights.evaluate`, with Pillow's.

Detectors are measured on an annotation file of COCO's format and the folder of its images, by the
average precision of COCO, of boxes and masks. On JAX and TensorFlow, `--canvas fixed` compiles for
two sizes of images in place of each.
"""

import argparse
import os
from pathlib import Path

from keras_convnext.classifier import Classifier
from keras_convnext.cli import console
from keras_convnext.cli.flags import UsageError
from keras_convnext.detection.photos import CANVASES
from keras_convnext.named_weights import ArgumentsError

from ..run import needs, shell
from . import detecting, detection_report, detectors, report, subject
from .images import SPLIT, dataset_fields, split_of
from .measuring import evaluate

BATCH = 64  # of a classifier's images
# The library's messages say what to call; a command line has flags.
FLAGS = {"`variant=`": "`--variant`"}


def main(argv=None):
    """Returns the exit status: 0; 1 if something is not there or does not fit; 2 of wrong flags."""
    arguments = _parser().parse_args(argv)
    measure = _measure_detector if detectors.are_meant(arguments) else _measure_classifier
    try:
        needs.check()
        with console.warnings_as_notes(_worded):
            result, folder, form = measure(arguments)
    except (UsageError, ValueError, OSError, ImportError) as error:
        console.say(f"error: {_worded(error)}")
        return 2 if isinstance(error, (UsageError, ArgumentsError)) else 1
    form.print_report(result)
    for name in form.FILES:
        if (folder / name).exists():
            print(f"  {folder / name}")
    return 0


def _worded(message):
    """Returns the text of an error or a warning, with flags in place of arguments."""
    text = str(message)
    for argument, flag in FLAGS.items():
        text = text.replace(argument, flag)
    return text


def _measure_classifier(arguments):
    if arguments.images or arguments.canvas:
        raise UsageError(
            "--images and --canvas are for detectors, whose data is an annotation file, *.json."
        )
    if arguments.upright is not None and not os.path.isdir(arguments.data or ""):
        raise UsageError("--upright is for --data with a directory of photos.")
    # cheap first: what is wrong with the data shows before a model is downloaded
    split, class_names = split_of(arguments)
    classifier, folder = classifier_of(arguments)
    folder = Path(arguments.output or folder)
    evaluation = evaluate(classifier, split, class_names, arguments.batch_size or BATCH)
    result = report.result_of(classifier, split, evaluation)
    report.write_report(folder, result, evaluation)
    return result, folder, report


def _measure_detector(arguments):
    if arguments.upright is not None:
        raise UsageError(
            "--upright is for classifiers: the photos of a detector are taken as they are stored, "
            "as the boxes of annotations are."
        )
    if arguments.data is not None and arguments.split is not None:
        raise UsageError("--split is not for an annotation file: omit it.")
    photos = detectors.photos_of(arguments)
    detector, folder = detectors.detector_of(arguments, photos)
    folder = Path(arguments.output or folder)
    evaluation = detecting.evaluate(detector, photos)
    result = detection_report.result_of(arguments.model, detector, photos, evaluation)
    detection_report.write_report(folder, result, evaluation)
    return result, folder, detection_report


def _parser():
    program = shell.entry("evaluate")
    parser = argparse.ArgumentParser(
        prog=program,
        description=__doc__.replace("python -m training.evaluate", program),
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model", metavar="RUN|MODEL", help="a record's folder, a .keras file, or a model's name")
    add(
        "--data",
        help="a directory with a folder per class, or a set's name; of a detector an annotation "
        "file of COCO's format, *.json",
    )
    add("--images", metavar="DIR", help="of an annotation file: the folder of its images")
    add("--data_dir", help="of a named set: where TensorFlow Datasets keeps its sets")
    add(
        "--split",
        help="train, validation; of a directory also all, and test where it has one; of a prepared "
        f"set any of its splits, such as test or 'train[:10%%]' (default: {SPLIT})",
    )
    add(
        "--upright",
        action=argparse.BooleanOptionalAction,
        help="whether photos in a directory are turned as their EXIF says (default: as in the "
        "record's run; not for published weights, as their accuracies were measured; else yes)",
    )
    add("--batch_size", type=_positive, help=f"default: {BATCH}, of a detector 1")
    add("--output", metavar="DIR", help="gets the report (default: RUN/evaluation_<data>_<split>)")
    add("--variant", help="of a file of weights that does not tell it")
    add(
        "--size",
        type=_positive,
        help="of the images, in pixels; of a detector their short side (default: the model's)",
    )
    add(
        "--canvas",
        choices=CANVASES,
        help="what a detector's images are padded to: multiples of 32, or one of two sizes "
        f"(default: {CANVASES[0]})",
    )
    return parser


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 1")
    return int(text)


def classifier_of(arguments):
    """Returns the `Classifier` that the command line names, and the folder that gets its report.

    Published weights are downloaded if need be.

    Raises:
        ValueError, UsageError, OSError: if it is not there, or no classifier of square images.
    """
    given = arguments.model
    is_run = os.path.isdir(given)
    if is_run:
        subject.check_finished(given)
    data_name = arguments.data or (dataset_fields(given)["dataset"] if is_run else None)
    source, folder = subject.source_of(given, data_name, arguments.split or SPLIT)
    size = {"size": arguments.size} if arguments.size else None
    return Classifier(source, transform=size, variant=arguments.variant), folder
