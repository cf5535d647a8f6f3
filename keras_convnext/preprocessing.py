"""The transform that a checkpoint was evaluated with: any image in, uint8 pixels out.

Two forms of one transform. `EvalTransform(...)(image)` is exact: Pillow's resampling with the
geometry of torchvision, for prediction and for measured accuracies. `EvalTransform(...).tf(image)`
is its tf.data form, in the graph and equal but for rounding; its docstring has the difference.

Neither normalises: a model built with `include_preprocessing=True` takes these pixels as they are.
"""

import dataclasses
import math
import os

import numpy as np
from PIL import Image

from keras_convnext import checks
from keras_convnext.images import ImageError, load_image

IN_PIXELS = "It is a number of pixels."
RESIZES = ("shortest", "squash")
FILTERS = {"bicubic": Image.Resampling.BICUBIC, "bilinear": Image.Resampling.BILINEAR}
# Both antialias. TensorFlow's "keyscubic" has a = -0.5, as Pillow's bicubic has; the a = -0.75 of
# other libraries belongs to resampling without antialiasing.
TF_KERNELS = {"bicubic": "keyscubic", "bilinear": "triangle"}


# ---------------------------------------------------------------- the transform


@dataclasses.dataclass(frozen=True)
class EvalTransform:
    """Resize and centre crop to `size` x `size`, as a published accuracy was measured.

    Args:
        size: height and width of the result, in pixels.
        crop_pct: side of the crop divided by the image's short side after resizing, in (0, 1]:
            the short side becomes `int(size / crop_pct)` pixels. None is 1. Only 1 or None with
            `resize="squash"` or with `resize_size`.
        resize: "shortest": the short side is resized and the aspect ratio kept, then the centre
            is cropped. "squash": the whole image is resized to a square, nothing is cropped.
        interpolation: "bicubic" (a = -0.5) or "bilinear", both antialiased.
        resize_size: the short side after resizing in pixels, where a reference states it instead
            of `crop_pct` (torchvision: 236, 230 or 232 for a crop of 224). Where it is less than
            `size`, black borders fill the rest.
        upright: whether an image is first turned as its EXIF says. Published evaluations do not,
            so it is off here; a `Classifier` switches it on, unless an `EvalTransform` is given.

    Raises:
        ValueError: if an argument is out of range or contradicts another.

    Example:
        from keras_convnext.preprocessing import EvalTransform
        transform = EvalTransform(224, crop_pct=0.875)  # the authors' evaluation below 384 pixels
        transform("photo.jpg").shape  # (224, 224, 3)
        EvalTransform(384, resize="squash").in_words()  # "resized to 384 x 384, bicubic"
    """

    size: int
    crop_pct: float | None = None
    resize: str = "shortest"
    interpolation: str = "bicubic"
    resize_size: int | None = None
    upright: bool = False

    def __post_init__(self):
        checks.one_of("upright", self.upright, (True, False))
        checks.one_of("resize", self.resize, RESIZES)
        checks.one_of("interpolation", self.interpolation, tuple(FILTERS))
        checks.integer("size", self.size, 1, note=IN_PIXELS)
        if self.crop_pct is not None:
            note = "For example 0.875."
            checks.number("crop_pct", self.crop_pct, above=0, most=1, optional=True, note=note)
        if self.resize_size is not None:
            checks.integer("resize_size", self.resize_size, 1, note=IN_PIXELS)
        self._check_combination()

    def _check_combination(self):
        if self.resize == "squash" and self.resize_size not in (None, self.size):
            raise ValueError(
                f"`resize='squash'` resizes straight to `size` = {self.size}: `resize_size` must "
                f"be None, received {self.resize_size}."
            )
        fixed = self.resize == "squash" or self.resize_size is not None
        if fixed and self.crop_pct not in (None, 1):
            raise ValueError(
                "`crop_pct` must be None or 1 with `resize='squash'` or with `resize_size`, which "
                f"say the resized size themselves; received crop_pct={self.crop_pct!r}, "
                f"resize={self.resize!r}, resize_size={self.resize_size!r}."
            )

    @property
    def short_side(self):
        """The short side of the image between resizing and cropping, in pixels (int)."""
        if self.resize_size is not None:
            return self.resize_size
        return int(self.size / (self.crop_pct or 1))

    def in_words(self):
        """Returns for example "short side 256, centre crop of 224, bicubic"."""
        how = f"resized to {self.size} x {self.size}"
        if self.resize == "shortest":
            how = f"short side {self.short_side}, centre crop of {self.size}"
        return f"{how}, {self.interpolation}"

    def __call__(self, image):
        """Returns an image in the exact form: uint8 array (size, size, 3), RGB.

        Bit for bit the result of torchvision's Resize and CenterCrop on a PIL image, with
        Pillow >= 13's choice of the first axis, whichever Pillow is installed.

        Raises:
            ImageError: as `load_image`, and if the image is so elongated that resizing its short
                side would exceed twice `PIL.Image.MAX_IMAGE_PIXELS`.
        """
        image = load_image(image, self.upright)
        width, height = self._resized(*image.size)
        image = _resample(image, width, height, FILTERS[self.interpolation])
        left, top = _crop_start(width, self.size), _crop_start(height, self.size)
        # Pillow fills with black what lies outside the image, as torchvision's padding does
        return np.array(image.crop((left, top, left + self.size, top + self.size)))

    def batch(self, sources):
        """Returns several images in the exact form.

        Args:
            sources: iterable of anything that `load_image` takes, or one array (N, H, W, C).

        Returns:
            uint8 array (N, size, size, 3), RGB, in the order of `sources`.

        Raises:
            ImageError: as for one image; the message starts with the position in `sources`.
            TypeError: if `sources` is a single image.
        """
        _check_many(sources)
        images = [self._numbered(index, source) for index, source in enumerate(sources)]
        return np.stack(images) if images else np.zeros((0, self.size, self.size, 3), np.uint8)

    def _numbered(self, index, source):
        try:
            return self(source)
        except ImageError as error:
            raise ImageError(f"sources[{index}]: {error}") from error

    def _resized(self, width, height):
        if self.resize == "squash":
            return self.size, self.size
        # for integers, // is torchvision's int(short_side * long / short)
        short = min(width, height)
        return self.short_side * width // short, self.short_side * height // short

    def tf(self, image):
        """Returns an image in the tf.data form, for `dataset.map`; sizes may differ.

        It resamples both axes at once and only what the crop keeps, where Pillow rounds to 8 bits
        between the axes. Against the exact form of the same files, over 15 photos (JPEG and PNG)
        at 224 (short side 256), 288 (short side 288) and 384 (squash), the mean absolute
        difference is 0.18 levels of 255, 0.21 for the worst photo and size; a single value
        differs by 11 levels at most. `tests/test_preprocessing.py` prints these numbers.

        Args:
            image: uint8 tensor (H, W, 3), RGB, for example from `tf_decode`. It has no EXIF any
                more: where `upright` matters, `images.upright_file` comes before.

        Returns:
            uint8 tensor (size, size, 3), RGB.

        Raises:
            ValueError: if dtype or static shape are others.
        """
        import tensorflow as tf

        image = tf.convert_to_tensor(image)
        _check_decoded(image)
        old = tf.shape(image, out_type=tf.int64)[:2]
        new = self._tf_resized(tf, old)
        resampled = tf.raw_ops.ScaleAndTranslate(
            images=image[tf.newaxis],
            size=[self.size, self.size],
            scale=tf.cast(new / old, tf.float32),
            translation=tf.cast(-_tf_crop_start(tf, new, self.size), tf.float32),
            kernel_type=TF_KERNELS[self.interpolation],
            antialias=True,
        )[0]
        pixels = tf.cast(tf.clip_by_value(tf.round(resampled), 0, 255), tf.uint8)
        return tf.ensure_shape(pixels, (self.size, self.size, 3))

    def _tf_resized(self, tf, old):
        if self.resize == "squash":
            return tf.constant([self.size, self.size], tf.int64)
        return self.short_side * old // tf.reduce_min(old)


