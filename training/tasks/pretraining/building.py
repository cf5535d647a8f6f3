"""Builds what `fit` needs for pre-training: batches, network, optimizer and objective."""

from keras_convnext.augmentation import PaperAugmentation
from keras_convnext.preprocessing import EvalTransform
from keras_convnext.pretraining import FCMAE

from ... import data
from ...data import stream
from ...run import replicas
from ...run.batches import Batches
from ...run.compiling import channels_of


def load(config):
    """Returns the Dataset that a configuration names.

    Raises:
        DataError: if it is not there or not usable.
    """
    return data.of_config(vars(config), labelled=False)


class Pipeline(Batches):
    """The batches of a run of pre-training; arguments as of `Batches`."""

    def __init__(self, config, dataset, devices, steps_per_epoch):
        augment = CropAndFlip(config, channels_of(dataset))
        bad_images = stream.BadImages(dataset.train)
        super().__init__(config, dataset, devices, steps_per_epoch, augment, bad_images)

    def validation(self):
        """Returns (images, labels, weights): each image once, in batches of equal size."""
        batch, weight = self.config.micro_batch, self.validation_weight
        batches = validation_batches(self.config, self.dataset, batch, self.devices.part)
        return self.devices.dataset(
            batches.map(lambda images, labels, weights: (images, labels, weights * weight))
        )


class CropAndFlip:
    """Crops of one size, mirrored at random; batches as they are. A function of the key alone.

    Args:
        config: a `PretrainConfig`.
        channels: of the images.
    """

    def __init__(self, config, channels):
        paper = PaperAugmentation(
            config.image_size,
            1,
            channels=channels,
            mean=config.variant.mean,
            std=config.variant.std,
            crop_scale=config.crop_scale,
            flip=config.flip,
            rand_augment=None,
        )
        self.image = paper.image

    def batch(self, images, labels, weights, key):
        """Returns the batch as it is given."""
        return images, labels, weights


def validation_batches(config, dataset, batch_size, part=None):
    """Returns batches (images, labels, weights) of the validation images, each once."""
    split, size = dataset.validation, config.image_size
    fits = split.image_shape[:2] == (size, size)
    transform = None if fits else EvalTransform(size, 0.875)
    return stream.evaluation_batches(split, transform, batch_size, part)


def network(config, classes=None, channels=3):
    """Returns the model of a configuration, which knows no classes."""
    return FCMAE(
        config.variant,
        config.mask_ratio,
        weights=config.weights,
        channels=channels,
        stem_stride=config.stem_stride,
        decoder_depth=config.decoder_depth,
        decoder_width=config.decoder_width,
        normalize_targets=config.normalize_targets,
        grn_over=config.grn_over,
        seed=config.seed,
    )


served = network  # what is trained is what is left


def objective(plan):
    """Returns nothing for `compile`: the model computes its loss."""
    return {}


scores = None  # `evaluate` measures everything


def optimizer(plan, model, devices):
    """Returns the AdamW of arXiv 2301.00808, section A.1, as the configuration asks for it."""
    return replicas.adamw(plan, plan.schedule(), None, devices)
