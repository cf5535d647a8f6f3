"""The forms of RoIAlign: equal to rounding, and which one is taken follows from backend and device.

`dense` multiplies every box with every map: for accelerators, which are made for it, and for
exporters, which read it. On CPUs, where arithmetic costs, each box is resampled from its own part
of its own map: `loops` where XLA compiles, `tensorflow` and `torch` elsewhere.
"""

import keras

from keras_convnext.detection.pooling.dense import pool as dense
from keras_convnext.fast import conditions


def pool(maps, placed, size):
    """Returns the features of boxes, `(batch, k, size, size, channels)`, of the dtype of the maps.

    Args:
        maps: `(batch, height, width, channels)` for each level.
        placed: where the boxes are on them, a `Placed`.
        size: number of bins in each direction.
    """
    return _form(maps)(maps, placed, size)


def _form(maps):
    backend = keras.backend.backend()
    if backend == "tensorflow" and conditions.tensorflow_on_cpu():
        if _xla_compiles():
            if not all(isinstance(side, int) for x in maps for side in x.shape[1:]):
                return dense
            from keras_convnext.detection.pooling.loops import pool
        else:
            from keras_convnext.detection.pooling.tensorflow import pool
        return pool
    if backend == "jax" and conditions.own_kernel(*maps):
        from keras_convnext.detection.pooling.loops import pool

        return pool
    if backend == "torch" and conditions.own_kernel(*maps):
        from keras_convnext.detection.pooling.torch import pool

        return pool
    return dense


def _xla_compiles():
    import tensorflow as tf
    from tensorflow.python.ops.control_flow_util import GraphOrParentsInXlaContext

    return not tf.executing_eagerly() and GraphOrParentsInXlaContext(
        tf.compat.v1.get_default_graph()
    )
