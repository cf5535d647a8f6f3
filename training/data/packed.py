"""Training examples of a detector as one vector of bytes each, which `batch` takes apart.

`training.data.stream` makes batches of images of one shape. A landscape and a portrait of the same
canvas turned have as many pixels, so that their vectors are equally long.
"""

import functools

import numpy as np

from keras_convnext.augmentation.resampling import in_numpy
from keras_convnext.detection.augmentation import CROP_SIDE

from .coco_objects import read


class Packed:
    """What `training.data.stream.batches` takes as a transform, of a recipe.

    Args:
        recipe: a `Recipe` of `keras_convnext.detection.augmentation`.
        masks: whether the objects have masks.
    """

    def __init__(self, recipe, masks=True):
        self.recipe = recipe
        self.height, self.width = map(int, recipe.canvas)
        objects = recipe.objects
        self.parts = {
            "image": self.height * self.width * 3,
            "image_shape": 2 * 4,
            "boxes": objects * 4 * 4,
            "labels": objects * 4,
        }
        if masks:
            self.parts["mask_crops"] = objects * CROP_SIDE**2

    def image(self, pair, key):
        """Returns a uint8 vector, in TensorFlow's graph.

        Args:
            pair: string tensor (2,): the content of the image, and the text of its objects.
            key: seed, epoch and index of the image; the result is a pure function of it.
        """
        seed, epoch, index = key
        function = functools.partial(self._packed, seed, epoch)
        return in_numpy(function, [pair, index], (sum(self.parts.values()),))

    def _packed(self, seed, epoch, pair, index):
        found = self.recipe(*read(*pair), (seed, epoch, int(index)))
        return np.concatenate([found[name].reshape(-1).view("uint8") for name in self.parts])

    def batch(self, packed, labels, weights, key=None):
        """Returns a dict of tensors, what a `DetectionModel` trains on.

        All images are landscapes or all are portraits. An image of weight 0, which could not be
        used, is replaced by the first of the batch that can be.

        Args:
            packed: uint8 (batch, length), of `image`.
            labels: ignored.
            weights: float32 (batch,).
            key: ignored.

        Returns:
            `images` uint8 (batch, height, width, 3), `image_shape` float32 (batch, 2), `boxes`
            float32 (batch, objects, 4), `labels` int32 (batch, objects), -1 where a row is none,
            and, where there are masks, `mask_crops` uint8 (batch, objects, 112, 112).
        """
        import tensorflow as tf

        usable = weights > 0
        places = tf.range(tf.size(weights))
        first = tf.argmax(tf.cast(usable, tf.int32), output_type=tf.int32)
        packed = tf.gather(packed, tf.where(usable, places, first))
        parts = tf.split(packed, list(self.parts.values()), axis=1)
        parts = dict(zip(self.parts, parts, strict=True))
        rows = self.recipe.objects
        found = {
            "image_shape": _values(tf, parts["image_shape"], (2,), tf.float32),
            "boxes": _values(tf, parts["boxes"], (rows, 4), tf.float32),
            "labels": _values(tf, parts["labels"], (rows,), tf.int32),
        }
        found = self._without_objects_if(tf, ~tf.reduce_any(usable), found)
        if "mask_crops" in parts:
            found["mask_crops"] = tf.reshape(parts["mask_crops"], (-1, rows, CROP_SIDE, CROP_SIDE))
        return {"images": self._images(tf, parts["image"], found["image_shape"]), **found}

    def _without_objects_if(self, tf, nothing, found):
        """Returns the parts of a batch of which no image can be used, and which is grey."""
        empty = {
            "image_shape": tf.constant([self.height, self.width], tf.float32),
            "boxes": tf.zeros((), tf.float32),
            "labels": tf.constant(-1, tf.int32),
        }
        return {name: tf.where(nothing, empty[name], found[name]) for name in found}

    def _images(self, tf, pixels, shapes):
        if self.height == self.width:
            return tf.reshape(pixels, (-1, self.height, self.width, 3))
        is_portrait = shapes[0, 0] > shapes[0, 1]
        height, width = (
            tf.where(is_portrait, turned, side)
            for side, turned in ((self.height, self.width), (self.width, self.height))
        )
        images = tf.reshape(pixels, tf.stack([tf.shape(pixels)[0], height, width, 3]))
        return tf.ensure_shape(images, (pixels.shape[0], None, None, 3))


def _values(tf, part, shape, dtype):
    return tf.bitcast(tf.reshape(part, (-1, *shape, 4)), dtype)
