"""The configuration of every experiment: a frozen dataclass of knobs."""

import dataclasses
import re

from keras_convnext import VARIANTS, Variant

from . import knobs
from .knobs import knob

DTYPES = ("float32", "mixed_bfloat16", "mixed_float16")
JIT = ("auto", "on", "off")
DISTRIBUTE = ("auto", "none", "mirrored", "multiworker", "tpu")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """The fields of every training.

    Raises:
        ValueError: if a field has a value that is not allowed.
    """

    name: str = knob("data", "name of the experiment, which its record's folder gets too")
    dataset: str = knob("data", "where the examples come from")
    data_dir: str | None = knob("data", "directory that the examples are in", None)
    published_images: int | None = knob(
        "data", "images of the training set as published, for a --dry-run without it", None, least=1
    )

    variant: Variant = knob("model", "architecture", VARIANTS["convnext_tiny"])
    weights: str | None = knob(
        "model", "weights to start from, as ConvNeXt(weights=...) takes them; none: random", None
    )
    drop_path_rate: float = knob(
        "model", "stochastic depth of the last block", 0.0, least=0, below=1
    )
    kernel_gain: float | None = knob(
        "model",
        "new kernels get a standard deviation of this / sqrt(inputs); none: the paper's 0.02",
        None,
        above=0,
    )

    epochs: int = knob("optimization", "passes over the training images", 300, least=1)
    batch_size: int = knob(
        "optimization", "images per update, over all devices and micro-batches", 4096, least=1
    )
    minimum_learning_rate: float = knob("optimization", "rate at the end", 1e-6, least=0)
    weight_decay: float = knob(
        "optimization", "of AdamW; none on biases, norms, GRN and layer scale", 0.05, least=0
    )
    clip_norm: float | None = knob(
        "optimization", "largest global norm of the gradient", None, above=0
    )
    ema_momentum: float | None = knob(
        "optimization",
        "of the moving average of the weights, which is validated and saved where it is kept",
        None,
        least=0,
        below=1,
    )
    ema_warmup: bool | None = knob(
        "optimization",
        "whether that momentum is warmed up; none: where the average would else have more than 1 % "
        "of the initial weights at the end",
        None,
        absent=False,
    )
    gradient_accumulation: int = knob("optimization", "micro-batches per update", 1, least=1)

    dtype: str = knob("machine", "precision of the training", "float32", choices=DTYPES)
    remat: bool = knob(
        "machine",
        "whether blocks keep their input alone and are computed again for their gradients, to save "
        "memory (gradient checkpointing; on a CPU JAX saves little)",
        False,
    )
    jit: str = knob("machine", "compilation; auto: Keras decides", "auto", choices=JIT)
    distribute: str = knob("machine", "devices that share a batch", "auto", choices=DISTRIBUTE)
    checkpoint_steps: int | None = knob(
        "machine",
        "micro-batches between checkpoints; none: only after each epoch",
        None,
        least=1,
    )
    tensorboard: bool = knob("machine", "whether event files are written", True)
    wandb: str | None = knob("machine", "project at Weights & Biases that gets the log", None)
    seed: int = knob("machine", "of weights, order and augmentation", 0, least=0, most=2**32 - 1)
    output: str = knob("machine", "directory that gets the record's folder", "records")

    def __post_init__(self):
        knobs.verify(self)
        if not re.fullmatch(r"\w[\w.+-]*", self.name):
            raise ValueError(
                f"`name` must be letters, digits and any of _ . + -, received {self.name!r}: it "
                "becomes a part of the record's folder."
            )
        if self.minimum_learning_rate > self.peak_learning_rate:
            raise ValueError(
                f"`minimum_learning_rate` {self.minimum_learning_rate:g} is above the peak of "
                f"{self.peak_learning_rate:g} that `learning_rate` amounts to with a `batch_size` "
                f"of {self.batch_size}: lower the one or raise another."
            )
        if self.kernel_gain is not None and self.weights is not None:
            raise ValueError(
                f"`kernel_gain` {self.kernel_gain:g} is for new kernels, received `weights` "
                f"{self.weights!r}: give one of them as none."
            )
        if self.batch_size % self.gradient_accumulation:
            raise ValueError(
                f"`batch_size` {self.batch_size} is not divisible by `gradient_accumulation` "
                f"{self.gradient_accumulation}: choose a multiple."
            )

    @property
    def micro_batch(self):
        """Images per forward pass, over all devices."""
        return self.batch_size // self.gradient_accumulation

    @property
    def peak_learning_rate(self):
        """The highest learning rate, for this batch size."""
        return self.learning_rate
