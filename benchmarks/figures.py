"""Medians with their range, and the files that keep them."""

import json

import numpy as np


def spread(values, digits=2):
    """-> `{"median", "range": [least, greatest]}`, rounded to so many digits after the point."""
    median, *ends = (round(float(f(values)), digits) for f in (np.median, np.min, np.max))
    return {"median": median, "range": ends}


def ratio(ours, theirs, digits=2):
    """-> the spread of the ratios within each round: what disturbed a round disturbed both."""
    return spread(np.divide(ours, theirs), digits)


def read_results(path):
    """-> what `save_results` wrote there, `{}` where nothing did"""
    return json.loads(path.read_text()) if path.exists() else {}


def save_results(path, figures, sort_keys=False):
    """Replaces the file at `path` by the figures as JSON; makes its folder.

    Raises:
        OSError: if the file cannot be written.
    """
    from keras_convnext.atomic import write_text

    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, json.dumps(figures, indent=1, sort_keys=sort_keys) + "\n")
