"""Sets of images with masks that TensorFlow Datasets has prepared, such as `scene_parse150`."""

import dataclasses

from training.data.dataset import DataError, Dataset
from training.data.tfds import Labelled, open_builder, two_splits


@dataclasses.dataclass(frozen=True)
class Masked(Labelled):
    """Images with a mask each: `image` is a string tensor (2,), the contents of both files."""

    keys = ("image", "annotation")

    def content(self, tf, example):
        pair = tf.stack([example[key] for key in self.keys])
        return {"image": pair, "label": tf.zeros((), tf.int64)}


def masked_set(name, class_names, data_dir=None, train_split=None, validation_split=None):
    """-> the Dataset of a prepared set; arguments as of `tfds.prepared_set`.

    Raises:
        DataError: as there, and if the set is none of images with masks.
    """
    builder = open_builder(name, data_dir)
    missing = [key for key in Masked.keys if key not in builder.info.features]
    if missing:
        raise DataError(
            f"{builder.info.full_name} is no set of images with masks: it needs the features "
            f"`image` and `annotation`, and has {', '.join(builder.info.features)}."
        )
    splits = two_splits(builder, train_split, validation_split, Masked())
    return Dataset(name, tuple(class_names), *splits)
