"""Prepared sets of images with masks in TensorFlow Datasets, such as `scene_parse150`."""

import dataclasses

from .dataset import DataError, Dataset
from .survey import surveyed
from .tfds import Labelled, open_builder, two_splits


@dataclasses.dataclass(frozen=True)
class Masked(Labelled):
    """Images with one mask each: `image` is a string tensor (2,), the contents of both files."""

    keys = ("image", "annotation")

    def content(self, tf, example):
        pair = tf.stack([example[key] for key in self.keys])
        return {"image": pair, "label": tf.zeros((), tf.int64)}


def masked_set(
    name, class_names, data_dir=None, train_split=None, validation_split=None, labels=None
):
    """Returns the Dataset of a prepared set; arguments as of `tfds.prepared_set`.

    With `labels`, a `LabelMap`, some masks are read first, see `training.data.survey`.

    Raises:
        DataError: as there, if the set does not consist of images with masks, or if the masks that
            were read contradict `labels`.
    """
    builder = open_builder(name, data_dir)
    missing = [key for key in Masked.keys if key not in builder.info.features]
    if missing:
        raise DataError(
            f"{builder.info.full_name} does not consist of images with masks: it needs the "
            f"features `image` and `annotation`, and has {', '.join(builder.info.features)}."
        )
    splits = two_splits(builder, train_split, validation_split, Masked())
    summary = f"{len(class_names)} classes; {builder.info.full_name}."
    dataset = Dataset(name, tuple(class_names), *splits, summary=summary)
    return dataset if labels is None else surveyed(dataset, labels)
