"""The configuration of an experiment with pre-training."""

import dataclasses
import functools

from keras_convnext import checks
from keras_convnext.variants import STEM_STRIDES

from ...run.cosine import CosineRun
from ...run.knobs import knob

GRN_OVER = ("image", "batch")


@dataclasses.dataclass(frozen=True, kw_only=True)
class PretrainConfig(CosineRun):
    """One pre-training of a masked autoencoder, with the fields of `Run` and these.

    Defaults are those of arXiv 2301.00808, section A.1. `dataset` is `"folder"`, any directory with
    images in it, or `"digits"`, or the name of a TensorFlow Datasets set of images. Labels are not
    read. `weights` are those that the encoder starts from.

    Raises:
        ValueError: if a field has a value that is not allowed.
    """

    train_split: str | None = knob("data", "split as TensorFlow Datasets writes it", None)
    validation_split: str | None = knob("data", "split as TensorFlow Datasets writes it", None)
    validation_fraction: float | None = knob(
        "data",
        "part of a folder without val/ that is kept for validation; none: a twentieth",
        None,
        above=0,
        below=1,
    )
    image_size: int = knob("data", "height and width of the images in pixels", 224, least=1)

    stem_stride: int | None = knob(
        "model",
        "pixels per pixel of the first stage, for small images; none: the variant's own",
        None,
        choices=STEM_STRIDES,
    )
    mask_ratio: float = knob("model", "part of the patches that is hidden", 0.6, above=0, below=1)
    decoder_depth: int = knob("model", "number of blocks of the decoder", 1, least=1)
    decoder_width: int = knob("model", "channels of these blocks", 512, least=1)
    normalize_targets: bool = knob(
        "model", "whether patches are predicted without their mean and standard deviation", True
    )
    grn_over: str = knob(
        "model",
        "what GRN's norm is taken over; batch: as in the authors' code",
        "image",
        choices=GRN_OVER,
    )

    learning_rate: float = knob(
        "optimization", "peak, for a batch of learning_rate_batch images", 1.5e-4, least=0
    )
    learning_rate_batch: int | None = knob(
        "optimization", "the rate scales with batch_size / this; none: not at all", 256, least=1
    )
    minimum_learning_rate: float = knob("optimization", "rate at the end", 0.0, least=0)
    warmup_epochs: float = knob("optimization", "epochs of warm-up from 0", 40.0, least=0)

    crop_scale: tuple = knob(
        "augmentation",
        "area of the random resized crop relative to the image",
        (0.2, 1.0),
        check=functools.partial(checks.interval, most=1),
    )
    flip: float = knob("augmentation", "probability of a mirror image", 0.5, least=0, most=1)

    pictures_every: int = knob(
        "validation", "epochs between two sheets of reconstructions", 50, least=1
    )

    published_classes = 1  # what a plan without the data takes; there are none

    def __post_init__(self):
        super().__post_init__()
        if self.drop_path_rate:
            raise ValueError(
                f"Pre-training has no stochastic depth, received `drop_path_rate` "
                f"{self.drop_path_rate:g}: leave it at 0."
            )
        if self.image_size % self.patch_size:
            raise ValueError(
                f"`image_size` must be a multiple of the patches of {self.patch_size} pixels, "
                f"received {self.image_size}: change it, or `stem_stride`, which the size of the "
                "patches follows."
            )

    @property
    def patch_size(self):
        """Side of a patch in pixels."""
        stride = self.stem_stride
        variant = self.variant
        return (variant if stride is None else variant.with_stem_stride(stride)).stride
