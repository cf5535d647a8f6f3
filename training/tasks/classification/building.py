"""Builds what `fit` needs for a classifier: batches, network, optimizer and objective."""

import dataclasses

import keras
import numpy as np

from keras_convnext import ConvNeXt, roadmap
from keras_convnext.augmentation import KerasCV, NoAugmentation, PaperAugmentation
from keras_convnext.optimization import learning_rate_scales
from keras_convnext.preprocessing import EvalTransform

from ... import data
from ...data import stream
from ...run import replicas
from ...run.batches import Batches
from ...run.compiling import channels_of

# The fields of a configuration that an augmentation takes as they are.
AUGMENTATION = (
    "crop_scale",
    "padding",
    "flip",
    "rand_augment",
    "erase",
    "mixup",
    "cutmix",
    "label_smoothing",
)


def load(config):
    """Returns the Dataset that a configuration names.

    Raises:
        DataError: if it is not there or not usable.
    """
    return data.of_config(vars(config))


class Pipeline(Batches):
    """The batches of a classifier's run; arguments as of `Batches`."""

    def __init__(self, config, dataset, devices, steps_per_epoch):
        self.classes = len(dataset.class_names)
        super().__init__(
            config,
            dataset,
            devices,
            steps_per_epoch,
            augmentation(config, dataset),
            stream.BadImages(dataset.train),
            class_weights(dataset.train, self.classes) if config.class_weights else None,
        )

    def validation(self):
        """Returns (images, one-hot labels, weights): each image once, in batches of equal size."""
        import tensorflow as tf

        split, batch = self.dataset.validation, self.config.micro_batch
        batches = stream.evaluation_batches(
            split, evaluation_transform(self.config, self.dataset), batch, self.devices.part
        )
        return self.devices.dataset(
            batches.map(
                lambda images, labels, weights: (
                    images,
                    tf.one_hot(labels, self.classes),
                    weights * self.validation_weight,
                )
            )
        )


def augmentation(config, dataset):
    """Returns what makes training images and batches of a dataset's examples."""
    size, classes, channels = config.image_size, len(dataset.class_names), channels_of(dataset)
    if config.augmentation == "none":
        return NoAugmentation(
            size, classes, channels=channels, label_smoothing=config.label_smoothing
        )
    kind = {"exact": PaperAugmentation, "keras_cv": KerasCV}[config.augmentation]
    return kind(
        size,
        classes,
        channels=channels,
        mean=config.variant.mean,
        std=config.variant.std,
        **{name: getattr(config, name) for name in AUGMENTATION},
    )


def evaluation_transform(config, dataset):
    """Returns the paper's evaluation at this size; `None` for images that have it already."""
    size = config.image_size
    if dataset.validation.image_shape[:2] == (size, size):
        return None
    return EvalTransform(size, 0.875) if size < 384 else EvalTransform(size, resize="squash")


def transform_fields(config, dataset):
    """Returns the fields of the `EvalTransform` with which photos are prepared as in validation."""
    transform = evaluation_transform(config, dataset) or EvalTransform(config.image_size, 1.0)
    fields = dataclasses.asdict(transform)
    fields["upright"] = getattr(dataset.train, "upright", True)  # as photos are by default
    return {name: value for name, value in fields.items() if value is not None}


def class_weights(split, classes):
    """Returns (classes,) float32: n / (classes * n of the class), 0 for a class without images."""
    labels = split.all_labels()
    counts = np.bincount(labels, minlength=classes)
    return np.divide(
        len(labels), len(counts) * counts, out=np.zeros(len(counts), "float32"), where=counts > 0
    ).astype("float32")


def network(config, classes, channels=3, activation=None):
    """Returns the model of a configuration: of logits, or with "softmax" of probabilities."""
    arguments = {
        "input_shape": (config.image_size, config.image_size, channels),
        "classes": classes,
        "classifier_activation": activation,
        "drop_path_rate": config.drop_path_rate,
    }
    if config.step is not None:
        stride = config.stem_stride or config.variant.stem_stride
        regime = config.road or "resnet50"
        return roadmap.build(config.step, regime, stem_stride=stride, **arguments)
    return ConvNeXt(
        config.variant,
        weights=config.weights,
        head_init_scale=config.head_init_scale,
        stem_stride=config.stem_stride,
        **arguments,
    )


def served(config, classes, channels):
    """Returns the model that a run leaves, of probabilities."""
    return network(config, classes, channels, activation="softmax")


def objective(plan):
    """Returns the loss and the metrics of a plan, as arguments of `compile`."""
    return {
        "loss": keras.losses.CategoricalCrossentropy(from_logits=True),
        "weighted_metrics": [keras.metrics.CategoricalAccuracy(name="accuracy")],
    }


scores = None  # `evaluate` measures everything


def optimizer(plan, model, devices):
    """Returns the paper's AdamW (section 3.1 and Appendix A) as the configuration asks for it."""
    decay, each = plan.config.layer_decay, plan.config.decay_each_block
    scales = learning_rate_scales(model, decay, each) if decay < 1 else None
    return replicas.adamw(plan, plan.schedule(), scales, devices)
