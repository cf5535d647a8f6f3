"""`ConvNeXt()` makes a functional `keras.Model` of a row of `variants.py`.

The layers of a model are named as `names.py` says: `stem`, `stage{s}_block{b}`, `downsample{s}`,
`head_norm`, `head`, with s and b from 0. The output of a stage is the output of its last block.
"""

import keras
import numpy as np

from keras_convnext import names
from keras_convnext.checks import integer, knowing_other_names, number, one_of
from keras_convnext.features import PyramidModel
from keras_convnext.layers import ACTIVATIONS, NORMS, Chain, ConvNeXtBlock, PatchConv2D
from keras_convnext.layers.initializers import kernel_initializer, kernels_will_be_loaded
from keras_convnext.variants import variant_of


@knowing_other_names
def ConvNeXt(
    variant,
    include_top=True,
    include_preprocessing=True,
    weights=None,
    input_tensor=None,
    input_shape=None,
    pooling=None,
    classes=None,
    classifier_activation="softmax",
    name=None,
    *,
    drop_path_rate=0.0,
    head_init_scale=1.0,
    output_stride=None,
    stem_stride=None,
):
    """Builds a ConvNeXt as a functional `keras.Model`.

    The arguments have the names, the order and the meanings of `keras.applications`; four more can
    be given by name. Source: arXiv 2201.03545 (V1), 2301.00808 (V2).

    Args:
        variant: name of a row of `keras_convnext.VARIANTS`, or a `keras_convnext.Variant`. A name
            with a tag, `"convnext_tiny.fb_in1k"`, stands for the variant and its weights, as in
            timm; the argument `weights` is omitted then.
        include_top: whether the model ends with the classifier.
        include_preprocessing: whether the first layer normalises images of range [0, 255], uint8
            or float, with the variant's mean and std. Without it the input must be normalised.
            For 1 channel the averages of mean and std are used, for others they are repeated.
        weights: `None` (random); `"imagenet"`; a tag of the variant (`"fb_in22k_ft_in1k_384"`),
            `"variant.tag"`; `"hf://owner/repo[@revision][/file]"`; or the path of a file in any
            published layout (`.safetensors`, `.pth`, `.pt`, `.bin`, `.h5`, `.weights.h5`,
            `.keras`). Everything but the classifier is loaded where `include_top` is false or
            `classes` differs from the file's. For another number of input channels the stem
            adapts: summed for 1, else repeated and rescaled by 3 / channels.
        input_tensor: a Keras tensor to build on, in place of a new input.
        input_shape: `(height, width, channels)`, or channels first where
            `keras.config.image_data_format()` says so. Height and width may be `None`. Default:
            with the classifier the size of the named weights, else `(224, 224, 3)`; without the
            classifier `(None, None, 3)`. Images must have at least as many pixels per side as the
            stride of the model, `Variant.stride`, which is 32 by default.
        pooling: without the classifier: `None` (a feature map comes out), `"avg"` or `"max"`.
        classes: number of classes. Default: as many as the weights have; 1000 without weights.
        classifier_activation: activation of the classifier; with `None` the model returns logits.
        name: of the model. Default: the variant's name. Any other name also begins the names of
            the layers, `"mine__stem"`, so that models with different names can be parts of one
            graph; `model.get_layer("stem")` finds them all the same.
        drop_path_rate: rate of stochastic depth in the last block, in [0, 1); the rates of the
            blocks before it rise linearly from 0.
        head_init_scale: factor on the initial weights of the classifier.
        output_stride: 8, 16 or 32: input pixels per output pixel. Below the variant's own, the
            last stages keep their resolution and their convolutions are dilated. Default: the
            variant's own.
        stem_stride: 1, 2 or 4: input pixels per pixel of the first stage, for images that are too
            small for the variant's own stride, such as CIFAR's; see `Variant.with_stem_stride`.
            Published weights are refused with a stem of another stride than theirs: enlarge the
            images instead. A file of a model that was built with the same `stem_stride` loads.

    Returns:
        A model from `(batch, height, width, channels)` to `(batch, classes)`, float32 also under
        mixed precision, or, without the classifier, to normalised features: `(batch, height',
        width', dim)`, with `pooling` `(batch, dim)`. Its `pyramid_outputs` are the outputs of the
        stages, `{"P2": ..., "P5": ...}`: see `keras_convnext.features`.

    Raises:
        ValueError: if an argument has a value that is not allowed, no weights have that name, or
            the file of weights does not fit this architecture exactly.
        TypeError: if `variant` is neither a name nor a `Variant`, or there is no such argument.
        FileNotFoundError: if there is no file at that path.
        DownloadError: (an OSError) if the weights could not be fetched.

    Example:
        from keras_convnext import ConvNeXt, Variant
        model = ConvNeXt("convnext_tiny.fb_in1k", classes=5)  # the classifier is new
        mine = Variant("mine", depths=(1, 1, 2, 1), dims=(8, 16, 32, 64))
        small = ConvNeXt(mine, input_shape=(64, 64, 3), classes=10)
        small.output_shape  # (None, 10)
    """
    variant, weights = _variant_and_weights(variant, weights, include_top)
    if stem_stride is not None:
        variant = variant.with_stem_stride(stem_stride)
    _check_end(pooling, classifier_activation)
    check_before_download(variant, classes, input_tensor, input_shape, drop_path_rate)
    _check_output_stride(variant, output_stride)
    checkpoint = None
    if weights is not None:
        from keras_convnext import pretrained  # the readers of files are imported if one is read

        checkpoint = pretrained.open_checkpoint(weights, variant, include_top, classes)
        variant = checkpoint.variant
        classes = checkpoint.classes_for(include_top, classes)
    classes = integer("classes", 1000 if classes is None else classes, 1)

    prefix = name if name not in (None, variant.name) else ""
    side = (checkpoint.size if checkpoint else 224) if include_top else None
    inputs, x = image_input(variant, side, input_tensor, input_shape, prefix)
    if include_preprocessing:
        x = preprocessing(variant, x.shape[-1], prefix)(x)
    with kernels_will_be_loaded(checkpoint is not None):  # the classifier may stay as it begins
        x = _features(variant, x, drop_path_rate, output_stride, prefix)
    if include_top:
        x = _classifier(variant, x, classes, classifier_activation, head_init_scale, prefix)
    else:
        x = _pooled(variant, x, pooling, prefix, with_norm=variant.head_norm)
        if pooling is None and _channels_first():
            to_first = names.in_model(prefix, "to_channels_first")
            x = keras.layers.Permute((3, 1, 2), name=to_first)(x)
    model = PyramidModel(inputs, x, name=name or variant.name)
    model.variant = variant
    if checkpoint is not None:
        checkpoint.load_into(model)
        model.published = checkpoint.published
    return model


