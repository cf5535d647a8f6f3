"""Counts the multiply-adds of a model, in its convolutions and dense layers, and its parameters.

The papers of this field say "FLOPs" for the same count. Norms, activations, pooling, additions and
products of two activations (attention) are not in it.
"""

import importlib
import math

import keras

from keras_convnext.layers import Chain, ConvNeXtBlock

DETECTION = "keras_convnext.detection"  # which counts its own layers


def count_macs(model, input_shape=None):
    """Returns the multiply-adds of a model for one input, an exact int.

    It counts the products with the kernels of `Conv1D` to `Conv3D` (grouped and dilated too), their
    transposed, depthwise and separable forms, `Dense` and `EinsumDense`; in functional and
    sequential models, models inside models, `TimeDistributed` and the layers of this package. A
    layer that is used twice counts twice. Zeros of the padding count as pixels do. All products of
    a transposed convolution count, also those whose sums are cropped away. Biases do not count. A
    detector is counted with as many proposals and detections as it may have.

    Nothing is computed and no weight is read.

    Args:
        model: a built functional `keras.Model` or `keras.Sequential`, a layer of those above, or a
            `keras_convnext.detection.DetectionModel`.
        input_shape: the shape of one input, without the batch: `(height, width, channels)`; a list
            of shapes for several inputs. `None`: the model's own, if all its sizes are known.

    Raises:
        ValueError: if the size of an input is not known, or a layer of another kind has weights of
            two or more axes, whose use is unknown here.

    Example:
        from keras_convnext import ConvNeXtAtto, count_macs
        model = ConvNeXtAtto(weights=None)
        count_macs(model)  # 547332480
        encoder = ConvNeXtAtto(weights=None, include_top=False)  # of images of any size
        count_macs(encoder, (384, 384, 3))  # 1607546880
    """
    _check_axes(getattr(model, "input_shape", None), input_shape)
    shapes = getattr(model, "input_shape", None) if input_shape is None else input_shape
    if shapes is None:
        raise ValueError(
            f"{model.name} does not say the size of its inputs: give it, for example "
            "`count_macs(model, (800, 1280, 3))`."
        )
    shapes = shapes if isinstance(shapes, list) else [shapes]
    if input_shape is None:
        shapes = [shape[1:] for shape in shapes]
    if any(size is None for shape in shapes for size in shape):
        raise ValueError(
            f"{model.name} takes inputs of {shapes}: give all their sizes, for example "
            "`count_macs(model, (224, 224, 3))`."
        )
    inputs = [keras.KerasTensor((1, *shape)) for shape in shapes]
    return macs_of(model, inputs if len(inputs) > 1 else inputs[0])


def _check_axes(own, given):
    """Raises a ValueError if the given shape has another number of axes than a model's only input.

    Args:
        own: `input_shape` of the model, with the batch; `None` or anything else is not compared.
        given: the shape without the batch, or `None`.
    """
    single = isinstance(own, tuple) and all(isinstance(size, (int, type(None))) for size in own)
    if given is None or not single:
        return
    shape = given[0] if isinstance(given, list) and len(given) == 1 else given
    if not isinstance(shape, tuple) or len(shape) != len(own) - 1:
        raise ValueError(
            f"`input_shape` must be a tuple of {len(own) - 1} sizes, as {own[1:]} of the model, "
            f"received {given!r}. The batch is not one of them."
        )


def trained_parameters(model):
    """Returns the number of values in a model's trainable weights, an int; as in the papers, the
    statistics of BatchNormalization do not count.

    Args:
        model: a built `keras.Model`.

    Example:
        from keras_convnext import ConvNeXtAtto
        from keras_convnext.macs import trained_parameters
        trained_parameters(ConvNeXtAtto(weights=None))  # 3695520
    """
    return sum(math.prod(weight.shape) for weight in model.trainable_weights)


def rule(kind):
    """Returns a decorator that makes a function count the layers, or models, of a class.

    The function is given the layer and what it is called with, symbolic tensors, and returns its
    multiply-adds. A rule for a class stands before those for the classes it is derived from.

    Args:
        kind: the class.

    Example:
        import keras
        from keras_convnext.macs import macs_of, rule
        class Products(keras.layers.Layer): ...
        @rule(Products)
        def _products(layer, inputs):
            return inputs.shape[-1] ** 2
        macs_of(Products(), keras.KerasTensor((1, 8)))  # 64
    """

    def decorate(function):
        others = dict(RULES)
        RULES.clear()
        RULES.update({kind: function, **others})
        return function

    return decorate


