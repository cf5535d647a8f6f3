"""Published weights: names, files and layouts become models.

`find("convnext_tiny.fb_in1k")` is one row of the registry: its architecture, its evaluation
transform, its accuracy, licence and sources.
"""

from keras_convnext.pretrained.download import DownloadError
from keras_convnext.pretrained.files.tensors import WeightsError
from keras_convnext.pretrained.registry import find, rows, search, tags
from keras_convnext.pretrained.resolve import open_checkpoint

__all__ = [
    "DownloadError",
    "WeightsError",
    "find",
    "open_checkpoint",
    "rows",
    "search",
    "tags",
]
