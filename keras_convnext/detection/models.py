"""`MaskRCNN()` and `CascadeMaskRCNN()` make a detector of a ConvNeXt; one factory per size."""

import keras

from keras_convnext.checks import integer, knowing_other_names
from keras_convnext.detection.heads import BoxHead, FeaturePyramid, MaskHead, RegionProposalHead
from keras_convnext.detection.rcnn import DetectionModel
from keras_convnext.detection.settings import CASCADE_MASK_RCNN, MASK_RCNN, MULTIPLE, Settings
from keras_convnext.models import check_before_download
from keras_convnext.models.dense_prediction import check_levels, checkpoint_of, pyramid_of
from keras_convnext.models.factory import factory_of
from keras_convnext.variants import variant_of

CLASSES = 80  # of COCO


@knowing_other_names
def MaskRCNN(
    variant,
    weights=None,
    include_preprocessing=True,
    input_shape=None,
    classes=None,
    name=None,
    *,
    backbone_weights=None,
    drop_path_rate=0.0,
    masks=True,
    settings=None,
):
    """Builds a Mask R-CNN with a ConvNeXt: boxes, classes and masks of the objects in images.

    Source: arXiv 2201.03545, section 4 (Table 3) and Appendix A.3; arXiv 1703.06870.

    Args:
        variant: name of a row of `keras_convnext.VARIANTS`, or a `keras_convnext.Variant`, of four
            stages with strides 4 to 32.
        weights: weights of the whole model: `None` (random); `"coco"`; a name in
            `keras_convnext.pretrained.rows("detection")`; `"hf://owner/repo[@revision][/file]"`; or
            the path of a file in a published layout (the authors', OpenMMLab's, our own). What is
            as wide as there are classes stays random where `classes` differs from the file's.
        include_preprocessing: whether the first layer normalises images of range [0, 255].
        input_shape: `(height, width, 3)`, multiples of 32. Default: any height and width.
        classes: number of classes. Default: as many as the weights have; 80 without weights.
        name: of the model. Default: `"mask_rcnn_"` and the variant's name.
        backbone_weights: weights of the ConvNeXt alone, as `ConvNeXt(weights=...)` takes them. The
            paper begins with weights that are no averages: `"fb_in1k_nonema"` or `"fb_in22k"`.
        drop_path_rate: rate of stochastic depth in the last block, in [0, 1). The paper has 0.4.
        masks: whether there are mask heads; without them this is Faster R-CNN.
        settings: a `Settings`. Default: `MASK_RCNN`, the numbers of the paper.

    Returns:
        A `DetectionModel`, which says what it is called with and what it returns.

    Raises:
        ValueError: if an argument has a value that is not allowed, no weights have that name, or
            the file of weights does not fit this architecture exactly.
        TypeError: if `variant` is neither a name nor a `Variant`.
        FileNotFoundError: if there is no file at that path.
        DownloadError: (an OSError) if the weights could not be fetched.

    Example:
        from keras_convnext.detection import MaskRCNN
        model = MaskRCNN("convnext_tiny", classes=3, drop_path_rate=0.4)
        model.classes  # 3
    """
    settings = MASK_RCNN if settings is None else settings
    if not isinstance(settings, Settings):
        raise TypeError(f"`settings` must be a `Settings` or None, received {settings!r}.")
    variant = variant_of(variant)
    _check_data_format()
    check_levels(settings.name, variant)
    check_before_download(variant, classes, None, input_shape, drop_path_rate)
    _check_sides(input_shape)
    checkpoint = checkpoint_of(weights, backbone_weights, variant, "detection", settings.name)
    if checkpoint is not None and classes is None:
        classes = checkpoint.classes
    classes = integer("classes", CLASSES if classes is None else classes, 1)
    pyramid = pyramid_of(
        variant,
        checkpoint is not None,
        backbone_weights,
        include_preprocessing=include_preprocessing,
        input_shape=input_shape,
        drop_path_rate=drop_path_rate,
    )
    pyramid.variant = variant
    parts = _heads(settings, classes, masks)
    name = name or f"{settings.name}_{variant.name}"
    model = DetectionModel(pyramid, **parts, settings=settings, name=name)
    if checkpoint is not None:
        checkpoint.load_into(model)
        model.published = checkpoint.published
    return model


