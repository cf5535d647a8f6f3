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
import dataclasses
import json
import math
import os
import re
import sys
import time
from pathlib import Path

import keras
import numpy as np

from keras_convnext.classifier import Classifier
from keras_convnext.cli import console
from keras_convnext.cli.flags import UsageError
from training import data
from training.data import stream
from training.data.dataset import DataError
from training.data.folder import file_split
from training.evaluate.assessment import assess
from training.run import pictures, record

MODEL = "best.keras"
TABLE_CLASSES = 50  # more lines are read in the file
SPLITS = ("train", "validation", "all")


@dataclasses.dataclass(frozen=True)
class Subject:
    """What is measured.

    Attributes:
        name: for messages.
        model: from images in [0, 255] to probabilities.
        transform: the `EvalTransform` of its images.
        class_names: tuples of the names of its classes, one tuple for each kind of names (such as
            WordNet ids and English names); empty where nothing is known.
        folder: that gets the report.
    """

    name: str
    model: keras.Model
    transform: object
    class_names: tuple
    folder: Path

    @property
    def classes(self):
        return self.model.output_shape[-1]


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What came of it.

    Attributes:
        assessment: an `Assessment`, in the order of the model's classes.
        class_names: in the same order.
        seconds: of the pass, decoding included, compilation not.
    """

    assessment: object
    class_names: tuple
    seconds: float

    @property
    def images_per_second(self):
        return self.assessment.images / self.seconds


# ---------------------------------------------------------------- the model


def subject_of(arguments):
    """-> the Subject that the command line names; downloads published weights if need be.

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
    return _classified(path if is_file else given, folder, arguments)


def _in_a_path(name):
    """The last part of a name, without what the name of a folder cannot have."""
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    return re.sub(r"[^\w.=-]+", "_", last) or "data"


def _classified(source, folder, arguments):
    """Returns the Subject of whatever `Classifier` takes, with probabilities for outputs."""
    size = {"size": arguments.size} if arguments.size else None
    found = Classifier(source, transform=size, variant=arguments.variant)
    model = found.model
    if found.activation in ("softmax", "sigmoid"):
        activation = keras.layers.Activation(found.activation, dtype="float32")
        model = keras.Model(model.input, activation(model.output), name=model.name)
    names = tuple(zip(*found.names, strict=True)) if found.has_names else ()
    kinds = tuple(kind for kind in names if None not in kind)
    return Subject(found.name, model, found.transform, kinds, folder)


# ---------------------------------------------------------------- the images


def dataset_fields(run):
    """-> the configuration in the record `run`, a dict.

    Raises:
        ValueError: if there is none.
    """
    path = Path(run) / record.CONFIG
    try:
        config = json.loads(path.read_text(encoding="utf-8"))["config"]
        return {**config, "dataset": str(config["dataset"])}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} does not say what the run was trained on ({type(error).__name__}): name the "
            "images with --data."
        ) from error


def split_of(arguments):
    """-> (Split, class names) that the command line names.

    Raises:
        ValueError: if it is not there, or has no such split.
    """
    if arguments.data is None:
        dataset = _own_dataset(arguments.model)
    elif os.path.isdir(arguments.data):
        if arguments.data_dir:
            raise ValueError(f"--data={arguments.data} is a directory: leave --data_dir away.")
        dataset = data.load("folder", arguments.data)
    else:
        special = arguments.split if arguments.split not in SPLITS else None
        dataset = data.load(arguments.data, arguments.data_dir, validation_split=special)
        return _split(dataset, "validation" if special else arguments.split), dataset.class_names
    return _split(dataset, arguments.split), dataset.class_names


def _own_dataset(run):
    if not os.path.isdir(run):
        raise ValueError(f"{run} is no record that says what to measure it on: give --data.")
    return data.of_config(dataset_fields(run))


def _split(dataset, name):
    if name in ("train", "validation"):
        return getattr(dataset, name)
    both = dataset.train, dataset.validation
    if name != "all" or not all(hasattr(split, "paths") for split in both):
        raise ValueError(
            f"--split={name}: {dataset.name!r} has train and validation; directories have all, a "
            "set of TensorFlow Datasets by its name has the splits that it was prepared with."
        )
    paths = [path for split in both for path in split.paths]
    return file_split("all", paths, np.concatenate([split.labels for split in both]))


def matched(subject, class_names):
    """-> (classes,) the model's class of each class of the data, and the names in its order.

    Raises:
        ValueError: if number or names differ.
    """
    if subject.classes != len(class_names):
        raise ValueError(
            f"{subject.name} has {subject.classes} classes, the data has {len(class_names)} "
            f"({', '.join(class_names[:3])}, ...): they cannot be compared."
        )
    if not subject.class_names:
        return np.arange(subject.classes), tuple(class_names)
    for names in subject.class_names:
        if tuple(names) == tuple(class_names):
            return np.arange(subject.classes), subject.class_names[-1]
        places = {name: place for place, name in enumerate(names)}
        if len(places) == len(names) and set(places) == set(class_names):
            return np.array([places[name] for name in class_names]), subject.class_names[-1]
    known = {name for names in subject.class_names for name in names}
    unknown = [name for name in class_names if name not in known] or class_names
    raise ValueError(
        f"The data's classes are not those of {subject.name}, which does not know "
        f"{', '.join(map(repr, unknown[:5]))}{', ...' if len(unknown) > 5 else ''}."
    )


