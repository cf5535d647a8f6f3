"""The table of rows, as `registry.json` has it, and the rows that a variant's usual name means."""

import functools
import importlib.resources
import json

from keras_convnext.pretrained.registry.row import Accuracy, Licence, Row, Source

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


def parse(text: str) -> tuple[Row, ...]:
    """Returns the rows of a registry in the form of `registry.json`.

    Raises:
        TypeError: if an object has a key that is unknown, or lacks one.
        KeyError: if a row names a licence or a reference that is not in the file.
    """
    data = json.loads(text)
    return tuple(_row(raw, data["licences"], data["references"]) for raw in data["rows"])


def _row(raw, licences, references):
    accuracy = ({**one, "source": references[one["source"]]} for one in raw["accuracy"])
    nested = {
        "licence": Licence(**licences[raw["licence"]]),
        "accuracy": tuple(Accuracy(**one) for one in accuracy),
        "sources": tuple(Source(**source) for source in raw["sources"]),
        "overrides": {key: _tuples(value) for key, value in raw.get("overrides", {}).items()},
        "first_logits": _tuples(raw.get("first_logits")),
    }
    return Row(**{**raw, **nested})


def _tuples(value):
    return tuple(value) if isinstance(value, list) else value


@functools.cache
def all_rows() -> tuple[Row, ...]:
    """Returns the rows of all tasks. The file is read once, at the first call."""
    file = importlib.resources.files(__package__) / "registry.json"
    return parse(file.read_text(encoding="utf-8"))
