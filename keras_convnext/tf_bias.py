"""TensorFlow's sum with a bias, with a gradient that is right in half precision as well."""

import tensorflow as tf


def bias_add(x, bias):
    """`x` `(..., channels)` + `bias` `(channels,)`, of one float dtype

    In bfloat16 TensorFlow adds a gradient up in bfloat16, and of 256 equal numbers on what is added
    no longer changes the sum. Ours adds in float32; the rest stays with TensorFlow, which computes
    product, bias and activation as one.
    """
    return _bias_add(x, bias) if x.dtype == tf.bfloat16 else tf.nn.bias_add(x, bias)


def wide(x):
    """-> `x` in float32, or in float64 if it is"""
    return x if x.dtype == tf.float64 else tf.cast(x, tf.float32)


def sum_of_rows(gradient, dtype):
    """-> the gradient by a bias of what it was added to"""
    every_row = tf.range(tf.rank(gradient) - 1)
    return tf.cast(tf.reduce_sum(wide(gradient), every_row), dtype)


@tf.custom_gradient
def _bias_add(x, bias):
    return tf.nn.bias_add(x, bias), lambda gradient: (gradient, sum_of_rows(gradient, bias.dtype))
