"""`UperNet()` makes a ConvNeXt with the heads of UperNet; there is one factory per size.

The layers have the names that they have in `ConvNeXt(...)`; then there are `norm0` to `norm3`
behind the stages, `decode_head`, `auxiliary_head`, and `logits` and `auxiliary`, which resize to
the input.
"""

from collections import OrderedDict

import keras

from keras_convnext import names
from keras_convnext.checks import integer, knowing_other_names
from keras_convnext.features import PyramidModel, functional
from keras_convnext.models import check_before_download, refuse_weights_as
from keras_convnext.models.dense_prediction import LEVELS, check_levels, checkpoint_of, pyramid_of
from keras_convnext.models.factory import factory_of
from keras_convnext.segmentation.heads import AuxiliaryHead, UperNetHead
from keras_convnext.segmentation.resampling import ResizeTo
from keras_convnext.variants import variant_of

AUXILIARY_LEVEL = "P4"
PARTS = ("decode_head", "auxiliary_head", "logits", "auxiliary")


def with_auxiliary_loss(kind):
    """Gives a class of functional models with two outputs what `SegmentationModel` says.

    A class decorator, as KerasHub writes the first base of a task's class into its files.
    """

    def call(self, inputs, training=None, mask=None):
        return _wanted(super(kind, self).call(inputs, training=training, mask=mask), training)

    def compute_output_spec(self, inputs, training=None, mask=None):
        outputs = super(kind, self).compute_output_spec(inputs, training=training, mask=mask)
        return _wanted(outputs, training)

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        inherited = super(kind, self).compute_loss
        if not isinstance(y_pred, dict):
            return inherited(x, y, y_pred, sample_weight, training)
        loss = inherited(x, y, y_pred["logits"], sample_weight, training)
        # the losses of regularizers are in the first part already
        auxiliary = self._compile_loss(y, y_pred["auxiliary"], sample_weight)
        return loss + self.get_layer("auxiliary_head").loss_weight * auxiliary

    def compute_metrics(self, x, y, y_pred, sample_weight=None):
        logits = y_pred["logits"] if isinstance(y_pred, dict) else y_pred
        return super(kind, self).compute_metrics(x, y, logits, sample_weight)

    for method in (call, compute_output_spec, compute_loss, compute_metrics):
        setattr(kind, method.__name__, method)
    return kind


def _wanted(outputs, training):
    # Keras gives a model around this one, built with the logits, the first of the outputs
    names = ("logits", "auxiliary")
    return OrderedDict((name, outputs[name]) for name in names) if training else outputs["logits"]


@functional
@with_auxiliary_loss
class SegmentationModel(PyramidModel):
    """A functional model with the outputs `"logits"` and, for training alone, `"auxiliary"`.

    Called with `training=True` it returns both, else the logits alone; a model around it has the
    logits. In `fit` the loss that it is compiled with is computed from the logits, and once more
    from the auxiliary ones; the sum is minimised, with the second loss multiplied by `loss_weight`
    of the layer `auxiliary_head` (0.4). Metrics see the logits.

    Example:
        import numpy as np
        from keras_convnext.segmentation import PixelCrossEntropy, UperNetConvNeXtTiny, fit_metrics
        model = UperNetConvNeXtTiny(weights="ade20k", classes=3)
        model.compile("adamw", PixelCrossEntropy(), metrics=fit_metrics(3))
        model.predict(np.zeros((1, 64, 64, 3), "uint8"), verbose=0).shape  # (1, 64, 64, 3)
    """


