"""UperNet as a task of KerasHub."""

import keras
from keras_hub.models import ImageSegmenter, ImageSegmenterPreprocessor
from keras_hub.src.utils.preset_utils import PREPROCESSOR_CONFIG_FILE

from keras_convnext.checks import integer
from keras_convnext.features import feature_model
from keras_convnext.keras_hub.backbone import ConvNeXtBackbone, settings
from keras_convnext.keras_hub.image_converter import ConvNeXtImageConverter
from keras_convnext.keras_hub.presets import WeightsLoader, load, published
from keras_convnext.models.dense_prediction import LEVELS, check_levels
from keras_convnext.segmentation.models import heads, with_auxiliary_loss


@keras.saving.register_keras_serializable(package="keras_convnext")
class UperNetImageSegmenterPreprocessor(ImageSegmenterPreprocessor):
    """Normalises images for an `UperNetImageSegmenter`, which takes them at their own size.

    Args:
        image_converter: a `ConvNeXtImageConverter`; `None` leaves the images as they are.
        **kwargs: others of `keras_hub.models.ImageSegmenterPreprocessor`.

    Called with images, or with images, masks and weights of samples, which are returned as they
    are.

    Raises:
        ValueError: if masks are to be resized, which would not be cropped as the images are.

    Example:
        # pip install "keras-convnext[keras-hub]"
        import numpy as np
        from keras_convnext.keras_hub import UperNetImageSegmenterPreprocessor
        prepare = UperNetImageSegmenterPreprocessor.from_preset("convnext_tiny.fb_in1k")
        prepare(np.zeros((2, 48, 64, 3), "uint8")).shape  # (2, 48, 64, 3)
    """

    backbone_cls = ConvNeXtBackbone
    image_converter_cls = ConvNeXtImageConverter
    presets = published("segmentation")

    def __init__(self, image_converter=None, resize_output_mask=False, **kwargs):
        if resize_output_mask:
            raise ValueError(
                "`resize_output_mask=True` is not for `ConvNeXtImageConverter`, whose crops masks "
                "would not follow: resize images and masks before, or take KerasHub's converter "
                "and `keras_hub.models.ImageSegmenterPreprocessor`."
            )
        super().__init__(image_converter, **kwargs)

    @classmethod
    def _add_missing_kwargs(cls, loader, kwargs):
        # the size and the crop of a preset are those of a classifier
        if "image_converter" not in kwargs:
            converter = loader.load_image_converter(cls.image_converter_cls, image_size=None)
            kwargs["image_converter"] = converter
        return kwargs

    @classmethod
    def from_preset(cls, preset, config_file=PREPROCESSOR_CONFIG_FILE, **kwargs):
        """Returns the preprocessor of a preset: see `ConvNeXtBackbone.from_preset`."""
        keras_hubs = super().from_preset
        how = WeightsLoader.load_preprocessor
        return load(how, cls, keras_hubs, preset, config_file, any_head=True, **kwargs)


@keras.saving.register_keras_serializable(package="keras_convnext")
@with_auxiliary_loss
class UperNetImageSegmenter(ImageSegmenter):
    """UperNet on a ConvNeXt: a class for every pixel.

    Args:
        backbone: a `ConvNeXtBackbone` of four stages with strides 4 to 32.
        num_classes: number of classes.
        preprocessor: an `UperNetImageSegmenterPreprocessor`, another layer or function of images,
            or `None` where they are normalised already.
        channels, auxiliary_channels, dropout: as of `keras_convnext.segmentation.UperNet`.
        **kwargs: `name`, `trainable`, and `compile=False` for a model that is not compiled.

    Called with images as the preprocessor gives them; returns logits `(batch, height, width,
    num_classes)`, at the images' size, channels last, and while training the auxiliary ones:
    see `segmentation.SegmentationModel`. Compiled as KerasHub does it, `fit` takes masks with one
    channel per class; after `compile("adam", segmentation.PixelCrossEntropy())` it takes labels.
    A `segmentation.Segmenter` takes this model, too.

    Raises:
        ValueError: if an argument is out of its range, or the backbone has other stages.

    Example:
        # pip install "keras-convnext[keras-hub]"
        import numpy as np
        from keras_convnext.keras_hub import UperNetImageSegmenter
        heads = {"num_classes": 3, "channels": 64, "auxiliary_channels": 64}
        segmenter = UperNetImageSegmenter.from_preset("convnext_tiny.fb_in1k", **heads)
        logits = segmenter.predict_on_batch(np.zeros((1, 48, 64, 3), "uint8"))
        logits.shape  # (1, 48, 64, 3)
    """

    backbone_cls = ConvNeXtBackbone
    preprocessor_cls = UperNetImageSegmenterPreprocessor
    presets = published("segmentation")

    def __init__(
        self,
        backbone,
        num_classes,
        preprocessor=None,
        channels=512,
        auxiliary_channels=256,
        dropout=0.1,
        **kwargs,
    ):
        integer("num_classes", num_classes, 1)
        check_levels("UperNetImageSegmenter", backbone.variant)
        widths = {"channels": channels, "auxiliary_channels": auxiliary_channels}
        self.backbone = backbone
        self.preprocessor = preprocessor
        images = backbone.input
        with settings(backbone.dtype_policy, backbone.data_format):
            maps = feature_model(backbone, LEVELS, norms=True).output
            outputs = heads(maps, images, num_classes, **widths, dropout=dropout)
        super().__init__(inputs=images, outputs=outputs, **kwargs)
        self.num_classes = num_classes
        self.channels = channels
        self.auxiliary_channels = auxiliary_channels
        self.dropout = dropout

    def get_config(self):
        return super().get_config() | {
            "num_classes": self.num_classes,
            "channels": self.channels,
            "auxiliary_channels": self.auxiliary_channels,
            "dropout": self.dropout,
        }

    @staticmethod
    def _of_weights(loader, anew):
        """Returns the arguments that are as a file has its layers.

        Raises:
            ValueError: if it is of no UperNet, and the classifiers are not new.
        """
        if loader.head is not None:
            return {"num_classes": loader.classes, **loader.weights.arguments()}
        if not anew:
            raise ValueError(
                f"{loader.preset} is no UperNet: pass `num_classes=` for new heads on its ConvNeXt."
            )
        return {}

    def _fill(self, loader, anew):
        """Loads the weights of a file: of an UperNet all that fit, of a ConvNeXt its backbone's."""
        if loader.head is None:
            loader.fill_backbone(self.backbone)
        else:
            loader.weights.checkpoint.load_into(self)

    @classmethod
    def from_preset(cls, preset, load_weights=True, **kwargs):
        """Returns the segmenter of a preset.

        Args:
            preset: as of `ConvNeXtBackbone.from_preset`: the name of an UperNet, or with
                `num_classes` also of a ConvNeXt.
            load_weights: whether the weights are loaded; else they are random.
            **kwargs: arguments of the class in place of the preset's, and those of the backbone.
                With another `num_classes` than the file's the classifiers begin anew.

        Raises:
            ValueError: if no preset has that name, it cannot be read, or it is of a ConvNeXt alone
                and `num_classes` is not given.
            DownloadError: (an OSError) if weights could not be fetched.
        """
        keras_hubs = super().from_preset
        how = WeightsLoader.load_task
        return load(how, cls, keras_hubs, preset, load_weights, any_head=True, **kwargs)
