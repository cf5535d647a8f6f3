"""Semantic segmentation: a class for every pixel, with UperNet on a ConvNeXt."""

from keras_convnext import deprecation
from keras_convnext.segmentation.heads import AuxiliaryHead, UperNetHead
from keras_convnext.segmentation.inference import SCALES, Segmenter
from keras_convnext.segmentation.losses import PixelCrossEntropy
from keras_convnext.segmentation.metrics import (
    MeanIoU,
    PixelAccuracy,
    Scores,
    fit_metrics,
    scores,
)
from keras_convnext.segmentation.models import (
    SegmentationModel,
    UperNet,
    UperNetConvNeXtBase,
    UperNetConvNeXtLarge,
    UperNetConvNeXtSmall,
    UperNetConvNeXtTiny,
    UperNetConvNeXtV2Atto,
    UperNetConvNeXtV2Base,
    UperNetConvNeXtV2Femto,
    UperNetConvNeXtV2Huge,
    UperNetConvNeXtV2Large,
    UperNetConvNeXtV2Nano,
    UperNetConvNeXtV2Pico,
    UperNetConvNeXtV2Small,
    UperNetConvNeXtV2Tiny,
    UperNetConvNeXtXLarge,
)
from keras_convnext.segmentation.overlays import label_map, legend, overlay, palette

__getattr__ = deprecation.renamed(__name__, {"for_fit": "fit_metrics"})
