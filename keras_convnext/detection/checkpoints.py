"""The published detectors: rows of the registry, their files, and the names of their classes."""

import dataclasses
import functools
import importlib.resources
import itertools

from keras_convnext.checks import one_of
from keras_convnext.detection.settings import CASCADE_MASK_RCNN, MASK_RCNN
from keras_convnext.pretrained import WeightsError, checkpoint, registry, resolve
from keras_convnext.pretrained.layouts import DETECTION_LAYOUTS
from keras_convnext.variants import VARIANTS

LABEL_SETS = {"coco": "coco.txt"}
SETTINGS = {"mask_rcnn": MASK_RCNN, "cascade_mask_rcnn": CASCADE_MASK_RCNN}


def rows():
    """Returns all rows, a tuple of `keras_convnext.pretrained.registry.Row`."""
    return registry.rows("detection")


def find(name, variant=None, head=None):
    """Returns the row of that name: `keras_convnext.pretrained.find(..., task="detection")`.

    Args:
        name, variant: as there.
        head: `"mask_rcnn"` or `"cascade_mask_rcnn"`, the family that it must be of; None for any.

    Raises:
        ValueError: if there is no such row, or one of each family.
    """
    return registry.find(name, variant, "detection", head)


def class_names(label_set):
    """Returns the names of the classes of a label set, in the order of the outputs, as a tuple.

    Raises:
        ValueError: if the label set is unknown.
    """
    return tuple(name for _, name in _categories(label_set))


def category_ids(label_set):
    """Returns the ids that a label set's annotation files have for its classes.

    Those of COCO go from 1 to 90, with gaps.

    Returns:
        A tuple of ints, in the order of the outputs.

    Raises:
        ValueError: if the label set is unknown.
    """
    return tuple(number for number, _ in _categories(label_set))


@functools.cache
def _categories(label_set):
    """Returns `((id, name), ...)`, from a file with a line `id<tab>name` for each class."""
    one_of("label_set", label_set, LABEL_SETS)
    file = importlib.resources.files(__package__) / LABEL_SETS[label_set]
    lines = (line.split("\t") for line in file.read_text(encoding="utf-8").splitlines())
    return tuple((int(number), name) for number, name in lines)


def local_file(weights, variant=None, head=None):
    """Returns the path that `weights` stands for; downloads what is named."""
    return resolve.resolve(weights, variant, task="detection", head=head).path


def settings_of(checkpoint):
    """Returns the `Settings` of a file's family, with the widths and numbers of its layers.

    Args:
        checkpoint: an opened file, read as a `Variant`.
    """
    settings = SETTINGS[checkpoint.layout.head]

    def count(name):
        numbers = itertools.count()
        return next(n for n in numbers if checkpoint.outputs(name.format(n)) is None)

    found = {
        "channels": checkpoint.outputs("rpn_head/conv/kernel"),
        "box_units": checkpoint.outputs("box_head0/dense0/kernel"),
        "box_convolutions": count("box_head0/conv{}/conv/kernel"),
        "box_dense": count("box_head0/dense{}/kernel"),
        "mask_convolutions": count("mask_head0/conv{}/kernel"),
    }
    return dataclasses.replace(settings, **{name: n for name, n in found.items() if n})


def identify(path):
    """Returns what detector a file holds, `(head, variant)`.

    The head is `"mask_rcnn"` or `"cascade_mask_rcnn"`, the variant the name of the first whose
    blocks it has.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsError: (a ValueError) if it is no detector in a known layout, or of no known variant.
    """
    opened = checkpoint.open(path, DETECTION_LAYOUTS)
    similar = opened.similar()
    if not similar:
        raise WeightsError(f"{path}: its blocks are those of none of {', '.join(VARIANTS)}.")
    return opened.match.layout.head, similar[0].variant.name
