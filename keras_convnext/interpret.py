"""Class activation maps, effective receptive fields and depthwise kernels, as arrays.

    from keras_convnext import interpret, pictures

    maps = interpret.grad_cam(model, images)                 # (n, height', width'), in [0, 1]
    pictures.save_png(pictures.overlay(images[0], maps[0]), "grad_cam.png")

A layer is given by its name, for example `stage2_block8`, and its output is looked at. Models may
be of any kind: functional, `Sequential`, subclassed, or with a ConvNeXt as one of their layers. All
functions run on the three backends and leave the model as it is.
"""

import contextlib
import warnings

import keras
import numpy as np
from keras import ops

from keras_convnext import names, pictures
from keras_convnext.inside import layers_of, watched, without_activation
from keras_convnext.outputs import kind_of, last_operation

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
    """Returns where in an image a layer speaks for a class.

    The layer's feature maps are added up, each weighted with the mean over the map of the gradient
    of the class's logit; what is negative becomes 0. Source: arXiv 1610.02391, section 3.

    Args:
        model: a classifier of any kind, with one input and one output `(batch, classes)`: logits or
            probabilities. One output tells two classes apart: it speaks for class 1.
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

    Example:
        import numpy as np
        from keras_convnext import ConvNeXtTiny, interpret, pictures
        model, images = ConvNeXtTiny(input_shape=(160, 160, 3)), np.zeros((1, 160, 160, 3), "uint8")
        maps = interpret.grad_cam(model, images)
        maps.shape  # (1, 5, 5)
        pictures.save_png(pictures.overlay(images[0], maps[0]), "grad_cam.png")
    """
    images = _batch(images)
    inner = layer_of(model, layer)
    last = _last_activation(model, images)

    def logits_of(features=None, images=images):
        with without_activation(last):
            own, output = _run(model, images, inner, features)
        return own, _checked_logits(model, _wide(output))

    own, logits = logits_of()
    features, logits = _feature_maps(inner, own), ops.convert_to_numpy(logits)
    _check_not_bypassed(model, images, inner, features, logits_of)
    evidence = _evidence(logits, classes, is_logit=last is not None)
    gradient = _gradient(lambda x: ops.sum(ops.multiply(logits_of(x)[1], evidence)), features)
    weights = gradient.mean((1, 2), keepdims=True)
    return _normalised((weights * features).sum(-1))


def eigen_cam(model, images, layer=None):
    """Returns what stands out in a layer, whichever the class: its features' main direction.

    For each image the features of all pixels, without their mean, are projected on their first
    principal component, with the sign by which the strongest pixels are positive; what is negative
    becomes 0. Needs no gradient. Source: arXiv 2008.00299.

    Args:
        model: a model of any kind with one input.
        images: as in `grad_cam`.
        layer: as in `grad_cam`, or a layer within a block.

    Returns:
        float32 `(n, height', width')` in [0, 1], as `grad_cam`.

    Raises:
        ValueError: if there is no such layer, or its output is no feature map.

    Example:
        import numpy as np
        from keras_convnext import ConvNeXtTiny, interpret
        model, images = ConvNeXtTiny(input_shape=(160, 160, 3)), np.zeros((1, 160, 160, 3), "uint8")
        interpret.eigen_cam(model, images).shape  # (1, 5, 5)
    """
    inner = layer_of(model, layer)
    own, _ = _run(model, _batch(images), inner)
    features = _feature_maps(inner, own).astype("float64")
    return _normalised(np.stack([_main_direction(one) for one in features]))


def _main_direction(features):
    """Returns the projections `(height, width)` of features `(height, width, channels)`."""
    pixels = features.reshape(-1, features.shape[-1])
    pixels = pixels - pixels.mean(0)
    direction = np.linalg.svd(pixels, full_matrices=False)[2][0]
    projected = (pixels @ direction).reshape(features.shape[:2])
    return projected * np.sign(projected.flat[np.abs(projected).argmax()])


