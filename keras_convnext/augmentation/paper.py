"""The augmentations of the paper's training recipe, as its authors' code applies them."""

import dataclasses

from PIL import Image

from keras_convnext.augmentation import crop, mixing
from keras_convnext.augmentation.randomness import ERASE, IMAGE, uniforms
from keras_convnext.augmentation.recipe import Recipe
from keras_convnext.augmentation.resampling import changed, in_numpy, resize


@dataclasses.dataclass(frozen=True)
class PaperAugmentation(Recipe):
    """Crop, flip, RandAugment, erasing, mixup or CutMix, and smoothing; the options are `Recipe`'s.

    `image` and `batch` are functions for `tf.data`, on any backend. Everything random is a function
    of their `key` alone: any number of threads, and a start anywhere, give the same batches.

        augment = PaperAugmentation(224, 1000)
        images = images.map(lambda image, index: augment.image(image, (seed, epoch, index)))
        batches = batches.map(lambda x, y, w, step: augment.batch(x, y, w, (seed, epoch, step)))
        model = augmented(model)  # erases and mixes inside the train step
        model.compile(optimizer, keras.losses.CategoricalCrossentropy())
        model.fit(batches)

    Resizing and RandAugment are Pillow's own, called from tf.data's threads (`tf.numpy_function`):
    the dataset must be read in the process that made it, and cannot be exported as a graph.

    The device is sent uint8 images. Erasing, which writes unit normal noise into the normalised
    image, and mixing are done there, by `augmented`.

    Example:
        import numpy as np, tensorflow as tf
        from keras_convnext.augmentation import PaperAugmentation
        augment = PaperAugmentation(32, classes=10)
        images = tf.data.Dataset.from_tensor_slices(np.zeros((8, 40, 50, 3), "uint8"))
        images = images.enumerate().map(lambda index, x: augment.image(x, (0, 0, index)))
        labels = tf.zeros(4, tf.int32)
        batches = images.batch(4).map(lambda x: augment.batch(x, labels, None, (0, 0, 0)))
        inputs, targets, weights = next(iter(batches))
        targets.shape  # (4, 10)
    """

    def image(self, image, key):
        """Crops, flips and changes one image by RandAugment.

        Args:
            image: scalar string tensor, the content of a JPEG, PNG, WebP, BMP or GIF file; or a
                tensor (h, w, channels), uint8 or float in [0, 255].
            key: int64 (3,): seed, epoch, and the image's index in the dataset.

        Returns:
            uint8 tensor (image_size, image_size, channels).

        Raises:
            ValueError: if `image` has another shape or dtype.
            tf.errors.InvalidArgumentError: (when the dataset runs) if the file cannot be decoded.
                Of a damaged JPEG only the rows down to the end of the crop are read, so that it
                may pass.
        """
        import tensorflow as tf

        rest = 1 + (self.policy.draws if self.policy else 0)
        uniform = uniforms(key, IMAGE, (crop.DRAWS + rest,))
        pixels = self._cropped(tf.convert_to_tensor(image), uniform[: crop.DRAWS])
        shape = (self.image_size, self.image_size, self.channels)
        return in_numpy(self._changed, [pixels, uniform[crop.DRAWS :]], shape)

    def _cropped(self, image, uniform):
        if self.padding:
            return crop.padded_crop(
                image, self.image_size, self.channels, self.padding, uniform[:2]
            )
        return crop.random_crop(image, self.channels, self.crop_scale, self.crop_ratio, uniform)

    def _changed(self, pixels, uniform):
        """Returns the crop at the right size, mirrored and changed as `uniform` draws it."""
        fill = tuple(min(255, round(value)) for value in self.pixel_moments[0])

        def change(image):
            image = resize(image, self.image_size)
            if uniform[0] < self.flip:
                image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
            return self.policy(image, uniform[1:], fill) if self.policy else image

        return changed(change, pixels)

    def batch(self, images, labels, weights, key):
        """Draws the erasing and mixing of a batch, for `augmented` to carry out.

        Args:
            images: uint8 tensor (batch, image_size, image_size, channels), of `image`.
            labels: int64 tensor (batch,).
            weights: float tensor (batch,) of sample weights, or `None`. They stay as they are: the
                weight of an image counts for what it becomes.
            key: int64 (3,): seed, epoch, and the step within the epoch.

        Returns:
            `(inputs, targets, weights)` for `fit` of an `augmented` model: `inputs` as in
            `mix_and_erase`, `targets` float32 (batch, classes), smoothed and not yet mixed.
        """
        import tensorflow as tf

        count = tf.shape(images)[0]
        uniform = uniforms(key, ERASE, (count, mixing.ERASE_DRAWS + 2))
        mix = mixing.Mixing(self.mixup, self.cutmix, self.mix_probability, self.switch)
        blend, cut = mix.draw(self.image_size, key)
        mean, std = self.pixel_moments
        inputs = {
            "image": images,
            "erase": mixing.erase_boxes(self.erase, self.image_size, uniform[:, :-2]),
            "noise_key": mixing.noise_keys(uniform[:, -2:]),
            "noise_mean": _rows(count, mean),
            "noise_std": _rows(count, std),
            "cut": _rows(count, cut),
            "blend": _rows(count, blend),
        }
        return inputs, self.targets(labels), weights


def _rows(count, values):
    """Repeats `values` for every image, so that they are divided as the images are."""
    import tensorflow as tf

    return tf.tile(tf.convert_to_tensor(values)[tf.newaxis], [count, 1])
