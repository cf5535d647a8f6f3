"""Training pairs of an image and its mask: resized, cropped, mirrored, distorted in colour.

The transforms are pure functions of a key, computed by Pillow in tf.data's threads. A pair is a
string tensor (2,), the contents of both files; the result is one uint8 tensor of four channels, RGB
and the label, which `batch` separates.

Source: the configurations published with arXiv 2201.03545 (Appendix A.3).
"""

import dataclasses

import numpy as np
from PIL import Image

from keras_convnext import checks
from keras_convnext.augmentation.randomness import IMAGE, uniforms
from keras_convnext.augmentation.resampling import in_numpy
from keras_convnext.images import ImageError, about_exif, load_image
from keras_convnext.segmentation.losses import IGNORED
from keras_convnext.segmentation.masks import LabelMap, read_mask
from keras_convnext.sizes import fitting, scaled

ATTEMPTS = 10
DRAWS = 1 + 2 * ATTEMPTS + 10
# The distortion, each part with probability 1/2: number added to values, factors of contrast and of
# saturation, half degrees added to hues.
BRIGHTNESS, CONTRAST, SATURATION, HUE = 32, (0.5, 1.5), (0.5, 1.5), 18
HALF_CIRCLE, PILLOWS_CIRCLE = 180, 256


@dataclasses.dataclass(frozen=True)
class CropAndDistort:
    """The augmentation of the paper's segmentation.

    Args:
        crop: side of the result in pixels, >= 1.
        labels: a `LabelMap`.
        size: `(long, short)`: an image is resized, keeping its ratio, so that neither side is
            longer than these; `None`: it keeps its size.
        scale: the factor on that size is uniform between these two numbers > 0.
        category_limit: a crop is drawn again, up to ten times, if one class has at least this
            share of it, in (0, 1]; 1 accepts every crop.
        flip: probability of a mirror image.
        distort: whether brightness, contrast, saturation and hue are changed at random.
        mean: colour in [0, 1] of the part of a crop beyond the image; the label there is 255.

    Raises:
        ValueError: if an argument is out of its range.
    """

    crop: int
    labels: LabelMap
    _: dataclasses.KW_ONLY
    size: tuple | None = None
    scale: tuple = (0.5, 2.0)
    category_limit: float = 0.75
    flip: float = 0.5
    distort: bool = True
    mean: tuple = (0.485, 0.456, 0.406)

    def __post_init__(self):
        checks.integer("crop", self.crop, 1)
        checks.interval("scale", self.scale)
        checks.number("category_limit", self.category_limit, least=0, most=1)
        checks.number("flip", self.flip, least=0, most=1)
        checks.moments("mean", self.mean, 0)

    def image(self, pair, key):
        """Returns one training pair, in TensorFlow's graph.

        Args:
            pair: string tensor (2,): the contents of the image and of the mask.
            key: seed, epoch and index of the image; the result is a pure function of it.

        Returns:
            uint8 tensor (crop, crop, 4): RGB, and the label in the last channel.
        """
        draws = uniforms(key, IMAGE, (DRAWS,))
        return in_numpy(self._made, [pair, draws], (self.crop, self.crop, 4))

    def batch(self, images, labels, weights, key=None):
        """Returns `(images, labels)` of uint8 (batch, crop, crop, 4). Labels of images with weight
        0 are 255."""
        return separated(images, weights)

    def _made(self, pair, draws):
        image, labels = read_pair(*pair, self.labels)
        low, high = self.scale
        factor = fitting(image.size, self.size) * (low + (high - low) * draws[0])
        size = scaled(image.size, factor)
        corners = draws[1 : 1 + 2 * ATTEMPTS].reshape(ATTEMPTS, 2)
        labels, box = self._chosen_crop(labels, size, corners)
        image = resampled(image, size, box, Image.Resampling.BILINEAR)
        draws = draws[1 + 2 * ATTEMPTS :]
        if draws[0] < self.flip:
            image, labels = (p.transpose(Image.Transpose.FLIP_LEFT_RIGHT) for p in (image, labels))
        if self.distort:
            image = distorted(image, draws[1:])
        return joined(image, labels, (self.crop, self.crop), self.mean)

    def _chosen_crop(self, labels, size, corners):
        """Returns the labels of the first crop that is varied enough, else of the last; its box."""
        side = [min(self.crop, length) for length in size]
        for corner in corners:
            spare = [length - part + 1 for length, part in zip(size, side, strict=True)]
            left, top = (int(draw * room) for draw, room in zip(corner, spare, strict=True))
            box = (left, top, *side)
            cropped = resampled(labels, size, box, Image.Resampling.NEAREST)
            if self.category_limit == 1 or _is_varied(cropped, self.category_limit):
                break
        return cropped, box


def _is_varied(labels, limit):
    counts = np.bincount(np.asarray(labels).ravel(), minlength=256)[:IGNORED]
    return np.count_nonzero(counts) > 1 and counts.max() < limit * counts.sum()