# ---------------------------------------------------------------- the measurement


def evaluate(subject, split, class_names, batch_size=64):
    """Measures `subject` on `split`, whose labels have these names -> the Evaluation.

    Raises:
        DataError: (a ValueError) if an image cannot be read; it is named.
        ValueError: if the classes or the images are not such as the model takes.
    """
    places, class_names = matched(subject, class_names)
    batches = stream.evaluation_batches(split, _transform(subject, split), batch_size)
    spec = batches.element_spec[0]
    subject.model.predict_on_batch(np.zeros(spec.shape, spec.dtype.as_numpy_dtype))  # compiles
    relabelled = ((x.numpy(), places[y.numpy()], w.numpy()) for x, y, w in _shown(batches))
    start = time.perf_counter()
    with stream.sentences(split):
        assessment = assess(subject.model, relabelled, subject.classes)
    return Evaluation(assessment, class_names, time.perf_counter() - start)


def _transform(subject, split):
    """Images that have the model's size are taken as they are, as they were for the training."""
    height, width, channels = split.image_shape
    size, expected = subject.transform.size, subject.model.input_shape[-1]
    if channels not in (None, expected):
        raise DataError(
            f"The images of {split.name!r} have {channels} channels, {subject.name} takes "
            f"{expected}."
        )
    if (height, width) == (size, size):
        return None
    if expected != 3:
        raise DataError(
            f"The images of {split.name!r} are {height} x {width}, {subject.name} takes {size} x "
            f"{size}; only RGB images can be resized here."
        )
    return subject.transform


def _shown(batches):
    """With a bar, where somebody looks."""
    from rich.console import Console
    from rich.progress import track

    terminal = Console(stderr=True)
    hidden = not terminal.is_terminal
    return track(
        batches, "Evaluating", len(batches), console=terminal, transient=True, disable=hidden
    )


# ---------------------------------------------------------------- the report


def result_of(subject, split, evaluation):
    """-> the content of `result.json`; accuracies are in [0, 1], what is not defined is null."""
    assessment = evaluation.assessment
    return {
        "model": subject.name,
        "data": split.name,
        "images": assessment.images,
        "top1": assessment.top1,
        "top5": assessment.top5,
        "loss": assessment.loss,
        "images_per_second": round(evaluation.images_per_second, 1),
        "transform": dataclasses.asdict(subject.transform) if _transform(subject, split) else None,
        "backend": keras.backend.backend(),
        "keras": keras.__version__,
        "classes": per_class(evaluation),
        "mistakes": [
            {
                "image": image_name(split, example.place),
                "is": evaluation.class_names[example.label],
                "predicted": evaluation.class_names[example.predicted],
                "confidence": example.confidence,
            }
            for example in assessment.mistakes
        ],
    }


def per_class(evaluation):
    """-> a dict for each class: its name, number of images, recall and precision."""
    assessment = evaluation.assessment
    return [
        {"class": name, "images": int(images), "recall": _known(r), "precision": _known(p)}
        for name, images, r, p in zip(
            evaluation.class_names,
            assessment.counts,
            assessment.recall,
            assessment.precision,
            strict=True,
        )
    ]


def _known(value):
    return None if math.isnan(value) else float(value)


def image_name(split, place):
    """-> the path of an image, or its place in the split."""
    paths = getattr(split, "paths", None)
    return os.fspath(paths[place]) if paths else f"{split.name}[{place}]"


def write_report(folder, result, evaluation):
    """Writes `result.json`, `confusion.png` (up to 2000 classes) and `mistakes.png`."""
    folder.mkdir(parents=True, exist_ok=True)
    assessment, names = evaluation.assessment, evaluation.class_names
    if assessment.confusion is not None:
        pictures.confusion(assessment, names, folder / "confusion.png")
    pictures.mistakes(assessment, names, folder / "mistakes.png")
    record.write_json(folder / "result.json", result)


def print_report(result):
    if len(result["classes"]) <= TABLE_CLASSES:
        rows = [
            (
                console.printable(row["class"]),
                str(row["images"]),
                _in_percent(row["recall"]),
                _in_percent(row["precision"]),
            )
            for row in result["classes"]
        ]
        console.print_table(("class", "images", "recall", "precision"), rows)
        print()
    top5 = "" if result["top5"] is None else f", top-5 {_in_percent(result['top5'])}"
    print(
        f"{result['model']} on {result['images']} images of {result['data']!r}: "
        f"top-1 {_in_percent(result['top1'])}{top5}, loss {result['loss']:.4f}, "
        f"{result['images_per_second']:g} images/s"
    )


def _in_percent(share):
    return "-" if share is None else f"{100 * share:.2f} %"


# ---------------------------------------------------------------- command line


def main(argv=None):
    """-> exit status: 0; 1 if something is not there or does not fit."""
    arguments = _parser().parse_args(argv)
    try:
        with console.warnings_as_notes():
            # cheap first: what is wrong with the data shows before a model is downloaded
            split, class_names = split_of(arguments)
            subject = subject_of(arguments)
            evaluation = evaluate(subject, split, class_names, arguments.batch_size)
            result = result_of(subject, split, evaluation)
            folder = Path(arguments.output) if arguments.output else subject.folder
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


if __name__ == "__main__":
    sys.exit(main())
