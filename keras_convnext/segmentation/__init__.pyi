# Written by `make readme`: change the code, not this file.

from typing import Protocol

from keras_convnext.segmentation.heads import AuxiliaryHead as AuxiliaryHead
from keras_convnext.segmentation.heads import UperNetHead as UperNetHead
from keras_convnext.segmentation.inference import SCALES as SCALES
from keras_convnext.segmentation.inference import Segmenter as Segmenter
from keras_convnext.segmentation.losses import PixelCrossEntropy as PixelCrossEntropy
from keras_convnext.segmentation.metrics import MeanIoU as MeanIoU
from keras_convnext.segmentation.metrics import PixelAccuracy as PixelAccuracy
from keras_convnext.segmentation.metrics import Scores as Scores
from keras_convnext.segmentation.metrics import fit_metrics as fit_metrics
from keras_convnext.segmentation.metrics import scores as scores
from keras_convnext.segmentation.models import SegmentationModel as SegmentationModel
from keras_convnext.segmentation.models import UperNet as UperNet
from keras_convnext.segmentation.overlays import label_map as label_map
from keras_convnext.segmentation.overlays import legend as legend
from keras_convnext.segmentation.overlays import overlay as overlay
from keras_convnext.segmentation.overlays import palette as palette

class Factory(Protocol):
    def __call__(
        self,
        include_preprocessing=True,
        weights="ade20k",
        input_shape=None,
        classes=None,
        name=None,
        *,
        backbone_weights=None,
        drop_path_rate=0.0,
        dropout=0.1,
        channels=512,
        auxiliary_channels=256,
    ) -> SegmentationModel: ...

UperNetConvNeXtBase: Factory
UperNetConvNeXtLarge: Factory
UperNetConvNeXtSmall: Factory
UperNetConvNeXtTiny: Factory
UperNetConvNeXtV2Atto: Factory
UperNetConvNeXtV2Base: Factory
UperNetConvNeXtV2Femto: Factory
UperNetConvNeXtV2Huge: Factory
UperNetConvNeXtV2Large: Factory
UperNetConvNeXtV2Nano: Factory
UperNetConvNeXtV2Pico: Factory
UperNetConvNeXtV2Small: Factory
UperNetConvNeXtV2Tiny: Factory
UperNetConvNeXtXLarge: Factory
