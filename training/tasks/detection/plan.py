"""The arithmetic of a run of detection."""

import dataclasses

from ...run.plan import Plan

VALUES_PER_PROPOSAL = 7 * 7  # of the map that a box head sees
VALUES_PER_MASK = 14 * 14


@dataclasses.dataclass(frozen=True)
class DetectPlan(Plan):
    """As `Plan`, with the schedule and the augmentation of detection."""

    score = "val_box_ap"

    @property
    def warmup_updates(self):
        return min(self.config.warmup_updates, self.total_updates - 1)

    @property
    def boundaries(self):
        """The updates from which on the learning rate is lower."""
        return self.config.boundaries(self.updates_per_epoch)

    def _network(self):
        masks = "" if self.config.masks else " without masks"
        return f"{self.config.detector}{masks} with {self.config.variant.name}"

    def _size(self):
        height, width = map(int, self.config.canvas)
        return f"canvas of {width} x {height} pixels" + (
            "" if height == width else ", turned for portraits"
        )

    def _rates(self):
        config = self.config
        text = f"{config.learning_rate:g}"
        if self.warmup_updates:
            text += f" after {self.warmup_updates:,} updates from {config.warmup_factor:g} of it"
        text += f", x {config.decay_factor:g} at update "
        text += " and ".join(f"{update:,}" for update in self.boundaries)
        if config.layer_decay < 1:
            text += f", x {config.layer_decay:g} per group of layers"
        return text

    def _regularization(self):
        return f"stochastic depth {self.config.drop_path_rate:g}"

    def _augmentation(self):
        config = self.config
        flip = f"flip {config.flip:g}"
        if config.augmentation == "none":
            return f"sizes within {config.size[0]:g} x {config.size[1]:g}, {flip}"
        if config.augmentation == "jitter":
            low, high = config.scale
            return f"scale {low:g} to {high:g} of the canvas, {flip}"
        low, high = config.short_sides[0], config.short_sides[-1]
        least, most = config.crop_sides
        return (
            f"short side {low} to {high}, long side to {config.long_side}, crops of {least:g} to "
            f"{most:g} before in {config.crop_probability:.0%}, {flip}"
        )

    def _values_kept(self):
        config, settings = self.config, self.config.settings
        height, width = config.canvas
        side = int((height * width) ** 0.5) // config.variant.stem_stride
        backbone = self._values_of_blocks(side)
        # lateral, sum and output of each level, and the convolution of the region proposals
        pyramid = int(side * side * config.channels * 4 * 4 / 3)
        boxes = settings.box_samples * VALUES_PER_PROPOSAL * config.channels
        boxes *= 1 + 2 * settings.box_convolutions
        masks = settings.mask_samples * VALUES_PER_MASK * config.channels
        masks *= (config.mask_convolutions + 1 + 4) * config.masks
        return backbone + pyramid + (boxes + masks) * len(settings.stages)
