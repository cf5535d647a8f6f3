"""The published checkpoints, one row each. Data only: nothing is downloaded or loaded here.

`registry.json` is the source; edit it by hand. It has three parts: `licences` and `references`,
which rows name by their key, and `rows`, in the order of `VARIANTS`. A value that nobody has
published or measured (a revision, a sha256, a size in bytes) is null there and None here.

Variant and tag are separate words, `convnext_tiny.fb_in22k_ft_in1k_384`. The tag is timm's where
timm names the checkpoint. The others follow this rule, trainer first, then data, then what is
particular:

| checkpoint | tag |
|---|---|
| authors' ImageNet-1K weights at 384 | `fb_in1k_384` |
| authors' weights without averaging | `fb_in1k_nonema` |
| authors' isotropic models (a variant of their own) | `fb_in1k` |
| torchvision | `tv_in1k` |
| files of keras.applications | `keras_in1k`, `keras_in22k_ft_in1k` |
| mmpretrain's own training | `mmpretrain_in1k`, `mmpretrain_in1k_noema`, |
| | `mmpretrain_spark_ft_in1k` (after SparK pretraining) |
| image tower of an open_clip model | its tag in open_clip, and `_320` if its model is `*_320` |

Left out: detection and segmentation models, and mmpretrain's SparK pretraining file
(`spark_sparse-convnextv2-tiny`), whose encoder and decoder are no classifier and whose tensor
names are not documented.
"""

import dataclasses
import difflib
import functools
import importlib.resources
import json

from keras_convnext.variants import VARIANTS, Variant

LABEL_SETS = {"imagenet1k": 1000, "imagenet12k": 11821, "imagenet22k": 21841}
RESIZE_MODES = ("shortest", "squash")
INTERPOLATIONS = ("bicubic", "bilinear")

# What `Row.first_logits` belong to. How that photograph was resized is known for DINOv3 alone:
# straight to 224 x 224, bilinear with antialiasing. For the others: bicubic, no centre crop.
FIRST_LOGITS_IMAGE = "http://images.cocodataset.org/val2017/000000039769.jpg"
FIRST_LOGITS_TOLERANCE = 1e-3
FIRST_LOGITS_SOURCE = "conversion scripts of huggingface/transformers"

# `weights="imagenet"`: one ImageNet-1K classifier per variant that has one. Tiny to XLarge are
# the weights of keras.applications. The others are the best known at 224 pixels (256 for the CLIP
# models, 160 for the test models); ConvNeXt V2 those that saw no images but ImageNet-1K's.
IMAGENET = {
    "convnext_tiny": "fb_in1k",
    "convnext_small": "fb_in1k",
    "convnext_base": "fb_in22k_ft_in1k",
    "convnext_large": "fb_in22k_ft_in1k",
    "convnext_xlarge": "fb_in22k_ft_in1k",
    "convnext_zepto_rms": "ra4_e3600_r224_in1k",
    "convnext_zepto_rms_ols": "ra4_e3600_r224_in1k",
    "convnext_atto": "d2_in1k",
    "convnext_atto_ols": "a2_in1k",
    "convnext_femto": "d1_in1k",
    "convnext_femto_ols": "d1_in1k",
    "convnext_pico": "d1_in1k",
    "convnext_pico_ols": "d1_in1k",
    "convnext_nano": "in12k_ft_in1k",
    "convnext_nano_ols": "d1h_in1k",
    "convnext_tiny_hnf": "a2h_in1k",
    "convnext_large_mlp": "clip_laion2b_augreg_ft_in1k",
    "convnext_xxlarge": "clip_laion2b_soup_ft_in1k",
    "test_convnext": "r160_in1k",
    "test_convnext2": "r160_in1k",
    "test_convnext3": "r160_in1k",
    "convnext_isotropic_small": "fb_in1k",
    "convnext_isotropic_base": "fb_in1k",
    "convnext_isotropic_large": "fb_in1k",
    "convnextv2_atto": "fcmae_ft_in1k",
    "convnextv2_femto": "fcmae_ft_in1k",
    "convnextv2_pico": "fcmae_ft_in1k",
    "convnextv2_nano": "fcmae_ft_in1k",
    "convnextv2_tiny": "fcmae_ft_in1k",
    "convnextv2_base": "fcmae_ft_in1k",
    "convnextv2_large": "fcmae_ft_in1k",
    "convnextv2_huge": "fcmae_ft_in1k",
}