@knowing_other_names
def UperNet(
    variant,
    include_preprocessing=True,
    weights=None,
    input_shape=None,
    classes=None,
    name=None,
    *,
    backbone_weights=None,
    drop_path_rate=0.0,
    dropout=0.1,
    channels=512,
    auxiliary_channels=256,
):
    """Builds an UperNet with a ConvNeXt, as a functional `keras.Model`.

    The arguments that `ConvNeXt` has too have the same order and meaning here.
    Source: arXiv 2201.03545, section 4 (Table 4) and Appendix A.3; arXiv 1807.10221.

    Args:
        variant: name of a row of `keras_convnext.VARIANTS`, or a `keras_convnext.Variant`, of four
            stages with strides 4 to 32.
        include_preprocessing: whether the first layer normalises images of range [0, 255].
        weights: weights of the whole model: `None` (random); `"ade20k"`; a name in
            `keras_convnext.pretrained.rows("segmentation")`; `"hf://owner/repo[@revision][/file]"`;
            or the path of a file in a published layout (the authors', OpenMMLab's, transformers',
            our own). The classifiers stay random where `classes` differs from the file's.
        input_shape: `(height, width, 3)`, or channels first where
            `keras.config.image_data_format()` says so. Default: any height and width.
        classes: number of classes. Default: as many as the weights have; 150 without weights.
        name: of the model. Default: `"upernet_"` and the variant's name. Any other name also begins
            the names of the layers, as in `ConvNeXt`.
        backbone_weights: weights of the ConvNeXt alone, as `ConvNeXt(weights=...)` takes them. The
            paper begins with weights that are no averages: `"fb_in1k_nonema"` or `"fb_in22k"`.
        drop_path_rate: rate of stochastic depth in the last block, in [0, 1). The paper has 0.4,
            for Small 0.3.
        dropout: rate at which whole channels are dropped before the classifiers, in [0, 1).
        channels: number of channels of the convolutions in the decoder.
        auxiliary_channels: number of channels of the convolution in the auxiliary head.

    Returns:
        A `SegmentationModel` from `(batch, height, width, 3)` to logits `(batch, height, width,
        classes)`, float32 also under mixed precision, channels last always. Height and width may
        be any from 32 on. In `fit` the targets are labels `(batch, height, width)`:

            model.compile(optimizer, PixelCrossEntropy(), metrics=fit_metrics(classes))

    Raises:
        ValueError: if an argument has a value that is not allowed, no weights have that name, or
            the file of weights does not fit this architecture exactly.
        TypeError: if `variant` is neither a name nor a `Variant`.
        FileNotFoundError: if there is no file at that path.
        DownloadError: (an OSError) if the weights could not be fetched.

    Example:
        from keras_convnext.segmentation import UperNet
        model = UperNet("convnext_tiny", classes=3, drop_path_rate=0.4)
        len(model.outputs)  # 2
    """
    variant = variant_of(variant)
    if isinstance(include_preprocessing, str):
        call = f"UperNet({variant.name!r}"
        refuse_weights_as("include_preprocessing", include_preprocessing, call)
    check_levels("UperNet", variant)
    check_before_download(variant, classes, None, input_shape, drop_path_rate)
    checkpoint = checkpoint_of(weights, backbone_weights, variant, "segmentation")
    if checkpoint is not None and classes is None:
        classes = checkpoint.classes
    classes = integer("classes", 150 if classes is None else classes, 1)
    default = f"upernet_{variant.name}"
    prefix = name if name not in (None, default) else ""
    pyramid = pyramid_of(
        variant,
        checkpoint is not None,
        backbone_weights,
        include_preprocessing=include_preprocessing,
        input_shape=input_shape,
        drop_path_rate=drop_path_rate,
        name=prefix or None,
    )
    maps, images = pyramid.pyramid_outputs, pyramid.input
    widths = {"channels": channels, "auxiliary_channels": auxiliary_channels}
    outputs = heads(maps, images, classes, **widths, dropout=dropout, prefix=prefix)
    model = SegmentationModel(images, outputs, name=name or default)
    if checkpoint is not None:
        checkpoint.load_into(model)
        model.published = checkpoint.published
    return model


def heads(maps, images, classes, *, channels, auxiliary_channels, dropout, prefix=""):
    """Returns the outputs of UperNet's heads, `{"logits": ..., "auxiliary": ...}`.

    Args:
        maps: `{"P2": KerasTensor, ...}`, channels_last, with a norm behind each stage.
        images: the KerasTensor that they were made of, whose size the outputs get.
        classes, channels, auxiliary_channels, dropout: as of `UperNet`.
        prefix: name of the model if that begins the names of its layers, else `""`.
    """
    decoder, auxiliary, logits, more_logits = (names.in_model(prefix, part) for part in PARTS)
    decoder = UperNetHead(classes, channels, dropout, name=decoder)
    auxiliary = AuxiliaryHead(classes, auxiliary_channels, dropout, name=auxiliary)
    return {
        "logits": _at_full_size(images, decoder([maps[level] for level in LEVELS]), logits),
        "auxiliary": _at_full_size(images, auxiliary(maps[AUXILIARY_LEVEL]), more_logits),
    }


def _at_full_size(images, logits, name):
    first = keras.config.image_data_format() == "channels_first"
    axes = (2, 3) if first else (1, 2)
    dtype = keras.config.dtype_policy().variable_dtype
    return ResizeTo(axes, name=name, dtype=dtype)([logits, images])


def _factory(name, variant):
    """Returns `UperNet` of one variant, with `weights="ade20k"` unless told otherwise."""
    return factory_of(UperNet, name, variant, "ade20k", __name__)


UperNetConvNeXtTiny = _factory("UperNetConvNeXtTiny", "convnext_tiny")
UperNetConvNeXtSmall = _factory("UperNetConvNeXtSmall", "convnext_small")
UperNetConvNeXtBase = _factory("UperNetConvNeXtBase", "convnext_base")
UperNetConvNeXtLarge = _factory("UperNetConvNeXtLarge", "convnext_large")
UperNetConvNeXtXLarge = _factory("UperNetConvNeXtXLarge", "convnext_xlarge")
UperNetConvNeXtV2Atto = _factory("UperNetConvNeXtV2Atto", "convnextv2_atto")
UperNetConvNeXtV2Femto = _factory("UperNetConvNeXtV2Femto", "convnextv2_femto")
UperNetConvNeXtV2Pico = _factory("UperNetConvNeXtV2Pico", "convnextv2_pico")
UperNetConvNeXtV2Nano = _factory("UperNetConvNeXtV2Nano", "convnextv2_nano")
UperNetConvNeXtV2Tiny = _factory("UperNetConvNeXtV2Tiny", "convnextv2_tiny")
UperNetConvNeXtV2Small = _factory("UperNetConvNeXtV2Small", "convnextv2_small")
UperNetConvNeXtV2Base = _factory("UperNetConvNeXtV2Base", "convnextv2_base")
UperNetConvNeXtV2Large = _factory("UperNetConvNeXtV2Large", "convnextv2_large")
UperNetConvNeXtV2Huge = _factory("UperNetConvNeXtV2Huge", "convnextv2_huge")
