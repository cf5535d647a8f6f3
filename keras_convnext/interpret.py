"""What a model looks at: class activation maps, effective receptive fields, depthwise kernels.

    from keras_convnext import interpret, pictures

    maps = interpret.grad_cam(model, images)                 # (n, height', width'), in [0, 1]
    pictures.save_png(pictures.overlay(images[0], maps[0]), "grad_cam.png")

Layers are taken by name, `stage2_block8` for example; a block's output is looked at. All of it runs
on the three backends and leaves the model as it is.
"""

import re
import warnings

import keras
import numpy as np
from keras import ops

from keras_convnext import pictures

BLOCK = re.compile(r"stage\d+_block\d+")
MOVED = ("overlay", "colours", "field_picture", "kernel_sheet", "side_by_side", "save_png")


def __getattr__(name):
    """Returns a function that moved to `keras_convnext.pictures`, with a DeprecationWarning."""
    if name not in MOVED:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    warnings.warn(
        f"`interpret.{name}` is now `keras_convnext.pictures.{name}`; the old name goes with the "
        "next release.",
        DeprecationWarning,
        stacklevel=2,
    )
    return getattr(pictures, name)


# ---------------------------------------------------------------- class activation maps


def grad_cam(model, images, layer=None, classes=None):
    """Where in an image a layer speaks for a class.

    The layer's feature maps are added up, each weighted with the mean over the map of the
    gradient of the class's logit; what is negative becomes 0. Source: arXiv 1610.02391, section 3.

    Args:
        model: a functional classifier, with one input and one output `(batch, classes)`.
        images: as the model takes them: `(n, height, width, channels)`, uint8 or float.
        layer: name of a layer with an output `(batch, height', width', channels)` that no shortcut
            bypasses, such as a block; `None`: the last block.
        classes: whose evidence: an int for all images, or one per image; `None`: for each image
            the class with the highest logit.

    Returns:
        float32 `(n, height', width')` in [0, 1]: each map divided by its largest value; all 0 where
        nothing speaks for the class.

    Raises:
        ValueError: if there is no such layer, its output is no feature map or is bypassed, or there
            is no such class.
    """
    images = _batch(images)
    inner = layer_of(model, layer)
    last, logits_of = _before_activation(model)
    rest = _rest(model, inner, last)
    features = ops.convert_to_numpy(_wide(keras.Model(model.input, inner.output)(images)))
    chosen = _classes(ops.convert_to_numpy(logits_of(rest(features))), classes)
    one_hot = np.eye(model.output_shape[-1], dtype="float32")[chosen]
    gradient = _gradient(lambda x: ops.sum(ops.multiply(logits_of(rest(x)), one_hot)), features)
    weights = gradient.mean((1, 2), keepdims=True)
    return _normalised((weights * features).sum(-1))


def eigen_cam(model, images, layer=None):
    """What stands out in a layer, whichever the class: its features along their main direction.

    For each image the features of all pixels, without their mean, are projected on their first
    principal component, with the sign by which the strongest pixels are positive; what is negative
    becomes 0. Needs no gradient. Source: arXiv 2008.00299.

    Args:
        model: a functional model with one input.
        images: as in `grad_cam`.
        layer: as in `grad_cam`, or a layer within a block.

    Returns:
        float32 `(n, height', width')` in [0, 1], as `grad_cam`.

    Raises:
        ValueError: if there is no such layer, or its output is no feature map.
    """
    inner = layer_of(model, layer)
    features = keras.Model(model.input, inner.output)(_batch(images))
    features = ops.convert_to_numpy(_wide(features)).astype("float64")
    return _normalised(np.stack([_main_direction(one) for one in features]))


def _main_direction(features):
    """`(height, width, channels)` -> `(height, width)`"""
    pixels = features.reshape(-1, features.shape[-1])
    pixels = pixels - pixels.mean(0)
    direction = np.linalg.svd(pixels, full_matrices=False)[2][0]
    projected = (pixels @ direction).reshape(features.shape[:2])
    return projected * np.sign(projected.flat[np.abs(projected).argmax()])


def _normalised(maps):
    maps = np.maximum(maps, 0)
    largest = maps.max((1, 2), keepdims=True)
    return (maps / np.where(largest > 0, largest, 1)).astype("float32")


def _classes(logits, classes):
    """-> the class of each image"""
    if classes is None:
        return logits.argmax(-1)
    chosen, count = np.asarray(classes), logits.shape[-1]
    if chosen.ndim == 0:
        chosen = np.full(len(logits), classes)
    if chosen.shape != (len(logits),) or chosen.dtype.kind not in "iu":
        raise ValueError(
            f"`classes` must be an int or one int per image, received {classes!r} for "
            f"{len(logits)} images."
        )
    if chosen.min() < 0 or chosen.max() >= count:
        raise ValueError(f"`classes` must be from 0 to {count - 1}, received {classes!r}.")
    return chosen


# ---------------------------------------------------------------- receptive field and kernels


