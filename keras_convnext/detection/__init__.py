"""Object detection: boxes, classes and masks, with Mask R-CNN or Cascade Mask R-CNN.

All names are loaded when they are first used: what an exported file needs imports no Keras.
"""

from keras_convnext import lazy

# The public names, by the module that defines them. `__init__.pyi` is generated from this table.
PUBLIC = {
    "anchor_boxes": ("anchors", "usable"),
    "assigning": ("assign", "sample"),
    "boxes": ("clip", "decode", "encode", "giou", "iou"),
    "callbacks": ("COCOScores",),
    "detections": ("Detections",),
    "detector": ("Detector",),
    "heads": ("BoxHead", "FeaturePyramid", "MaskHead", "RegionProposalHead"),
    "metrics": ("ClassScores", "DetectionScores", "average_precision"),
    "models": (
        "CascadeMaskRCNN",
        "CascadeMaskRCNNConvNeXtBase",
        "CascadeMaskRCNNConvNeXtLarge",
        "CascadeMaskRCNNConvNeXtSmall",
        "CascadeMaskRCNNConvNeXtTiny",
        "CascadeMaskRCNNConvNeXtXLarge",
        "MaskRCNN",
        "MaskRCNNConvNeXtBase",
        "MaskRCNNConvNeXtSmall",
        "MaskRCNNConvNeXtTiny",
    ),
    "rcnn": ("DetectionModel",),
    "roi_pooling": ("pyramid_roi_align", "roi_align"),
    "settings": ("CASCADE_MASK_RCNN", "MASK_RCNN", "Settings", "Stage"),
    "suppression": ("batched_nms", "nms"),
}

__getattr__, __dir__, __all__ = lazy.names_of(__name__, PUBLIC)
