"""The names that each publisher gives to the tensors of a ConvNeXt.

A layout is a table from our modules to theirs. `{s}` is the stage, `{b}` the block, `{even}` 2s and
`{odd}` 2s + 1. The names of a model's weights are expanded through the table; what is left in the
file must be on the layout's list of what may be ignored.
"""

import dataclasses
import re
from collections.abc import Callable

from keras_convnext.names import SEPARATOR, parse
from keras_convnext.pretrained.layouts import fcmae
from keras_convnext.variants import VARIANTS

# our weight -> theirs. GRN has had both names in the same layouts, so both are read.
TORCH_LEAVES = {
    "kernel": ("weight",),
    "bias": ("bias",),
    "gamma": ("weight", "gamma"),
    "beta": ("bias", "beta"),
    "moving_mean": ("running_mean",),
    "moving_variance": ("running_var",),
}
KERAS_LEAVES = {
    "kernel": ("0",),
    "bias": ("1",),
    "gamma": ("0",),
    "beta": ("1",),
    "moving_mean": ("2",),
    "moving_variance": ("3",),
}
TORCH_NAMES = sorted({name for names in TORCH_LEAVES.values() for name in names})
NO_MODULES = ("block/gamma", "decoder/mask_token")
ANY = "@"  # stands for a number in the names of modules


@dataclasses.dataclass(frozen=True)
class Layout:
    """One publisher's names.

    Attributes:
        name: who writes it.
        marker: regular expression of a tensor that every such file has; its group `prefix` is put
            before all names (for `{prefix}` in the table).
        modules: function from a variant to the table, `{our module: their module}`.
        ignorable: regular expressions of tensors that are no part of the network.
        optional: our weights that may be absent and then keep their initial value.
        prepare: changes the tensors of the file before the table is used.
        keras: whether arrays have Keras' order of axes (otherwise PyTorch's).
        classifiers: our modules whose width is the number of classes, the most important first.
        background: outputs that the first of these has besides the classes.
        head: what is on the ConvNeXt, a key of `pretrained.heads.NAMES`.
        omissible: how the names of our modules begin that a model may lack as a whole, though its
            file has them.
    """

    name: str
    marker: str
    modules: Callable
    ignorable: tuple = ()
    optional: tuple = ()
    prepare: Callable = dict
    keras: bool = False
    classifiers: tuple = ("head",)
    background: int = 0
    head: str | None = None
    omissible: str | None = None

    def prefix(self, names):
        """Returns the prefix in this file, or `None` if the names are of another layout."""
        for name in names:
            match = re.fullmatch(self.marker, name)
            if match:
                return match.groupdict().get("prefix") or ""
        return None

    def pattern(self, prefix):
        """Returns a regular expression of every name that the layout has in some variant."""
        modules = {name for table in self._tables(prefix) for name in table.values()}
        modules = "|".join(re.escape(name).replace(ANY, r"\d+") for name in sorted(modules))
        leaves = r"/\d+" if self.keras else rf"\.(?:{'|'.join(TORCH_NAMES)})"
        return re.compile("|".join((rf"(?:{modules})(?:{leaves})?", *self.ignorable)))

    def body(self, prefix):
        """Returns how the names of everything but a classifier and what is before it begin."""
        separator, found = "/" if self.keras else ".", set()
        for table in self._tables(prefix):
            for ours, name in table.items():
                if not ours.startswith("head"):
                    rest = name.removeprefix(prefix)
                    first = "".join(rest.split(ANY)[0].partition(separator)[:2])
                    found.add(name.removesuffix(rest) + first)
        return tuple(sorted(found))

    def _tables(self, prefix):
        """Returns the modules of all variants, with `ANY` for every number."""
        numbers = dict.fromkeys(("s", "b", "even", "odd", "before"), ANY)
        return [
            {ours: name.format(prefix=prefix, **numbers) for ours, name in table.items()}
            for table in map(self.modules, VARIANTS.values())
        ]

    def names(self, variant, weight, prefix):
        """Returns the names, best first, of our `weight`; none if the layout has no such."""
        module, _, leaf = weight.rpartition("/")
        layer, *parts = module.split("/")
        place = parse(layer)
        if place is not None and place.kind in ("block", "downsample"):
            layer = place.kind
        modules, generic = self.modules(variant), "/".join((layer, *parts))
        if generic not in modules:
            return ()
        s, b = (place.stage or 0, place.block) if place else (0, None)
        name = modules[generic].format(
            s=s, b=b, even=2 * s, odd=2 * s + 1, before=s - 1, prefix=prefix
        )
        if generic in NO_MODULES and not self.keras:  # a tensor of its own
            return (name,)
        separator, leaves = ("/", KERAS_LEAVES) if self.keras else (".", TORCH_LEAVES)
        return tuple(f"{name}{separator}{theirs}" for theirs in leaves[leaf])


