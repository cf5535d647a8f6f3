"""ConvNeXt for Keras 3, on TensorFlow, JAX and PyTorch.

All names are loaded when they are first used, so that `import keras_convnext` imports no Keras.
"""

import importlib

from keras_convnext import deprecation, keras_import
from keras_convnext.version import __version__

# The public names, by the module that defines them. `__init__.pyi` is generated from this table.
PUBLIC = {
    "classifier": ("Classifier",),
    "features": ("PyramidModel", "feature_model"),
    "labels": ("decode_predictions",),
    "layers": (
        "ConvNeXtBlock",
        "GlobalResponseNormalization",
        "LayerScale",
        "SimpleNorm",
        "StochasticDepth",
    ),
    "macs": ("count_macs",),
    "memory": ("keep_freed_memory",),
    "models": (
        "ConvNeXt",
        "ConvNeXtAtto",
        "ConvNeXtAttoOLS",
        "ConvNeXtBase",
        "ConvNeXtFemto",
        "ConvNeXtFemtoOLS",
        "ConvNeXtIsotropicBase",
        "ConvNeXtIsotropicLarge",
        "ConvNeXtIsotropicSmall",
        "ConvNeXtLarge",
        "ConvNeXtLargeMLP",
        "ConvNeXtNano",
        "ConvNeXtNanoOLS",
        "ConvNeXtPico",
        "ConvNeXtPicoOLS",
        "ConvNeXtSmall",
        "ConvNeXtTiny",
        "ConvNeXtTinyHNF",
        "ConvNeXtV2Atto",
        "ConvNeXtV2Base",
        "ConvNeXtV2Femto",
        "ConvNeXtV2Huge",
        "ConvNeXtV2Large",
        "ConvNeXtV2Nano",
        "ConvNeXtV2Pico",
        "ConvNeXtV2Small",
        "ConvNeXtV2Tiny",
        "ConvNeXtXLarge",
        "ConvNeXtXXLarge",
        "ConvNeXtZeptoRMS",
        "ConvNeXtZeptoRMSOLS",
    ),
    "optimization": (
        "AdamW",
        "AverageWeights",
        "WarmupCosine",
        "averaged_weights",
        "fine_tuning_optimizer",
        "freeze_layers",
        "layer_groups",
        "learning_rate_scales",
        "rematerialize",
    ),
    "preprocessing": ("preprocess_input",),
    "variants": ("VARIANTS", "Variant"),
}
SUBMODULES = (
    "augmentation",
    "classifier",
    "detection",
    "export",
    "features",
    "images",
    "interpret",
    "labels",
    "layers",
    "macs",
    "models",
    "optimization",
    "pictures",
    "preprocessing",
    "pretrained",
    "pretraining",
    "roadmap",
    "segmentation",
    "variants",
)
OPTIONAL = ("keras_hub",)  # need what is not installed with us: no part of `import *`
MODULE_OF = {name: module for module, names in PUBLIC.items() for name in names}

__all__ = ["__version__", *MODULE_OF, *SUBMODULES]

_renamed = deprecation.renamed(__name__, {"fine_tune": "fine_tuning_optimizer"}, callers=2)


def __getattr__(name):
    if name in (*SUBMODULES, *OPTIONAL):
        return importlib.import_module(f"{__name__}.{name}")
    if name in ("ConvNeXtTest", "ConvNeXtTest2", "ConvNeXtTest3"):
        return importlib.import_module(f"{__name__}.models").test_model(name)
    if name not in MODULE_OF:
        return _renamed(name)
    value = getattr(importlib.import_module(f"{__name__}.{MODULE_OF[name]}"), name)
    globals()[name] = value  # the next time it is found without this function
    return value


def __dir__():
    return sorted({*globals(), *__all__})


keras_import.prepare()
