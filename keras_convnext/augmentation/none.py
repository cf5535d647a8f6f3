"""No augmentation, with the interface of the others."""

import dataclasses

from keras_convnext import checks
from keras_convnext.augmentation import crop, mixing
from keras_convnext.augmentation.resampling import changed, in_numpy, resize


@dataclasses.dataclass(frozen=True)
class NoAugmentation:
    """Images are decoded and resized to a square, and nothing is drawn.

    Args:
        image_size: height and width in pixels, >= 1; an image of that size stays as it is.
        classes: number of classes, >= 1.
        channels: of the images: 3 or 1; others only as arrays.
        label_smoothing: in [0, 1]: this share of a target is spread over all classes.

    Raises:
        ValueError: if an argument is outside its range.

    Example:
        import numpy as np
        from keras_convnext.augmentation import NoAugmentation
        plain = NoAugmentation(32, classes=10)
        plain.image(np.zeros((40, 50, 3), "uint8")).shape  # (32, 32, 3)
    """

    image_size: int
    classes: int
    _: dataclasses.KW_ONLY
    channels: int = 3
    label_smoothing: float = 0.0

    def __post_init__(self):
        for name in ("image_size", "classes", "channels"):
            checks.integer(name, getattr(self, name), 1)
        checks.number("label_smoothing", self.label_smoothing, least=0, most=1)

    def image(self, image, key=None):
        """Returns what `PaperAugmentation.image` returns; `key` is not used."""
        import tensorflow as tf

        pixels = crop.decoded(tf.convert_to_tensor(image), self.channels)
        shape = (self.image_size, self.image_size, self.channels)
        return in_numpy(self._resized, [pixels], shape)

    def _resized(self, pixels):
        return changed(lambda image: resize(image, self.image_size), pixels)

    def batch(self, images, labels, weights, key=None):
        """Returns `(images, targets, weights)` with smoothed targets, float32 (batch, classes)."""
        return images, mixing.smoothed(labels, self.classes, self.label_smoothing), weights
