"""The published UperNets: rows of the registry, their files, and the names of their classes."""

import functools
import importlib.resources

from keras_convnext.checks import one_of
from keras_convnext.pretrained import WeightsError, checkpoint, registry, resolve
from keras_convnext.pretrained.layouts.upernet import UPERNET_LAYOUTS
from keras_convnext.variants import VARIANTS

LABEL_SETS = {"ade20k": "ade20k.txt"}


def rows():
    """Returns all rows, a tuple of `keras_convnext.pretrained.registry.Row`."""
    return registry.rows("segmentation")


def find(name, variant=None):
    """Returns the row of that name: `keras_convnext.pretrained.find(..., task="segmentation")`.

    Raises:
        ValueError: if there is no such row.
    """
    return registry.find(name, variant, "segmentation")


@functools.cache
def class_names(label_set):
    """Returns the names of the classes of a label set, in the order of the outputs, as a tuple.

    Raises:
        ValueError: if the label set is unknown.
    """
    one_of("label_set", label_set, LABEL_SETS)
    file = importlib.resources.files(__package__) / LABEL_SETS[label_set]
    return tuple(file.read_text(encoding="utf-8").splitlines())


def local_file(weights, variant=None):
    """Returns the path that `weights` stands for; downloads what is named."""
    return resolve.resolve(weights, variant, task="segmentation").path


def identify(path):
    """Returns the name of the variant of the UperNet in a file: the first whose blocks it has.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsError: (a ValueError) if it is no UperNet in a known layout, or of no known variant.
    """
    similar = checkpoint.open(path, UPERNET_LAYOUTS).similar()
    if not similar:
        raise WeightsError(f"{path}: its blocks are those of none of {', '.join(VARIANTS)}.")
    return similar[0].variant.name
