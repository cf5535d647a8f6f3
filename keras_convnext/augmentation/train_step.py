"""The part of the augmentation that runs where the model does: erasing and mixing.

tf.data hands over uint8 images and a few numbers per image; the work on float32 batches is done
here, in `keras.ops`, inside the compiled train step.
"""

import keras
from keras import ops

from keras_convnext.features import PyramidModel, functional

FIELDS = ("image", "erase", "noise_key", "noise_mean", "noise_std", "cut", "blend")


def mix_and_erase(inputs, targets):
    """Erases a box of each image with noise, then mixes each image with its reverse in the batch.

    Args:
        inputs: dict of tensors, made by `PaperAugmentation.batch`:
            image: uint8 (batch, height, width, channels);
            erase: int32 (batch, 4), top, left, bottom, right of the box that becomes noise;
            noise_key: int32 (batch, 2), what the noise is a function of;
            noise_mean, noise_std: float32 (batch, channels), of the noise, in [0, 255];
            cut: int32 (batch, 4), the box that the partner's pixels replace;
            blend: float32 (batch, 2), the share of the image's own pixels elsewhere, and of its
                own target.
        targets: float32 (batch, classes).

    Returns:
        `(images, targets)`: float32 (batch, height, width, channels) in the range [0, 255] (noise
        goes beyond it), float32 (batch, classes).

    Example:
        import keras, numpy as np
        from keras_convnext.augmentation import PaperAugmentation, mix_and_erase
        augment = PaperAugmentation(32, classes=10)
        images = np.zeros((4, 32, 32, 3), "uint8")
        inputs, targets, _ = augment.batch(images, np.arange(4), None, (0, 0, 0))
        inputs = {k: keras.ops.convert_to_tensor(np.array(v)) for k, v in inputs.items()}
        mixed, shares = mix_and_erase(inputs, np.array(targets))
        mixed.shape  # (4, 32, 32, 3)
    """
    images = _erase(ops.cast(inputs["image"], "float32"), inputs)
    partners = ops.flip(images, axis=0)
    share, target_share = ops.split(ops.cast(inputs["blend"], "float32"), 2, axis=1)
    share = share[:, :, None, None]
    blended = partners + share * (images - partners)
    mixed = ops.where(_inside(inputs["cut"], images), partners, blended)
    targets = ops.cast(targets, "float32")
    return mixed, target_share * targets + (1 - target_share) * ops.flip(targets, axis=0)


def _erase(images, inputs):
    # the model normalises: mean and std here are unit normal noise there
    mean, std = (inputs[name][:, None, None, :] for name in ("noise_mean", "noise_std"))
    noise = mean + std * normal_noise(inputs["noise_key"], ops.shape(images)[1:])
    return ops.where(_inside(inputs["erase"], images), noise, images)


def _inside(boxes, images):
    """Returns bool (batch, height, width, 1): the pixels inside int32 boxes (batch, 4)."""
    _, height, width, _ = ops.shape(images)
    top, left, bottom, right = (ops.reshape(boxes[:, i], (-1, 1, 1, 1)) for i in range(4))
    rows = ops.reshape(ops.arange(height, dtype="int32"), (1, -1, 1, 1))
    columns = ops.reshape(ops.arange(width, dtype="int32"), (1, 1, -1, 1))
    vertical = ops.logical_and(rows >= top, rows < bottom)
    return ops.logical_and(vertical, ops.logical_and(columns >= left, columns < right))


def normal_noise(key, shape):
    """Returns standard normal numbers, a function of one key per image, on every backend the same.

    A counter is hashed with the key, in the arithmetic of 32 bits that wraps around, so that the
    noise of an image depends neither on its place in the batch nor on how a batch is divided.

    Args:
        key: int32 tensor (batch, 2).
        shape: `(height, width, channels)`.

    Returns:
        float32 tensor (batch, height, width, channels).
    """
    height, width, channels = shape
    counter = ops.reshape(ops.arange(height * width * channels, dtype="int32"), (1, *shape))
    first, second = (ops.reshape(ops.cast(key[:, i], "int32"), (-1, 1, 1, 1)) for i in range(2))
    bits = _mix(_mix(counter + first, 16, 0x7FEB352D) + second, 15, -0x7B935975)
    # 23 bits, so that neither end is reached: erfinv(+-1) is infinite
    uniform = ops.cast(_shift(bits, 9), "float32") * 2.0**-22 - (1 - 2.0**-23)
    return 2.0**0.5 * ops.erfinv(uniform)


def _mix(x, shift, factor):
    return ops.bitwise_xor(x, _shift(x, shift)) * ops.convert_to_tensor(factor, "int32")


def _shift(x, count):
    """Returns x shifted to the right and filled with zeros; int32's own shift repeats the sign."""
    return ops.bitwise_and(ops.right_shift(x, count), (1 << (32 - count)) - 1)


def _is_augmented(inputs):
    return isinstance(inputs, dict) and set(FIELDS) <= set(inputs)


@functional
class DeviceAugmented(PyramidModel):
    """A functional model whose `fit()` erases and mixes what `PaperAugmentation.batch` has drawn.

    Everything but training is as in the model that it was made of: `evaluate`, `predict` and calls
    take plain images, or the unchanged images of an augmented batch.
    """

    def __call__(self, inputs, *args, **kwargs):
        inputs = inputs["image"] if _is_augmented(inputs) else inputs
        return super().__call__(inputs, *args, **kwargs)

    def train_step(self, *arguments):
        *state, data = arguments  # on JAX the state of all variables comes first
        inputs, targets, weights = keras.utils.unpack_x_y_sample_weight(data)
        if _is_augmented(inputs):
            inputs, targets = mix_and_erase(inputs, targets)
        return super().train_step(*state, (inputs, targets, weights))


def augmented(model):
    """Returns a model of the same layers that trains on the batches of `PaperAugmentation`.

    Args:
        model: functional `keras.Model` with one input of images in the range [0, 255] (ours are:
            `include_preprocessing=True`) and targets (batch, classes).

    Both share their weights: train the returned one, save either.

    Example:
        from keras_convnext import ConvNeXtAtto
        from keras_convnext.augmentation import augmented
        model = ConvNeXtAtto(weights=None, input_shape=(32, 32, 3), classes=10)
        trained = augmented(model)  # for `fit` on batches of `PaperAugmentation`
        trained.compile("adamw", "categorical_crossentropy")
        trained.output_shape  # (None, 10)
    """
    return DeviceAugmented(model.inputs[0], model.outputs[0], name=model.name)