def evaluation_transform(
    row=None,
    size=None,
    crop_pct=None,
    resize=None,
    interpolation=None,
    resize_size=None,
    upright=False,
):
    """Returns the transform of published weights, or the authors', with what is given changed.

    Args:
        row: of the registry; `None`: the evaluation of the authors of ConvNeXt, which squashes from
            384 pixels on and below crops 224 of 256 pixels, bicubic.
        size, crop_pct, resize, interpolation, resize_size: as of `EvalTransform`; `None`: what is
            usual at the size. A crop, or a size to crop from, means that the short side is resized.
        upright: as of `EvalTransform`.

    Returns:
        An `EvalTransform`.

    Raises:
        ValueError: if an argument is out of range or contradicts another.

    Example:
        from keras_convnext.pretrained import find
        from keras_convnext.preprocessing import evaluation_transform
        transform = evaluation_transform(find("convnext_base.fb_in1k"))
        transform.in_words()  # "short side 256, centre crop of 224, bicubic"
        evaluation_transform(size=384).resize  # "squash"
    """
    is_usual = (size, crop_pct, resize, resize_size) == (None,) * 4
    if row is not None and is_usual:
        transform = row.transform()
        interpolation = interpolation or row.interpolation
        return dataclasses.replace(transform, interpolation=interpolation, upright=upright)
    size = size or (row.size if row else 224)
    if resize is None:
        usual = row.resize_mode if row else "squash" if size >= 384 else "shortest"
        resize = usual if (crop_pct, resize_size) == (None, None) else "shortest"
    if (crop_pct, resize_size) == (None, None) and resize == "shortest":
        crop_pct = _usual_crop(size, row)
    interpolation = interpolation or (row.interpolation if row else "bicubic")
    return EvalTransform(size, crop_pct, resize, interpolation, resize_size, upright)


def _usual_crop(size, row):
    if row is None:
        return 0.875
    return row.test_crop_pct if size == row.test_size else row.crop_pct


