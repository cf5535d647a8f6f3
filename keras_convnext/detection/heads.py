"""The layers behind the ConvNeXt of a detector: pyramid, region proposals, boxes and masks.

All of them work on channels_last maps; the layer names are the names of the published modules.
Sources: arXiv 1612.03144 (feature pyramid), 1506.01497 (region proposals), 1703.06870 (Mask R-CNN),
1906.09756 (Cascade R-CNN); arXiv 2201.03545, section 4 and Appendix A.3 (with a ConvNeXt).
"""

import keras
from keras import ops

from keras_convnext import checks
from keras_convnext.layers import Composite, ConvNormReLU
from keras_convnext.layers.initializers import he_of_outputs

serializable = keras.saving.register_keras_serializable(package="keras_convnext")

BOX_SIDE, MASK_SIDE = 7, 14  # pixels of the maps that the heads are given for each box
ANCHORS = 3  # per pixel of a map


def _normal(stddev):
    return keras.initializers.RandomNormal(stddev=stddev)


class _Head(Composite):
    """A layer of convolutions and dense layers."""

    def _conv(self, filters, kernel_size, name, initializer="glorot_uniform", dtype=None):
        return self.inner_layer(
            keras.layers.Conv2D(
                filters,
                kernel_size,
                padding="same",
                data_format="channels_last",
                kernel_initializer=initializer,
                name=name,
                dtype=dtype or self.dtype_policy,
            )
        )

    def _dense(self, units, name, initializer="glorot_uniform", dtype=None):
        dtype = dtype or self.dtype_policy
        return self.inner_layer(
            keras.layers.Dense(units, kernel_initializer=initializer, name=name, dtype=dtype)
        )

    @property
    def _float32(self):
        """The dtype of what ends in logits and deltas: of the weights in mixed precision."""
        return self.dtype_policy.variable_dtype


