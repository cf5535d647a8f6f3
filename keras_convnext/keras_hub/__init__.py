"""ConvNeXts as KerasHub has its models: a backbone, tasks, their preprocessors and presets.

    from keras_convnext.keras_hub import ConvNeXtImageClassifier

    classifier = ConvNeXtImageClassifier.from_preset("convnext_tiny.fb_in1k", num_classes=5)
    classifier.fit(images, labels)
    classifier.save_to_preset("mine")

Published names are presets of the classes here. KerasHub's own, such as
`keras_hub.models.ImageClassifier`, read the folders that these have saved.
"""

try:
    import keras_hub as _keras_hub  # noqa: F401
except ModuleNotFoundError as error:
    if error.name != "keras_hub":
        raise
    raise ModuleNotFoundError(
        "`keras_convnext.keras_hub` needs KerasHub, which is not installed: "
        'pip install "keras-convnext[keras-hub]"',
        name=error.name,
    ) from None

from keras_convnext.keras_hub.backbone import ConvNeXtBackbone
from keras_convnext.keras_hub.classifier import (
    ConvNeXtImageClassifier,
    ConvNeXtImageClassifierPreprocessor,
)
from keras_convnext.keras_hub.image_converter import ConvNeXtImageConverter
from keras_convnext.keras_hub.segmenter import (
    UperNetImageSegmenter,
    UperNetImageSegmenterPreprocessor,
)

__all__ = [
    "ConvNeXtBackbone",
    "ConvNeXtImageClassifier",
    "ConvNeXtImageClassifierPreprocessor",
    "ConvNeXtImageConverter",
    "UperNetImageSegmenter",
    "UperNetImageSegmenterPreprocessor",
]
