"""The evaluation transform as an image converter of KerasHub."""

import sys

import keras
import numpy as np
from keras_hub.layers import ImageConverter

from keras_convnext.keras_hub.backbone import ConvNeXtBackbone
from keras_convnext.keras_hub.presets import WeightsLoader, load, published
from keras_convnext.preprocessing import EvalTransform
from keras_convnext.variants import IMAGENET_MEAN, IMAGENET_STD

SCALE = tuple(1 / (255 * std) for std in IMAGENET_STD)
OFFSET = tuple(-mean / std for mean, std in zip(IMAGENET_MEAN, IMAGENET_STD, strict=True))


@keras.saving.register_keras_serializable(package="keras_convnext")
class ConvNeXtImageConverter(ImageConverter):
    """Resizes, crops and normalises images as the published accuracies were measured.

    The pixels are those of `EvalTransform`, Pillow's, on every backend and also inside of tf.data
    and Grain. KerasHub's own converter has no crop within the resized image, and by default no
    antialiasing.

    Args:
        image_size: `(size, size)` of the result, a square. `None`: images are normalised alone.
        scale, offset: numbers, one per channel, that images in [0, 255] are multiplied with and
            that are added then. Default: mean and standard deviation of ImageNet.
        crop_to_aspect_ratio: whether the short side is resized and the centre cropped; else both
            sides are resized, which changes the aspect ratio.
        crop_pct: side of the crop divided by the short side after resizing, in (0, 1].
        resize_size: the short side after resizing in pixels, in place of `crop_pct`.
        interpolation: "bicubic" or "bilinear", both antialiased.
        dtype: of the result; "float32" by default, under any policy: the model casts by itself.
        **kwargs: others of `keras_hub.layers.ImageConverter`, such as `data_format`.

    Called with images `(batch, height, width, channels)`, with one, or with a list of images of
    different sizes, in the order of `data_format`, RGB or grey, of range [0, 255], uint8, integers
    or floats (which are rounded). Boxes are not resized along.

    Raises:
        ValueError: if an argument is out of its range, or contradicts another.

    Example:
        # pip install "keras-convnext[keras-hub]"
        import numpy as np
        from keras_convnext.keras_hub import ConvNeXtImageConverter
        convert = ConvNeXtImageConverter((224, 224), crop_pct=0.875)
        convert(np.zeros((2, 480, 640, 3), "uint8")).shape  # (2, 224, 224, 3)
    """

    backbone_cls = ConvNeXtBackbone
    presets = published("classification", "segmentation")

    def __init__(
        self,
        image_size=None,
        scale=SCALE,
        offset=OFFSET,
        crop_to_aspect_ratio=True,
        crop_pct=None,
        resize_size=None,
        interpolation="bicubic",
        dtype="float32",
        **kwargs,
    ):
        if kwargs.pop("pad_to_aspect_ratio", False) or not kwargs.pop("antialias", True):
            raise ValueError(
                "`ConvNeXtImageConverter` resizes with antialiasing and without padding: omit "
                "`antialias` and `pad_to_aspect_ratio`, or take `keras_hub.layers.ImageConverter`."
            )
        super().__init__(
            image_size,
            scale,
            offset,
            crop_to_aspect_ratio,
            interpolation=interpolation,
            antialias=True,
            dtype=dtype,
            **kwargs,
        )
        self.crop_pct = crop_pct
        self.resize_size = resize_size
        del self.resizing  # Keras' layer
        self.resizing = _Resizing(self, image_size)
        if image_size is not None:
            self.transform()  # which checks the arguments

    def transform(self):
        """Returns the `EvalTransform` of the size that is set now."""
        height, width = self.image_size
        if height != width:
            raise ValueError(
                f"`image_size` must be a square, as of published evaluations, received "
                f"{self.image_size}. `keras_hub.layers.ImageConverter` gives other shapes."
            )
        return EvalTransform(
            height,
            crop_pct=self.crop_pct,
            resize="shortest" if self.crop_to_aspect_ratio else "squash",
            interpolation=self.interpolation,
            resize_size=self.resize_size,
        )

    def get_config(self):
        return super().get_config() | {"crop_pct": self.crop_pct, "resize_size": self.resize_size}

    @classmethod
    def from_preset(cls, preset, **kwargs):
        """Returns the converter of a preset; arguments and errors as of `ConvNeXtBackbone`.

        Args:
            preset: as there. Of an UperNet it normalises alone.
            **kwargs: arguments of the class in place of the preset's, such as `image_size`.
        """
        how = WeightsLoader.load_image_converter
        return load(how, cls, super().from_preset, preset, any_head=True, **kwargs)


class _Resizing:
    """What a converter resizes with, in the place of Keras' layer.

    Attributes:
        height, width: of the result, or `None`: a converter's `image_size` sets and reads them.
    """

    def __init__(self, converter, image_size):
        self._converter = converter
        self.height, self.width = image_size or (None, None)

    def __call__(self, images):
        if isinstance(images, dict):
            raise ValueError(
                "`ConvNeXtImageConverter` takes images alone, received a dict of "
                f"{', '.join(images)}: boxes are resized by `keras_hub.layers.ImageConverter`."
            )
        tf = sys.modules.get("tensorflow")
        if tf is not None and tf.is_tensor(images) and not tf.executing_eagerly():
            return self._in_graph(tf, images)
        is_tensor = keras.ops.is_tensor(images)
        images = keras.ops.convert_to_numpy(images) if is_tensor else np.asarray(images)
        return keras.ops.convert_to_tensor(self._resized(images))

    def _in_graph(self, tf, images):
        """Returns the pixels inside of tf.data, which come from the same code."""
        resized = tf.numpy_function(self._resized, [images], tf.uint8, stateful=False)
        channels_first = self._converter.data_format == "channels_first"
        sides = (3, self.height, self.width) if channels_first else (self.height, self.width, 3)
        resized.set_shape((*images.shape[:-3], *sides))
        return resized

    def _resized(self, images):
        """Returns an array of images, or of one, after the transform, uint8."""
        channels_first = self._converter.data_format == "channels_first"
        images = np.moveaxis(images, -3, -1) if channels_first else images
        # integers of other kinds are pixels as well
        images = images if images.dtype == np.uint8 else images.astype("float32")
        transform = self._converter.transform()
        resized = transform(images) if images.ndim == 3 else transform.batch(images)
        return np.moveaxis(resized, -1, -3) if channels_first else resized
