"""The names that each publisher gives to the tensors of a ConvNeXt, and of what is built on one."""

from keras_convnext.pretrained.layouts.convnext import LAYOUTS, Layout
from keras_convnext.pretrained.layouts.detection import DETECTION_LAYOUTS
from keras_convnext.pretrained.layouts.matching import match
from keras_convnext.pretrained.layouts.upernet import UPERNET_LAYOUTS

__all__ = ["DETECTION_LAYOUTS", "LAYOUTS", "UPERNET_LAYOUTS", "Layout", "match"]
