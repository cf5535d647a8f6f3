"""ConvNeXt's classifier as a task of KerasHub."""

import keras
from keras_hub.models import ImageClassifier, ImageClassifierPreprocessor, Task
from keras_hub.src.utils.preset_utils import PREPROCESSOR_CONFIG_FILE

from keras_convnext import names
from keras_convnext.checks import integer, one_of
from keras_convnext.keras_hub.backbone import ConvNeXtBackbone
from keras_convnext.keras_hub.image_converter import ConvNeXtImageConverter
from keras_convnext.keras_hub.presets import WeightsLoader, load, published
from keras_convnext.layers import ACTIVATIONS, NORMS
from keras_convnext.layers.initializers import kernel_initializer

POOLINGS = {
    "avg": keras.layers.GlobalAveragePooling2D,
    "max": keras.layers.GlobalMaxPooling2D,
}


@keras.saving.register_keras_serializable(package="keras_convnext")
class ConvNeXtImageClassifierPreprocessor(ImageClassifierPreprocessor):
    """Resizes, crops and normalises images for a `ConvNeXtImageClassifier`.

    Args:
        image_converter: a `ConvNeXtImageConverter`; `None` leaves the images as they are.
        **kwargs: others of `keras_hub.models.ImageClassifierPreprocessor`.

    Called with images, or with images, labels and weights of samples, which are returned as they
    are.

    Example:
        # pip install "keras-convnext[keras-hub]"
        import numpy as np
        from keras_convnext.keras_hub import ConvNeXtImageClassifierPreprocessor
        prepare = ConvNeXtImageClassifierPreprocessor.from_preset("convnext_tiny.fb_in1k")
        images, labels = prepare(np.zeros((2, 480, 640, 3), "uint8"), [0, 4])
    """

    backbone_cls = ConvNeXtBackbone
    image_converter_cls = ConvNeXtImageConverter
    presets = published("classification")

    @classmethod
    def from_preset(cls, preset, config_file=PREPROCESSOR_CONFIG_FILE, **kwargs):
        """Returns the preprocessor of a preset: see `ConvNeXtBackbone.from_preset`."""
        how = WeightsLoader.load_preprocessor
        return load(how, cls, super().from_preset, preset, config_file, **kwargs)


@keras.saving.register_keras_serializable(package="keras_convnext")
class ConvNeXtImageClassifier(ImageClassifier):
    """A ConvNeXt with its classifier, as `ConvNeXt` has it, for any images.

    Args:
        backbone: a `ConvNeXtBackbone`.
        num_classes: number of classes.
        preprocessor: a `ConvNeXtImageClassifierPreprocessor`, another layer or function of images,
            or `None` where they are normalised already.
        pooling: "avg" or "max".
        activation: of the outputs: `None` for logits, "softmax" for probabilities.
        dropout: rate before the classifier, in [0, 1).
        head_dtype: dtype policy from the pooling on. `None`: that of the backbone's weights, so
            that sums are taken in float32 under mixed precision.
        **kwargs: `name`, `trainable`, and `compile=False` for a model that is not compiled.

    Called with images as the preprocessor gives them; returns `(batch, num_classes)`. `fit`,
    `predict` and `evaluate` take raw images, `(n, height, width, 3)` in [0, 255].

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        # pip install "keras-convnext[keras-hub]"
        import numpy as np
        from keras_convnext.keras_hub import ConvNeXtImageClassifier
        classifier = ConvNeXtImageClassifier.from_preset("convnext_tiny.fb_in1k")
        logits = classifier.predict(np.zeros((2, 480, 640, 3), "uint8"))
        logits.shape  # (2, 1000)
    """

    backbone_cls = ConvNeXtBackbone
    preprocessor_cls = ConvNeXtImageClassifierPreprocessor
    presets = published("classification")

    def __init__(
        self,
        backbone,
        num_classes,
        preprocessor=None,
        pooling="avg",
        activation=None,
        dropout=0.0,
        head_dtype=None,
        **kwargs,
    ):
        integer("num_classes", num_classes, 1)
        one_of("pooling", pooling, tuple(POOLINGS))
        head_dtype = head_dtype or backbone.dtype_policy.variable_dtype
        self.backbone = backbone
        self.preprocessor = preprocessor
        x = backbone(backbone.input)
        for layer in _layers(backbone, num_classes, pooling, activation, dropout, head_dtype):
            x = layer(x)
        # KerasHub's classifier has no norm: its own layers are passed over
        Task.__init__(self, inputs=backbone.input, outputs=x, **kwargs)
        self.num_classes = num_classes
        self.pooling = pooling
        self.activation = activation
        self.dropout = dropout

    @staticmethod
    def _of_weights(loader, anew):
        """Returns the arguments that are as a file has its layers, unless the classifier is new.

        Raises:
            ValueError: if it is of no classifier.
        """
        if not anew and not loader.classes:
            raise ValueError(
                f"{loader.preset} has no classifier: pass `num_classes=` for a new one."
            )
        return {} if anew else {"num_classes": loader.classes}

    def _fill(self, loader, anew):
        """Loads the weights of a file, but those of the classifier where it is new."""
        before_it = keras.Model(self.input, self.get_layer(names.HEAD).input)
        loader.weights.checkpoint.load_into(before_it if anew else self)

    @classmethod
    def from_preset(cls, preset, load_weights=True, **kwargs):
        """Returns the classifier of a preset.

        Args:
            preset: as of `ConvNeXtBackbone.from_preset`.
            load_weights: whether the weights are loaded; else they are random.
            **kwargs: arguments of the class in place of the preset's, and those of the backbone.
                With `num_classes` the classifier begins anew.

        Raises:
            ValueError: if no preset has that name, it cannot be read, or it has no classifier and
                `num_classes` is not given.
            DownloadError: (an OSError) if weights could not be fetched.
        """
        keras_hubs = super().from_preset
        how = WeightsLoader.load_task
        return load(how, cls, keras_hubs, preset, load_weights, **kwargs)


def _layers(backbone, num_classes, pooling, activation, dropout, dtype):
    """Returns the layers behind a backbone, in the order of its variant."""
    variant = backbone.variant
    pool = POOLINGS[pooling]("channels_last", dtype=dtype, name="pooler")
    norm = NORMS[variant.norm](epsilon=variant.epsilon, dtype=dtype, name=names.HEAD_NORM)
    layers = [norm, pool] if variant.head_norm_first else [pool, norm]
    if backbone.data_format == "channels_first":
        layers.insert(0, keras.layers.Permute((2, 3, 1), name="to_channels_last"))
    if variant.head_hidden is not None:
        layers.append(
            _dense(variant.head_hidden, ACTIVATIONS[variant.activation], dtype, names.HEAD_HIDDEN)
        )
    layers.append(keras.layers.Dropout(dropout, dtype=dtype, name="output_dropout"))
    bias = variant.head_bias
    return [*layers, _dense(num_classes, activation, dtype, names.HEAD, use_bias=bias)]


def _dense(units, activation, dtype, name, **kwargs):
    kwargs |= {"kernel_initializer": kernel_initializer(), "dtype": dtype, "name": name}
    return keras.layers.Dense(units, activation, **kwargs)
