"""Measures a trained or published classifier on a set of labelled images.

    python -m training.evaluate records/2026-01-31_folder
    python -m training.evaluate records/2026-01-31_folder --data other_photos --split all
    python -m training.evaluate mine.keras --data photos
    python -m training.evaluate convnext_tiny.fb_in1k --data imagenet_v2 --data_dir ~/sets

A record's folder stands for its `best.keras`, and without `--data` for the validation split that it
was trained beside. Figures go to the screen and, with the confusion matrix and the worst mistakes,
into a folder. Images go through the tf.data form of the transform; what is published of this
project's ports was measured by `weights.evaluate`, with Pillow's.
"""

import argparse
import os
import re
from pathlib import Path

from keras_convnext.classifier import Classifier
from keras_convnext.cli import console
from keras_convnext.cli.flags import UsageError
from training.evaluate.images import dataset_fields, split_of
from training.evaluate.measuring import evaluate
from training.evaluate.report import print_report, result_of, write_report

MODEL = "best.keras"


def main(argv=None):
    """Returns the exit status: 0; 1 if something is not there or does not fit."""
    arguments = _parser().parse_args(argv)
    try:
        with console.warnings_as_notes():
            # cheap first: what is wrong with the data shows before a model is downloaded
            split, class_names = split_of(arguments)
            classifier, folder = classifier_of(arguments)
            evaluation = evaluate(classifier, split, class_names, arguments.batch_size)
            result = result_of(classifier, split, evaluation)
            folder = Path(arguments.output) if arguments.output else folder
            write_report(folder, result, evaluation)
    except (UsageError, ValueError, OSError) as error:
        console.say(f"error: {error}")
        return 1
    print_report(result)
    for name in ("result.json", "confusion.png", "mistakes.png"):
        if (folder / name).exists():
            print(f"  {folder / name}")
    return 0


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m training.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = parser.add_argument
    add("model", metavar="RUN|MODEL", help="a record's folder, a .keras file, or a model's name")
    add("--data", help="a directory with a folder per class, or a set's name")
    add("--data_dir", help="of a named set: where TensorFlow Datasets keeps its sets")
    add(
        "--split",
        default="validation",
        help="train, validation; of a directory also all; of a prepared set any of its splits "
        "(default: %(default)s)",
    )
    add("--batch_size", type=_positive, default=64, help="default: %(default)s")
    add("--output", metavar="DIR", help="gets the report (default: RUN/evaluation_<data>)")
    add("--variant", help="of a file of weights that does not tell it")
    add("--size", type=_positive, help="of the images, in pixels (default: the model's)")
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
    if is_run and not (Path(given) / MODEL).is_file():
        raise FileNotFoundError(
            f"{given} has no {MODEL}: it is no record, or of a run that is not finished. Name a "
            "finished one, or a .keras file."
        )
    data_name = arguments.data or (dataset_fields(given)["dataset"] if is_run else None)
    if is_run:
        path, folder = Path(given) / MODEL, Path(given) / f"evaluation_{_in_a_path(data_name)}"
    else:
        path, folder = Path(given), Path(f"evaluation_{_in_a_path(given.removesuffix('.keras'))}")
    is_file = path.suffix == ".keras" and path.is_file()
    size = {"size": arguments.size} if arguments.size else None
    source = path if is_file else given
    return Classifier(source, transform=size, variant=arguments.variant), folder


def _in_a_path(name):
    """Returns the last part of a name, without what the name of a folder cannot have."""
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    return re.sub(r"[^\w.=-]+", "_", last) or "data"
