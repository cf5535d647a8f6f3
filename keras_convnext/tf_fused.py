"""TensorFlow on CPUs: elementwise functions as one loop each, which XLA compiles.

TensorFlow's own kernels go through memory once per operation, and its gradients keep every result
in between. Products and convolutions stay with TensorFlow, whose kernels are the better ones.
"""

import functools

import tensorflow as tf

from keras_convnext.tf_bias import wide


def fused(function):
    """-> `function` of tensors, computed as one loop in both directions.

    Its gradient keeps the inputs only and computes what it needs once more.
    """
    forwards = tf.function(function, jit_compile=True)

    @tf.function(jit_compile=True)
    def backwards(gradient, *inputs):
        with tf.GradientTape() as tape:
            tape.watch(inputs)
            outputs = function(*inputs)
        return tape.gradient(outputs, inputs, gradient)

    @tf.custom_gradient
    def compute(*inputs):
        return forwards(*inputs), lambda gradient: backwards(gradient, *inputs)

    return lambda *inputs: compute(*map(tf.convert_to_tensor, inputs))


activation = functools.cache(fused)


@functools.cache
def layer_norm(epsilon):
    """-> a function of `(x, gamma, beta)`, all of one dtype; over the last axis, in float32"""

    def normed(x, gamma, beta):
        centred = wide(x) - tf.reduce_mean(wide(x), -1, keepdims=True)
        variance = tf.reduce_mean(tf.square(centred), -1, keepdims=True)
        scaled = centred * tf.math.rsqrt(variance + epsilon)
        return tf.cast(scaled * wide(gamma) + wide(beta), x.dtype)

    return fused(normed)


@fused
def scaled(x, gamma):
    """x, of any float dtype, times gamma `(channels,)`, in the wider dtype"""
    return tf.cast(tf.cast(x, gamma.dtype) * gamma, x.dtype)


@fused
def scaled_sum(inputs, x, gamma):
    """`inputs + scaled(x, gamma)`"""
    return inputs + tf.cast(tf.cast(x, gamma.dtype) * gamma, x.dtype)
