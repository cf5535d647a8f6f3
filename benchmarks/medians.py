"""Medians with their range, and the files that keep them."""

import json

import numpy as np


def spread(values, digits=2):
    """Returns `{"median", "range": [least, greatest]}`, rounded to `digits` decimals."""
    median, *ends = (round(float(f(values)), digits) for f in (np.median, np.min, np.max))
    return {"median": median, "range": ends}


def ratio(ours, theirs, digits=2):
    """Returns the spread of the ratios within each round, as a disturbed round disturbs both."""
    return spread(np.divide(ours, theirs), digits)


def read_results(path):
    """Returns what `save_results` wrote at `path`, or `{}` if there is no file."""
    return json.loads(path.read_text()) if path.exists() else {}


def save_results(path, numbers, sort_keys=False):
    """Replaces the file at `path` with the numbers as JSON; makes its folder.

    Raises:
        OSError: if the file cannot be written.
    """
    from keras_convnext.atomic import write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(numbers, indent=1, sort_keys=sort_keys) + "\n")
