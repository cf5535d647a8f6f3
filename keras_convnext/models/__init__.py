"""A row of `variants.py` becomes a `keras.Model`: `ConvNeXt()`, and one factory per row.

The parts that models of other tasks share with it, such as `image_input`, are here as well.
"""

from keras_convnext.models import factories
from keras_convnext.models.convnext import (
    ConvNeXt,
    check_before_download,
    conv,
    dense,
    float32,
    image_input,
    pad,
    preprocessing,
    refuse_weights_as,
)

__all__ = [
    "ConvNeXt",
    "check_before_download",
    "conv",
    "dense",
    "float32",
    "image_input",
    "pad",
    "preprocessing",
    "refuse_weights_as",
]


def __getattr__(name):
    return getattr(factories, name)
