"""The configuration of an experiment with a classifier."""

import dataclasses
import functools

from keras_convnext import checks
from keras_convnext.roadmap import STEPS, Regime
from keras_convnext.variants import STEM_STRIDES

from ...run.cosine import CosineRun
from ...run.knobs import knob

AUGMENTATIONS = ("none", "exact", "keras_cv")


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(CosineRun):
    """One training of a classifier, with the fields of `Run` and these.

    Defaults are those of Table 5 of arXiv 2201.03545, left column. `dataset` is `"digits"`,
    `"folder"`, or the name of a TensorFlow Datasets classification set.

    Raises:
        ValueError: if a field has a value that is not allowed.
    """

    train_split: str | None = knob(
        "data", "split as TensorFlow Datasets writes it, such as train[:90%]; none: train", None
    )
    validation_split: str | None = knob(
        "data", "split as TensorFlow Datasets writes it; none: validation, or else test", None
    )
    validation_fraction: float | None = knob(
        "data",
        "part of an image folder without val/ that is kept for validation; none: a fifth",
        None,
        above=0,
        below=1,
    )
    upright: bool | None = knob(
        "data",
        "whether photos of a folder are turned as their EXIF says; none: they are",
        None,
        absent=False,
    )
    published_classes: int | None = knob(
        "data", "number of classes as published, for a --dry-run without the data", None, least=1
    )
    image_size: int = knob("data", "height and width of the images in pixels", 224, least=1)
    class_weights: bool = knob("data", "whether images of rare classes weigh more", False)

    stem_stride: int | None = knob(
        "model",
        "pixels per pixel of the first stage, for small images; none: the variant's own",
        None,
        choices=STEM_STRIDES,
    )
    step: str | None = knob(
        "model", "step of the roadmap that is trained in place of the variant", None, choices=STEPS
    )
    road: Regime | None = knob(None, "road that `step` belongs to; none: the paper's", None)
    head_init_scale: float = knob(
        "model", "factor on the classifier's initial weights", 1.0, least=0
    )
    freeze_stages: int = knob(
        "model", "number of stages, the stem with the first, that are not trained", 0, least=0
    )

    learning_rate: float = knob(
        "optimization", "peak, for a batch of learning_rate_batch images", 4e-3, least=0
    )
    learning_rate_batch: int | None = knob(
        "optimization", "the rate scales with batch_size / this; none: not at all", None, least=1
    )
    warmup_epochs: float = knob("optimization", "epochs of warm-up from 0", 20.0, least=0)
    layer_decay: float = knob(
        "optimization", "rate of a group of blocks relative to the next", 1.0, above=0, most=1
    )
    decay_each_block: bool = knob(
        "optimization", "whether every block is a group of its own for layer_decay", False
    )

    augmentation: str = knob(
        "augmentation", "exact: the paper's; keras_cv: KerasCV's", "none", choices=AUGMENTATIONS
    )
    rand_augment: str | None = knob(
        "augmentation", "policy of RandAugment, such as rand-m9-mstd0.5-inc1", None
    )
    crop_scale: tuple = knob(
        "augmentation",
        "area of the random resized crop relative to the image, such as 0.08,1",
        (0.08, 1.0),
        check=functools.partial(checks.interval, most=1),
    )
    padding: int = knob(
        "augmentation", "pixels around small images before a random crop", 0, least=0
    )
    flip: float = knob("augmentation", "probability of a mirror image", 0.0, least=0, most=1)
    erase: float = knob("augmentation", "probability of random erasing", 0.0, least=0, most=1)
    mixup: float = knob("augmentation", "alpha of mixup; 0 is off", 0.0, least=0)
    cutmix: float = knob("augmentation", "alpha of cutmix; 0 is off", 0.0, least=0)
    label_smoothing: float = knob("augmentation", "of the target", 0.1, least=0, below=1)

    def __post_init__(self):
        super().__post_init__()
        if self.step is not None and self.weights is not None:
            raise ValueError(
                f"`step` {self.step!r} of the roadmap is trained from scratch, received `weights` "
                f"{self.weights!r}: give --weights=none, or no step."
            )
        if self.step is not None and self.remat:
            raise ValueError(
                f"`step` {self.step!r} of the roadmap has none of the blocks that `remat` computes "
                "again: give --remat=false, or no step."
            )
        if self.step is not None and self.head_init_scale != 1:
            raise ValueError(
                f"`step` {self.step!r} of the roadmap has the paper's classifier, received "
                f"`head_init_scale` {self.head_init_scale:g}: leave it at 1, or give no step."
            )
