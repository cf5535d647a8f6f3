"""Every ConvNeXt architecture, as one row of data.

A row says what the network is; `models/` makes a `keras.Model` of it. A new variant is a row here
and a factory there.

Sources: "A ConvNet for the 2020s" (arXiv 2201.03545, section 2.7 and Table 9), "ConvNeXt V2"
(arXiv 2301.00808, Table 13), and timm for the sizes that only timm trained.
"""

import dataclasses
import functools
import warnings

from keras_convnext import checks

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
CLIP_MEAN, CLIP_STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
HALF = (0.5, 0.5, 0.5)

STEM_STRIDES = (1, 2, 4)
ALLOWED = {
    "stem": ("patch", "overlap", "overlap_tiered", "overlap_act"),
    "activation": ("gelu", "gelu_tanh", "silu"),
    "norm": ("layernorm", "simplenorm"),
}


@dataclasses.dataclass(frozen=True)
class Variant:
    """One architecture.

    Attributes:
        name: the reference's name of the variant; also the default name of the model.
        depths: blocks per stage.
        dims: channels per stage, as many as `depths`.
        kernel_sizes: side of the depthwise kernel, per stage; one int stands for all stages.
        stem: `"patch"` is one convolution of patches that do not overlap, whose kernel has as many
            pixels per side as `stem_stride`. The others are two 3x3 convolutions: `"overlap"` with
            full width in both, `"overlap_tiered"` with half the width (rounded to a multiple of 8)
            in the first, `"overlap_act"` as `"overlap"` with the activation between them.
        stem_stride: input pixels per pixel after the stem. The two convolutions of the stems that
            overlap have the strides 2 and 2 for 4, 2 and 1 for 2, 1 and 1 for 1.
        stem_norm: whether a norm follows the stem (not in the isotropic models).
        activation: `"gelu"` (exact, erf), `"gelu_tanh"` or `"silu"`.
        norm: `"layernorm"`, or `"simplenorm"` (`x * rsqrt(unbiased variance + epsilon) * gamma`).
        epsilon: the epsilon of every norm.
        layer_scale: initial value of the blocks' layer scale; `None` for blocks without one.
        grn: whether the blocks have Global Response Normalization (ConvNeXt V2).
        head_norm_first: norm before the pooling (`_hnf`) in place of after it.
        head_norm: `False` for a bare encoder, which has no norm after its last stage when it is
            built without a classifier.
        head_hidden: width of one hidden layer between the norm and the classifier, or `None`.
        head_bias: whether the classifier has a bias (the projections of CLIP towers have none).
        mean, std: what images in [0, 1] are normalised with, per channel.

    Raises:
        ValueError: if a field has a value that no ConvNeXt has.

    Example:
        from keras_convnext import ConvNeXt, Variant
        mine = Variant("mine", (1, 1, 2, 1), (8, 16, 32, 64), layer_scale=None, grn=True)
        mine.stride  # 32
        ConvNeXt(mine, include_top=False).output_shape  # (None, None, None, 64)
    """

    name: str
    depths: tuple
    dims: tuple
    kernel_sizes: tuple | int = 7
    stem: str = "patch"
    stem_stride: int = 4
    stem_norm: bool = True
    activation: str = "gelu"
    norm: str = "layernorm"
    epsilon: float = 1e-6
    layer_scale: float | None = 1e-6
    grn: bool = False
    head_norm_first: bool = False
    head_norm: bool = True
    head_hidden: int | None = None
    head_bias: bool = True
    mean: tuple = IMAGENET_MEAN
    std: tuple = IMAGENET_STD

    def __post_init__(self):
        if isinstance(self.kernel_sizes, int):
            object.__setattr__(self, "kernel_sizes", (self.kernel_sizes,) * len(self.depths))
        for field in ("depths", "dims", "kernel_sizes", "mean", "std"):
            object.__setattr__(self, field, tuple(getattr(self, field)))
        if not 0 < len(self.depths) == len(self.dims) == len(self.kernel_sizes):
            raise ValueError(
                f"`depths`, `dims` and `kernel_sizes` of variant {self.name!r} must have one entry "
                f"per stage, received {self.depths}, {self.dims} and {self.kernel_sizes}."
            )
        for field in ("depths", "dims", "kernel_sizes"):
            if any(type(value) is not int or value < 1 for value in getattr(self, field)):
                raise ValueError(
                    f"`{field}` of variant {self.name!r} must be positive ints, "
                    f"received {getattr(self, field)}."
                )
        for field, allowed in ALLOWED.items():
            if getattr(self, field) not in allowed:
                raise ValueError(
                    f"`{field}` of variant {self.name!r} must be one of {allowed}, "
                    f"received {getattr(self, field)!r}."
                )
        self._check_stem_stride()

    def _check_stem_stride(self):
        stride, is_patch = self.stem_stride, self.stem == "patch"
        if type(stride) is not int or stride < 1 or not (is_patch or stride in STEM_STRIDES):
            allowed = "a positive int" if is_patch else f"one of {STEM_STRIDES}"
            raise ValueError(
                f"`stem_stride` of variant {self.name!r} must be {allowed} with a stem of kind "
                f"{self.stem!r}, received {stride!r}."
            )

    def with_stem_stride(self, stride):
        """Returns the same architecture with a stem of another stride, for small images.

        A `"patch"` stem of stride 2 has patches of 2 x 2 pixels, one of stride 1 has single pixels.
        In the other stems the convolutions keep their size. Where the stride is half as large, the
        layers after the stem work on maps with twice as many pixels per side.

        Args:
            stride: 1, 2 or 4, in pixels.

        Raises:
            ValueError: if it is none of these.
        """
        stride = checks.one_of("stem_stride", stride, STEM_STRIDES)
        return dataclasses.replace(self, stem_stride=stride)

    @property
    def patch_size(self):
        """The old name of `stem_stride`, which goes with the next release."""
        _warn_of_patch_size()
        return self.stem_stride

    @property
    def stride(self):
        """Input pixels per pixel of the last stage."""
        return self.stem_stride * 2 ** (len(self.depths) - 1)


