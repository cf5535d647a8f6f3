"""The heads of UperNet, as layers. They work on channels_last maps of any size.

Sources: T. Xiao et al., "Unified Perceptual Parsing for Scene Understanding", ECCV 2018, arXiv
1807.10221 (the head); arXiv 2201.03545, section 4 and Appendix A.3 (with a ConvNeXt).
"""

import keras
from keras import ops

from keras_convnext import checks
from keras_convnext.layers import Composite, ConvNormReLU, StochasticDepth
from keras_convnext.segmentation.resampling import AdaptiveAveragePooling, resize_to

serializable = keras.saving.register_keras_serializable(package="keras_convnext")

CLASSIFIER_STD = 0.01


@serializable
class ChannelDropout(StochasticDepth):
    """Drops whole channels of whole samples while training, and scales up the others.

    As `keras.layers.SpatialDropout2D`, but its state has a stable name, is saved with the model,
    and replicas drop different channels. Arguments, input and output as of `StochasticDepth`.
    """

    def call(self, inputs, training=False):
        if not training or not self.rate:
            return inputs
        batch, *sides, channels = ops.shape(inputs)
        shape = (batch, *(1 for _ in sides), channels)
        kept = keras.random.uniform(shape, dtype="float32", seed=self.seed_generator) >= self.rate
        return inputs * ops.cast(ops.cast(kept, "float32") / (1 - self.rate), inputs.dtype)


class _Head(Composite):
    """The end of a head: whole channels are dropped, then each pixel is classified in float32."""

    def __init__(self, classes, channels, dropout, **kwargs):
        super().__init__(**kwargs)
        self.classes = classes = checks.integer("classes", classes, 1)
        self.channels = channels = checks.integer("channels", channels, 1)
        self.dropout_rate = dropout = checks.number("dropout", dropout, least=0, below=1)
        self.dropout = self.inner_layer(
            ChannelDropout(dropout, name="dropout", dtype=self.dtype_policy)
        )
        self.classifier = self.inner_layer(
            keras.layers.Conv2D(
                classes,
                1,
                data_format="channels_last",
                kernel_initializer=keras.initializers.RandomNormal(stddev=CLASSIFIER_STD),
                name="classifier",
                dtype=self.dtype_policy.variable_dtype,
            )
        )

    def _classified(self, x, training):
        return self.classifier(self.dropout(x, training=training))

    def get_config(self):
        fields = {"classes": self.classes, "channels": self.channels, "dropout": self.dropout_rate}
        return {**super().get_config(), **fields}


