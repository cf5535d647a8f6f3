"""Object detection: boxes, classes and masks, with Mask R-CNN or Cascade Mask R-CNN."""

from keras_convnext.detection.heads import BoxHead, FeaturePyramid, MaskHead, RegionProposalHead
from keras_convnext.detection.settings import CASCADE_MASK_RCNN, MASK_RCNN, Settings, Stage