def _block(prefix, dwconv, norm, pwconv1, pwconv2, grn="grn", gamma="gamma"):
    parts = {
        "dwconv": dwconv,
        "norm": norm,
        "pwconv1": pwconv1,
        "grn": grn,
        "pwconv2": pwconv2,
        "gamma": gamma,
    }
    return {f"block/{ours}": prefix + theirs for ours, theirs in parts.items()}


def official(variant):
    return {
        "stem/conv": "{prefix}downsample_layers.0.0",
        "stem/norm": "{prefix}downsample_layers.0.1",
        "downsample/norm": "{prefix}downsample_layers.{s}.0",
        "downsample/conv": "{prefix}downsample_layers.{s}.1",
        **_block("{prefix}stages.{s}.{b}.", "dwconv", "norm", "pwconv1", "pwconv2"),
        "head_norm": "{prefix}norm",
        "head": "head",
    }


def _isotropic(variant):
    return {
        "stem/conv": "stem",
        **_block("blocks.{b}.", "dwconv", "norm", "pwconv1", "pwconv2"),
        "head_norm": "norm",
        "head": "head",
    }


def _timm(variant):
    second, norm = {
        "patch": (None, 1),
        "overlap": (1, 2),
        "overlap_tiered": (1, 2),
        "overlap_act": (2, 3),
    }[variant.stem]
    block = _block(
        "{prefix}stages.{s}.blocks.{b}.", "conv_dw", "norm", "mlp.fc1", "mlp.fc2", "mlp.grn"
    )
    return {
        "stem/conv": "{prefix}stem.0",
        "stem/conv1": "{prefix}stem.0",
        "stem/conv2": f"{{prefix}}stem.{second}",
        "stem/norm": f"{{prefix}}stem.{norm}",
        "downsample/norm": "{prefix}stages.{s}.downsample.0",
        "downsample/conv": "{prefix}stages.{s}.downsample.1",
        **block,
        "head_norm": "{prefix}norm_pre" if variant.head_norm_first else "{prefix}head.norm",
        "head_hidden": "{prefix}head.pre_logits.fc",
        "head": "{prefix}head.fc",
    }


def _open_clip(variant):
    head = "proj" if variant.head_hidden is None else "mlp.fc2"
    return {
        **_timm(variant),
        "head_hidden": "visual.head.mlp.fc1",
        "head": f"visual.head.{head}",
    }


def _torchvision(variant):
    return {
        "stem/conv": "features.0.0",
        "stem/norm": "features.0.1",
        "downsample/norm": "features.{even}.0",
        "downsample/conv": "features.{even}.1",
        **_block(
            "features.{odd}.{b}.", "block.0", "block.2", "block.3", "block.5", gamma="layer_scale"
        ),
        "head_norm": "classifier.0",
        "head": "classifier.2",
    }


def transformers(variant):
    return {
        "stem/conv": "{prefix}embeddings.patch_embeddings",
        "stem/norm": "{prefix}embeddings.layernorm",
        "downsample/norm": "{prefix}encoder.stages.{s}.downsampling_layer.0",
        "downsample/conv": "{prefix}encoder.stages.{s}.downsampling_layer.1",
        **_block(
            "{prefix}encoder.stages.{s}.layers.{b}.",
            "dwconv",
            "layernorm",
            "pwconv1",
            "pwconv2",
            gamma="layer_scale_parameter",
        ),
        "head_norm": "{prefix}layernorm",
        "head": "classifier",
    }


def _transformers_dinov3(variant):
    return {
        "stem/conv": "{prefix}stages.0.downsample_layers.0",
        "stem/norm": "{prefix}stages.0.downsample_layers.1",
        "downsample/norm": "{prefix}stages.{s}.downsample_layers.0",
        "downsample/conv": "{prefix}stages.{s}.downsample_layers.1",
        **_block(
            "{prefix}stages.{s}.layers.{b}.",
            "depthwise_conv",
            "layer_norm",
            "pointwise_conv1",
            "pointwise_conv2",
        ),
        "head_norm": "layer_norm",
        "head": "classifier",
    }