def _warn_of_patch_size():
    warnings.warn(
        "`patch_size` of a Variant is now called `stem_stride`; the old name goes with the next "
        "release.",
        DeprecationWarning,
        stacklevel=3,
    )


def _with_patch_size(init):
    """Returns the constructor of `Variant` with `patch_size=` as another name of `stem_stride=`."""

    @functools.wraps(init)
    def constructor(self, *args, **kwargs):
        if "patch_size" in kwargs:
            _warn_of_patch_size()
            kwargs["stem_stride"] = kwargs.pop("patch_size")
        init(self, *args, **kwargs)

    return constructor


Variant.__init__ = _with_patch_size(Variant.__init__)

TINY, BASE, NANO, ATTO = (3, 3, 9, 3), (3, 3, 27, 3), (2, 2, 8, 2), (2, 2, 6, 2)


def _dims(first):
    return tuple(first * 2**stage for stage in range(4))


def _v2(name, depths, first):
    return Variant(name, depths, _dims(first), layer_scale=None, grn=True)


def _isotropic(name, depth, dim, layer_scale):
    return Variant(name, (depth,), (dim,), stem_stride=16, stem_norm=False, layer_scale=layer_scale)


_TEST = dict(activation="gelu_tanh", epsilon=1e-5, mean=HALF, std=HALF)
_ZEPTO = dict(norm="simplenorm", mean=HALF, std=HALF)
_CLIP = dict(mean=CLIP_MEAN, std=CLIP_STD)

VARIANTS = {
    row.name: row
    for row in (
        # ConvNeXt
        Variant("convnext_tiny", TINY, _dims(96)),
        Variant("convnext_small", BASE, _dims(96)),
        Variant("convnext_base", BASE, _dims(128)),
        Variant("convnext_large", BASE, _dims(192)),
        Variant("convnext_xlarge", BASE, _dims(256)),
        # sizes that timm added
        Variant("convnext_zepto_rms", (2, 2, 4, 2), _dims(32), **_ZEPTO),
        Variant("convnext_zepto_rms_ols", (2, 2, 4, 2), _dims(32), stem="overlap_act", **_ZEPTO),
        Variant("convnext_atto", ATTO, _dims(40)),
        Variant("convnext_atto_ols", ATTO, _dims(40), stem="overlap_tiered"),
        Variant("convnext_femto", ATTO, _dims(48)),
        Variant("convnext_femto_ols", ATTO, _dims(48), stem="overlap_tiered"),
        Variant("convnext_pico", ATTO, _dims(64)),
        Variant("convnext_pico_ols", ATTO, _dims(64), stem="overlap_tiered"),
        Variant("convnext_nano", NANO, _dims(80)),
        Variant("convnext_nano_ols", NANO, _dims(80), stem="overlap"),
        Variant("convnext_tiny_hnf", TINY, _dims(96), head_norm_first=True),
        Variant("convnext_large_mlp", BASE, _dims(192), head_hidden=1536, **_CLIP),
        Variant("convnext_xxlarge", (3, 4, 30, 3), _dims(384), epsilon=1e-5, **_CLIP),
        Variant("test_convnext", (1, 2, 4, 2), (24, 32, 48, 64), **_TEST),
        Variant("test_convnext2", (1, 1, 1, 1), (32, 64, 96, 128), **_TEST),
        Variant(
            "test_convnext3",
            (1, 1, 1, 1),
            (32, 64, 96, 128),
            kernel_sizes=(7, 5, 5, 3),
            **{**_TEST, "activation": "silu"},
        ),
        # one resolution throughout (section 3.3 of the paper)
        _isotropic("convnext_isotropic_small", 18, 384, None),
        _isotropic("convnext_isotropic_base", 18, 768, None),
        _isotropic("convnext_isotropic_large", 36, 1024, 1e-6),
        # ConvNeXt V2
        _v2("convnextv2_atto", ATTO, 40),
        _v2("convnextv2_femto", ATTO, 48),
        _v2("convnextv2_pico", ATTO, 64),
        _v2("convnextv2_nano", NANO, 80),
        _v2("convnextv2_tiny", TINY, 96),
        _v2("convnextv2_small", BASE, 96),
        _v2("convnextv2_base", BASE, 128),
        _v2("convnextv2_large", BASE, 192),
        _v2("convnextv2_huge", BASE, 352),
    )
}


def variant_of(variant):
    """Returns the `Variant` that is meant by one, or by the name of a row of `VARIANTS`.

    Args:
        variant: a `Variant`, or a key of `VARIANTS`.

    Raises:
        ValueError: if there is no row of that name.
        TypeError: if it is neither a name nor a `Variant`.

    Example:
        from keras_convnext.variants import variant_of
        variant_of("convnext_base").dims  # (128, 256, 512, 1024)
    """
    if isinstance(variant, str):
        return VARIANTS[checks.one_of("variant", variant, VARIANTS)]
    if not isinstance(variant, Variant):
        raise TypeError(
            "`variant` must be the name of a row of `keras_convnext.VARIANTS` or a "
            f"`keras_convnext.Variant`, received {variant!r}."
        )
    return variant
