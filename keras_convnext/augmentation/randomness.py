"""Random numbers as a pure function of a key: no state, so any start and any number of threads."""

# The streams: numbers drawn for one purpose never repeat those drawn for another. `IMAGE` counts
# images, the others count steps.
IMAGE, ERASE, MIX, SHARE = STREAMS = range(4)


def uniforms(key, stream, shape):
    """Returns uniform numbers in [0, 1), equal for equal keys.

    Args:
        key: int64 tensor (3,): seed, epoch in [0, 2**23), index in [0, 2**40) of the image or the
            step.
        stream: one of `STREAMS`.
        shape: of the result.

    Returns:
        float64 tensor, in steps of 2**-23.
    """
    import tensorflow as tf

    # Philox by name: "auto" would choose another generator on some devices
    draws = tf.random.stateless_uniform(shape, stateless_seed(key, stream), alg="philox")
    return tf.cast(draws, tf.float64)


def stateless_seed(key, stream):
    """Returns an int64 tensor (2,), different for every key and stream."""
    import tensorflow as tf

    seed, epoch, index = tf.unstack(tf.cast(key, tf.int64))
    return tf.stack([len(STREAMS) * seed + stream, tf.bitwise.left_shift(epoch, 40) + index])


def integers_below(uniform, limit):
    """Returns int32 in [0, limit), equally probable, made of float64 uniforms."""
    import tensorflow as tf

    return tf.cast(uniform * tf.cast(limit, tf.float64), tf.int32)
