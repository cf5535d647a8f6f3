"""Optimization: learning rates, AdamW, averaged weights, fine-tuning."""

from keras_convnext.optimization.adamw import AdamW
from keras_convnext.optimization.averages import AverageWeights, averaged_weights
from keras_convnext.optimization.fine_tuning import fine_tuning_optimizer, freeze_layers
from keras_convnext.optimization.layer_wise import (
    layer_groups,
    learning_rate_scales,
    stage_wise_scales,
)
from keras_convnext.optimization.rematerialization import rematerialize
from keras_convnext.optimization.schedules import WarmupCosine, WarmupPolynomial, WarmupSteps

__all__ = [
    "AdamW",
    "AverageWeights",
    "WarmupCosine",
    "WarmupPolynomial",
    "WarmupSteps",
    "averaged_weights",
    "fine_tuning_optimizer",
    "freeze_layers",
    "layer_groups",
    "learning_rate_scales",
    "rematerialize",
    "stage_wise_scales",
]
