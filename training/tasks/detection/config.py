"""The configuration of an experiment with detection."""

import dataclasses
import functools

from keras_convnext import checks
from keras_convnext.detection import CASCADE_MASK_RCNN, MASK_RCNN
from keras_convnext.detection.augmentation import (
    CropAndResize,
    Fit,
    LargeScaleJitter,
    checked_canvas,
)
from keras_convnext.detection.settings import MULTIPLE

from ...run.config import Run
from ...run.knobs import knob

SETTINGS = {"mask_rcnn": MASK_RCNN, "cascade_mask_rcnn": CASCADE_MASK_RCNN}
AUGMENTATIONS = ("crop", "jitter", "none")
# The parts of the epochs after which the rate falls: 27 and 33 of 36.
DECAYS = (3 / 4, 11 / 12)


def _pixels(name, value, least=1):
    if not (
        isinstance(value, tuple)
        and len(value) == 2
        and all(checks.is_number(side) and side >= least and side == int(side) for side in value)
    ):
        checks.fail(name, value, f"two whole numbers of pixels >= {least}")


def _epochs(name, value):
    if not (isinstance(value, tuple) and len(value) == 2 and all(map(checks.is_number, value))):
        checks.fail(name, value, "two numbers of epochs")
    if not 0 < value[0] < value[1]:
        checks.fail(name, value, "two numbers of epochs in rising order, > 0")


