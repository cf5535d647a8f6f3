"""TensorFlow on CPUs: products with all that follows, and in training elementwise loops by XLA.

TensorFlow's own kernels go through memory once per elementwise operation, and its gradients keep
every result in between; XLA makes one loop of them. It compiles for each size, which pays in a
training alone. Products and convolutions stay with TensorFlow, whose kernels are the better ones.
"""

import functools
import math

import keras
import tensorflow as tf
from keras import ops

from keras_convnext.fast.conditions import in_step_of_keras, own_kernel, tensorflow_on_cpu

MULTIPLIES_PATCHES = False
STRIDES = (1, 1, 1, 1)
IMAGE = 2**20  # numbers of a hidden layer: an image with at least so many is computed alone


def residual_branch(block, x, inputs, training):
    """As `fast.residual_branch`."""
    if block.pwconv1.quantization_mode or block.pwconv2.quantization_mode:
        return None
    if training and own_kernel(x):
        # where no gradient asks for what is between, TensorFlow's product applies the activation
        branch = _branch(block, _activation(_exact(block.activation)))(x)
    elif not training and not _has_onednn() and _predicts():
        branch = _by_images(_branch(block, block.activation), x, block.pwconv1.units)
    else:
        branch = _branch(block, block.activation)(x)
    return branch if inputs is None else inputs + branch


def _branch(block, activation):
    """Returns the branch as a function of x `(batch, height, width, channels)`.

    On a matrix with one row per pixel: TensorFlow adds the bias and applies the activation while it
    computes a product of two matrices, and only then.
    """

    def compute(x):
        x = block.norm(x)
        *outer, channels = ops.shape(x)
        x = activation(_layer_dense(block.pwconv1, ops.reshape(x, (-1, channels))))
        if block.grn:
            x = ops.reshape(x, (*outer, x.shape[-1]))
            x = ops.reshape(block.grn(x), (-1, x.shape[-1]))
        x = ops.reshape(_layer_dense(block.pwconv2, x), (*outer, channels))
        return block.gamma(x) if block.gamma else x

    return compute


def _by_images(branch, x, width):
    """Returns `branch(x)`, computed image by image where one has a large hidden layer.

    The hidden layer of a whole batch is written to new memory and read back, which takes as long as
    its products. With oneDNN nothing is gained: it keeps memory and applies the activation at once.
    """
    pixels = math.prod(size or 0 for size in x.shape[1:-1])
    if pixels * width < IMAGE:
        return branch(x)
    signature = tf.TensorSpec(x.shape[1:], x.dtype)
    of_image = lambda image: branch(image[tf.newaxis])[0]  # noqa: E731
    return tf.map_fn(of_image, x, parallel_iterations=1, fn_output_signature=signature)


def _predicts():
    """Returns whether TensorFlow traces a step of Keras on CPUs that no gradient is asked of."""
    from tensorflow.python.eager import record

    return tensorflow_on_cpu() and in_step_of_keras() and not record.could_possibly_record()


def depthwise_conv(x, kernel, bias, dilation, training):
    """As `fast.depthwise_conv`, with another gradient by the kernel."""
    own = training and dilation == 1 and bias is not None and tensorflow_on_cpu()
    return _depthwise_conv(x, kernel, bias) if own else None


def dense(x, kernel, bias):
    """As `fast.dense`."""
    return _bias_add(tf.matmul(x, kernel), bias)


def layer_norm(x, gamma, beta, epsilon, training):
    """As `fast.layer_norm`."""
    if training:
        return _layer_norm(epsilon)(x, gamma, beta) if own_kernel(x) else None
    if tensorflow_on_cpu() and _has_onednn() and in_step_of_keras():
        return _onednn_layer_norm(x, gamma, beta, epsilon)
    return None


def gelu(x):
    """Returns `None`: TensorFlow's own is the exact one."""
    return None  # said, because AutoGraph drops docstrings and cannot convert an empty function


# ---------------------------------------------------------------- products


def _layer_dense(layer, x):
    return dense(x, ops.cast(layer.kernel, x.dtype), ops.cast(layer.bias, x.dtype))


def _bias_add(x, bias):
    """Returns `x` `(..., channels)` + `bias` `(channels,)`, of one float dtype.

    In bfloat16 TensorFlow adds a gradient up in bfloat16, where beyond 256 equal numbers the sum
    no longer changes. Ours adds in float32; the rest stays with TensorFlow, which computes product,
    bias and activation as one.
    """
    if x.dtype != tf.bfloat16:
        return tf.nn.bias_add(x, bias)
    return _bfloat16_bias_add(x, tf.convert_to_tensor(bias))  # a variable has no place in there


def _wide(x):
    """Returns `x` in float32, or in float64 if it is."""
    return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)


def _sum_of_rows(dy, dtype):
    """Returns the gradient by a bias from the gradient by what it was added to."""
    every_row = tf.range(tf.rank(dy) - 1)
    return tf.cast(tf.reduce_sum(_wide(dy), every_row), dtype)


@tf.custom_gradient
def _bfloat16_bias_add(x, bias):
    return tf.nn.bias_add(x, bias), lambda dy: (dy, _sum_of_rows(dy, bias.dtype))


# ---------------------------------------------------------------- elementwise functions