def _normalised(maps):
    maps = np.maximum(maps, 0)
    largest = maps.max((1, 2), keepdims=True)
    return (maps / np.where(largest > 0, largest, 1)).astype("float32")


def _evidence(logits, classes, is_logit):
    """Returns the factors on the logits `(n, count)` that choose the class of each image."""
    count = logits.shape[-1]
    if count > 1:
        chosen = logits.argmax(-1) if classes is None else _checked_classes(logits, classes, count)
        return np.eye(count, dtype="float32")[chosen]
    threshold = 0.0 if is_logit or logits.min() < 0 or logits.max() > 1 else 0.5
    chosen = (logits[:, 0] > threshold).astype(int)
    if classes is not None:
        chosen = _checked_classes(logits, classes, 2)
    return np.array([[-1.0], [1.0]], "float32")[chosen]


def _checked_classes(logits, classes, count):
    """Returns the class of each image."""
    chosen = np.asarray(classes)
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
    """Returns how much each pixel of the input matters to the middle of a layer's output.

    The absolute gradient of the sum of all channels in the middle with respect to the input, added
    up over colours and images. Source: arXiv 1701.04128, section 4.1, which sets the gradient in
    the middle to 1 as well and averages over images.

    Args:
        model: a model of any kind with one input.
        images: as in `grad_cam`; some tens, as the field of one image is noisy.
        layer: as in `eigen_cam`.

    Returns:
        float32 `(height, width)`, of the size of the images, in [0, 1]: divided by its largest
        value.

    Raises:
        ValueError: as `eigen_cam`.

    Example:
        import numpy as np
        from keras_convnext import ConvNeXtTiny, interpret
        images = np.random.default_rng(0).integers(0, 256, (2, 160, 160, 3), "uint8")
        model = ConvNeXtTiny(input_shape=(160, 160, 3))
        interpret.effective_receptive_field(model, images).shape  # (160, 160)
    """
    images, inner = _batch(images).astype("float32"), layer_of(model, layer)

    def middle(x):
        features = _wide(_run(model, x, inner)[0])
        if len(features.shape) != 4:
            raise _no_map(inner, features.shape)
        _, height, width, _ = features.shape
        return ops.sum(features[:, height // 2, width // 2])

    colours = 1 if keras.config.image_data_format() == "channels_first" else -1
    field = np.abs(_gradient(middle, images)).sum(colours).sum(0)
    return _normalised(field[None])[0]


def depthwise_kernels(model, layer=None):
    """Returns the kernels of a block's depthwise convolution.

    Args:
        model: a model of any kind, with the block.
        layer: name of a block or of a depthwise convolution; `None`: the last of them.

    Returns:
        float32 `(channels, side, side)`.

    Raises:
        ValueError: if there is no such layer, or it has no depthwise convolution.

    Example:
        from keras_convnext import ConvNeXtAtto, interpret
        interpret.depthwise_kernels(ConvNeXtAtto(weights=None), "stage1_block0").shape  # (80, 7, 7)
    """
    found = {one.name: getattr(one, "dwconv", one) for one in layers_of(model)}
    found = {k: v for k, v in found.items() if isinstance(v, keras.layers.DepthwiseConv2D)}
    name = next(reversed(found), None) if layer is None else layer
    name = next((full for full in found if names.local(full) == name), name)
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
    """Returns the layer that is looked at: the one of that name, or the last block for `None`.

    Layers of models inside of the model are found too.

    Args:
        model: a model of any kind.
        name: of the layer, or `None`.

    Raises:
        ValueError: if there is none of that name with an output `(batch, height, width, channels)`.

    Example:
        from keras_convnext import ConvNeXtAtto, interpret
        interpret.layer_of(ConvNeXtAtto(weights=None), None).name  # "stage3_block1"
    """
    maps = [layer for layer in layers_of(model) if _may_be_map(layer)]
    blocks = [layer for layer in maps if names.is_block(layer.name)] or maps
    if name is None and blocks:
        return blocks[-1]
    found = [layer for layer in maps if name in (layer.name, names.local(layer.name))]
    if not found:
        raise ValueError(
            f"{model.name} has no layer {name!r} with an output (batch, height, width, channels). "
            f"It has {', '.join(layer.name for layer in maps) or 'none such'}."
        )
    return found[0]


def _may_be_map(layer):
    """Returns whether a layer gives feature maps, or may: a subclassed model's do not say."""
    if isinstance(layer, keras.layers.InputLayer):
        return False
    try:
        output = layer.output
    except (AttributeError, ValueError):
        return True
    return len(getattr(output, "shape", ())) == 4


def _run(model, images, layer, replacement=None):
    """Returns the output of a layer and that of the model.

    A replacement stands for the layer's output in what the model computes after it.
    """
    with watched(layer, replacement) as seen:
        output = model(ops.convert_to_tensor(images))
    if not seen:
        raise ValueError(f"{model.name} does not call its layer {layer.name!r}: take another.")
    return seen[-1], output


def _feature_maps(layer, output):
    """Returns the output of a layer as a float32 array `(n, height, width, channels)`."""
    output = ops.convert_to_numpy(_wide(output))
    if output.ndim != 4:
        raise _no_map(layer, output.shape)
    return output


def _no_map(layer, shape):
    return ValueError(
        f"The output of {layer.name} is of shape {tuple(shape)}: needed is a layer with an output "
        "(batch, height, width, channels)."
    )


def _checked_logits(model, output):
    if len(output.shape) != 2:
        raise ValueError(
            f"{model.name} returns an output of shape {tuple(output.shape)}; needed is a "
            "classifier with one output (batch, classes)."
        )
    return output


def _check_not_bypassed(model, images, inner, features, logits_of):
    """Raises a ValueError if the logits depend on the images other than through a layer."""
    other = np.random.default_rng(0).permutation(images.ravel()).reshape(images.shape)

    def is_bypassed():
        return _differ(logits_of(features)[1], logits_of(features, other)[1])

    if is_bypassed():
        raise ValueError(
            f"{inner.name} is bypassed by a shortcut: take the output of its block, "
            f"{_meeting(model, images, inner, other)}."
        )


def _differ(first, second):
    """Returns whether outputs differ by more than rounding, whatever their scale."""
    first, second = ops.convert_to_numpy(first), ops.convert_to_numpy(second)
    return np.abs(first - second).max() > 1e-5 * np.abs(first).max()


def _meeting(model, images, inner, other):
    """Returns in words the layer in which what goes through `inner` meets what bypasses it."""
    layers = layers_of(model)
    later = [one for one in layers[layers.index(inner) + 1 :] if _may_be_map(one)]
    block = names.block_of(inner.name)
    later = [one for one in later if block and one.name == block] or later
    for layer in later:
        own, expected = _run(model, images, layer)
        if not _differ(expected, _run(model, other, layer, own)[1]):
            return repr(layer.name)
    return "or of a layer before the branches"


def _last_activation(model, images):
    """Returns the softmax or sigmoid at the end of a classifier, or `None`.

    Behind a softmax the gradient of a class that is certain vanishes, so the logits are looked at.
    In a graph it is found as such. Else it is the layer whose output is the model's.
    """
    last = last_operation(model)
    if last is not None:
        return last if kind_of(last) in ("softmax", "sigmoid") else None
    layers = model._flatten_layers(include_self=False)
    layers = [layer for layer in layers if kind_of(layer) in ("softmax", "sigmoid")]
    with contextlib.ExitStack() as stack:
        seen = [stack.enter_context(watched(layer)) for layer in layers]
        output = model(ops.convert_to_tensor(images[:1]))
    made = (one for one, own in zip(layers, seen, strict=True) if own and own[-1] is output)
    return next(made, None)


def _gradient(function, array):
    """Returns the gradient of `function`, from a tensor to a scalar, at `array`; both in numpy."""
    tensor = ops.convert_to_tensor(array)
    backend = keras.backend.backend()
    if backend == "tensorflow":
        import tensorflow as tf

        with tf.GradientTape(watch_accessed_variables=False) as tape:
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