@dataclasses.dataclass(frozen=True, kw_only=True)
class DetectConfig(Run):
    """One training of a detector, with the fields of `Run` and these.

    Defaults are those of arXiv 2201.03545 (section 4, Appendix A.3) for Mask R-CNN with Tiny.
    `dataset` is `"coco"`: annotations in COCO's format, in a directory as
    `training.data.coco_layout` knows them, or where the flags say.

    Raises:
        ValueError: if a field has a value that is not allowed.
    """

    train_annotations: str | None = knob(
        "data", "annotation file in data_dir; none: it is looked for", None
    )
    train_images: str | None = knob(
        "data", "folder of its images in data_dir; none: it is looked for", None
    )
    validation_annotations: str | None = knob(
        "data",
        "annotation file for validation; none: it is looked for, else every tenth image",
        None,
    )
    validation_images: str | None = knob(
        "data", "folder of its images; none: it is looked for", None
    )
    published_classes: int | None = knob(
        "data", "number of classes as published, for a --dry-run without the data", None, least=1
    )

    detector: str = knob("model", "what is trained", "mask_rcnn", choices=tuple(SETTINGS))
    masks: bool = knob("model", "whether masks are learned, or boxes alone", True)
    channels: int = knob("model", "channels of the pyramid and the convolutions", 256, least=1)
    box_units: int = knob("model", "width of the dense layers of a box head", 1024, least=1)
    mask_convolutions: int = knob("model", "3x3 convolutions of a mask head", 4, least=0)
    box_samples: int = knob("model", "boxes per image and stage that are trained", 512, least=4)
    candidates: int | None = knob(
        "model",
        "anchors per level that may become proposals; none: 2000, and 1000 in validation",
        None,
        least=1,
    )
    proposals: int | None = knob(
        "model", "proposals per image; none: 1000, of the cascade 2000 in training", None, least=1
    )

    learning_rate: float = knob(
        "optimization", "rate after the warm-up, for this batch_size", 1e-4, least=0
    )
    minimum_learning_rate: float = knob(
        "optimization", "rate below which it does not fall", 0.0, least=0
    )
    warmup_updates: int = knob("optimization", "updates of linear warm-up", 500, least=0)
    warmup_factor: float = knob(
        "optimization", "part of the rate at the first update", 1e-3, least=0, most=1
    )
    decay_epochs: tuple | None = knob(
        "optimization",
        "numbers of epochs after which the rate falls; none: 3/4 and 11/12 of them",
        None,
        check=_epochs,
    )
    decay_factor: float = knob("optimization", "of the rate then", 0.1, above=0, most=1)
    layer_decay: float = knob(
        "optimization",
        "rate of a group of layers relative to the next; 1: one rate",
        0.95,
        above=0,
        most=1,
    )

    augmentation: str = knob(
        "augmentation",
        "crop: sizes and crops of the paper; jitter: large-scale jittering; none: the size of "
        "validation",
        "crop",
        choices=AUGMENTATIONS,
    )
    canvas: tuple = knob(
        "augmentation",
        "height,width that landscapes are padded to, in multiples of 32; portraits have it turned",
        (832, 1344),
        check=checked_canvas,
    )
    short_side: tuple = knob(
        "augmentation", "least,most pixels of the short side", (480, 800), check=_pixels
    )
    short_side_step: int = knob("augmentation", "pixels between those sizes", 32, least=1)
    long_side: int = knob("augmentation", "most pixels of the long side", 1333, least=1)
    crop_probability: float = knob(
        "augmentation", "probability of a crop before that", 0.5, least=0, most=1
    )
    crop_short_side: tuple = knob(
        "augmentation",
        "least,most pixels of the short side before a crop: one of them or their mean",
        (400, 600),
        check=_pixels,
    )
    crop_sides: tuple = knob(
        "augmentation", "least,most pixels of the sides of a crop", (384, 600), check=_pixels
    )
    scale: tuple = knob(
        "augmentation", "low,high factor of the jittering", (0.1, 2.0), check=checks.interval
    )
    flip: float = knob("augmentation", "probability of a mirror image", 0.5, least=0, most=1)
    objects: int = knob(
        "augmentation", "objects of an image that are learned at most, the largest", 100, least=1
    )

    size: tuple = knob(
        "validation",
        "long,short that images are resized to, keeping their ratio",
        (1333, 800),
        check=functools.partial(_pixels, least=MULTIPLE),
    )
    score_epochs: int = knob(
        "validation",
        "epochs between two measurements of average precision, by which the best epoch is chosen",
        1,
        least=1,
    )

    def __post_init__(self):
        super().__post_init__()
        if self.augmentation == "crop":
            _in_order("short_side", self.short_side)
            _in_order("crop_short_side", self.crop_short_side)
            _in_order("crop_sides", self.crop_sides)
        if self.decay_epochs is not None and self.decay_epochs[1] >= self.epochs:
            raise ValueError(
                f"`decay_epochs` must be below the {self.epochs} `epochs`, received "
                f"{self.decay_epochs}: the rate would never fall. --decay_epochs=none takes 3/4 "
                "and 11/12 of them."
            )
        _ = self.recipe, self.validation_recipe  # raise where the sizes do not fit on the canvas

    @property
    def settings(self):
        """The `Settings` of the detector."""
        settings = SETTINGS[self.detector]
        changed = {"channels": self.channels, "box_units": self.box_units}
        changed |= {"mask_convolutions": self.mask_convolutions, "box_samples": self.box_samples}
        for kind in ("train", "test"):
            for name in ("candidates", "proposals"):
                if getattr(self, name) is not None:
                    changed[f"{kind}_{name}"] = getattr(self, name)
        return dataclasses.replace(settings, **changed)

    @property
    def recipe(self):
        """The augmentation, a `Recipe`."""
        shared = {"objects": self.objects, "mean": self.variant.mean, "flip": self.flip}
        if self.augmentation == "jitter":
            return LargeScaleJitter(self.canvas, **shared, scale=self.scale)
        if self.augmentation == "none":
            long, short = int(max(self.size)), int(min(self.size))
            return CropAndResize(
                self.canvas, **shared, short_sides=(short,), long_side=long, crop=0.0
            )
        return CropAndResize(
            self.canvas,
            **shared,
            short_sides=self.short_sides,
            long_side=self.long_side,
            crop=self.crop_probability,
            crop_short_sides=self.crop_short_sides,
            crop_sides=tuple(map(int, self.crop_sides)),
        )

    @property
    def validation_recipe(self):
        """The resize of the validation after each epoch, a `Recipe`."""
        return Fit(self.canvas, objects=self.objects, mean=self.variant.mean, size=self.size)

    @property
    def short_sides(self):
        """The lengths of the short side, a tuple of ints."""
        least, most = map(int, self.short_side)
        return tuple(range(least, most + 1, self.short_side_step))

    @property
    def crop_short_sides(self):
        """The lengths of the short side before a crop, a tuple of ints."""
        least, most = map(int, self.crop_short_side)
        return tuple(sorted({least, (least + most) // 2, most}))

    def boundaries(self, updates_per_epoch):
        """Returns the updates from which on the rate is lower, a tuple of ints."""
        epochs = self.decay_epochs or [self.epochs * part for part in DECAYS]
        return tuple(sorted({max(1, round(epoch * updates_per_epoch)) for epoch in epochs}))


def _in_order(name, value):
    if value[0] > value[1]:
        checks.fail(name, value, "(least, most) in that order")
