"""The training recipe made of KerasCV's layers."""

import dataclasses
import functools

from keras_convnext.augmentation import crop
from keras_convnext.augmentation.mixing import ERASED_AREA
from keras_convnext.augmentation.rand_augment import MAX_LEVEL
from keras_convnext.augmentation.randomness import IMAGE, MIX, uniforms
from keras_convnext.augmentation.recipe import Recipe


@dataclasses.dataclass(frozen=True)
class KerasCV(Recipe):
    """RandomCropAndResize, RandomFlip, RandAugment, RandomCutout, CutMix and MixUp of KerasCV.

    It has the options and the interface of `PaperAugmentation` and can replace it. The layers run
    in `tf.data` on any backend, and nothing is left to do for the train step. They resemble the
    recipe's operations without being equal to them: the crop is bilinear and not antialiased,
    RandAugment knows ten operations (no rotation, posterizing, inversion or sharpness) with
    magnitudes of its own, the sides of an erased box are drawn independently, each image of a batch
    has its own lambda and a random partner. Grey images are augmented as RGB.

    Two things depend on `key` alone and are reproducible: the crop of `padding`, and whether a
    batch gets CutMix, MixUp or nothing. The layers draw everything else from generators of their
    own, one after another: it differs from run to run, and a resumed training does not see the
    batches that it would have seen. `PaperAugmentation` has neither limit.

    Raises:
        ValueError: if an argument is outside its range.
        ImportError: if KerasCV is not installed.

    Example:
        # pip install "keras-convnext[keras-cv]"
        import numpy as np
        from keras_convnext.augmentation import KerasCV
        augment = KerasCV(32, classes=10)
        image = augment.image(np.zeros((40, 50, 3), "uint8"), (0, 0, 0))  # key: seed, epoch, index
        image.shape  # (32, 32, 3)
    """

    def __post_init__(self):
        super().__post_init__()
        if self.channels not in (1, 3):
            raise ValueError(
                f"KerasCV's layers take 1 or 3 channels, received `channels`={self.channels}. "
                "`PaperAugmentation` takes any number."
            )
        # made here, because tf.data's functions may not make variables
        _ = (self._image_layers, self._eraser, self._mixers)

    def image(self, image, key):
        """Returns an image of the form that `PaperAugmentation.image` returns, made by KerasCV."""
        import tensorflow as tf

        pixels = tf.convert_to_tensor(image)
        if self.padding:
            uniform = uniforms(key, IMAGE, (2,))
            pixels = crop.padded_crop(pixels, self.image_size, self.channels, self.padding, uniform)
        else:
            pixels = crop.decoded(pixels, self.channels)
        if self.channels == 1:
            pixels = tf.repeat(pixels, 3, axis=-1)
        pixels = tf.cast(pixels, tf.float32)
        pixels = _converted(self._apply_to_image)(pixels)
        pixels = tf.cast(tf.clip_by_value(tf.round(pixels), 0, 255), tf.uint8)
        pixels = crop.luma(pixels) if self.channels == 1 else pixels
        return tf.ensure_shape(pixels, (self.image_size, self.image_size, self.channels))

    def _apply_to_image(self, pixels):
        for layer in self._image_layers:
            pixels = layer(pixels, training=True)
        return pixels

    @functools.cached_property
    def _image_layers(self):
        layers = _keras_cv().layers
        found = [layers.RandomFlip("horizontal", rate=self.flip)]
        if not self.padding:
            size = (self.image_size, self.image_size)
            found.insert(0, layers.RandomCropAndResize(size, self.crop_scale, self.crop_ratio))
        if self.policy:
            found.append(
                layers.RandAugment(
                    value_range=(0, 255),
                    augmentations_per_image=self.policy.count,
                    magnitude=self.policy.magnitude / MAX_LEVEL,
                    magnitude_stddev=self.policy.deviation / MAX_LEVEL,
                    rate=self.policy.probability,
                )
            )
        return found

    def batch(self, images, labels, weights, key):
        """Erases and mixes a batch, which `PaperAugmentation.batch` leaves to the train step.

        Returns:
            `(images, targets, weights)`: float32 (batch, image_size, image_size, channels) in
            [0, 255] (noise goes beyond it), float32 (batch, classes), mixed.
        """
        import tensorflow as tf

        batch = {"images": self._erased(images), "labels": self.targets(labels)}
        uniform = uniforms(key, MIX, (2,))
        mixers = self._mixers
        if mixers:
            cut = uniform[1] < self.switch
            mixed = tf.cond(cut, lambda: mixers[0](batch), lambda: mixers[-1](batch))
            batch = tf.cond(uniform[0] < self.mix_probability, lambda: mixed, lambda: batch)
        images = tf.ensure_shape(batch["images"], images.shape)
        return images, tf.ensure_shape(batch["labels"], (None, self.classes)), weights

    def _erased(self, images):
        """Returns the images with boxes of noise, unit normal once the model has normalised it."""
        import tensorflow as tf

        mean, std = self.pixel_moments
        return mean + std * self._eraser((tf.cast(images, tf.float32) - mean) / std, training=True)

    @functools.cached_property
    def _eraser(self):
        layers, sides = _keras_cv().layers, [area**0.5 for area in ERASED_AREA]
        cutout = layers.RandomCutout(sides, sides, fill_mode="gaussian_noise")
        return layers.RandomApply(cutout, rate=self.erase)

    @functools.cached_property
    def _mixers(self):
        """CutMix and MixUp, in this order, without the one that is switched off."""
        layers = _keras_cv().layers
        found = [layers.CutMix(alpha=self.cutmix)] if self.cutmix else []
        return [*found, layers.MixUp(alpha=self.mixup)] if self.mixup else found


def _converted(function):
    """Returns the function with AutoGraph on: KerasCV's layers branch on tensors in Python, and
    AutoGraph is off where their caller was not converted (in a lambda, for example)."""
    import tensorflow as tf

    return tf.function(function, autograph=True)


def _keras_cv():
    try:
        import keras_cv
    except ModuleNotFoundError as error:
        raise ImportError(
            f"The augmentation of KerasCV needs the package keras-cv ({error}). Install it with "
            '`pip install "keras_convnext[keras-cv]"`, or use '
            "`PaperAugmentation`, which does not need it."
        ) from error
    return keras_cv