@dataclasses.dataclass(frozen=True)
class Fit:
    """Images in one frame, at the size of the training, for a quick validation without randomness.

    Args:
        height, width: of the frame in pixels. It shows the centre of a larger image; the rest of
            the frame around a smaller one has the mean colour and is ignored.
        labels: a `LabelMap`.
        size: as in `CropAndDistort`.
        mean: that colour, in [0, 1].
    """

    height: int
    width: int
    labels: LabelMap
    _: dataclasses.KW_ONLY
    size: tuple | None = None
    mean: tuple = (0.485, 0.456, 0.406)

    def image(self, pair, key=None):
        """Returns a uint8 tensor (height, width, 4); `key` is ignored."""
        return in_numpy(self._made, [pair], (self.height, self.width, 4))

    def batch(self, images, labels, weights, key=None):
        """Returns `(images, labels)`, as `CropAndDistort.batch`."""
        return separated(images, weights)

    def _made(self, pair):
        image, labels = read_pair(*pair, self.labels)
        size = scaled(image.size, fitting(image.size, self.size))
        frame = (self.width, self.height)
        side = [min(pair) for pair in zip(size, frame, strict=True)]
        corner = [(length - part) // 2 for length, part in zip(size, side, strict=True)]
        box = (*corner, *side)
        image = resampled(image, size, box, Image.Resampling.BILINEAR)
        labels = resampled(labels, size, box, Image.Resampling.NEAREST)
        return joined(image, labels, frame, self.mean)


# ---------------------------------------------------------------------------- the steps


def read_pair(image, mask, labels):
    """Returns `(image, labels)`, Pillow images of modes "RGB" and "L", of the contents of two
    files.

    Raises:
        ImageError: if one of them cannot be read, they differ in size, or the mask has a value
            that is no class.
    """
    content = bytes(image)
    image = load_image(content)
    try:
        values = Image.fromarray(labels(read_mask(bytes(mask), labels.in_colour)))
    except ValueError as error:
        raise ImageError(str(error)) from error
    if values.size != image.size:
        raise ImageError(
            f"The mask has {values.width} x {values.height} pixels, its image {image.width} x "
            f"{image.height}: they must be equal{about_exif(content, values.size)}."
        )
    return image, values


def resampled(image, size, box, filter):
    """Returns a part of a resized image; only this part is computed. Half-pixel centres, no
    antialiasing.

    Args:
        image: Pillow image.
        size: `(width, height)` of the whole after resizing.
        box: `(left, top, width, height)` of the part.
        filter: of Pillow.
    """
    left, top, width, height = box
    across, down = (old / new for old, new in zip(image.size, size, strict=True))
    steps = (across, 0, left * across, 0, down, top * down)
    return image.transform((width, height), Image.Transform.AFFINE, steps, filter)


def joined(image, labels, size, mean):
    """Returns uint8 (height, width, 4): both at the top left of a frame of `size`, (width,
    height)."""
    width, height = size
    frame = np.empty((height, width, 4), "uint8")
    frame[:] = [*(round(255 * value) for value in mean), IGNORED]
    frame[: image.height, : image.width, :3] = np.asarray(image)
    frame[: image.height, : image.width, 3] = np.asarray(labels)
    return frame


def separated(images, weights):
    """Returns `(images, labels)`, uint8 (batch, h, w, 3) and (batch, h, w); labels of images with
    weight 0 are 255."""
    import tensorflow as tf

    labels = tf.where(weights[:, None, None] > 0, images[..., 3], tf.constant(IGNORED, tf.uint8))
    return images[..., :3], labels


def distorted(image, draws):
    """Returns the image with another brightness, contrast, saturation and hue, each with
    probability 1/2, contrast before or after the colours.

    Args:
        image: Pillow image of mode "RGB".
        draws: nine uniform numbers in [0, 1).
    """
    if draws[0] < 0.5:
        image = _pointwise(image, 1, (2 * draws[1] - 1) * BRIGHTNESS)
    contrast = _between(CONTRAST, draws[3]) if draws[2] < 0.5 else 1
    is_first = draws[4] < 0.5
    image = _pointwise(image, contrast if is_first else 1, 0)
    image = _recoloured(image, *draws[5:9])
    return _pointwise(image, 1 if is_first else contrast, 0)


def _between(limits, draw):
    low, high = limits
    return low + (high - low) * draw


def _pointwise(image, factor, added):
    if (factor, added) == (1, 0):
        return image
    return image.point(_table(factor, added) * len(image.getbands()))


def _table(factor, added):
    return np.clip(np.arange(256) * factor + added, 0, 255).astype(int).tolist()


def _recoloured(image, saturated, saturation, turned, hue):
    if min(saturated, turned) >= 0.5:
        return image
    hues, saturations, values = image.convert("HSV").split()
    if saturated < 0.5:
        saturations = saturations.point(_table(_between(SATURATION, saturation), 0))
    if turned < 0.5:
        steps = int(hue * 2 * HUE) - HUE  # whole steps of two degrees
        shift = round(steps * PILLOWS_CIRCLE / HALF_CIRCLE)
        hues = hues.point([(value + shift) % PILLOWS_CIRCLE for value in range(PILLOWS_CIRCLE)])
    return Image.merge("HSV", (hues, saturations, values)).convert("RGB")
