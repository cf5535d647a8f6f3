"""Prepared sets of images in TensorFlow Datasets whose labels, if there are any, are not read."""

import dataclasses

from .dataset import DataError, Dataset
from .listing import counted
from .tfds import Labelled, has_images, open_builder, two_splits


@dataclasses.dataclass(frozen=True)
class Alone(Labelled):
    """Images without anything else; `label` is 0."""

    keys = ("image",)

    def content(self, tf, example):
        return {"image": example["image"], "label": tf.zeros((), tf.int64)}


def unlabelled_set(name, data_dir=None, train_split=None, validation_split=None):
    """Returns the Dataset of a prepared set; arguments as of `tfds.prepared_set`.

    A set without labels will do, and one whose labels are secret.

    Raises:
        DataError: as there, if the set is missing, does not consist of images, or a split is
            unknown, empty, or has images of the other.
    """
    builder = open_builder(name, data_dir)
    if not has_images(builder):
        raise DataError(
            f"{builder.info.full_name} does not consist of images: it needs the feature `image` "
            f"(uint8), and has {', '.join(builder.info.features)}."
        )
    train, validation = two_splits(builder, train_split, validation_split, Alone())
    summary = (
        f"{builder.info.full_name}: training on {train.name!r} ({counted(train.size, 'image')}), "
        f"validation on {validation.name!r} ({counted(validation.size, 'image')}); labels count "
        "for nothing."
    )
    return Dataset(name, ("images",), train, validation, summary=summary)