def fused(function):
    """Returns `function` of tensors, computed as one loop in both directions.

    Its gradient keeps the inputs only and computes what it needs once more.
    """
    forwards = tf.function(function, jit_compile=True)

    @tf.function(jit_compile=True)
    def backwards(dy, *inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = function(*inputs)
        return tape.gradient(outputs, inputs, dy)

    @tf.custom_gradient
    def compute(*inputs):
        return forwards(*inputs), lambda dy: backwards(dy, *inputs)

    return lambda *inputs: compute(*map(tf.convert_to_tensor, inputs))


_activation = functools.cache(fused)


def _exact(activation):
    """Returns the function, but GELU with erf: TensorFlow's has erfc, which XLA computes in up to
    1.6 times the time."""
    is_gelu = keras.saving.get_registered_name(activation) == "keras_convnext>gelu"
    return _gelu if is_gelu else activation


def _gelu(x):
    wide = _wide(x)
    return tf.cast(wide * (0.5 + 0.5 * tf.math.erf(wide * 0.5**0.5)), x.dtype)


@functools.cache
def _layer_norm(epsilon):
    """Returns a function of `(x, gamma, beta)`, all of one dtype; over the last axis, in float32"""

    def normed(x, gamma, beta):
        centred = _wide(x) - tf.reduce_mean(_wide(x), -1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
        scaled = centred * tf.math.rsqrt(variance + epsilon)
        return tf.cast(scaled * _wide(gamma) + _wide(beta), x.dtype)

    return fused(normed)


# ---------------------------------------------------------------- LayerNormalization by oneDNN


@functools.cache
def _has_onednn():
    try:
        from tensorflow.python.util._pywrap_util_port import IsMklEnabled
    except ImportError:
        return False
    return IsMklEnabled()


def _onednn_layer_norm(x, gamma, beta, epsilon):
    """Returns the norm in the operations that TensorFlow replaces by one of oneDNN, which takes a
    seventh of the time of Keras' operations, and need not be compiled.

    They are a batch normalization with the pixels as channels. TensorFlow knows them by tensors of
    ones and zeros, whose size must be unknown, so that it does not make constants of them, and by
    an input of three axes.
    """
    width, shape = gamma.shape[0], tf.shape(x)
    maps = tf.reshape(tf.cast(x, tf.float32), (shape[0], -1, width))
    maps = tf.compat.v1.placeholder_with_default(maps, (None, None, width))
    outer = tf.shape(maps)
    pixels, none = outer[:1] * outer[1:2], tf.zeros(0)
    normed = tf.raw_ops.FusedBatchNormV3(
        x=tf.reshape(maps, tf.concat([[1], pixels, [width, 1]], 0)),
        scale=tf.fill(pixels, 1.0),
        offset=tf.fill(pixels, 0.0),
        mean=none,
        variance=none,
        epsilon=epsilon,
        data_format="NCHW",
        is_training=True,
    )
    outputs = tf.reshape(normed.y, outer) * tf.cast(gamma, tf.float32) + tf.cast(beta, tf.float32)
    outputs = tf.cast(tf.reshape(outputs, shape), x.dtype)
    outputs.set_shape(x.shape)
    return outputs


# ---------------------------------------------------------------- the depthwise convolution


@tf.custom_gradient
def _depthwise_conv(x, kernel, bias):
    outputs = tf.nn.bias_add(tf.nn.depthwise_conv2d(x, kernel, STRIDES, "SAME"), bias)

    def gradients(dy):
        dx = tf.nn.depthwise_conv2d_backprop_input(tf.shape(x), kernel, dy, STRIDES, "SAME")
        return dx, _kernel_gradient(x, dy, kernel), _sum_of_rows(dy, bias.dtype)

    return outputs, gradients


def _kernel_gradient(x, dy, kernel):
    """Returns dkernel, computed in float32 or in what is wider.

    oneDNN convolves each image with its gradient as the kernel, which takes half of the time of
    TensorFlow's own gradient at 56 x 56 pixels and a tenth at 7 x 7. Without oneDNN that takes
    several times as long as TensorFlow's own.
    """
    find = _convolved_with_gradients if _has_onednn() else _own_kernel_gradient
    return tf.cast(find(_wide(x), _wide(dy), kernel.shape), kernel.dtype)


def _own_kernel_gradient(x, dy, shape):
    """TensorFlow does not write the result where there is no image, as a replica may have none."""
    found = tf.nn.depthwise_conv2d_backprop_filter(x, shape, dy, STRIDES, "SAME")
    return tf.where(tf.equal(tf.shape(x)[0], 0), tf.zeros_like(found), found)


def _convolved_with_gradients(x, dy, shape):
    side, channels = shape[0], shape[2]
    before = (side - 1) // 2
    margin = [before, side - 1 - before]
    images = tf.pad(_in_one(x), [[0, 0], margin, margin, [0, 0]])
    kernels = _in_one(dy)[0, ..., tf.newaxis]
    sums = tf.nn.depthwise_conv2d(images, kernels, STRIDES, "VALID")
    return tf.reduce_sum(tf.reshape(sums, (side, side, -1, channels)), 2)[..., tf.newaxis]


def _in_one(images):
    """Returns `(batch, height, width, channels)` as `(1, height, width, batch * channels)`.

    Where there is no image, one of zeros.
    """
    batch, height, width, _ = tf.unstack(tf.shape(images))
    none = tf.cast(tf.equal(batch, 0), tf.int32)
    images = tf.pad(images, [[0, none], [0, 0], [0, 0], [0, 0]])
    return tf.reshape(tf.transpose(images, (1, 2, 0, 3)), (1, height, width, -1))
