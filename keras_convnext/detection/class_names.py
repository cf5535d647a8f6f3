"""The names of a detector's classes and their ids in files of COCO's format, as users give them."""

import os

from keras_convnext import labels as label_sets
from keras_convnext.detection import checkpoints


def given_classes(labels):
    """Returns `((category id or None, name), ...)` of the classes that `labels` names.

    Args:
        labels: as of `Detector`; for `None` nothing is returned.

    Raises:
        ValueError: if it is of another form.
        OSError: if a file cannot be read.
    """
    if labels is None:
        return ()
    if isinstance(labels, (str, os.PathLike)):
        if labels in checkpoints.LABEL_SETS:
            return of_label_set(labels)
        return with_ids(label_sets.read_names(labels))
    if not isinstance(labels, (dict, list, tuple)) or not labels:
        raise ValueError(
            "`labels` must be the name of a label set, the path of a file, or a list or dict of "
            f"names, received {labels!r}."
        )
    if isinstance(labels, dict):
        labels = {str(index): _entry(name) for index, name in labels.items()}
    else:
        labels = [_entry(name) for name in labels]
    try:
        found = with_ids(label_sets.checked_names(labels))
    except ValueError as error:
        raise ValueError(f"`labels`: {error}.") from None
    ids = [number for number, _ in found if number is not None]
    if len(set(ids)) < len(ids):
        raise ValueError(
            f"`labels` must have a different id for each name, received {len(set(ids))} different "
            f"ids for {len(ids)} names."
        )
    return found


def _entry(name):
    """Returns a name as it is, and `(id, name)` as a file has it: [text, name]."""
    if not isinstance(name, (tuple, list)):
        return name
    return [str(name[0]) if isinstance(name[0], int) else name[0], *name[1:]]


def with_ids(names):
    """Returns the names with their ids as whole numbers, `None` where they are none."""
    return tuple((int(i) if i and i.isdecimal() else None, name) for i, name in names)


def of_label_set(label_set):
    """Returns the classes of a label set, as `given_classes`."""
    ids = checkpoints.category_ids(label_set)
    return tuple(zip(ids, checkpoints.class_names(label_set), strict=True))