@dataclasses.dataclass(frozen=True)
class Accuracy:
    """One published ImageNet-1K validation accuracy.

    Attributes:
        top1, top5: in percent; `top5` is None where it was not published.
        size: side of the evaluated image, in pixels; None where it was not published.
        source: who published it, and where.
        crop_pct: crop side / resized side of that evaluation, or None.
        zero_shot: measured with the text tower of CLIP, not with a classifier.
    """

    top1: float
    top5: float | None
    size: int | None
    source: str
    crop_pct: float | None = None
    zero_shot: bool = False


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


@dataclasses.dataclass(frozen=True)
class Row:
    """One published checkpoint, and all that is needed to use it.

    Attributes:
        variant: key of `VARIANTS`.
        tag: who trained it on what; unique within the variant.
        family: which publication it belongs to (`"v1"`, `"v2-fcmae"`, `"timm"`, ...).
        id: the publisher's own name of it.
        classes: width of the output, 0 for an encoder without a classifier.
        label_set: a key of `LABEL_SETS`, `"clip"` where the output is a CLIP embedding, or None.
        params: number of weights of `architecture()` with these classes.
        size: side of the input image, in pixels.
        crop_pct: crop side / resized side of the evaluation at `size`.
        resize_mode: `"shortest"` resizes the short side to `size / crop_pct` and crops the centre;
            `"squash"` resizes both sides so and thereby changes the aspect ratio.
        interpolation: `"bicubic"` or `"bilinear"`, both with antialiasing.
        licence: see `Licence`.
        accuracy: published accuracies, the trainer's own first where there are any.
        sources: files with these weights, the preferred one first.
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
    crop_pct: float
    resize_mode: str
    interpolation: str
    licence: Licence
    accuracy: tuple[Accuracy, ...]
    sources: tuple[Source, ...]
    overrides: dict = dataclasses.field(default_factory=dict, hash=False)
    test_size: int | None = None
    test_crop_pct: float | None = None
    resize_size: int | None = None
    first_logits: tuple[float, ...] | None = None
    note: str | None = None

    @property
    def name(self):
        """`"variant.tag"`."""
        return f"{self.variant}.{self.tag}"

    @property
    def top1(self):
        """The first published ImageNet-1K top-1 accuracy at `size`, in percent, or None."""
        figures = (a.top1 for a in self.accuracy if a.size == self.size and not a.zero_shot)
        return next(figures, None)

    def architecture(self) -> Variant:
        """The variant with the overrides of this checkpoint."""
        return dataclasses.replace(VARIANTS[self.variant], **self.overrides)

    def transform(self):
        """The `keras_convnext.preprocessing.EvalTransform` that it was evaluated with."""
        from keras_convnext.preprocessing import EvalTransform  # Pillow, only where it is needed

        return EvalTransform(
            self.size,
            crop_pct=None if self.resize_size else self.crop_pct,
            resize=self.resize_mode,
            interpolation=self.interpolation,
            resize_size=self.resize_size,
        )


def _tuples(value):
    return tuple(value) if isinstance(value, list) else value


def _row(raw, licences, references):
    accuracy = ({**figure, "source": references[figure["source"]]} for figure in raw["accuracy"])
    first_logits = raw.get("first_logits")
    nested = {
        "licence": Licence(**licences[raw["licence"]]),
        "accuracy": tuple(Accuracy(**figure) for figure in accuracy),
        "sources": tuple(Source(**source) for source in raw["sources"]),
        "overrides": {key: _tuples(value) for key, value in raw.get("overrides", {}).items()},
        "first_logits": _tuples(first_logits),
    }
    return Row(**{**raw, **nested})


def parse(text: str) -> tuple[Row, ...]:
    """The rows of a registry in the form of `registry.json`.

    Raises:
        TypeError: if an object has a key that is unknown, or lacks one.
        KeyError: if a row names a licence or a reference that is not in the file.
    """
    data = json.loads(text)
    return tuple(_row(raw, data["licences"], data["references"]) for raw in data["rows"])


@functools.cache
def rows() -> tuple[Row, ...]:
    """All rows, ordered by variant. Read once, at the first call."""
    file = importlib.resources.files(__package__) / "registry.json"
    return parse(file.read_text(encoding="utf-8"))


@functools.cache
def _index():
    return {row.name: row for row in rows()} | {row.id: row for row in rows()}


def tags(variant: str) -> tuple[str, ...]:
    """The tags of a variant, in the order of the registry; empty if nothing was published.

    Raises:
        ValueError: if there is no such variant.
    """
    _check("variant", variant, VARIANTS)
    return tuple(row.tag for row in rows() if row.variant == variant)


def find(name: str, variant: str | None = None) -> Row:
    """The row of that name.

    Args:
        name: `"variant.tag"`, the publisher's own name (`Row.id`), or, together with `variant`,
            a tag or `"imagenet"`, which stands for the tag in the table `IMAGENET`.
        variant: key of `VARIANTS` that the row must belong to; None for any.

    Raises:
        ValueError: if there is no such row, or if it belongs to another variant.
    """
    if variant is not None:
        _check("variant", variant, VARIANTS)
    if name == "imagenet":
        return _index()[f"{variant}.{_imagenet_tag(variant)}"]
    row = _index().get(f"{variant}.{name}") or _index().get(name)
    if row is None:
        raise ValueError(_unknown(name, variant))
    if variant not in (None, row.variant):
        raise ValueError(
            f"Weights {name!r} belong to {row.variant}, not to {variant}. {_published(variant)}"
        )
    return row


def search(
    *,
    variant: str | None = None,
    family: str | None = None,
    licence: str | None = None,
    label_set: str | None = None,
    size: int | None = None,
    max_params: int | None = None,
    min_top1: float | None = None,
) -> tuple[Row, ...]:
    """The rows that meet every condition given, in the order of the registry.

    Args:
        variant, family, label_set, size: equal to the field of the row.
        licence: the name of the licence, in any case: `"MIT"`, `"cc-by-nc-4.0"`.
        max_params: at most that many weights.
        min_top1: at least that `Row.top1`, in percent; rows without a figure are left out.

    Raises:
        ValueError: if no row at all has that variant, family, licence or label set.
    """
    wanted = {"variant": variant, "family": family, "label_set": label_set, "licence": licence}
    wanted = {field: value for field, value in wanted.items() if value is not None}
    for field, value in wanted.items():
        wanted[field] = match(field, value, rows())
    found = (row for row in rows() if all(_value(row, f) == v for f, v in wanted.items()))
    return tuple(
        row
        for row in found
        if size in (None, row.size)
        and (max_params is None or row.params <= max_params)
        and (min_top1 is None or (row.top1 is not None and row.top1 >= min_top1))
    )


def _value(row, field):
    return row.licence.name if field == "licence" else getattr(row, field)


def match(field, value, found):
    """-> `value` as the rows `found` write it; only a licence may differ in case.

    Raises:
        ValueError: if none of them has it.
    """
    known = list(dict.fromkeys(_value(row, field) for row in found))
    known = list(VARIANTS) if field == "variant" else [name for name in known if name]
    if field == "licence":
        value = {name.lower(): name for name in known}.get(str(value).lower(), value)
    _check(field, value, known)
    return value


def _check(field, value, known):
    if value not in known:
        raise ValueError(
            f"Unknown {field} {value!r}.{_nearest(value, known)} Known: {', '.join(known)}."
        )


def _nearest(value, known):
    near = difflib.get_close_matches(str(value), known, n=3, cutoff=0.5)
    return f" Nearest: {', '.join(near)}." if near else ""


def _published(variant):
    if tags(variant):
        return f"Published for {variant}: {', '.join(tags(variant))}."
    return f"No weights of {variant} were published; use weights=None."


def _unknown(name, variant):
    elsewhere = [row.name for row in rows() if row.tag == name]
    if variant is not None:
        near = _nearest(name, [*tags(variant), *_index()])
        if elsewhere:
            near += f" The tag exists elsewhere: {', '.join(elsewhere)}."
        return f"Unknown weights {name!r} for {variant}.{near} {_published(variant)}"
    if elsewhere:
        return f"The tag {name!r} alone names no weights; say which: {', '.join(elsewhere)}."
    near = _nearest(name, list(_index()))
    return (
        f"Unknown weights {name!r}.{near} All names: `keras_convnext.pretrained.registry.rows()`."
    )


def _imagenet_tag(variant):
    if variant is None:
        raise ValueError(
            'Weights "imagenet" need a variant: say for example "convnext_tiny.fb_in1k", '
            f"or give `variant`, one of {', '.join(IMAGENET)}."
        )
    if variant not in IMAGENET:
        line = variant.split("_")[0] + "_"
        others = ", ".join(other for other in IMAGENET if other.startswith(line))
        raise ValueError(
            f'There are no "imagenet" weights of {variant}. {_published(variant)} '
            f"Variants of the same family that have them: {others}."
        )
    return IMAGENET[variant]
