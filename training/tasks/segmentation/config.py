"""The configuration of an experiment with segmentation."""

import dataclasses
import os
from pathlib import Path

from keras_convnext import checks
from keras_convnext.segmentation import checkpoints
from keras_convnext.segmentation.inference import LEAST, is_pair
from keras_convnext.segmentation.losses import AVERAGES

from ...data.mask_labels import colour_text, label_map
from ...run.config import Run
from ...run.knobs import knob


def _sides(name, value):
    if not is_pair(value):
        checks.fail(name, value, f"two numbers of pixels >= {LEAST}")


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentConfig(Run):
    """One training of an UperNet, with the fields of `Run` and these.

    Defaults are those of arXiv 2201.03545, Appendix A.3, for Tiny. `dataset` is `"folder"`, or
    `"scene_parse150"` of TensorFlow Datasets (or another set of it with the features `image` and
    `annotation`). In the folders an image and its mask have equal names but for the suffix, in
    folders below too. Where there are none for validation, every tenth pair is kept for it.
    Files of class names and of colours are read once: the configuration, and so the record, has
    their content.

    Raises:
        ValueError: if a field has a value that is not allowed.
    """

    train_images: str | None = knob("data", "folder of images in data_dir", None)
    train_masks: str | None = knob("data", "folder of their masks in data_dir", None)
    validation_images: str | None = knob(
        "data", "folder of images for validation; none: every tenth pair", None
    )
    validation_masks: str | None = knob("data", "folder of their masks", None)
    test_images: str | None = knob(
        "data", "folder of images that the best model is measured on at the end", None
    )
    test_masks: str | None = knob("data", "folder of their masks", None)
    train_split: str | None = knob("data", "split as TensorFlow Datasets writes it", None)
    validation_split: str | None = knob("data", "split as TensorFlow Datasets writes it", None)
    class_names: str = knob(
        "data", "names with commas between them, a file with one per line, or ade20k", "ade20k"
    )
    first_label: int = knob("data", "value of the first class; lower ones do not count", 0)
    ignored_label: int | None = knob(
        "data", "another value that does not count; nor does 255, unless it is a class", None
    )
    label_values: str | None = knob(
        "data", "value of each class, such as 0,255 for black and white masks", None
    )
    label_colours: str | None = knob(
        "data", "file with a line such as '128 64 128 road' for each colour of the masks", None
    )

    channels: int = knob("model", "channels of the main head", 512, least=1)
    auxiliary_channels: int = knob("model", "channels of the auxiliary head", 256, least=1)
    dropout: float = knob(
        "model", "rate at which channels are dropped before the classifiers", 0.1, least=0, below=1
    )

    learning_rate: float = knob(
        "optimization", "rate after the warm-up, for this batch_size", 1e-4, least=0
    )
    minimum_learning_rate: float = knob("optimization", "rate at the end", 0.0, least=0)
    warmup_updates: int = knob("optimization", "updates of linear warm-up", 1500, least=0)
    stage_decay: float = knob(
        "optimization", "rate of a stage relative to the next; 1: one rate", 0.9, above=0, most=1
    )
    decay_depth: int = knob("optimization", "steps of that decay down to the stem", 6, least=3)
    loss_average: str = knob(
        "optimization", "pixels that the loss is averaged over", "all", choices=AVERAGES
    )

    crop: int = knob("augmentation", "side of the training crops in pixels", 512, least=LEAST)
    size: tuple | None = knob(
        "augmentation",
        "long,short that images are resized to, keeping their ratio; none: as they are",
        (2048, 512),
        check=_sides,
    )
    scale: tuple = knob(
        "augmentation", "low,high factor on that size", (0.5, 2.0), check=checks.interval
    )
    category_limit: float = knob(
        "augmentation",
        "share of one class in a crop from which on it is drawn again",
        0.75,
        above=0,
        most=1,
    )
    flip: float = knob("augmentation", "probability of a mirror image", 0.5, least=0, most=1)
    distort: bool = knob("augmentation", "whether colours are changed at random", True)

    validation_size: tuple = knob(
        "validation",
        "height,width of the centre of each image that is validated after each epoch",
        (512, 768),
        check=_sides,
    )
    stride: int | None = knob(
        "validation",
        "stride of the windows of crop pixels that measure the best model; none: two thirds",
        None,
        least=1,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.stride is not None and self.stride > self.crop:
            raise ValueError(
                f"`stride` must be from 1 to the `crop` of {self.crop} pixels, received "
                f"{self.stride}: windows further apart leave pixels out."
            )
        object.__setattr__(self, "class_names", _read(self.class_names))
        if not self.names:
            raise ValueError("`class_names` has no names.")
        if self.label_colours is not None:
            object.__setattr__(self, "label_colours", colour_text(self.label_colours))
        _ = self.labels  # raises where the values of the classes are impossible

    @property
    def names(self):
        """The names of the classes, a tuple."""
        if self.class_names in checkpoints.LABEL_SETS:
            return checkpoints.class_names(self.class_names)
        lines = self.class_names.split("\n" if "\n" in self.class_names else ",")
        return tuple(name.strip() for name in lines if name.strip())

    @property
    def published_classes(self):
        """The number of classes, which is known without the data."""
        return len(self.names)

    @property
    def labels(self):
        """What the values of the masks mean, a `LabelMap`."""
        return label_map(
            self.names,
            self.first_label,
            self.ignored_label,
            self.label_values,
            self.label_colours,
        )


def _read(class_names):
    """Returns the content of a file of names if this is one, else what is given."""
    path = Path(class_names).expanduser()
    if os.path.isfile(path):
        return path.read_text(encoding="utf-8")
    if "," not in class_names and (len(path.parts) > 1 or path.suffix in (".txt", ".names")):
        raise ValueError(
            f"`class_names` {class_names!r} is no file: give an existing one with a name per line, "
            "or the names with commas between them."
        )
    return class_names
