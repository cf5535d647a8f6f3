"""A small network of each family, so that every field of a row is on in one of them."""

from keras_convnext import Variant

V1 = Variant("small_v1", (1, 2), (8, 16))
FAMILIES = {
    "v1": V1,
    "v2": Variant("small_v2", (1, 2), (8, 16), layer_scale=None, grn=True),
    "isotropic": Variant("small_iso", (2,), (8,), stem_stride=8, stem_norm=False, layer_scale=None),
    "rms_ols": Variant("small_rms", (1, 1), (8, 16), stem="overlap_act", norm="simplenorm"),
    "ols_hnf": Variant("small_hnf", (1, 1), (16, 8), stem="overlap_tiered", head_norm_first=True),
    "mlp": Variant(
        "small_mlp", (1, 1), (8, 16), kernel_sizes=(5, 3), activation="silu", head_hidden=12
    ),
}
