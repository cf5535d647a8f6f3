"""The arithmetic of a classifier's run."""

import dataclasses

from ...run.cosine import CosinePlan


@dataclasses.dataclass(frozen=True)
class ClassifierPlan(CosinePlan):
    """As `CosinePlan`, with the schedule and the augmentation of classifiers."""

    score = "val_accuracy"

    def _network(self):
        step = self.config.step
        return self.config.variant.name if step is None else f"{step} of the roadmap"

    def _size(self):
        return f"{self.config.image_size} x {self.config.image_size} pixels"

    def _rates(self):
        text, config = super()._rates(), self.config
        unit = "block" if config.decay_each_block else "group"
        return text + (f", x {config.layer_decay:g} per {unit}" if config.layer_decay < 1 else "")

    def _regularization(self):
        config = self.config
        scale = config.variant.layer_scale
        return (
            f"stochastic depth {config.drop_path_rate:g}, label smoothing "
            f"{config.label_smoothing:g}, layer scale {'none' if scale is None else f'{scale:g}'}, "
            f"head init scale {config.head_init_scale:g}"
        )

    def _augmentation(self):
        config = self.config
        if config.augmentation == "none":
            return "none"
        low, high = config.crop_scale
        crop = f"padding {config.padding}" if config.padding else f"crop {low:g} to {high:g}"
        return (
            f"{config.augmentation}: {crop}, flip {config.flip:g}, {config.rand_augment or 'no'} "
            f"RandAugment, mixup {config.mixup:g}, cutmix {config.cutmix:g}, "
            f"erasing {config.erase:g}"
        )

    def _values_kept(self):
        """Returns how many numbers per image the backward pass needs."""
        config = self.config
        return self._values_of_blocks(
            config.image_size // (config.stem_stride or config.variant.stem_stride)
        )
