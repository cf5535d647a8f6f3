"""The random numbers of a batch: boxes to erase, how images are mixed, keys of the noise."""

import dataclasses
import math

from keras_convnext.augmentation.randomness import (
    MIX,
    SHARE,
    integers_below,
    stateless_seed,
    uniforms,
)

ATTEMPTS = 10
ERASED_AREA, ERASED_ASPECT = (0.02, 1 / 3), (0.3, 1 / 0.3)


def erase_boxes(probability, size, uniform):
    """Returns boxes of random erasing: one per image with `probability`, else an empty one.

    Source: arXiv 1708.04896: area 0.02 to 1/3 of the image, uniform; height divided by width 0.3
    to 10/3, uniform in the logarithm; the first of ten attempts that is smaller than the image.

    Args:
        probability: of a box, in [0, 1].
        size: height and width of the images in pixels.
        uniform: float64 tensor (batch, ERASE_DRAWS) of uniforms in [0, 1).

    Returns:
        int32 tensor (batch, 4): top, left, bottom, right; bottom and right are outside.
    """
    import tensorflow as tf

    (low, high), logs = ERASED_AREA, [math.log(aspect) for aspect in ERASED_ASPECT]
    area = size**2 * (low + (high - low) * uniform[:, :ATTEMPTS])
    aspect = tf.exp(logs[0] + (logs[1] - logs[0]) * uniform[:, ATTEMPTS : 2 * ATTEMPTS])
    sides = tf.stack([tf.sqrt(area * aspect), tf.sqrt(area / aspect)], axis=-1)
    sides = tf.cast(tf.round(sides), tf.int32)
    fits = tf.reduce_all(sides < size, axis=-1)
    sides = tf.gather(sides, tf.argmax(fits, axis=1), batch_dims=1)
    corner = integers_below(uniform[:, -3:-1], size - sides + 1)
    drawn = (uniform[:, -1] < probability) & tf.reduce_any(fits, axis=1)
    return tf.concat([corner, corner + sides], axis=1) * tf.cast(drawn[:, tf.newaxis], tf.int32)


ERASE_DRAWS = 2 * ATTEMPTS + 3


@dataclasses.dataclass(frozen=True)
class Mixing:
    """One of mixup and CutMix for a whole batch, with one lambda.

    Source: arXiv 1710.09412 (mixup), 1905.04899 (CutMix).

    Attributes:
        mixup, cutmix: the parameter of each Beta distribution; 0 switches it off.
        probability: probability that a batch is mixed, in [0, 1].
        switch: probability of CutMix where both are on, in [0, 1].
    """

    mixup: float
    cutmix: float
    probability: float
    switch: float

    def draw(self, size, key):
        """Draws the parameters of a batch of `size` x `size` images.

        Returns:
            `(blend, box)`: float32 tensor (2,), the share of an image's own pixels outside the
            box, and the share of its own target; int32 tensor (4,), top, left, bottom and right of
            the box that the partner's pixels replace.
        """
        import tensorflow as tf

        uniform = uniforms(key, MIX, (4,))
        mixed = uniform[0] < self.probability
        cut = self._is_cut(uniform[1])
        share = tf.where(cut, self._beta(self.cutmix, key), self._beta(self.mixup, key))
        box = _cut_box(share, size, uniform[2:]) * tf.cast(mixed & cut, tf.int32)
        area = tf.cast((box[2] - box[0]) * (box[3] - box[1]), tf.float64)
        pixels = tf.where(mixed & ~cut, share, 1.0)
        target = tf.where(cut, 1 - area / size**2, pixels)
        return tf.cast(tf.stack([pixels, target]), tf.float32), box

    def _is_cut(self, uniform):
        if self.mixup and self.cutmix:
            return uniform < self.switch
        import tensorflow as tf

        return tf.constant(bool(self.cutmix))

    def _beta(self, alpha, key):
        import tensorflow as tf

        if not alpha:
            return tf.ones((), tf.float64)
        seed = stateless_seed(key, SHARE)
        gamma = tf.random.stateless_gamma((2,), seed, alpha, dtype=tf.float64)
        # for a tiny alpha both may underflow to zero
        return tf.math.divide_no_nan(gamma[0], gamma[0] + gamma[1])


def _cut_box(share, size, uniform):
    """Returns a box around a random centre, of the area `1 - share` before the borders clip it.

    Its sides are even, as in the published code: the same half on both sides of the centre.
    """
    import tensorflow as tf

    half = tf.cast(size * tf.sqrt(1 - share), tf.int32) // 2
    centre = integers_below(uniform, size)
    return tf.clip_by_value(tf.concat([centre - half, centre + half], 0), 0, size)


def smoothed(labels, classes, smoothing):
    """Returns float32 (batch, classes) of int labels (batch,): `s / classes`, and `1 - s` more for
    the label's class."""
    import tensorflow as tf

    off = smoothing / classes
    return tf.one_hot(labels, classes, on_value=1 - smoothing + off, off_value=off)


def noise_keys(uniform):
    """Returns int32 keys (batch, 2) made of float64 uniforms (batch, 2)."""
    import tensorflow as tf

    return tf.cast(tf.floor(uniform * 2.0**31), tf.int32)
