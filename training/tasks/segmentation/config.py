"""What an experiment of segmentation is."""

import dataclasses
import os
from pathlib import Path

from keras_convnext.augmentation import checks
from keras_convnext.segmentation import checkpoints
from keras_convnext.segmentation.inference import LEAST, is_pair
from keras_convnext.segmentation.losses import AVERAGES
from keras_convnext.segmentation.masks import LabelMap
from training.run.config import Run


@dataclasses.dataclass(frozen=True, kw_only=True)
class SegmentConfig(Run):
    """One training of an UperNet, with the fields of `Run` and these.

    Defaults are those of arXiv 2201.03545, Appendix A.3, for Tiny.

    Data:
        dataset: `"folder"`, or `"scene_parse150"` of TensorFlow Datasets (or another set of it with
            the features `image` and `annotation`).
        data_dir: of the folders, or where TensorFlow Datasets keeps its sets.
        train_images, train_masks, validation_images, validation_masks: folders in `data_dir`; an
            image and its mask have equal names but for the suffix, in folders below too. Where
            there are none for validation, every tenth pair is kept for it.
        test_images, test_masks: a third pair of folders that the best model is measured on at the
            end; `None`: there is none.
        train_split, validation_split: as TensorFlow Datasets writes them.
        class_names: names with commas between them, or a file with one per line, or `"ade20k"`.
            A file is read once: the configuration, and so the record, has the names.
        first_label: the value of the first class in the masks; lower ones do not count.
        ignored_label: another value that does not count; 255 never does.

    Model:
        weights: of the ConvNeXt, as `ConvNeXt(weights=...)` takes them; `None` is from scratch.
        channels, auxiliary_channels: of the convolutions of the heads.
        dropout: rate at which whole channels are dropped before the classifiers, in [0, 1).

    Optimization:
        learning_rate: at the start, behind the warm-up, for this batch size.
        warmup_updates: optimizer steps of linear warm-up.
        stage_decay, decay_depth: as `stage_wise_scales(model, decay, depth)`; a decay of 1 gives
            all layers one rate.
        loss_average: `"all"` (the paper) or `"valid"`, see `PixelCrossEntropy`.

    Augmentation:
        crop: side of the training crops in pixels.
        size: `(long, short)` that images are resized to, keeping their ratio; `None`: not at all.
        scale: the two numbers between which the factor on that size is drawn.
        category_limit: share of one class in a crop from which on it is drawn again, in (0, 1].
        flip: probability of a mirror image.
        distort: whether brightness, contrast, saturation and hue are changed at random.

    Validation:
        validation_size: `(height, width)` of the part from the centre of each image, at the size of
            the training, that is validated after each epoch.
        stride: of the windows of `crop` pixels with which the best model is measured in the end;
            `None`: two thirds.

    Raises:
        ValueError: if a field has a value that is not allowed.
    """

    train_images: str | None = None
    train_masks: str | None = None
    validation_images: str | None = None
    validation_masks: str | None = None
    test_images: str | None = None
    test_masks: str | None = None
    train_split: str | None = None
    validation_split: str | None = None
    class_names: str = "ade20k"
    first_label: int = 0
    ignored_label: int | None = None

    channels: int = 512
    auxiliary_channels: int = 256
    dropout: float = 0.1

    learning_rate: float = 1e-4
    minimum_learning_rate: float = 0.0
    warmup_updates: int = 1500
    stage_decay: float = 0.9
    decay_depth: int = 6
    loss_average: str = "all"

    crop: int = 512
    size: tuple | None = (2048, 512)
    scale: tuple = (0.5, 2.0)
    category_limit: float = 0.75
    flip: float = 0.5
    distort: bool = True

    validation_size: tuple = (512, 768)
    stride: int | None = None

    def __post_init__(self):
        super().__post_init__()
        if self.loss_average not in AVERAGES:
            raise ValueError(
                f"`loss_average` must be one of {AVERAGES}, received {self.loss_average!r}."
            )
        for name in ("size", "validation_size"):
            pair = getattr(self, name)
            if pair is not None and not is_pair(pair):
                raise ValueError(
                    f"`{name}` must be two numbers of pixels >= {LEAST}, received {pair}."
                )
        checks.interval("scale", self.scale, float("inf"))
        if self.stride is not None and not 1 <= self.stride <= self.crop:
            raise ValueError(
                f"`stride` must be from 1 to the `crop` of {self.crop} pixels, received "
                f"{self.stride}: windows further apart leave pixels out."
            )
        object.__setattr__(self, "class_names", _read(self.class_names))
        if not self.names:
            raise ValueError("`class_names` has no names.")
        _ = self.labels  # raises where the values of the classes are impossible

    @property
    def names(self):
        """The names of the classes, a tuple."""
        if self.class_names in checkpoints.LABEL_SETS:
            return checkpoints.class_names(self.class_names)
        lines = self.class_names.split("\n" if "\n" in self.class_names else ",")
        return tuple(name.strip() for name in lines if name.strip())

    @property
    def labels(self):
        """What the values of the masks mean, a `LabelMap`."""
        return LabelMap(len(self.names), self.first_label, self.ignored_label)


def _read(class_names):
    """-> what a file of names has, if this is one; else what is given."""
    path = Path(class_names).expanduser()
    if os.path.isfile(path):
        return path.read_text(encoding="utf-8")
    if "," not in class_names and (len(path.parts) > 1 or path.suffix in (".txt", ".names")):
        raise ValueError(
            f"`class_names` {class_names!r} is no file: give an existing one with a name per line, "
            "or the names with commas between them."
        )
    return class_names