def _variant_and_weights(variant, weights, include_top):
    """Returns the `Variant` and the weights that the first arguments of `ConvNeXt` name."""
    named = variant if isinstance(variant, str) else variant_of(variant).name
    if isinstance(include_top, str):
        refuse_weights_as("include_top", include_top, f"ConvNeXt({named!r}")
    if not isinstance(variant, str):
        return variant, weights
    row, _, tag = variant.partition(".")
    if tag and weights not in (None, tag, variant):
        raise ValueError(
            f"The variant {variant!r} names weights already: omit `weights={weights!r}`, or pass "
            f"`ConvNeXt({row!r}, weights={weights!r})`."
        )
    return variant_of(row), variant if tag else weights


def refuse_weights_as(argument, value, call):
    """Raises a ValueError: a string was given where the position belongs to another argument.

    Args:
        argument: name of the argument at that position.
        value: what was given.
        call: how the right call begins, without the closing parenthesis.

    Example:
        from keras_convnext.models import refuse_weights_as
        try:
            refuse_weights_as("include_top", "imagenet", "ConvNeXtTiny(")
        except ValueError as error:
            print(error)
    """
    separator = ", " if not call.endswith("(") else ""
    raise ValueError(
        f"`{argument}` must be True or False, received {value!r}. If these are weights, give them "
        f"by name: `{call}{separator}weights={value!r})`."
    )


def _channels_first():
    return keras.config.image_data_format() == "channels_first"


def image_input(variant, side, input_tensor, input_shape, prefix=""):
    """Returns the input (or inputs) of a model, and the images in it as a channels_last tensor.

    Args:
        variant: a `Variant`.
        side: default height and width of the images; `None` for any.
        input_tensor: a Keras tensor that holds the images, or `None` for a new input.
        input_shape: shape of the new input, in the configured data format; `None` for the default.
        prefix: name of the model if that begins the names of its layers, else `""`.

    Raises:
        ValueError: if the shape is not the shape of an image, has no known number of channels, or
            is smaller than the stride of the variant.

    Example:
        from keras_convnext import VARIANTS
        from keras_convnext.models import image_input
        inputs, images = image_input(VARIANTS["convnext_tiny"], 224, None, None)
        images.shape  # (None, 224, 224, 3)
    """
    x = input_tensor
    if x is None:
        default = (3, side, side) if _channels_first() else (side, side, 3)
        x = keras.Input(input_shape or default, name=names.in_model(prefix, "image"))
    _check_image_shape(variant, tuple(x.shape[1:]))
    sources = keras.utils.get_source_inputs(x)
    inputs = sources[0] if len(sources) == 1 else sources
    if _channels_first():
        name = names.in_model(prefix, "to_channels_last")
        x = keras.layers.Permute((2, 3, 1), name=name)(x)
    return inputs, x