@serializable
class FeaturePyramid(_Head):
    """A pyramid of maps of equal width, each with the coarser ones added to it.

    `lateral0` ... (1x1) and `output0` ... (3x3), without norm and activation; nearest neighbours
    enlarge the coarser maps.

    Args:
        channels: number of channels of the maps.

    Called with a list of maps `(batch, h, w, c)` from fine to coarse, each half as large as the one
    before; returns a list of maps `(batch, h, w, channels)` with one map more, every second pixel
    of the coarsest one.

    Raises:
        ValueError: if `channels` is no integer >= 1.

    Example:
        import keras
        from keras_convnext.detection import FeaturePyramid
        maps = [keras.ops.ones((1, 16, 16, 8)), keras.ops.ones((1, 8, 8, 16))]
        fine, coarse, coarsest = FeaturePyramid(channels=4)(maps)
        coarsest.shape  # (1, 4, 4, 4)
    """

    def __init__(self, channels=256, **kwargs):
        super().__init__(**kwargs)
        self.channels = checks.integer("channels", channels, 1)

    def build(self, input_shape):
        levels = range(len(input_shape))
        self.laterals = [self._conv(self.channels, 1, f"lateral{n}") for n in levels]
        self.outputs = [self._conv(self.channels, 3, f"output{n}") for n in levels]
        for lateral, output, shape in zip(self.laterals, self.outputs, input_shape, strict=True):
            lateral.build(shape)
            output.build((*shape[:-1], self.channels))

    def call(self, inputs):
        maps = [lateral(x) for lateral, x in zip(self.laterals, inputs, strict=True)]
        for level in reversed(range(len(maps) - 1)):
            maps[level] = maps[level] + _twice_as_large(maps[level + 1])
        maps = [output(x) for output, x in zip(self.outputs, maps, strict=True)]
        return [*maps, maps[-1][:, ::2, ::2]]

    def compute_output_shape(self, input_shape):
        batch, h, w, _ = input_shape[-1]
        coarsest = (batch, h and (h + 1) // 2, w and (w + 1) // 2, self.channels)
        return [*((*shape[:-1], self.channels) for shape in input_shape), coarsest]

    def get_config(self):
        return {**super().get_config(), "channels": self.channels}


def _twice_as_large(x):
    return ops.repeat(ops.repeat(x, 2, axis=1), 2, axis=2)


@serializable
class RegionProposalHead(_Head):
    """Scores and deltas of the anchors of a map: `conv` (3x3), `classifier`, `regressor` (1x1).

    Args:
        channels: number of channels of the 3x3 convolution.
        anchors: number of anchors per pixel.

    Input: a map `(batch, h, w, c)` of any level; output: logits `(batch, h * w * anchors)` and
    deltas `(batch, h * w * anchors, 4)`, float32, in the order of `anchors()`.

    Raises:
        ValueError: if an argument is no integer >= 1.

    Example:
        import keras
        from keras_convnext.detection import RegionProposalHead
        logits, deltas = RegionProposalHead(channels=8)(keras.ops.ones((1, 4, 6, 8)))
        logits.shape  # (1, 72)
        deltas.shape  # (1, 72, 4)
    """

    def __init__(self, channels=256, anchors=ANCHORS, **kwargs):
        super().__init__(**kwargs)
        self.channels = checks.integer("channels", channels, 1)
        self.anchors = checks.integer("anchors", anchors, 1)
        self.conv = self._conv(channels, 3, "conv", _normal(0.01))
        self.classifier = self._conv(anchors, 1, "classifier", _normal(0.01), self._float32)
        self.regressor = self._conv(4 * anchors, 1, "regressor", _normal(0.01), self._float32)

    def build(self, input_shape):
        self.conv.build(input_shape)
        for layer in (self.classifier, self.regressor):
            layer.build((*input_shape[:-1], self.channels))

    def call(self, inputs):
        x = ops.relu(self.conv(inputs))
        batch = ops.shape(x)[0]
        deltas = ops.reshape(self.regressor(x), (batch, -1, 4))
        return ops.reshape(self.classifier(x), (batch, -1)), deltas

    def compute_output_shape(self, input_shape):
        batch, h, w, _ = input_shape
        count = None if None in (h, w) else h * w * self.anchors
        return (batch, count), (batch, count, 4)

    def get_config(self):
        return {**super().get_config(), "channels": self.channels, "anchors": self.anchors}


@serializable
class BoxHead(_Head):
    """The class of what is in a box, and how the box is to be moved for each class.

    `conv0` ... (3x3 with batch normalization and ReLU), `dense0` ... (ReLU), `classifier`,
    `regressor`.

    Args:
        classes: number of classes, without the background.
        convolutions: number of convolutions.
        channels: number of their channels.
        dense: number of dense layers.
        units: their width.

    Input: maps `(boxes, side, side, c)`, and in training perhaps `used` of shape `(boxes,)`, which
    of them the statistics of the batch normalization are taken over. Output: logits `(boxes,
    classes + 1)`, the background last, and deltas `(boxes, classes, 4)`, float32.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        import keras
        from keras_convnext.detection import BoxHead
        head = BoxHead(classes=3, units=16)
        logits, deltas = head(keras.ops.ones((5, 7, 7, 8)))  # of five boxes
        logits.shape  # (5, 4)
        deltas.shape  # (5, 3, 4)
    """

    def __init__(self, classes, convolutions=0, channels=256, dense=2, units=1024, **kwargs):
        super().__init__(**kwargs)
        self.classes = checks.integer("classes", classes, 1)
        self.channels = checks.integer("channels", channels, 1)
        self.units = checks.integer("units", units, 1)
        self.convolutions = [
            self.inner_layer(ConvNormReLU(channels, 3, name=f"conv{n}", dtype=self.dtype_policy))
            for n in range(checks.integer("convolutions", convolutions, 0))
        ]
        self.dense = [
            self._dense(units, f"dense{n}") for n in range(checks.integer("dense", dense, 1))
        ]
        self.classifier = self._dense(classes + 1, "classifier", _normal(0.01), self._float32)
        self.regressor = self._dense(4 * classes, "regressor", _normal(0.001), self._float32)

    def build(self, input_shape):
        boxes, height, width, channels = input_shape
        for layer in self.convolutions:
            layer.build((boxes, height, width, channels))
            channels = self.channels
        size = height * width * channels
        for layer in self.dense:
            layer.build((boxes, size))
            size = self.units
        for layer in (self.classifier, self.regressor):
            layer.build((boxes, size))

    def call(self, inputs, training=False, used=None):
        x = inputs
        for layer in self.convolutions:
            x = layer(x, training=training, used=used)
        _, height, width, channels = x.shape
        x = ops.reshape(x, (-1, height * width * channels))
        for layer in self.dense:
            x = ops.relu(layer(x))
        return self.classifier(x), ops.reshape(self.regressor(x), (-1, self.classes, 4))

    def compute_output_shape(self, input_shape, used=None):
        boxes = input_shape[0]
        return (boxes, self.classes + 1), (boxes, self.classes, 4)

    def get_config(self):
        fields = {
            "classes": self.classes,
            "convolutions": len(self.convolutions),
            "channels": self.channels,
            "dense": len(self.dense),
            "units": self.units,
        }
        return {**super().get_config(), **fields}


@serializable
class MaskHead(_Head):
    """A mask of each class for what is in a box.

    `conv0` ... (3x3, ReLU), `upsample` (2x2 transposed, stride 2, ReLU), `classifier` (1x1).

    Args:
        classes: number of classes.
        convolutions: number of the 3x3 convolutions.
        channels: number of their channels.

    Input: maps `(boxes, side, side, c)`; output: logits `(boxes, 2 * side, 2 * side, classes)`,
    float32.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        import keras
        from keras_convnext.detection import MaskHead
        head = MaskHead(classes=3, convolutions=1, channels=8)
        head(keras.ops.ones((5, 14, 14, 8))).shape  # (5, 28, 28, 3)
    """

    def __init__(self, classes, convolutions=4, channels=256, **kwargs):
        super().__init__(**kwargs)
        self.classes = checks.integer("classes", classes, 1)
        self.channels = checks.integer("channels", channels, 1)
        count = checks.integer("convolutions", convolutions, 0)
        self.convolutions = [
            self._conv(channels, 3, f"conv{n}", he_of_outputs()) for n in range(count)
        ]
        self.upsample = self.inner_layer(
            keras.layers.Conv2DTranspose(
                channels,
                2,
                2,
                data_format="channels_last",
                kernel_initializer=he_of_outputs(),
                name="upsample",
                dtype=self.dtype_policy,
            )
        )
        self.classifier = self._conv(classes, 1, "classifier", he_of_outputs(), self._float32)

    def build(self, input_shape):
        *sides, channels = input_shape
        for layer in (*self.convolutions, self.upsample, self.classifier):
            layer.build((*sides, channels))
            channels = self.channels

    def call(self, inputs):
        x = inputs
        for layer in self.convolutions:
            x = ops.relu(layer(x))
        return self.classifier(ops.relu(self.upsample(x)))

    def compute_output_shape(self, input_shape):
        boxes, height, width, _ = input_shape
        return (boxes, 2 * height, 2 * width, self.classes)

    def get_config(self):
        fields = {
            "classes": self.classes,
            "convolutions": len(self.convolutions),
            "channels": self.channels,
        }
        return {**super().get_config(), **fields}
