"""The arithmetic of a run of segmentation."""

import dataclasses

from ...run.plan import Plan


@dataclasses.dataclass(frozen=True)
class SegmentPlan(Plan):
    """As `Plan`, with the schedule and the augmentation of segmentation."""

    score = "val_mean_iou"

    @property
    def warmup_updates(self):
        return min(self.config.warmup_updates, self.total_updates - 1)

    def _network(self):
        return self.config.variant.name

    def _size(self):
        size = self.config.size
        resized = f", from images within {size[0]:g} x {size[1]:g}" if size else ""
        return f"crops of {self.config.crop} x {self.config.crop} pixels{resized}"

    def _rates(self):
        config = self.config
        text = f"{config.learning_rate:g} after {self.warmup_updates:,} updates from almost 0, "
        text += f"in a straight line to {config.minimum_learning_rate:g}"
        if config.stage_decay < 1:
            text += f", x {config.stage_decay:g} per stage ({config.decay_depth} to the heads)"
        return text

    def _regularization(self):
        config = self.config
        return (
            f"stochastic depth {config.drop_path_rate:g}, dropout {config.dropout:g}, loss over "
            f"{config.loss_average} pixels"
        )

    def _augmentation(self):
        config = self.config
        low, high = config.scale
        return (
            f"scale {low:g} to {high:g}, at most {config.category_limit:g} of one class, flip "
            f"{config.flip:g}, {'colours distorted' if config.distort else 'colours as they are'}"
        )

    def _values_kept(self):
        config = self.config
        side = config.crop // config.variant.stem_stride
        backbone = self._values_of_blocks(side)
        levels = len(config.variant.depths)
        # each level's lateral and output at the finest size, fused; logits twice at full size
        heads = side * side * config.channels * (3 * levels + 6)
        return backbone + heads + 2 * 3 * config.crop**2 * self.classes
