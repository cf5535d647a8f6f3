"""A row of the registry: one published checkpoint, and all that is needed to use it."""

import dataclasses
import warnings

from keras_convnext.variants import VARIANTS, Variant

LABEL_SETS = {"imagenet1k": 1000, "imagenet12k": 11821, "imagenet22k": 21841}
RESIZE_MODES = ("shortest", "squash")
INTERPOLATIONS = ("bicubic", "bilinear")
# What a model with a head does; without one it is the classifier or encoder itself.
TASKS = {
    None: "classification",
    "upernet": "segmentation",
    "mask_rcnn": "detection",
    "cascade_mask_rcnn": "detection",
}

# What `Row.first_logits` belong to. How that photograph was resized is known for DINOv3 alone:
# straight to 224 x 224, bilinear with antialiasing. For the others: bicubic, no centre crop.
FIRST_LOGITS_IMAGE = "http://images.cocodataset.org/val2017/000000039769.jpg"
FIRST_LOGITS_TOLERANCE = 1e-3
FIRST_LOGITS_SOURCE = "conversion scripts of huggingface/transformers"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Accuracy:
    """One published accuracy.

    Attributes:
        source: who published it, and where.
        top1, top5: ImageNet-1K validation accuracies of a classifier, in percent, or None.
        size: side of the evaluated image or window, in pixels; None where it was not published.
        crop_pct: crop side / resized side of that evaluation, or None.
        zero_shot: measured with the text tower of CLIP, not with a classifier.
        mean_iou: mean IoU on the validation set of a segmentation model, in percent, or None.
        scales: at how many sizes of the image, each also mirrored if there are several.
        box_ap, mask_ap: AP on COCO's val2017 of a detector's boxes and masks, averaged over IoUs of
            0.5 to 0.95, in percent, or None.
    """

    source: str
    top1: float | None = None
    top5: float | None = None
    size: int | None = None
    crop_pct: float | None = None
    zero_shot: bool = False
    mean_iou: float | None = None
    scales: int = 1
    box_ap: float | None = None
    mask_ap: float | None = None


@dataclasses.dataclass(frozen=True)
class Licence:
    """The licence of the weights of a row.

    Attributes:
        name: SPDX identifier, or the licence's own name.
        url: its text.
        non_commercial: commercial use is excluded.
        gated: the authors ask for the acceptance of the licence before they hand out the files.
        notice: what a user should be told once when the weights are loaded, or None.
        remark: anything else that is known about it, or None.
    """

    name: str
    url: str
    non_commercial: bool = False
    gated: bool = False
    notice: str | None = None
    remark: str | None = None