def _check_end(pooling, activation):
    """Raises the ValueError of arguments that say how a model ends, before anything is built."""
    one_of("pooling", pooling, (None, "avg", "max"))
    try:
        keras.activations.get(activation)
    except (TypeError, ValueError):
        raise ValueError(
            "`classifier_activation` must be the name of an activation of Keras, for example "
            f"'softmax' or 'sigmoid', a function, or None for logits, received {activation!r}."
        ) from None


def check_before_download(variant, classes, input_tensor, input_shape, drop_path_rate):
    """Raises the ValueError of arguments that no weights could make right; see `ConvNeXt`.

    Example:
        from keras_convnext import VARIANTS
        from keras_convnext.models import check_before_download
        try:
            check_before_download(VARIANTS["convnext_tiny"], None, None, (8, 8, 3), 0.0)
        except ValueError as error:
            print(error)  # before anything is downloaded
    """
    if classes is not None:
        integer("classes", classes, 1)
    number("drop_path_rate", drop_path_rate, least=0, below=1)
    if input_tensor is not None:
        _check_image_shape(variant, tuple(input_tensor.shape[1:]))
    elif input_shape is not None:
        _check_image_shape(variant, tuple(input_shape))


def _check_image_shape(variant, shape):
    if len(shape) != 3:
        raise ValueError(f"An image has 3 axes, received an input of shape {shape}.")
    height, width, channels = (*shape[1:], shape[0]) if _channels_first() else shape
    if channels is None:
        raise ValueError(f"The number of channels must be known, received {shape}.")
    if min(height or variant.stride, width or variant.stride) < variant.stride:
        raise ValueError(
            f"{variant.name} needs images of at least {variant.stride} x {variant.stride} pixels, "
            f"received height {height} and width {width} of the shape {shape}; the data format is "
            f"{keras.config.image_data_format()}."
        )


def preprocessing(variant, channels, prefix=""):
    """Returns the layer that normalises images of range [0, 255] with so many channels.

    Args:
        variant: a `Variant`, whose mean and std are used.
        channels: of the images; for 1 mean and std are averaged, for others repeated.
        prefix: name of the model if that begins the names of its layers, else `""`.

    Example:
        import keras
        from keras_convnext import VARIANTS
        from keras_convnext.models import preprocessing
        normalise = preprocessing(VARIANTS["convnext_base"], 3)
        normalise(keras.ops.zeros((1, 1, 1, 3)))[0, 0, 0]  # [-2.118, -2.036, -1.804]
    """
    mean, std = 255 * np.array(variant.mean), 255 * np.array(variant.std)
    if channels == 1:
        mean, std = mean.mean(keepdims=True), std.mean(keepdims=True)
    mean, std = np.resize(mean, channels).tolist(), np.resize(std, channels)
    return keras.layers.Normalization(
        mean=mean,
        variance=(std**2).tolist(),
        dtype=float32(),
        name=names.in_model(prefix, "preprocessing"),
    )


def float32():
    """Returns the dtype of input and head, which is the dtype of the weights in mixed precision.

    Example:
        from keras_convnext.models import float32
        float32()  # "float32"
    """
    return keras.config.dtype_policy().variable_dtype


def conv(filters, kernel_size, strides, name, **kwargs):
    """Returns a channels_last convolution with the initial weights of the reference.

    Args:
        filters: channels of the output.
        kernel_size, strides: in pixels.
        name: of the layer.
        **kwargs: other arguments of `PatchConv2D`.

    Example:
        from keras_convnext.models import conv
        conv(8, 3, 1, "conv", padding="same").name  # "conv"
    """
    kwargs |= {"data_format": "channels_last", "kernel_initializer": kernel_initializer()}
    return PatchConv2D(filters, kernel_size, strides, name=name, **kwargs)


def _norm(variant, name, **kwargs):
    return NORMS[variant.norm](epsilon=variant.epsilon, name=name, **kwargs)