def effective_receptive_field(model, images, layer=None):
    """Which pixels of the input matter to the pixel in the middle of a layer's output.

    The absolute gradient of the sum of all channels in the middle with respect to the input, added
    up over colours and images. Source: arXiv 1701.04128, section 4.1, which sets the gradient in
    the middle to 1 as well and averages over images.

    Args:
        model: a functional model with one input.
        images: as in `grad_cam`; some tens, as the field of one image is noisy.
        layer: as in `eigen_cam`.

    Returns:
        float32 `(height, width)`, of the size of the images, in [0, 1]: divided by its largest
        value.

    Raises:
        ValueError: as `eigen_cam`.
    """
    images = _batch(images).astype("float32")
    front = keras.Model(model.input, layer_of(model, layer).output)

    def middle(x):
        features = _wide(front(x))
        _, height, width, _ = features.shape
        return ops.sum(features[:, height // 2, width // 2])

    colours = 1 if keras.config.image_data_format() == "channels_first" else -1
    field = np.abs(_gradient(middle, images)).sum(colours).sum(0)
    return _normalised(field[None])[0]


def depthwise_kernels(model, layer=None):
    """The kernels of a block's depthwise convolution.

    Args:
        model: with the block.
        layer: name of a block or of a depthwise convolution; `None`: the last of them.

    Returns:
        float32 `(channels, side, side)`.

    Raises:
        ValueError: if there is no such layer, or it has no depthwise convolution.
    """
    found = {one.name: getattr(one, "dwconv", one) for one in model.layers}
    found = {k: v for k, v in found.items() if isinstance(v, keras.layers.DepthwiseConv2D)}
    name = next(reversed(found), None) if layer is None else layer
    if name not in found:
        raise ValueError(
            f"{model.name} has no depthwise convolution, or block with one, of the name {name!r}. "
            f"It has {', '.join(found) or 'none such'}."
        )
    kernel = ops.convert_to_numpy(_wide(found[name].kernel))
    return kernel.reshape(*kernel.shape[:2], -1).transpose(2, 0, 1)


# ---------------------------------------------------------------- inside of a model


def _batch(images):
    images = np.asarray(images)
    if images.ndim != 4:
        raise ValueError(
            f"`images` must have 4 axes, (n, height, width, channels), received {images.shape}. "
            "One image is `image[None]`."
        )
    return images


def _wide(tensor):
    return ops.cast(tensor, "float32")


def layer_of(model, name):
    """-> the layer that a method looks at: that of the name, or the last block for `None`.

    Raises:
        ValueError: if there is none of that name with an output `(batch, height, width, channels)`.
    """
    maps = [layer for layer in model.layers if _is_map(layer)]
    blocks = [layer for layer in maps if BLOCK.fullmatch(layer.name)] or maps
    if name is None and blocks:
        return blocks[-1]
    found = [layer for layer in maps if layer.name == name]
    if not found:
        raise ValueError(
            f"{model.name} has no layer {name!r} with an output (batch, height, width, channels). "
            f"It has {', '.join(layer.name for layer in maps) or 'none such'}."
        )
    return found[0]


def _is_map(layer):
    is_input = isinstance(layer, keras.layers.InputLayer)
    return not is_input and len(getattr(layer.output, "shape", ())) == 4


def _rest(model, inner, last):
    """-> the model from a layer's output to the tensor `last`.

    Raises:
        ValueError: if not all of `last` comes from there.
    """
    found = _between(inner, last)
    if found is None:
        raise ValueError(
            f"{inner.name} is bypassed by a shortcut: take the output of its block, "
            f"{_meeting(model, inner, last)}."
        )
    return found


def _meeting(model, inner, last):
    """-> in words, the layer in which what goes through `inner` meets what bypasses it."""
    later = [one for one in model.layers[model.layers.index(inner) + 1 :] if _is_map(one)]
    block = BLOCK.match(inner.name)
    later = [one for one in later if block and one.name == block[0]] or later
    found = next((one for one in later if _between(one, last)), None)
    return "or of a layer before the branches" if found is None else repr(found.name)


def _between(layer, last):
    """-> the model from a layer's output to the tensor `last`, or `None` if more is needed."""
    try:
        return keras.Model(layer.output, last)
    except ValueError:
        return None


def _before_activation(model):
    """-> the last tensor of a classifier before its activation is at work, and the function from it
    to the logits: behind a softmax, the gradient of a class that is certain vanishes."""
    last = model.layers[-1]
    if last.output is model.output and isinstance(last, keras.layers.Dense):
        bias = last.bias if last.use_bias else 0.0
        return last.input, lambda x: ops.matmul(_wide(x), last.kernel) + bias
    if last.output is model.output and isinstance(
        last, (keras.layers.Softmax, keras.layers.Activation)
    ):
        return last.input, _wide
    return model.output, _wide


def _gradient(function, array):
    """-> the gradient of `function`, from a tensor to a scalar, at `array`; both in numpy."""
    tensor = ops.convert_to_tensor(array)
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape() as tape:
            tape.watch(tensor)
            value = function(tensor)
        return tape.gradient(value, tensor).numpy()
    if backend == "jax":
        import jax

        return np.asarray(jax.grad(function)(tensor))
    import torch

    with torch.enable_grad():
        tensor = tensor.detach().clone().requires_grad_(True)
        (gradient,) = torch.autograd.grad(function(tensor), tensor)
    return gradient.cpu().numpy()
