"""Published weights: files of every layout become models."""

from keras_convnext.pretrained.download import DownloadError
from keras_convnext.pretrained.specification import open_checkpoint
from keras_convnext.pretrained.tensors import WeightsError

__all__ = ["DownloadError", "WeightsError", "open_checkpoint"]
