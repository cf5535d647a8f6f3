"""The heads that published weights have on a ConvNeXt, by the keys that rows and layouts use."""

# What a file or a row is called, and what builds a model from it; `None`: no head, or a classifier.
NAMES = {
    None: "ConvNeXt",
    "upernet": "UperNet",
    "mask_rcnn": "Mask R-CNN",
    "cascade_mask_rcnn": "Cascade Mask R-CNN",
}
READERS = {
    None: "keras_convnext.ConvNeXt",
    "upernet": "keras_convnext.segmentation.UperNet",
    "mask_rcnn": "keras_convnext.detection.MaskRCNN",
    "cascade_mask_rcnn": "keras_convnext.detection.CascadeMaskRCNN",
}


def with_article(head):
    """Returns the name of a head's models with its article: `"a Mask R-CNN"`, `"an UperNet"`."""
    name = NAMES[head]
    return f"an {name}" if name[0] in "U" else f"a {name}"
