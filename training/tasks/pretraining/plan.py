"""The arithmetic of a run of pre-training."""

import dataclasses

from ...run.cosine import CosinePlan
from ...run.plan import KEPT


@dataclasses.dataclass(frozen=True)
class PretrainPlan(CosinePlan):
    """As `CosinePlan`, with the schedule, the masks and the augmentation of pre-training."""

    score = "val_loss"
    beta_2 = 0.95

    def _images(self):
        size = self.config.image_size
        return f"{self.images:,} for training, {size} x {size} pixels, without labels"

    def _network(self):
        config = self.config
        return f"{config.variant.name} with a decoder of {config.decoder_depth} x " + (
            f"{config.decoder_width}"
        )

    def _regularization(self):
        config = self.config
        count = (config.image_size // config.patch_size) ** 2
        return (
            f"{config.mask_ratio:g} of {count} patches of {config.patch_size} x "
            f"{config.patch_size} pixels hidden, GRN over each {config.grn_over}"
        )

    def _augmentation(self):
        low, high = self.config.crop_scale
        return f"crop {low:g} to {high:g}, flip {self.config.flip:g}"

    def _values_kept(self):
        """Returns how many numbers per image the backward pass needs, those of all patches."""
        config = self.config
        stride = config.stem_stride or config.variant.stem_stride
        encoder = self._values_of_blocks(config.image_size // stride)
        places = (config.image_size // config.patch_size) ** 2
        return encoder + config.decoder_depth * places * config.decoder_width * KEPT
