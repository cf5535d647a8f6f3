"""Datasets by name: `load("digits")`, `load("folder", "photos/")`, `load("cifar10")`.

`load` says what there is; `stream` makes batches of it. An example is an encoded image, or an
array, with its label, its place in a fixed order and a name for messages; nothing is decoded
before the transform.
"""

from training.data.dataset import DataError, Dataset, Split
from training.data.digits import digits
from training.data.folder import folder
from training.data.tfds import prepared_set

__all__ = ("DataError", "Dataset", "Split", "load", "of_config")

OPTIONS = {
    "digits": (),
    "folder": ("data_dir", "validation_fraction", "split_seed"),
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
):
    """The Dataset of that name. None stands for an option's default.

    Args:
        name: `"digits"`; `"folder"`; or that of a set of TensorFlow Datasets which is prepared,
            such as `"cifar10"`, `"imagenet_v2/topimages"` or `"tf_flowers:3.*"`.
        data_dir: of `"folder"`: the directory, see `training.data.folder`. Of a set of TensorFlow
            Datasets: where these are kept.
        train_split, validation_split: of a set of TensorFlow Datasets, as there.
        validation_fraction, split_seed: of `"folder"`, where it has no folder for validation.

    Raises:
        DataError: (a ValueError) if it is not there or not usable, or an option is not its own.
    """
    given = dict(
        data_dir=data_dir,
        train_split=train_split,
        validation_split=validation_split,
        validation_fraction=validation_fraction,
        split_seed=split_seed,
    )
    given = {option: value for option, value in given.items() if value is not None}
    kind = name if name in OPTIONS else "a set of TensorFlow Datasets"
    for option in given:
        if option not in OPTIONS[kind]:
            owners = " and ".join(k for k in OPTIONS if option in OPTIONS[k])
            raise DataError(
                f"The dataset {name!r} has no option `{option}`, which belongs to {owners}: "
                "leave it out."
            )
    if name == "digits":
        return digits()
    if name == "folder":
        return folder(**{"data_dir": None} | given)
    return prepared_set(name, **given)


def of_config(fields):
    """`load` of what a training configuration names.

    Args:
        fields: dict with `"dataset"` and, where they are set, the options of `load`; other fields
            are not looked at.
    """
    options = {option for owned in OPTIONS.values() for option in owned}
    return load(fields["dataset"], **{name: fields.get(name) for name in options})
