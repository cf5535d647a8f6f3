"""Object detection: boxes, classes and masks, with Mask R-CNN or Cascade Mask R-CNN."""

from keras_convnext.detection import macs as _  # tells `count_macs` how the layers are counted
from keras_convnext.detection.anchors import anchors, usable
from keras_convnext.detection.assigning import assign, sample
from keras_convnext.detection.boxes import clip, decode, encode, giou, iou
from keras_convnext.detection.callbacks import COCOScores
from keras_convnext.detection.detections import Detections
from keras_convnext.detection.detector import Detector
from keras_convnext.detection.heads import BoxHead, FeaturePyramid, MaskHead, RegionProposalHead
from keras_convnext.detection.metrics import ClassScores, DetectionScores, average_precision
from keras_convnext.detection.models import (
    CascadeMaskRCNN,
    CascadeMaskRCNNConvNeXtBase,
    CascadeMaskRCNNConvNeXtLarge,
    CascadeMaskRCNNConvNeXtSmall,
    CascadeMaskRCNNConvNeXtTiny,
    CascadeMaskRCNNConvNeXtXLarge,
    MaskRCNN,
    MaskRCNNConvNeXtBase,
    MaskRCNNConvNeXtSmall,
    MaskRCNNConvNeXtTiny,
)
from keras_convnext.detection.nms import batched_nms, nms
from keras_convnext.detection.rcnn import DetectionModel
from keras_convnext.detection.roi_align import pyramid_roi_align, roi_align
from keras_convnext.detection.settings import CASCADE_MASK_RCNN, MASK_RCNN, Settings, Stage
