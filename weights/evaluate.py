"""Measures published weights on ImageNet and on the sets that are derived from it.

    python -m weights.evaluate convnext_tiny.fb_in1k convnext_base.fb_in1k \\
        --data imagenet2012 imagenet_a --data_dir ~/tensorflow_datasets --results results.json
    python -m weights.evaluate mine.weights.h5 --variant convnext_tiny --data /data/imagenet/val \\
        --results results.json

Every result is written as soon as it is there, one per weights and part of a set, and is not
measured again when the same command is given once more. Each image goes through the transform of
its row, decoded and resized by Pillow; `--fast` takes the tf.data form of the same transform.

What is counted: top-1 and top-5 accuracy in percent. On ImageNet-A and -R the classifier chooses
among the 200 classes that occur there, as their authors do. Under the ReaL labels a prediction is
right if it is one of them, and images without any are left out. The images of ImageNet-C are
centre crops of 224 pixels already: they are resized to the row's size without another crop. Its
errors become the mean corruption error (mCE) once all 75 parts are measured. TensorFlow Datasets
makes these images anew from the validation set; published numbers are of the authors' own files.
"""

import argparse
import json
import sys
from pathlib import Path

import keras

from keras_convnext.preprocessing import FILTERS, RESIZES, EvalTransform
from keras_convnext.pretrained import find, rows
from keras_convnext.variants import VARIANTS
from training.evaluate.imagenet import SETS, DataError, parts
from training.evaluate.published import (
    evaluate,
    identity_of,
    subject_of_file,
    subject_of_row,
)
from training.evaluate.results import key_of, load_results
from training.evaluate.robustness import print_summary, summary


def main(argv=None):
    """Returns the exit status: 0; 1 if something was not measured; 2 for a wrong command line."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        subjects = _subjects(arguments)
        data = [part for name in arguments.data for part in parts(name, arguments.data_dir)]
        load_results(arguments.results)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    keras.config.set_image_data_format("channels_last")
    try:
        with _progress(_left(subjects, data, arguments)) as (progress, report):
            results, faults = evaluate(
                subjects,
                data,
                arguments.results,
                form="fast" if arguments.fast else "exact",
                batch_size=arguments.batch_size,
                workers=arguments.workers,
                progress=progress,
                report=report,
            )
    except DataError as error:  # it would be the same for the other weights
        print(f"error: {error}", file=sys.stderr)
        return 1
    lines = summary(results)
    if arguments.json:
        print(json.dumps({"results": lines, "faults": faults}, indent=1))
    else:
        print_summary(lines)
    return 1 if faults else 0


def _left(subjects, data, arguments):
    """Returns how many images remain to be looked at."""
    form = "fast" if arguments.fast else "exact"
    done = {key_of(result) for result in load_results(arguments.results)}
    pairs = ((subject, part) for subject in subjects for part in data)
    return sum(p.examples for s, p in pairs if key_of(identity_of(s, p, form)) not in done)


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m weights.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    positive = _number(int, "a positive integer", lambda value: value > 0)
    parser.add_argument("names", nargs="+", metavar="NAME", help="rows, `all`, or a file")
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        help=f"sets ({', '.join(SETS)}), parts of sets (imagenet_v2/topimages), or folders of "
        "class folders",
    )
    parser.add_argument("--data_dir", help="where the sets are; default: TFDS_DATA_DIR")
    parser.add_argument("--results", required=True, help="JSON file, continued if it exists")
    parser.add_argument("--fast", action="store_true", help="the tf.data form of the transform")
    parser.add_argument("--test_size", action="store_true", help="at the rows' larger test size")
    parser.add_argument("--batch_size", type=positive, default=64)
    parser.add_argument("--workers", type=positive, help="threads that decode")
    parser.add_argument("--json", action="store_true", help="the summary as JSON on stdout")
    file = parser.add_argument_group("a file in place of rows")
    file.add_argument("--variant", choices=sorted(VARIANTS), metavar="VARIANT")
    file.add_argument("--size", type=positive, help="pixels; default 224")
    file.add_argument("--resize", choices=RESIZES, help="default: squash from 384 pixels on")
    fraction = _number(float, "a number in (0, 1]", lambda value: 0 < value <= 1)
    file.add_argument("--crop_pct", type=fraction, help="default 0.875")
    file.add_argument("--interpolation", choices=tuple(FILTERS), help="default bicubic")
    return parser


def _number(kind, words, allowed):
    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not allowed(value):
            raise argparse.ArgumentTypeError(f"must be {words}, received {text!r}")
        return value

    return convert


def _subjects(arguments):
    if arguments.variant is not None:
        return [_file_subject(arguments)]
    given = [f for f in ("size", "resize", "crop_pct", "interpolation") if getattr(arguments, f)]
    if given:
        raise ValueError(f"--{given[0]} is for a file (with --variant); a row says it itself.")
    names = arguments.names
    if names == ["all"]:
        chosen = [row for row in rows() if row.label_set == "imagenet1k"]
        chosen = [row for row in chosen if row.test_size or not arguments.test_size]
    else:
        chosen = [find(name) for name in names]
    return [subject_of_row(row, arguments.test_size) for row in chosen]


def _file_subject(arguments):
    if len(arguments.names) != 1 or arguments.test_size:
        raise ValueError("--variant is for one file, whose test size is said by --size.")
    path = arguments.names[0]
    if not Path(path).is_file():
        raise ValueError(f"No file {path!r}; without --variant names are those of rows.")
    size = arguments.size or 224
    resize = arguments.resize or ("shortest" if size < 384 or arguments.crop_pct else "squash")
    crop_pct = arguments.crop_pct or (0.875 if resize == "shortest" else None)
    interpolation = arguments.interpolation or "bicubic"
    return subject_of_file(
        path, arguments.variant, EvalTransform(size, crop_pct, resize, interpolation)
    )


class _progress:
    """Shows a bar on a terminal, elsewhere only the lines; gives (advance, report)."""

    def __init__(self, total):
        self.total = total

    def __enter__(self):
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

        self.bar = Progress(
            *Progress.get_default_columns()[:2],
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.bar.start()
        task = self.bar.add_task("images", total=self.total)
        return (lambda count: self.bar.advance(task, count)), self._report

    def _report(self, line):
        self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __exit__(self, *error):
        self.bar.stop()


if __name__ == "__main__":
    sys.exit(main())
