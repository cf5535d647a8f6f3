"""Surveys the masks of a sample before a training, and refuses what cannot be meant."""

import collections
import dataclasses
from pathlib import Path

import numpy as np

from keras_convnext.segmentation.losses import IGNORED
from keras_convnext.segmentation.masks import read_mask

from .dataset import DataError
from .listing import counted, some, spread

SAMPLE = 50  # masks, of 10 to 30 milliseconds each
NAMED = 5  # classes in the summary
TOLERATED = 0.1  # part of the masks that may be unusable: training omits them by name
MOST_VALUES = 256  # that are remembered


@dataclasses.dataclass
class Survey:
    """What was found in some masks of a split.

    Attributes:
        size: number of masks in the split.
        read: number of masks that were read.
        counts: int64 (classes,), pixels of each class.
        ignored: pixels that do not count.
        values: {value: pixels} in the masks as they are stored; empty for colours.
        wrong: [(name, reason)] of the masks that cannot be used.
    """

    size: int
    read: int
    counts: np.ndarray
    ignored: int
    values: collections.Counter
    wrong: list

    @property
    def share(self):
        """float64 (classes,): parts of the pixels that count."""
        return self.counts / max(1, self.counts.sum())


def survey(split, labels):
    """Reads up to `SAMPLE` masks of a split, evenly spread where files allow it.

    Args:
        split: a `PairSplit`, or a split of a prepared set whose examples are pairs.
        labels: a `LabelMap`.

    Returns:
        Survey.
    """
    found = Survey(split.size, 0, np.zeros(labels.classes, "int64"), 0, collections.Counter(), [])
    for name, content in _sample(split):
        found.read += 1
        try:
            stored = read_mask(content, labels.in_colour)
            if not labels.in_colour and len(found.values) < MOST_VALUES:
                values, counts = np.unique(stored, return_counts=True)
                found.values.update(dict(zip(values.tolist(), counts.tolist(), strict=True)))
            counts = np.bincount(labels(stored).ravel(), minlength=256)
        except ValueError as error:
            found.wrong.append((name, str(error)))
            continue
        found.counts += counts[: labels.classes]
        found.ignored += int(counts[IGNORED])
    return found


def _sample(split):
    """Yields (name, content of the mask)."""
    if hasattr(split, "mask_paths"):
        for place in spread(split.size, SAMPLE):
            yield split.mask_paths[place], Path(split.mask_paths[place]).read_bytes()
        return
    for example in split.examples().take(SAMPLE).as_numpy_iterator():
        yield example["name"].decode("utf-8", "backslashreplace"), bytes(example["image"][1])


def surveyed(dataset, labels):
    """Returns the dataset with what its training masks hold in its `summary`.

    Raises:
        DataError: if more than a tenth of the masks cannot be used, or if no class or only one
            occurs in them: nothing could be learned, or everything would seem to be right.
    """
    found = survey(dataset.train, labels)
    _refuse_wrong(found, labels)
    _refuse_single(found, labels, dataset.class_names)
    return dataclasses.replace(dataset, summary=dataset.summary + _sentences(found, dataset))


def _refuse_wrong(found, labels):
    if len(found.wrong) <= max(1, TOLERATED * found.read):
        return
    name, reason = found.wrong[0]
    raise DataError(
        f"{len(found.wrong)} of {found.read} masks cannot be used, the first is {name}: {reason}"
        f"{_hint(found, labels)}"
    )


def _refuse_single(found, labels, names):
    occurring = np.flatnonzero(found.counts)
    if len(occurring) > 1 or len(occurring) == labels.classes:
        return
    what = f"only the class {names[occurring[0]]!r}" if len(occurring) else "no class at all"
    raise DataError(
        f"{found.read} of {found.size} masks were read, and {what} of {labels.classes} occurs in "
        f"them, beside pixels that do not count ({_percent(found)}); the values in the masks are "
        f"{some([str(value) for value in sorted(found.values)])}{_hint(found, labels)}"
    )


def _hint(found, labels):
    """Returns advice that begins with a space, or nothing."""
    if labels.in_colour:
        return " Give each colour a name with --label_colours."
    values = sorted(found.values)
    if not values:  # none could be read as numbers
        return " Where colours are classes, give a file of colours and names with --label_colours."
    if labels.values is None and (flag := _first_or_ignored(values, labels)):
        return flag
    if len(values) == labels.classes and values[-1] <= 255:
        return (
            f" If these are the {labels.classes} classes, give "
            f"--label_values={','.join(map(str, values))}."
        )
    if len(values) > max(20, 2 * labels.classes):
        return (
            f" They hold {len(values)} values or more, as after JPEG or a resize that mixes "
            "neighbours: save masks as PNG and resize them with nearest neighbours."
        )
    return (
        f" The values are {some([str(value) for value in values])[:-1]}: check --class_names, "
        "--first_label, --ignored_label and --label_values."
    )


def _first_or_ignored(values, labels):
    """Returns which flag makes classes of values that follow each other, or nothing."""
    known = {labels.ignored, IGNORED}
    values = [value for value in values if value not in known]
    first, last = labels.first, labels.first + labels.classes - 1
    if values and first == 0 and values[0] == 1 and values[-1] == labels.classes:
        return " If the first class has the value 1, give --first_label=1."
    if values and first == 1 and values[0] == 0 and values[-1] < labels.classes:
        return " If the first class has the value 0, give --first_label=0."
    beyond = [value for value in values if value > last]
    if len(beyond) == 1 and labels.classes > 2 and labels.ignored is None:
        return f" If {beyond[0]} does not count, give --ignored_label={beyond[0]}."
    return ""


def _percent(found):
    total = found.ignored + int(found.counts.sum())
    return f"{100 * found.ignored / max(1, total):.1f} % of the pixels"


def _sentences(found, dataset):
    order = np.argsort(-found.counts, kind="stable")
    shares = [f"{dataset.class_names[n]} {100 * found.share[n]:.1f} %" for n in order[:NAMED]]
    absent = [
        name for name, count in zip(dataset.class_names, found.counts, strict=True) if not count
    ]
    text = (
        f" {found.read} of {found.size} training masks were read: "
        f"{', '.join(shares)}{', ...' if len(order) > NAMED else ''}; {_percent(found)} do not "
        "count."
    )
    if absent:
        text += f" Of the {len(found.counts)} classes these do not occur in them: {some(absent)}"
    if found.wrong:
        text += (
            f" Not usable: {counted(len(found.wrong), 'mask')}, the first is {found.wrong[0][0]}: "
            f"{found.wrong[0][1]}"
        )
    return text