def _stem(variant, prefix):
    dim = variant.dims[0]
    if variant.stem == "patch":
        layers = [conv(dim, variant.stem_stride, variant.stem_stride, "conv")]
    else:
        first = _multiple_of_8(dim // 2) if variant.stem == "overlap_tiered" else dim
        strides = {1: (1, 1), 2: (2, 1), 4: (2, 2)}[variant.stem_stride]
        activation = keras.layers.Activation(ACTIVATIONS[variant.activation], name="activation")
        layers = [
            pad("pad1"),
            conv(first, 3, strides[0], "conv1"),
            pad("pad2"),
            conv(dim, 3, strides[1], "conv2"),
        ]
        if variant.stem == "overlap_act":
            layers.insert(2, activation)
    norm = [_norm(variant, "norm")] if variant.stem_norm else []
    return Chain(layers + norm, name=names.in_model(prefix, names.STEM))


def pad(name, pixels=1):
    """Returns a layer that adds zeros on all sides, as PyTorch pads ("same" pads one side more).

    Args:
        name: of the layer.
        pixels: zeros on each side.

    Example:
        import keras
        from keras_convnext.models import pad
        pad("pad")(keras.ops.ones((1, 8, 8, 3))).shape  # (1, 10, 10, 3)
    """
    return keras.layers.ZeroPadding2D(pixels, data_format="channels_last", name=name)


def _multiple_of_8(value):
    """Returns the multiple of 8 nearest to `value` that is at least nine tenths of it."""
    rounded = max(8, (value + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * value else rounded + 8


def _downsample(variant, stage, stride, dilation, prefix):
    """Returns a norm and a 2x2 convolution, which at stride 1 is padded at the bottom and right."""
    padding = "valid" if stride == 2 else "same"
    reduce = conv(variant.dims[stage], 2, stride, "conv", padding=padding, dilation_rate=dilation)
    name = names.in_model(prefix, names.downsample(stage))
    return Chain([_norm(variant, "norm"), reduce], name=name)


def _check_output_stride(variant, output_stride):
    strides = [s for s in (8, 16, 32) if variant.stem_stride <= s <= variant.stride]
    one_of("output_stride", output_stride, (None, *strides))


def _features(variant, x, drop_path_rate, output_stride, prefix):
    """Returns the output of the last block: stem and stages."""
    rates = iter(np.linspace(0, drop_path_rate, sum(variant.depths)).tolist())
    x = _stem(variant, prefix)(x)
    stride, dilation = variant.stem_stride, 1
    for stage, depth in enumerate(variant.depths):
        if stage:
            step = 2 if stride < (output_stride or variant.stride) else 1
            x = _downsample(variant, stage, step, dilation, prefix)(x)
            stride, dilation = stride * step, dilation * 2 // step
        for index in range(depth):
            name = names.in_model(prefix, names.block(stage, index))
            x = _block(variant, stage, next(rates), dilation, name)(x)
    return x


def _block(variant, stage, drop_path_rate, dilation, name):
    return ConvNeXtBlock(
        kernel_size=variant.kernel_sizes[stage],
        activation=variant.activation,
        norm=variant.norm,
        epsilon=variant.epsilon,
        layer_scale=variant.layer_scale,
        grn=variant.grn,
        drop_path_rate=drop_path_rate,
        dilation=dilation,
        name=name,
    )


def _pooled(variant, x, pooling, prefix, with_norm=True):
    """Returns `x` after pooling and norm, in the variant's order, in float32."""
    layers = []
    if pooling is not None:
        kind = {"avg": "GlobalAveragePooling2D", "max": "GlobalMaxPooling2D"}[pooling]
        pool = getattr(keras.layers, kind)
        name = names.in_model(prefix, "pool")
        layers.append(pool(data_format="channels_last", dtype=float32(), name=name))
    if with_norm:
        name = names.in_model(prefix, names.HEAD_NORM)
        layers.append(_norm(variant, name, dtype=float32()))
    for layer in reversed(layers) if variant.head_norm_first else layers:
        x = layer(x)
    return x


def dense(units, name, scale=1.0, **kwargs):
    """Returns a dense layer of the head, in float32.

    Args:
        units: width of the output.
        name: of the layer.
        scale: factor on its initial weights.
        **kwargs: other arguments of `keras.layers.Dense`.

    Example:
        import keras
        from keras_convnext.models import dense
        dense(10, "head", scale=0.001)(keras.ops.ones((2, 8))).shape  # (2, 10)
    """
    kwargs |= {"kernel_initializer": kernel_initializer(scale), "dtype": float32()}
    with keras.RematScope(mode=None):  # which fails on TensorFlow; see `KeepsItsCall`
        return keras.layers.Dense(units, name=name, **kwargs)


def _classifier(variant, x, classes, activation, init_scale, prefix):
    x = _pooled(variant, x, "avg", prefix)
    hidden, head = (names.in_model(prefix, name) for name in (names.HEAD_HIDDEN, names.HEAD))
    if variant.head_hidden is not None:
        x = dense(variant.head_hidden, hidden, activation=ACTIVATIONS[variant.activation])(x)
    bias = variant.head_bias
    return dense(classes, head, init_scale, activation=activation, use_bias=bias)(x)
