"""Datasets by name: `load("digits")`, `load("folder", "photos/")`, `load("cifar10")`.

`load` returns a `Dataset`; `stream` makes batches of its splits. An example is an encoded image or
an array, with its label, its place in a fixed order and a name for messages; nothing is decoded
before the transform.
"""

from .dataset import DataError, Dataset, Split
from .digits import digits
from .fingerprint import differences
from .folder import folder
from .tfds import prepared_set
from .unlabelled import unlabelled_folder
from .unlabelled_tfds import unlabelled_set

__all__ = ("DataError", "Dataset", "Split", "differences", "load", "of_config")

OPTIONS = {
    "digits": (),
    "folder": ("data_dir", "validation_fraction", "split_seed", "class_names", "upright"),
    "a set of TensorFlow Datasets": ("data_dir", "train_split", "validation_split"),
}


def load(
    name,
    data_dir=None,
    *,
    train_split=None,
    validation_split=None,
    validation_fraction=None,
    split_seed=None,
    class_names=None,
    upright=None,
    labelled=True,
):
    """Returns the Dataset with that name. None stands for an option's default.

    Args:
        name: `"digits"`; `"folder"`; or the name of a prepared set of TensorFlow Datasets, such as
            `"cifar10"`, `"imagenet_v2/topimages"` or `"tf_flowers:3.*"`.
        data_dir: of `"folder"`: the directory, see `training.data.folder`. Of a set of TensorFlow
            Datasets: where these are kept.
        train_split, validation_split: names of splits in a set of TensorFlow Datasets.
        validation_fraction, split_seed: of `"folder"`, where it has no folder for validation.
        class_names: of `"folder"`: the order of the classes, such as a record has it.
        upright: of `"folder"`: whether photos are turned as their EXIF says; default `True`. The
            images of other datasets are taken as they are stored.
        labelled: `False`: the images alone. `"folder"` is then any directory with images in it, see
            `training.data.unlabelled`, without the last two options, and a set of TensorFlow
            Datasets needs no labels.

    Raises:
        DataError: (a ValueError) if the data are missing or unusable, or an option belongs to
            another kind of dataset.
    """
    given = dict(
        data_dir=data_dir,
        train_split=train_split,
        validation_split=validation_split,
        validation_fraction=validation_fraction,
        split_seed=split_seed,
        class_names=class_names,
        upright=upright,
    )
    given = {option: value for option, value in given.items() if value is not None}
    if name != "folder" and upright is False:
        del given["upright"]  # it is so
    kind = name if name in OPTIONS else "a set of TensorFlow Datasets"
    for option in given:
        if option not in OPTIONS[kind]:
            owners = " and ".join(k for k in OPTIONS if option in OPTIONS[k])
            raise DataError(
                f"The dataset {name!r} has no option `{option}`, which belongs to {owners}: "
                "omit it."
            )
    if name == "digits":
        return digits()
    if name == "folder":
        read = folder if labelled else unlabelled_folder
        return read(**{"data_dir": None} | given)
    return (prepared_set if labelled else unlabelled_set)(name, **given)


def of_config(fields, labelled=True):
    """Returns the Dataset that a training configuration names.

    Args:
        fields: dict with `"dataset"` and, where they are set, the options of `load`; other fields
            are ignored.
        labelled: as of `load`.

    Raises:
        DataError: as `load`.
    """
    options = {option for owned in OPTIONS.values() for option in owned}
    given = {name: fields.get(name) for name in options}
    return load(fields["dataset"], **given, labelled=labelled)
