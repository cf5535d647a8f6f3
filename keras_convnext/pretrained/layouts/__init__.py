"""The names that each publisher gives to the tensors of a ConvNeXt, and of an UperNet with one."""

from keras_convnext.pretrained.layouts.convnext import LAYOUTS, Layout
from keras_convnext.pretrained.layouts.matching import match
from keras_convnext.pretrained.layouts.upernet import UPERNET_LAYOUTS

__all__ = ["LAYOUTS", "UPERNET_LAYOUTS", "Layout", "match"]
