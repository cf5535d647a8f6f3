"""A configuration becomes what `fit` needs: pipelines and a compiled model."""

import keras
import numpy as np

from keras_convnext import ConvNeXt, freeze_layers
from keras_convnext.augmentation import Exact, KerasCV, Plain
from keras_convnext.initialization import scale_to_inputs
from keras_convnext.optimization import WarmupCosine, learning_rate_scales
from keras_convnext.preprocessing import EvalTransform
from keras_convnext.roadmap import roadmap
from training.data import stream
from training.run import replicas

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
JIT = {"auto": "auto", "on": True, "off": False}


class Batches:
    """The training batches of a run, whatever it learns.

    Args:
        config: a `training.run.config.Run`.
        dataset: a `training.data.Dataset`.
        devices: a `Distribution`.
        steps_per_epoch: micro-batches per epoch.
        augment: has `image` and `batch`, as `augmentation.Exact`.
        bad_images: counts the images that it cannot take, for the whole run.
        weights: of the classes, or `None`.
    """

    def __init__(
        self, config, dataset, devices, steps_per_epoch, augment, bad_images, weights=None
    ):
        self.config, self.dataset, self.devices = config, dataset, devices
        self.steps_per_epoch = steps_per_epoch
        self.augment, self.bad_images, self.weights = augment, bad_images, weights

    def training(self, epoch, start_step=0):
        """-> what `augment.batch` returns, for the rest of an epoch: a pure function of the seed,
        the epoch and the step."""
        batches = stream.batches(
            self.dataset.train,
            self.augment,
            self.augment.batch,
            self.config.micro_batch,
            seed=self.config.seed,
            epoch=epoch,
            start_step=start_step,
            steps=self.steps_per_epoch,
            part=self.devices.part,
            weights=self.weights,
            on_bad=self.bad_images,
        )
        return self.devices.dataset(batches)


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
        """-> (images, one-hot labels, weights): each image once, in batches of equal size."""
        import tensorflow as tf

        split, batch = self.dataset.validation, self.config.micro_batch
        batches = stream.evaluation_batches(
            split, evaluation_transform(self.config, self.dataset), batch, self.devices.part
        )
        # the padding weighs 0; the images a little more, so that the mean over all is the images'
        weight = -(-split.size // batch) * batch / split.size
        return self.devices.dataset(
            batches.map(
                lambda images, labels, weights: (
                    images,
                    tf.one_hot(labels, self.classes),
                    weights * weight,
                )
            )
        )


def augmentation(config, dataset):
    """-> what makes training images and batches of a dataset's examples."""
    size, classes, channels = config.image_size, len(dataset.class_names), channels_of(dataset)
    if config.augmentation == "none":
        return Plain(size, classes, channels=channels, label_smoothing=config.label_smoothing)
    kind = {"exact": Exact, "keras_cv": KerasCV}[config.augmentation]
    return kind(
        size,
        classes,
        channels=channels,
        mean=config.variant.mean,
        std=config.variant.std,
        **{name: getattr(config, name) for name in AUGMENTATION},
    )


def evaluation_transform(config, dataset):
    """-> the paper's evaluation at this size; `None` for images that have it already."""
    size = config.image_size
    if dataset.validation.image_shape[:2] == (size, size):
        return None
    return EvalTransform(size, 0.875) if size < 384 else EvalTransform(size, resize="squash")


def channels_of(dataset):
    return dataset.train.image_shape[-1] or 3


def class_weights(split, classes):
    """-> (classes,) float32: n / (classes * n of the class), 0 for a class without images."""
    labels = split.all_labels()
    counts = np.bincount(labels, minlength=classes)
    return np.divide(
        len(labels), len(counts) * counts, out=np.zeros(len(counts), "float32"), where=counts > 0
    ).astype("float32")


def network(config, channels, classes, activation=None):
    """-> the model of a configuration; it returns logits, or with "softmax" probabilities."""
    arguments = {
        "input_shape": (config.image_size, config.image_size, channels),
        "classes": classes,
        "classifier_activation": activation,
        "drop_path_rate": config.drop_path_rate,
    }
    if config.step is not None:
        stride = config.stem_stride or config.variant.stem_stride
        return roadmap(config.step, config.road or "resnet50", stem_stride=stride, **arguments)
    return ConvNeXt(
        config.variant,
        weights=config.weights,
        head_init_scale=config.head_init_scale,
        stem_stride=config.stem_stride,
        **arguments,
    )


def build(plan, dataset, devices):
    """-> the compiled model of a plan, on the devices of a `Distribution`."""
    config = plan.config
    with devices.scope():
        model = network(config, channels_of(dataset), plan.classes)
        if config.kernel_gain is not None:
            scale_to_inputs(model, config.kernel_gain)
        model = replicas.training_model(model, devices)
        if config.freeze_stages:
            freeze_layers(model, config.freeze_stages)
        model.compile(
            optimizer(plan, model, devices),
            keras.losses.CategoricalCrossentropy(from_logits=True),
            weighted_metrics=[keras.metrics.CategoricalAccuracy(name="accuracy")],
            jit_compile=JIT[config.jit],
        )
    return model


def optimizer(plan, model, devices):
    """-> the paper's AdamW (section 3.1 and Appendix A), with what the configuration asks for."""
    config = plan.config
    schedule = WarmupCosine(
        config.peak_learning_rate,
        plan.total_updates,
        plan.warmup_updates,
        minimum=config.minimum_learning_rate,
    )
    decay = config.layer_decay
    scales = learning_rate_scales(model, decay) if decay < 1 else None
    return replicas.adamw(config, schedule, scales, devices)


def prepare(model, batches, devices):
    """Makes every variable that a checkpoint holds: Keras makes those of metrics and optimizer
    only when it first needs them. One batch is evaluated, which finds broken data early, too."""
    with devices.scope():
        model.optimizer.build(model.trainable_variables)
    model.evaluate(batches, steps=1, verbose=0)
    model.reset_metrics()
