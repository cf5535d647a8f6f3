"""Semantic segmentation: a class for every pixel, with UperNet on a ConvNeXt.

All names are loaded when they are first used: what an exported file needs imports no Keras.
"""

from keras_convnext import deprecation, lazy

# The public names, by the module that defines them. `__init__.pyi` is generated from this table.
PUBLIC = {
    "heads": ("AuxiliaryHead", "UperNetHead"),
    "inference": ("SCALES", "Segmenter"),
    "losses": ("PixelCrossEntropy",),
    "metrics": ("MeanIoU", "PixelAccuracy", "Scores", "fit_metrics", "scores"),
    "models": (
        "SegmentationModel",
        "UperNet",
        "UperNetConvNeXtBase",
        "UperNetConvNeXtLarge",
        "UperNetConvNeXtSmall",
        "UperNetConvNeXtTiny",
        "UperNetConvNeXtV2Atto",
        "UperNetConvNeXtV2Base",
        "UperNetConvNeXtV2Femto",
        "UperNetConvNeXtV2Huge",
        "UperNetConvNeXtV2Large",
        "UperNetConvNeXtV2Nano",
        "UperNetConvNeXtV2Pico",
        "UperNetConvNeXtV2Small",
        "UperNetConvNeXtV2Tiny",
        "UperNetConvNeXtXLarge",
    ),
    "overlays": ("label_map", "legend", "overlay", "palette"),
}

_renamed = deprecation.renamed(__name__, {"for_fit": "fit_metrics"}, callers=2)
__getattr__, __dir__, __all__ = lazy.names_of(__name__, PUBLIC, _renamed)
