"""ConvNeXt for Keras 3, on TensorFlow, JAX and PyTorch."""

from keras_convnext import deprecation, interpret, models, roadmap
from keras_convnext.classifier import Classifier
from keras_convnext.features import PyramidModel, feature_model
from keras_convnext.labels import decode_predictions
from keras_convnext.layers import (
    ConvNeXtBlock,
    GlobalResponseNormalization,
    LayerScale,
    SimpleNorm,
    StochasticDepth,
)
from keras_convnext.macs import count_macs
from keras_convnext.models import (
    ConvNeXt,
    ConvNeXtAtto,
    ConvNeXtAttoOLS,
    ConvNeXtBase,
    ConvNeXtFemto,
    ConvNeXtFemtoOLS,
    ConvNeXtIsotropicBase,
    ConvNeXtIsotropicLarge,
    ConvNeXtIsotropicSmall,
    ConvNeXtLarge,
    ConvNeXtLargeMLP,
    ConvNeXtNano,
    ConvNeXtNanoOLS,
    ConvNeXtPico,
    ConvNeXtPicoOLS,
    ConvNeXtSmall,
    ConvNeXtTiny,
    ConvNeXtTinyHNF,
    ConvNeXtV2Atto,
    ConvNeXtV2Base,
    ConvNeXtV2Femto,
    ConvNeXtV2Huge,
    ConvNeXtV2Large,
    ConvNeXtV2Nano,
    ConvNeXtV2Pico,
    ConvNeXtV2Small,
    ConvNeXtV2Tiny,
    ConvNeXtXLarge,
    ConvNeXtXXLarge,
    ConvNeXtZeptoRMS,
    ConvNeXtZeptoRMSOLS,
)
from keras_convnext.optimization import (
    AdamW,
    AverageWeights,
    WarmupCosine,
    averaged_weights,
    fine_tuning_optimizer,
    freeze_layers,
    layer_groups,
    learning_rate_scales,
)
from keras_convnext.preprocessing import preprocess_input
from keras_convnext.variants import VARIANTS, Variant
from keras_convnext.version import __version__

_renamed = deprecation.renamed(__name__, {"fine_tune": "fine_tuning_optimizer"})


def __getattr__(name):
    return models.test_model(name) if name in models.TEST_MODELS else _renamed(name)
