"""Published weights: files of every layout become models."""

from keras_convnext.pretrained.loading import open_checkpoint
from keras_convnext.pretrained.tensors import WeightsError

__all__ = ["WeightsError", "open_checkpoint"]