def mmpretrain(variant):
    return {
        "stem/conv": "backbone.downsample_layers.0.0",
        "stem/norm": "backbone.downsample_layers.0.1",
        "downsample/norm": "backbone.downsample_layers.{s}.0",
        "downsample/conv": "backbone.downsample_layers.{s}.1",
        **_block(
            "backbone.stages.{s}.{b}.",
            "depthwise_conv",
            "norm",
            "pointwise_conv1",
            "pointwise_conv2",
        ),
        "head_norm": f"backbone.norm{len(variant.depths) - 1}",
        "head": "head.fc",
    }


def _keras_applications(variant):
    return {
        "stem/conv": "{prefix}_stem/{prefix}_stem_conv",
        "stem/norm": "{prefix}_stem/{prefix}_stem_layernorm",
        "downsample/norm": "{prefix}_downsampling_block_{before}/"
        "{prefix}_downsampling_layernorm_{before}",
        "downsample/conv": "{prefix}_downsampling_block_{before}/"
        "{prefix}_downsampling_conv_{before}",
        **_block(
            "{prefix}_stage_{s}_block_{b}_",
            "depthwise_conv",
            "layernorm",
            "pointwise_conv_1",
            "pointwise_conv_2",
            gamma="layer_scale",
        ),
        "head_norm": "{prefix}_head_layernorm",
        "head": "{prefix}_head_dense",
    }


def ours(variant):
    block = _block("stage{s}_block{b}/", "dwconv", "norm", "pwconv1", "pwconv2")
    outside = ("stem/conv", "stem/conv1", "stem/conv2", "stem/norm")
    modules = {
        **{name: name for name in (*outside, "head_norm", "head_hidden", "head")},
        "downsample/norm": "downsample{s}/norm",
        "downsample/conv": "downsample{s}/conv",
        **block,
    }
    return {weight: "{prefix}" + name for weight, name in modules.items()}


def _named_head_norm(tensors):
    """Names the last norm of keras.applications, which is automatic without a classifier."""
    prefix = KERAS_APPLICATIONS.prefix(tensors)
    return {
        re.sub(r"^layer_normalization(_\d+)?/", lambda _: f"{prefix}_head_layernorm/", name): tensor
        for name, tensor in tensors.items()
    }


KERAS_APPLICATIONS = Layout(
    "keras.applications",
    r"(?P<prefix>.+)_stem/(?P=prefix)_stem_conv/0",
    _keras_applications,
    prepare=_named_head_norm,
    keras=True,
)

LAYOUTS = (
    Layout(
        "keras_convnext",
        rf"(?P<prefix>(?:[^/]+{SEPARATOR})?)stem/conv1?/0",
        ours,
        (r".*/seed_generator_state", fcmae.OUR_DECODER),
        keras=True,
    ),
    Layout(
        "official",  # also DINOv3 and EUPE; their `norms.3` is `norm` a second time
        r"downsample_layers\.0\.0\.weight",
        official,
        (r"norms\.\d+\.(weight|bias)",),
    ),
    Layout("official isotropic", r"stem\.weight", _isotropic),
    Layout(
        "official FCMAE, sparse",
        r"(?P<prefix>encoder\.)downsample_layers\.0\.0\.weight",
        lambda variant: official(variant) | fcmae.DECODER,
        prepare=fcmae.dense_from_sparse,
        omissible="decoder/",
    ),
    Layout("timm", r"stem\.0\.weight", _timm),
    Layout(
        "open_clip",
        r"(?P<prefix>visual\.trunk\.)stem\.0\.weight",
        _open_clip,
        (
            r"transformer\..*",
            r"token_embedding\.weight",
            r"positional_embedding",
            r"ln_final\.(weight|bias)",
            r"text_projection(\.weight|\.bias)?",
            r"logit_scale",
            r"logit_bias",
            r"attn_mask",
            r"text\..*",
        ),
        optional=("head/bias",),
    ),
    Layout("torchvision", r"features\.0\.0\.weight", _torchvision),
    Layout(
        "transformers",
        r"(?P<prefix>convnext\.|convnextv2\.|)embeddings\.patch_embeddings\.weight",
        transformers,
    ),
    Layout(
        "transformers DINOv3",
        r"(?P<prefix>model\.|)stages\.0\.downsample_layers\.0\.weight",
        _transformers_dinov3,
    ),
    Layout(
        "mmpretrain",
        r"backbone\.downsample_layers\.0\.0\.weight",
        mmpretrain,
        (r"backbone\.norm[0-2]\.(weight|bias)", r"data_preprocessor\..*"),
    ),
    KERAS_APPLICATIONS,
)
