"""What is measured: a record's model, a file, or published weights; and where the report goes."""

import re
from pathlib import Path

from keras_convnext.cli import console

from ..data import differences
from ..run import record


def check_finished(run):
    """Raises FileNotFoundError if the folder `run` is not the record of a finished run."""
    if not (Path(run) / record.BEST).is_file():
        raise FileNotFoundError(
            f"{run} has no {record.BEST}: it is no record, or of a run that is not finished. Name "
            "a finished one, or a .keras file."
        )


def say_changes(run, dataset):
    """Says where a `Dataset` is another one than that which the record `run` was trained on."""
    then = record.read_config(run).get("data")
    for sentence in differences(then, dataset.fingerprint()) if then else ():
        console.say(f"Note: the data are not those of the training. {sentence}")


def source_of(given, *data):
    """Returns the model as `Classifier` and `Detector` take it, and the folder of its report.

    Args:
        given: a record's folder, the path of a file, or a name.
        *data: names of the data and of the split, after which the folder is called; elsewhere than
            in a record it is called after the model, too.
    """
    path = Path(given)
    if path.is_dir():
        return path / record.BEST, path / _report_of(*data)
    is_file = path.suffix == ".keras" and path.is_file()
    return path if is_file else given, Path(_report_of(given.removesuffix(".keras"), *data))


def _report_of(*names):
    """Returns the name of the folder of a report."""
    return "_".join(["evaluation", *map(_in_a_path, names)])


def _in_a_path(name):
    """Returns the last part of a name, without what the name of a folder cannot have: a "_" for
    each of it, so that 'train[:10%]' and 'train[10%:]' differ."""
    last = re.split(r"[/\\]", name.rstrip("/\\"))[-1]
    return re.sub(r"[^\w.=-]", "_", last) or "data"