def macs_of(layer, inputs):
    """Returns the multiply-adds of a layer, given what it is called with.

    Args:
        layer: a layer or model of those that `count_macs` knows.
        inputs: a `keras.KerasTensor` with the batch, or a list of them.

    Raises:
        ValueError: if it has weights of two or more axes, and is of no class with a rule.

    Example:
        import keras
        from keras_convnext.macs import macs_of
        layer = keras.layers.Dense(16)
        layer.build((None, 8))
        macs_of(layer, keras.KerasTensor((1, 8)))  # 128
    """
    if type(layer).__module__.startswith(DETECTION):
        importlib.import_module(f"{DETECTION}.macs")  # its rules
    for kind, rule in RULES.items():
        if isinstance(layer, kind):
            return rule(layer, inputs)
    matrices = [w.path for w in getattr(layer, "weights", ()) if len(w.shape) > 1]
    if matrices:
        raise ValueError(
            f"{layer.name} is a {type(layer).__name__}, and it is not known how that uses "
            f"{', '.join(matrices)}. Count the models before and after it separately."
        )
    return 0


def _outputs(layer, inputs):
    return keras.KerasTensor(layer.compute_output_shape(inputs.shape))


# ---------------------------------------------------------------- one layer


def _convolution(layer, inputs):
    """Each output is the sum of as many products as the kernel has numbers per filter."""
    return math.prod(_outputs(layer, inputs).shape) * math.prod(layer.kernel.shape[:-1])


def _depthwise(layer, inputs):
    side = math.prod(layer.kernel.shape[:-2])  # of a channel's kernel
    return math.prod(_outputs(layer, inputs).shape) * side


def _separable(layer, inputs):
    pointwise = math.prod(_outputs(layer, inputs).shape) * layer.pointwise_kernel.shape[-2]
    *sides, channels, multiplier = layer.depthwise_kernel.shape
    pixels = math.prod(_outputs(layer, inputs).shape) // layer.filters
    return pointwise + pixels * math.prod(sides) * channels * multiplier


def _transposed(layer, inputs):
    """Each pixel of the input is multiplied with the whole kernel."""
    channels = layer.kernel.shape[-1]
    return math.prod(inputs.shape) // channels * math.prod(layer.kernel.shape)


def _dense(layer, inputs):
    return math.prod(inputs.shape) * layer.kernel.shape[-1]


def _einsum(layer, inputs):
    """Each number of the input is multiplied once along the axes that only the kernel has."""
    of_input, of_kernel = layer.equation.replace(" ", "").split("->")[0].split(",")
    axes = zip(of_kernel, layer.kernel.shape, strict=True)
    return math.prod(inputs.shape) * math.prod(size for axis, size in axes if axis not in of_input)


# ---------------------------------------------------------------- layers of layers


def _functional(model, inputs):
    counts = []

    def counted(operation):
        def outputs(*args, **kwargs):
            counts.append(macs_of(operation, args[0] if args else None))
            return operation.compute_output_spec(*args, **kwargs)

        return outputs

    # Keras' own walk through the graph, each operation in the place where it is called
    model._run_through_graph(inputs, operation_fn=counted)
    return sum(counts)


def _chain(layers, inputs):
    total = 0
    for layer in layers:
        total += macs_of(layer, inputs)
        inputs = _outputs(layer, inputs)
    return total


def _block(block, inputs):
    hidden = keras.KerasTensor((*inputs.shape[:-1], block.pwconv1.units))
    return (
        macs_of(block.dwconv, inputs)
        + macs_of(block.pwconv1, inputs)
        + macs_of(block.pwconv2, hidden)
    )


def _distributed(layer, inputs):
    batch, steps, *shape = inputs.shape
    return steps * macs_of(layer.layer, keras.KerasTensor((batch, *shape)))


# The first that fits, so a class stands before the class it is derived from.
RULES = {
    keras.Sequential: lambda model, inputs: _chain(model.layers, inputs),
    keras.Function: _functional,  # a functional model, not a subclassed one
    Chain: lambda chain, inputs: _chain(chain.layers, inputs),
    ConvNeXtBlock: _block,
    keras.layers.TimeDistributed: _distributed,
    **dict.fromkeys((keras.layers.DepthwiseConv1D, keras.layers.DepthwiseConv2D), _depthwise),
    **dict.fromkeys((keras.layers.SeparableConv1D, keras.layers.SeparableConv2D), _separable),
    **dict.fromkeys(
        (
            keras.layers.Conv1DTranspose,
            keras.layers.Conv2DTranspose,
            keras.layers.Conv3DTranspose,
        ),
        _transposed,
    ),
    **dict.fromkeys((keras.layers.Conv1D, keras.layers.Conv2D, keras.layers.Conv3D), _convolution),
    keras.layers.Dense: _dense,
    keras.layers.EinsumDense: _einsum,
    # one number per element, or rows that are looked up
    **dict.fromkeys(
        (
            keras.layers.Embedding,
            keras.layers.LayerNormalization,
            keras.layers.Normalization,
            keras.layers.PReLU,
        ),
        lambda layer, inputs: 0,
    ),
}
