"""The layers of ConvNeXt and ConvNeXt V2. All of them work on channels_last feature maps."""

from keras_convnext.layers.activations import ACTIVATIONS
from keras_convnext.layers.block import ConvNeXtBlock
from keras_convnext.layers.chain import Chain
from keras_convnext.layers.composite import Composite
from keras_convnext.layers.conv_norm_relu import ConvNormReLU
from keras_convnext.layers.convolutions import DepthwiseConv2D, PatchConv2D, PointwiseConv
from keras_convnext.layers.initializers import (
    KernelInitializer,
    kernel_initializer,
    kernels_will_be_loaded,
    scale_to_inputs,
)
from keras_convnext.layers.norms import (
    NORMS,
    GlobalResponseNormalization,
    LayerNormalization,
    SimpleNorm,
)
from keras_convnext.layers.residual import (
    LayerScale,
    ReplicaSeedGenerator,
    Seeded,
    StochasticDepth,
)

__all__ = [
    "ACTIVATIONS",
    "NORMS",
    "Chain",
    "Composite",
    "ConvNeXtBlock",
    "ConvNormReLU",
    "DepthwiseConv2D",
    "GlobalResponseNormalization",
    "KernelInitializer",
    "LayerNormalization",
    "LayerScale",
    "PatchConv2D",
    "PointwiseConv",
    "ReplicaSeedGenerator",
    "Seeded",
    "SimpleNorm",
    "StochasticDepth",
    "kernel_initializer",
    "kernels_will_be_loaded",
    "scale_to_inputs",
]