@knowing_other_names
def CascadeMaskRCNN(
    variant,
    weights=None,
    include_preprocessing=True,
    input_shape=None,
    classes=None,
    name=None,
    *,
    backbone_weights=None,
    drop_path_rate=0.0,
    masks=True,
    settings=None,
):
    """Builds a Cascade Mask R-CNN with a ConvNeXt: three stages, each for better boxes.

    Arguments, result and errors are those of `MaskRCNN`, with the default name
    `"cascade_mask_rcnn_"` and the variant's name, and the default settings `CASCADE_MASK_RCNN`.
    The paper's drop path rates are 0.4 for Tiny, 0.6 for Small, 0.7 for Base (0.6 with ImageNet-22K
    weights) and Large, and 0.8 for XLarge. Without masks this is Cascade R-CNN.

    Source: arXiv 2201.03545, section 4 (Table 3) and Appendix A.3; arXiv 1906.09756.

    Example:
        from keras_convnext.detection import CascadeMaskRCNN
        model = CascadeMaskRCNN("convnext_tiny", classes=3, drop_path_rate=0.4)
        len(model.box_heads)  # 3
    """
    return MaskRCNN(**{**locals(), "settings": settings or CASCADE_MASK_RCNN})


def _heads(settings, classes, masks):
    """Returns the parts of a `DetectionModel` behind its ConvNeXt."""
    numbers = range(len(settings.stages))
    box = {
        "convolutions": settings.box_convolutions,
        "channels": settings.channels,
        "dense": settings.box_dense,
        "units": settings.box_units,
    }
    mask = {"convolutions": settings.mask_convolutions, "channels": settings.channels}
    return {
        "neck": FeaturePyramid(settings.channels, name="neck"),
        "rpn_head": RegionProposalHead(settings.channels, name="rpn_head"),
        "box_heads": [BoxHead(classes, **box, name=f"box_head{n}") for n in numbers],
        "mask_heads": [MaskHead(classes, **mask, name=f"mask_head{n}") for n in numbers if masks],
    }


def _check_data_format():
    if keras.config.image_data_format() == "channels_first":
        raise ValueError(
            "Detectors take channels-last images: call "
            "`keras.config.set_image_data_format('channels_last')` first."
        )


def _check_sides(input_shape):
    sides = [side for side in input_shape or () if side not in (None, 3)]
    if any(side % MULTIPLE for side in sides):
        raise ValueError(
            f"Height and width of `input_shape` must be multiples of {MULTIPLE}, or None for any, "
            f"received {input_shape}."
        )


def _factory(build, name, variant, weights="coco"):
    return factory_of(build, name, variant, weights, __name__)


MaskRCNNConvNeXtTiny = _factory(MaskRCNN, "MaskRCNNConvNeXtTiny", "convnext_tiny")
MaskRCNNConvNeXtSmall = _factory(MaskRCNN, "MaskRCNNConvNeXtSmall", "convnext_small", None)
MaskRCNNConvNeXtBase = _factory(MaskRCNN, "MaskRCNNConvNeXtBase", "convnext_base", None)
CascadeMaskRCNNConvNeXtTiny = _factory(
    CascadeMaskRCNN, "CascadeMaskRCNNConvNeXtTiny", "convnext_tiny"
)
CascadeMaskRCNNConvNeXtSmall = _factory(
    CascadeMaskRCNN, "CascadeMaskRCNNConvNeXtSmall", "convnext_small"
)
CascadeMaskRCNNConvNeXtBase = _factory(
    CascadeMaskRCNN, "CascadeMaskRCNNConvNeXtBase", "convnext_base"
)
CascadeMaskRCNNConvNeXtLarge = _factory(
    CascadeMaskRCNN, "CascadeMaskRCNNConvNeXtLarge", "convnext_large"
)
CascadeMaskRCNNConvNeXtXLarge = _factory(
    CascadeMaskRCNN, "CascadeMaskRCNNConvNeXtXLarge", "convnext_xlarge"
)
