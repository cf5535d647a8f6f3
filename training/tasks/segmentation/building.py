"""Builds what `fit` needs for segmentation: batches, network, optimizer and objective."""

import functools

from keras_convnext.optimization import WarmupPolynomial, stage_wise_scales
from keras_convnext.segmentation import PixelCrossEntropy, UperNet, fit_metrics
from keras_convnext.segmentation.augmentation import CropAndDistort, Fit, read_pair

from ...data import pairs
from ...data.masked_tfds import masked_set
from ...run import replicas
from ...run.batches import Batches

FOLDERS = ("train_images", "train_masks", "validation_images", "validation_masks")


def load(config):
    """Returns the Dataset that a configuration names.

    The masks of the test set are read, so that what is wrong with them shows before a training.

    Raises:
        DataError: if the data are not there or not usable.
    """
    dataset = _dataset(config)
    if test := test_split(config):
        pairs.verify(test, reader(config))
    return dataset


def _dataset(config):
    if config.dataset == "folder":
        places = {name: getattr(config, name) for name in FOLDERS}
        return pairs.folders(config.data_dir, config.names, **places, labels=config.labels)
    return masked_set(
        config.dataset,
        config.names,
        config.data_dir,
        config.train_split,
        config.validation_split,
        config.labels,
    )


def reader(config):
    """Returns what reads a pair of two contents of files: `read_pair` with the labels of a run."""
    return functools.partial(read_pair, labels=config.labels)


def test_split(config):
    """Returns the PairSplit of the third pair of folders, or `None`.

    Raises:
        DataError: if there is something wrong with a folder.
    """
    if config.test_images is None:
        return None
    return pairs.pair_split("test", config.data_dir, config.test_images, config.test_masks)


class Pipeline(Batches):
    """The batches of a run of segmentation; arguments as of `Batches`."""

    def __init__(self, config, dataset, devices, steps_per_epoch):
        augment = CropAndDistort(
            config.crop,
            config.labels,
            size=config.size,
            scale=config.scale,
            category_limit=config.category_limit,
            flip=config.flip,
            distort=config.distort,
            mean=config.variant.mean,
        )
        bad_images = pairs.BadPairs(dataset.train, reader(config))
        super().__init__(config, dataset, devices, steps_per_epoch, augment, bad_images)

    def validation(self):
        """Returns (images, labels): each image once, in one frame, in batches of equal size."""
        config = self.config
        sides = map(int, config.validation_size)
        frame = Fit(*sides, config.labels, size=config.size, mean=config.variant.mean)
        on_bad = pairs.refuse_pair(reader(config))
        return self.devices.dataset(
            self.in_order(self.dataset.validation, frame, frame.batch, on_bad)
        )


def network(config, classes, channels=3):
    """Returns the UperNet of a configuration; its images have 3 channels."""
    return UperNet(
        config.variant,
        backbone_weights=config.weights,
        classes=classes,
        drop_path_rate=config.drop_path_rate,
        dropout=config.dropout,
        channels=config.channels,
        auxiliary_channels=config.auxiliary_channels,
    )


served = network  # what is trained is what is left


def objective(plan):
    """Returns the loss and the metrics of a plan, as arguments of `compile`."""
    return {
        "loss": PixelCrossEntropy(plan.config.loss_average),
        "metrics": fit_metrics(plan.classes),
    }


scores = None  # `evaluate` measures everything


def optimizer(plan, model, devices):
    """Returns the paper's AdamW (Appendix A.3) as the configuration asks for it."""
    config = plan.config
    schedule = WarmupPolynomial(
        config.learning_rate,
        plan.total_updates,
        plan.warmup_updates,
        minimum=config.minimum_learning_rate,
    )
    decay, depth = config.stage_decay, config.decay_depth
    scales = stage_wise_scales(model, decay, depth) if decay < 1 else None
    return replicas.adamw(plan, schedule, scales, devices)
