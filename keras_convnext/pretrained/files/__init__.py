"""Reads the files of weights that PyTorch, Keras and safetensors write, as lazy tensors."""

from keras_convnext.pretrained.files.opening import read
from keras_convnext.pretrained.files.tensors import Tensor, WeightsError

__all__ = ["Tensor", "WeightsError", "read"]
