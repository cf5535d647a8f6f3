"""The arithmetic of a run, worked out before its first step: steps, rates, memory, devices."""

import dataclasses
import math

import keras

from ..data.listing import counted
from .config import Run

# The share of the initial weights in an average, from which on its momentum is warmed up.
INITIAL_SHARE = 0.01
# What a block keeps, in maps like its input: that, what the depthwise convolution and the norm
# return, and the hidden layer of 4 widths before and after GELU.
KEPT = 3 + 2 * 4


@dataclasses.dataclass(frozen=True)
class Plan:
    """What a configuration means for a dataset on these devices.

    Each task has a class of its own, which adds `score`, the column of the log by which the best
    epoch is chosen (the highest, of a loss the lowest), `warmup_updates`, and the words for what
    the task alone knows.

    Attributes:
        beta_2: of AdamW.
        config: the configuration.
        images: training images.
        classes: number of classes.
        replicas: devices that share a batch.
        device: what they are, in words.
        steps_per_epoch: micro-batches per epoch; the images that fill no whole batch are left
            out, others in each epoch.
        data: a sentence about what was found in the data; may be empty.
    """

    config: Run
    images: int
    classes: int
    replicas: int
    device: str
    steps_per_epoch: int
    data: str = ""
    beta_2 = 0.999

    @property
    def updates_per_epoch(self):
        return self.steps_per_epoch // self.config.gradient_accumulation

    @property
    def total_updates(self):
        """Optimizer steps of the run: what the schedule counts."""
        return self.updates_per_epoch * self.config.epochs

    @property
    def warms_averages_up(self):
        """Whether the momentum of the averages of the weights grows in the first updates."""
        momentum, asked = self.config.ema_momentum, self.config.ema_warmup
        if momentum is None:
            return False
        return momentum**self.total_updates > INITIAL_SHARE if asked is None else asked

    def rows(self, model=None):
        """Returns `[(name, value)]` in words, for a reader."""
        config = self.config
        rows = [
            ("experiment", f"{config.name}: {self._network()} on {config.dataset}"),
            *([("data", self.data)] if self.data else []),
            ("images", self._images()),
            ("devices", f"{self.device}, {keras.backend.backend()}, {config.dtype}"),
            ("batch", self._batch()),
            ("steps", self._steps()),
            ("learning rate", self._rates()),
            ("optimizer", self._optimizer()),
            ("regularization", self._regularization()),
            ("augmentation", self._augmentation()),
            ("start", f"{config.weights or 'random weights'}, seed {config.seed}"),
        ]
        if model is not None:
            rows.append(("parameters", f"{model.count_params():,}"))
            rows.append(("memory", self._memory(model)))
        return rows

    def _images(self):
        return f"{self.images:,} for training in {counted(self.classes, 'class')}, {self._size()}"

    def _batch(self):
        config, accumulated = self.config, self.config.gradient_accumulation
        if self.replicas == accumulated == 1:
            return counted(config.batch_size, "image")
        text = f"{config.batch_size} = {counted(config.micro_batch // self.replicas, 'image')}"
        text += f" x {self.replicas} devices" if self.replicas > 1 else ""
        return text + (f" x {accumulated} accumulated" if accumulated > 1 else "")

    def _steps(self):
        left = self.images - self.updates_per_epoch * self.config.batch_size
        epochs = "1 epoch" if self.config.epochs == 1 else f"{self.config.epochs} epochs"
        note = " (1 image of each epoch fills no batch)" if left == 1 else ""
        if left > 1:
            note = f" ({left} images of each epoch fill no batch)"
        return f"{epochs} x {self.updates_per_epoch:,} = {self.total_updates:,} updates{note}"

    def _optimizer(self):
        config = self.config
        average = f"{config.ema_momentum:g}" if config.ema_momentum is not None else "none"
        average += " after a warm-up" if self.warms_averages_up else ""
        clip = f"{config.clip_norm:g}" if config.clip_norm is not None else "none"
        return (
            f"AdamW, betas 0.9 and {self.beta_2:g}, epsilon 1e-08, weight decay "
            f"{config.weight_decay:g}, clip {clip}, EMA {average}"
        )

    def _memory(self, model):
        """Returns an estimate: weights, gradients, moments and averages, and what is kept for the
        backward pass. The compiler's own buffers are not in it."""
        config = self.config
        weights = model.count_params() * 4
        copies = 4 + (config.ema_momentum is not None) + (config.gradient_accumulation > 1)
        width = 4 if config.dtype == "float32" else 2
        activations = self._values_kept() * width * config.micro_batch // self.replicas
        total = weights * copies + activations
        return (
            f"about {total / 2**30:.1f} GiB per device ({weights * copies / 2**30:.1f} for weights "
            f"and optimizer, {activations / 2**30:.1f} for activations)"
        )

    def _values_of_blocks(self, side):
        """Returns the numbers that the blocks keep; `side` is the side of the first stage's maps.

        With `remat` that is the input of each, and all of the largest while it is computed again.
        """
        variant, inputs, kept, largest = self.config.variant, 0, 0, 0
        for depth, dim in zip(variant.depths, variant.dims, strict=True):
            values = side * side * dim
            inputs += depth * values
            kept += depth * values * KEPT
            largest = max(largest, values * KEPT)
            side //= 2
        return inputs + largest if self.config.remat else kept


def make(kind, config, images, classes, distribution, data=""):
    """Returns the Plan of `config` for `images` training images in `classes` classes.

    `kind` is the class of the plan, `distribution` the `Distribution` of the run, and `data` the
    summary of the dataset.

    Raises:
        ValueError: if a batch is larger than the set, or the devices cannot share it.
    """
    distribution.check(config.micro_batch)
    if config.batch_size > images:
        raise ValueError(
            f"`batch_size` {config.batch_size} is larger than the training set of {images} images: "
            f"choose at most {images}, such as --batch_size={2 ** int(math.log2(images))}."
        )
    updates = images // config.batch_size
    return kind(
        config,
        images,
        classes,
        distribution.replicas,
        distribution.kind,
        updates * config.gradient_accumulation,
        data,
    )