@dataclasses.dataclass(frozen=True)
class Source:
    """One file that holds the weights of a row: a hub file (`repo` and `file`), or a `url`.

    Attributes:
        repo: `owner/name` on the Hugging Face hub.
        file: path of the file in that repository.
        revision: pinned commit (40 hex digits), or None for the default branch.
        url: https address of the file, for files that are not on the hub.
        sha256: of the file (64 hex digits), or None where it is not known.
        sha256_prefix: its first 8 digits, where the publisher put only those in the file name.
        size: of the file in bytes, or None where it is not known.
        gated: this host asks for a login and the acceptance of the licence.
        top: the classifier is in the file. Without it the file serves headless models only.
    """

    repo: str | None = None
    file: str | None = None
    revision: str | None = None
    url: str | None = None
    sha256: str | None = None
    sha256_prefix: str | None = None
    size: int | None = None
    gated: bool = False
    top: bool = True

    @property
    def file_name(self):
        """Last part of the path or of the address."""
        return (self.file or self.url).rsplit("/", 1)[-1]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Row:
    """One published checkpoint, and all that is needed to use it.

    Attributes:
        variant: key of `VARIANTS`; of a dense predictor, its ConvNeXt's.
        tag: who trained it on what; unique within the variant.
        family: which publication it belongs to (`"v1"`, `"v2-fcmae"`, `"timm"`, ...).
        id: the publisher's own name of it.
        classes: width of the output, 0 for an encoder without a classifier.
        label_set: `"imagenet1k"`, `"ade20k"`, ...; `"clip"` where the output is a CLIP embedding;
            or None.
        params: number of trained weights of the whole model with these classes.
        size: side of the input image, in pixels; of an UperNet, side of the training crops and of
            the windows of the evaluation; of a detector, the short side of the evaluated images,
            whose long side is 1333 at most.
        licence: see `Licence`.
        accuracy: published accuracies, the trainer's own first where there are any.
        sources: files with these weights, the preferred one first.
        head: a key of `TASKS`: what is built on the ConvNeXt, or None.
        crop_pct: of a classifier, crop side / resized side of the evaluation at `size`.
        resize_mode: of a classifier: `"shortest"` resizes the short side to `size / crop_pct` and
            crops the centre; `"squash"` resizes both sides so and changes the aspect ratio.
        interpolation: of a classifier: `"bicubic"` or `"bilinear"`, both with antialiasing.
        overrides: fields of the variant that are different in this checkpoint.
        test_size, test_crop_pct: a larger size, and its crop, at which the checkpoint does better
            without fine-tuning, or None.
        resize_size: side before the crop in pixels, where it was published; it goes before
            `size / crop_pct`.
        first_logits: the first values of the output for `FIRST_LOGITS_IMAGE` (of the pooled and
            normalised features for DINOv3, which has no classifier), or None.
        note: what else a user should know, or None.
    """

    variant: str
    tag: str
    family: str
    id: str
    classes: int
    label_set: str | None
    params: int
    size: int
    licence: Licence
    accuracy: tuple[Accuracy, ...]
    sources: tuple[Source, ...]
    head: str | None = None
    crop_pct: float | None = None
    resize_mode: str | None = None
    interpolation: str | None = None
    overrides: dict = dataclasses.field(default_factory=dict, hash=False)
    test_size: int | None = None
    test_crop_pct: float | None = None
    resize_size: int | None = None
    first_logits: tuple[float, ...] | None = None
    note: str | None = None

    def __post_init__(self):
        if self.task == "classification" and None in (self.crop_pct, self.resize_mode):
            raise ValueError(f"{self.name}: a classifier's row needs crop_pct and resize_mode.")

    @property
    def task(self):
        """`"classification"` (encoders included), `"segmentation"` or `"detection"`."""
        return TASKS[self.head]

    @property
    def name(self):
        """`"variant.tag"`, of a dense predictor `"head_variant.tag"`."""
        return f"{f'{self.head}_' if self.head else ''}{self.variant}.{self.tag}"

    @property
    def top1(self):
        """The first published ImageNet-1K top-1 accuracy at `size`, in percent, or None."""
        found = (a.top1 for a in self.accuracy if a.size == self.size and not a.zero_shot)
        return next(found, None)

    @property
    def mean_iou(self):
        """The published mean IoU at one scale, in percent, or None."""
        return next((a.mean_iou for a in self.accuracy if a.scales == 1), None)

    @property
    def mean_iou_multi_scale(self):
        """The published mean IoU with several scales and mirror images, in percent, or None."""
        return next((a.mean_iou for a in self.accuracy if a.scales > 1), None)

    @property
    def box_ap(self):
        """The first published AP of a detector's boxes, in percent, or None."""
        return next((a.box_ap for a in self.accuracy), None)

    @property
    def mask_ap(self):
        """The first published AP of a detector's masks, in percent, or None."""
        return next((a.mask_ap for a in self.accuracy), None)

    @property
    def crop(self):
        """The old name of `size`, for UperNets."""
        warnings.warn(
            "`Row.crop` is now called `Row.size`; the old name goes with the next release.",
            DeprecationWarning,
            stacklevel=2,
        )
        return self.size

    def architecture(self) -> Variant:
        """Returns the variant of the ConvNeXt with the overrides of this checkpoint."""
        return dataclasses.replace(VARIANTS[self.variant], **self.overrides)

    def transform(self):
        """Returns the `keras_convnext.preprocessing.EvalTransform` of a classifier's evaluation.

        Raises:
            ValueError: if it is no classifier or encoder.
        """
        from keras_convnext.preprocessing import EvalTransform  # Pillow, only where it is needed

        if self.task != "classification":
            raise ValueError(f"{self.name} is for {self.task}: it has no transform to one size.")
        return EvalTransform(
            self.size,
            crop_pct=None if self.resize_size else self.crop_pct,
            resize=self.resize_mode,
            interpolation=self.interpolation,
            resize_size=self.resize_size,
        )