def preprocess_input(x, data_format=None):
    """Returns `x` as it is: the models' first layer normalises images in [0, 255].

    It is here for code that calls `keras.applications.convnext.preprocess_input`, which does the
    same.

    Args:
        x: images, an array or tensor of any shape.
        data_format: not used.

    Example:
        import numpy as np
        from keras_convnext import ConvNeXtTiny, preprocess_input
        model = ConvNeXtTiny(input_shape=(160, 160, 3))
        images = preprocess_input(np.zeros((1, 160, 160, 3), "uint8"))
        model.predict(images, verbose=0).shape  # (1, 1000)
    """
    return x


def _check_many(sources):
    single = isinstance(sources, (str, os.PathLike, bytes, bytearray, memoryview, Image.Image))
    if single or (hasattr(sources, "__array__") and np.ndim(sources) != 4):
        raise TypeError(
            "`sources` must be a list of images or an array (N, H, W, C), received one "
            f"{type(sources).__name__}. For a single image call the transform itself."
        )


def _check_decoded(image):
    shape = image.shape
    if image.dtype != "uint8" or not shape.is_compatible_with((None, None, 3)):
        raise ValueError(
            "`image` must be a uint8 tensor (H, W, 3), received "
            f"{image.dtype.name} of shape {shape}. `tf_decode` makes one from a file's content."
        )


# ---------------------------------------------------------------- resampling and cropping


def _resample(image, width, height, resample):
    """One axis after the other, in the order of Pillow >= 13, which rounds between them.

    Said here and not left to Pillow, because the order differs between its versions, and with it
    the pixels of tall images.
    """
    old_width, old_height = image.size
    lost_rows, lost_columns = old_height - height, old_width - width
    vertical_first = lost_rows > 0 and lost_rows > 2 * lost_columns
    between = (old_width, height) if vertical_first else (width, old_height)
    _check_elongation(image.size, max(math.prod(between), width * height))
    return image.resize(between, resample).resize((width, height), resample)


def _check_elongation(size, pixels):
    # Pillow's own limit against small files that fill the memory, on this side of the decoder
    if Image.MAX_IMAGE_PIXELS and pixels > 2 * Image.MAX_IMAGE_PIXELS:
        raise ImageError(
            f"Image of size {size}: too elongated, resized it would have {pixels} pixels; allowed "
            f"are {2 * Image.MAX_IMAGE_PIXELS} (twice PIL.Image.MAX_IMAGE_PIXELS). Crop it first, "
            "use resize='squash', or raise that limit."
        )


def _crop_start(length, size):
    """First pixel of the centre crop, as torchvision rounds: to even, and borders downwards."""
    spare = length - size
    return round(spare / 2) if spare >= 0 else -(-spare // 2)


def _tf_crop_start(tf, length, size):
    spare = length - size
    inside = tf.cast(tf.round(spare / 2), spare.dtype)
    return tf.where(spare >= 0, inside, -(-spare // 2))


# ---------------------------------------------------------------- decoding in tf.data


def tf_decode(data):
    """Returns the content of an image file as a uint8 RGB tensor (H, W, 3), for `dataset.map`.

    The same pixels as `load_image`. JPEG (grey and CMYK too) and PNG of up to 8 bits are decoded
    by TensorFlow, in the graph and in parallel. Everything else goes through `load_image` in a
    `tf.numpy_function`, so such a graph must run in the process that made it.

    Args:
        data: scalar string tensor or bytes, the whole file.

    Raises (when the dataset runs):
        tf.errors.InvalidArgumentError: not an image, truncated, or otherwise unreadable.

    Example:
        import tensorflow as tf
        from keras_convnext.preprocessing import tf_decode
        files = tf.data.Dataset.list_files("photos/*/*.jpg")
        images = files.map(tf.io.read_file).map(tf_decode)
        next(iter(images)).dtype.name  # "uint8"
    """
    import tensorflow as tf

    data = tf.convert_to_tensor(data, tf.string)
    head = tf.strings.substr(tf.strings.substr(data, 0, 25) + b"\0" * 25, 0, 25)
    png = tf.strings.substr(head, 0, 8) == b"\x89PNG\r\n\x1a\n"
    deep = tf.strings.substr(head, 24, 1) == b"\x10"
    image = tf.case(
        [
            (tf.strings.substr(head, 0, 3) == b"\xff\xd8\xff", lambda: _tf_jpeg(tf, data)),
            (png & ~deep, lambda: tf.io.decode_png(data, channels=3)),
        ],
        default=lambda: tf.numpy_function(_decode, [data], tf.uint8, stateful=False),
    )
    return tf.ensure_shape(image, (None, None, 3))


def _tf_jpeg(tf, data):
    # libjpeg's accurate DCT, as in Pillow: TensorFlow's default is about one level off
    return tf.io.decode_jpeg(data, channels=3, dct_method="INTEGER_ACCURATE")


def _decode(data):
    # outside a dataset TensorFlow hands over an array of one object
    return np.array(load_image(data.item() if isinstance(data, np.ndarray) else data))
