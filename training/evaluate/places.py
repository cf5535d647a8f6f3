"""The place of a class among the predictions for an image: what top-1 and top-5 are counted by."""

import numpy as np


def places_of(scores, labels):
    """Returns the place of each image's class among its scores, int (n,), 0 for the highest score.

    Among equal scores the lower class comes first, as in argmax: in half precision many are 0.

    Args:
        scores: (n, classes), logits or probabilities.
        labels: (n,) int in [0, classes).
    """
    labels = np.asarray(labels)[:, None]
    own = np.take_along_axis(scores, labels, axis=1)
    is_lower = np.arange(scores.shape[1]) < labels
    return ((scores > own) | ((scores == own) & is_lower)).sum(-1)


def best_places(scores, labels, subset=None):
    """Returns the best place that any class of an image's has, int (n,).

    Args:
        scores: (n, classes), logits or probabilities.
        labels: n sequences of one or more classes that count as right.
        subset: the classes that are chosen among, in ascending order; `None`: all. A class that is
            none of them is in no place, which is `classes`.
    """
    images = np.repeat(np.arange(len(labels)), [len(several) for several in labels])
    flat = np.concatenate([np.asarray(several) for several in labels])
    if subset is not None:
        scores = scores[:, subset]
    known = np.arange(len(flat)) if subset is None else np.flatnonzero(np.isin(flat, subset))
    columns = flat[known] if subset is None else np.searchsorted(subset, flat[known])
    found = np.full(len(labels), scores.shape[1])
    np.minimum.at(found, images[known], places_of(scores[images[known]], columns))
    return found
