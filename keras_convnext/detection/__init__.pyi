# Written by `make readme`: change the code, not this file.

from typing import Protocol

from keras_convnext.detection.anchor_boxes import anchors as anchors
from keras_convnext.detection.anchor_boxes import usable as usable
from keras_convnext.detection.assigning import assign as assign
from keras_convnext.detection.assigning import sample as sample
from keras_convnext.detection.boxes import clip as clip
from keras_convnext.detection.boxes import decode as decode
from keras_convnext.detection.boxes import encode as encode
from keras_convnext.detection.boxes import giou as giou
from keras_convnext.detection.boxes import iou as iou
from keras_convnext.detection.callbacks import COCOScores as COCOScores
from keras_convnext.detection.detections import Detections as Detections
from keras_convnext.detection.detector import Detector as Detector
from keras_convnext.detection.heads import BoxHead as BoxHead
from keras_convnext.detection.heads import FeaturePyramid as FeaturePyramid
from keras_convnext.detection.heads import MaskHead as MaskHead
from keras_convnext.detection.heads import RegionProposalHead as RegionProposalHead
from keras_convnext.detection.metrics import ClassScores as ClassScores
from keras_convnext.detection.metrics import DetectionScores as DetectionScores
from keras_convnext.detection.metrics import average_precision as average_precision
from keras_convnext.detection.models import CascadeMaskRCNN as CascadeMaskRCNN
from keras_convnext.detection.models import MaskRCNN as MaskRCNN
from keras_convnext.detection.rcnn import DetectionModel as DetectionModel
from keras_convnext.detection.roi_pooling import pyramid_roi_align as pyramid_roi_align
from keras_convnext.detection.roi_pooling import roi_align as roi_align
from keras_convnext.detection.settings import CASCADE_MASK_RCNN as CASCADE_MASK_RCNN
from keras_convnext.detection.settings import MASK_RCNN as MASK_RCNN
from keras_convnext.detection.settings import Settings as Settings
from keras_convnext.detection.settings import Stage as Stage
from keras_convnext.detection.suppression import batched_nms as batched_nms
from keras_convnext.detection.suppression import nms as nms

class Factory(Protocol):
    def __call__(
        self,
        weights="coco",
        include_preprocessing=True,
        input_shape=None,
        classes=None,
        name=None,
        *,
        backbone_weights=None,
        drop_path_rate=0.0,
        masks=True,
        settings=None,
    ) -> DetectionModel: ...

CascadeMaskRCNNConvNeXtBase: Factory
CascadeMaskRCNNConvNeXtLarge: Factory
CascadeMaskRCNNConvNeXtSmall: Factory
CascadeMaskRCNNConvNeXtTiny: Factory
CascadeMaskRCNNConvNeXtXLarge: Factory
MaskRCNNConvNeXtBase: Factory
MaskRCNNConvNeXtSmall: Factory
MaskRCNNConvNeXtTiny: Factory