@serializable
class UperNetHead(_Head):
    """Pyramid pooling on the coarsest map, a feature pyramid downwards, all levels fused.

    `psp0` to `psp3` (a 1x1 convolution of each pooled map), `bottleneck` (3x3), `lateral0` ...
    (1x1), `fpn0` ... (3x3), `fpn_bottleneck` (3x3), `classifier`.

    Args:
        classes: number of classes.
        channels: number of channels of every convolution but the last.
        dropout: rate at which whole channels are dropped before the classifier, in [0, 1).
        pool_scales: sides of the pooled maps.

    Called with a list of maps `(batch, h, w, channels)`, from fine to coarse, two or more; returns
    logits `(batch, h of the first, w of the first, classes)`, float32.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        import keras
        from keras_convnext.segmentation import UperNetHead
        maps = [keras.ops.ones((1, 16, 16, 8)), keras.ops.ones((1, 8, 8, 16))]
        UperNetHead(classes=3, channels=8)(maps).shape  # (1, 16, 16, 3)
    """

    def __init__(self, classes, channels=512, dropout=0.1, pool_scales=(1, 2, 3, 6), **kwargs):
        super().__init__(classes, channels, dropout, **kwargs)
        self.pool_scales = tuple(pool_scales)
        self.pools = [AdaptiveAveragePooling(s, dtype=self.dtype_policy) for s in self.pool_scales]
        self.psp = self._row_of(len(self.pools), 1, "psp")
        self.bottleneck = self._part(3, "bottleneck")
        self.fpn_bottleneck = self._part(3, "fpn_bottleneck")

    def _part(self, kernel_size, name):
        part = ConvNormReLU(self.channels, kernel_size, name=name, dtype=self.dtype_policy)
        return self.inner_layer(part)

    def _row_of(self, count, kernel_size, name):
        return [self._part(kernel_size, f"{name}{number}") for number in range(count)]

    def build(self, input_shape):
        *fine, coarse = input_shape
        if not fine:
            raise ValueError("UperNetHead needs the maps of two levels at least, received one.")
        self.laterals, self.fpn = (
            self._row_of(len(fine), side, name) for side, name in ((1, "lateral"), (3, "fpn"))
        )
        width, map_shape = self.channels, tuple(fine[0][:-1])
        for module in (*self.pools, *self.psp):
            module.build(coarse)
        self.bottleneck.build((*coarse[:-1], coarse[-1] + width * len(self.psp)))
        for module, shape in zip(self.laterals, fine, strict=True):
            module.build(shape)
        for module in (*self.fpn, self.dropout, self.classifier):
            module.build((*map_shape, width))
        self.fpn_bottleneck.build((*map_shape, width * len(input_shape)))

    def call(self, inputs, training=False):
        *fine, coarse = inputs
        levels = _each(self.laterals, fine, training)
        levels.append(self._pyramid_pooling(coarse, training))
        for number in reversed(range(len(fine))):
            levels[number] = levels[number] + _resized_like(levels[number + 1], levels[number])
        levels[:-1] = _each(self.fpn, levels[:-1], training)
        levels = [levels[0], *(_resized_like(x, levels[0]) for x in levels[1:])]
        x = self.fpn_bottleneck(ops.concatenate(levels, axis=-1), training=training)
        return self._classified(x, training)

    def _pyramid_pooling(self, x, training):
        pooled = _each(self.psp, [pool(x) for pool in self.pools], training)
        maps = [x, *(_resized_like(part, x) for part in pooled)]
        return self.bottleneck(ops.concatenate(maps, axis=-1), training=training)

    def compute_output_shape(self, input_shape):
        return (*input_shape[0][:-1], self.classes)

    def get_config(self):
        return {**super().get_config(), "pool_scales": self.pool_scales}


def _each(modules, maps, training):
    return [module(x, training=training) for module, x in zip(modules, maps, strict=True)]


def _resized_like(x, reference):
    return resize_to(x, *ops.shape(reference)[1:3])


@serializable
class AuxiliaryHead(_Head):
    """A 3x3 convolution and a classifier on the map of stride 16, for training alone.

    Args:
        classes: number of classes.
        channels: number of channels of the convolution.
        dropout: rate at which whole channels are dropped before the classifier, in [0, 1).
        loss_weight: factor on its loss, which is then added to the loss of the other head.

    Input: `(batch, h, w, channels)`; output: logits `(batch, h, w, classes)`, float32.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        import keras
        from keras_convnext.segmentation import AuxiliaryHead
        AuxiliaryHead(classes=3, channels=8)(keras.ops.ones((1, 4, 4, 16))).shape  # (1, 4, 4, 3)
    """

    def __init__(self, classes, channels=256, dropout=0.1, loss_weight=0.4, **kwargs):
        super().__init__(classes, channels, dropout, **kwargs)
        self.loss_weight = loss_weight
        self.conv0 = self.inner_layer(
            ConvNormReLU(channels, 3, name="conv0", dtype=self.dtype_policy)
        )

    def build(self, input_shape):
        self.conv0.build(input_shape)
        for module in (self.dropout, self.classifier):
            module.build((*input_shape[:-1], self.channels))

    def call(self, inputs, training=False):
        return self._classified(self.conv0(inputs, training=training), training)

    def compute_output_shape(self, input_shape):
        return (*input_shape[:-1], self.classes)

    def get_config(self):
        return {**super().get_config(), "loss_weight": self.loss_weight}
