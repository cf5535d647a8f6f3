# Written by `make readme`: change the code, not this file.

from typing import Protocol

from keras_convnext import augmentation as augmentation
from keras_convnext import classifier as classifier
from keras_convnext import detection as detection
from keras_convnext import export as export
from keras_convnext import features as features
from keras_convnext import images as images
from keras_convnext import interpret as interpret
from keras_convnext import keras_hub as keras_hub
from keras_convnext import labels as labels
from keras_convnext import layers as layers
from keras_convnext import macs as macs
from keras_convnext import models as models
from keras_convnext import optimization as optimization
from keras_convnext import pictures as pictures
from keras_convnext import preprocessing as preprocessing
from keras_convnext import pretrained as pretrained
from keras_convnext import pretraining as pretraining
from keras_convnext import roadmap as roadmap
from keras_convnext import segmentation as segmentation
from keras_convnext import variants as variants
from keras_convnext.classifier import Classifier as Classifier
from keras_convnext.features import PyramidModel as PyramidModel
from keras_convnext.features import feature_model as feature_model
from keras_convnext.labels import decode_predictions as decode_predictions
from keras_convnext.layers import ConvNeXtBlock as ConvNeXtBlock
from keras_convnext.layers import GlobalResponseNormalization as GlobalResponseNormalization
from keras_convnext.layers import LayerScale as LayerScale
from keras_convnext.layers import SimpleNorm as SimpleNorm
from keras_convnext.layers import StochasticDepth as StochasticDepth
from keras_convnext.macs import count_macs as count_macs
from keras_convnext.memory import keep_freed_memory as keep_freed_memory
from keras_convnext.models import ConvNeXt as ConvNeXt
from keras_convnext.optimization import AdamW as AdamW
from keras_convnext.optimization import AverageWeights as AverageWeights
from keras_convnext.optimization import WarmupCosine as WarmupCosine
from keras_convnext.optimization import averaged_weights as averaged_weights
from keras_convnext.optimization import fine_tuning_optimizer as fine_tuning_optimizer
from keras_convnext.optimization import freeze_layers as freeze_layers
from keras_convnext.optimization import layer_groups as layer_groups
from keras_convnext.optimization import learning_rate_scales as learning_rate_scales
from keras_convnext.optimization import rematerialize as rematerialize
from keras_convnext.preprocessing import preprocess_input as preprocess_input
from keras_convnext.variants import VARIANTS as VARIANTS
from keras_convnext.variants import Variant as Variant

__version__: str
__all__ = [
    "__version__",
    "Classifier",
    "PyramidModel",
    "feature_model",
    "decode_predictions",
    "ConvNeXtBlock",
    "GlobalResponseNormalization",
    "LayerScale",
    "SimpleNorm",
    "StochasticDepth",
    "count_macs",
    "keep_freed_memory",
    "ConvNeXt",
    "ConvNeXtAtto",
    "ConvNeXtAttoOLS",
    "ConvNeXtBase",
    "ConvNeXtFemto",
    "ConvNeXtFemtoOLS",
    "ConvNeXtIsotropicBase",
    "ConvNeXtIsotropicLarge",
    "ConvNeXtIsotropicSmall",
    "ConvNeXtLarge",
    "ConvNeXtLargeMLP",
    "ConvNeXtNano",
    "ConvNeXtNanoOLS",
    "ConvNeXtPico",
    "ConvNeXtPicoOLS",
    "ConvNeXtSmall",
    "ConvNeXtTiny",
    "ConvNeXtTinyHNF",
    "ConvNeXtV2Atto",
    "ConvNeXtV2Base",
    "ConvNeXtV2Femto",
    "ConvNeXtV2Huge",
    "ConvNeXtV2Large",
    "ConvNeXtV2Nano",
    "ConvNeXtV2Pico",
    "ConvNeXtV2Small",
    "ConvNeXtV2Tiny",
    "ConvNeXtXLarge",
    "ConvNeXtXXLarge",
    "ConvNeXtZeptoRMS",
    "ConvNeXtZeptoRMSOLS",
    "AdamW",
    "AverageWeights",
    "WarmupCosine",
    "averaged_weights",
    "fine_tuning_optimizer",
    "freeze_layers",
    "layer_groups",
    "learning_rate_scales",
    "rematerialize",
    "preprocess_input",
    "VARIANTS",
    "Variant",
    "augmentation",
    "classifier",
    "detection",
    "export",
    "features",
    "images",
    "interpret",
    "labels",
    "layers",
    "macs",
    "models",
    "optimization",
    "pictures",
    "preprocessing",
    "pretrained",
    "pretraining",
    "roadmap",
    "segmentation",
    "variants",
]

class Factory(Protocol):
    def __call__(
        self,
        include_top=True,
        include_preprocessing=True,
        weights="imagenet",
        input_tensor=None,
        input_shape=None,
        pooling=None,
        classes=None,
        classifier_activation="softmax",
        name=None,
        *,
        drop_path_rate=0.0,
        head_init_scale=1.0,
        output_stride=None,
        stem_stride=None,
    ) -> PyramidModel: ...

ConvNeXtAtto: Factory
ConvNeXtAttoOLS: Factory
ConvNeXtBase: Factory
ConvNeXtFemto: Factory
ConvNeXtFemtoOLS: Factory
ConvNeXtIsotropicBase: Factory
ConvNeXtIsotropicLarge: Factory
ConvNeXtIsotropicSmall: Factory
ConvNeXtLarge: Factory
ConvNeXtLargeMLP: Factory
ConvNeXtNano: Factory
ConvNeXtNanoOLS: Factory
ConvNeXtPico: Factory
ConvNeXtPicoOLS: Factory
ConvNeXtSmall: Factory
ConvNeXtTiny: Factory
ConvNeXtTinyHNF: Factory
ConvNeXtV2Atto: Factory
ConvNeXtV2Base: Factory
ConvNeXtV2Femto: Factory
ConvNeXtV2Huge: Factory
ConvNeXtV2Large: Factory
ConvNeXtV2Nano: Factory
ConvNeXtV2Pico: Factory
ConvNeXtV2Small: Factory
ConvNeXtV2Tiny: Factory
ConvNeXtXLarge: Factory
ConvNeXtXXLarge: Factory
ConvNeXtZeptoRMS: Factory
ConvNeXtZeptoRMSOLS: Factory
