"""The options of the training recipe, which `PaperAugmentation` and `KerasCV` share."""

import dataclasses
import functools

from keras_convnext import checks
from keras_convnext.augmentation import mixing
from keras_convnext.augmentation.rand_augment import RandAugment


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The options, whose defaults are Table 5 of arXiv 2201.03545.

    Args:
        image_size: height and width in pixels, >= 1.
        classes: number of classes, >= 1.
        channels: of the images: 3 or 1; others only as arrays and without RandAugment.
        mean, std: what the model normalises with, for pixels of range [0, 1], as in `Variant`.
        crop_scale: area of the random resized crop divided by the image's.
        crop_ratio: width of the crop divided by its height.
        padding: if > 0 the image is not resized: it gets a black frame of so many pixels, and a
            square of `image_size` is cut from it at random. For small images: 4 for CIFAR.
        flip: probability of a mirror image.
        rand_augment: the policy as `RandAugment.parse` reads it, or `None` for none.
        erase: probability that a box of the image becomes noise.
        mixup, cutmix: parameters of the Beta distributions; 0 for off.
        mix_probability: probability that a batch is mixed.
        switch: probability of CutMix in a batch that is mixed, where both are on.
        label_smoothing: in [0, 1]: this share of a target is spread over all classes.

    Raises:
        ValueError: if an argument is outside its range.
    """

    image_size: int
    classes: int
    _: dataclasses.KW_ONLY
    channels: int = 3
    mean: tuple = (0.485, 0.456, 0.406)
    std: tuple = (0.229, 0.224, 0.225)
    crop_scale: tuple = (0.08, 1.0)
    crop_ratio: tuple = (3 / 4, 4 / 3)
    padding: int = 0
    flip: float = 0.5
    rand_augment: str | None = "rand-m9-mstd0.5-inc1"
    erase: float = 0.25
    mixup: float = 0.8
    cutmix: float = 1.0
    mix_probability: float = 1.0
    switch: float = 0.5
    label_smoothing: float = 0.1

    def __post_init__(self):
        for name in ("image_size", "classes", "channels"):
            checks.integer(name, getattr(self, name), 1)
        checks.integer("padding", self.padding, 0)
        checks.moments("mean", self.mean, 0)
        checks.moments("std", self.std, 1e-6)
        checks.interval("crop_scale", self.crop_scale, 1)
        checks.interval("crop_ratio", self.crop_ratio)
        for name in ("flip", "erase", "mix_probability", "switch", "label_smoothing"):
            checks.number(name, getattr(self, name), least=0, most=1)
        for name in ("mixup", "cutmix"):
            checks.number(name, getattr(self, name), least=0, note="0 switches it off.")
        if self.policy and self.channels not in (1, 3):
            raise ValueError(
                "RandAugment's operations are defined for 1 or 3 channels, received "
                f"`channels`={self.channels}. Pass `rand_augment=None`."
            )

    @functools.cached_property
    def policy(self):
        """The RandAugment, or `None`."""
        return None if self.rand_augment is None else RandAugment.parse(self.rand_augment)

    @property
    def pixel_moments(self):
        """Mean and std of each channel in [0, 255], adapted as the model adapts its own."""
        return [[255 * v for v in self._per_channel(values)] for values in (self.mean, self.std)]

    def _per_channel(self, values):
        if self.channels == 1:
            return [sum(values) / len(values)]
        return [values[i % len(values)] for i in range(self.channels)]

    def targets(self, labels):
        """Returns smoothed targets, float32 (batch, classes), of int labels (batch,)."""
        return mixing.smoothed(labels, self.classes, self.label_smoothing)
