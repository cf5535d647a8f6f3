"""Builds what `fit` needs for detection: batches, network and optimizer."""

import dataclasses
import warnings

import numpy as np

from keras_convnext.detection.callbacks import COCOScores
from keras_convnext.detection.metrics import check_available
from keras_convnext.detection.models import CascadeMaskRCNN, MaskRCNN
from keras_convnext.optimization import WarmupSteps, learning_rate_scales

from ...data import coco, pairs
from ...data.coco_objects import verify
from ...data.dataset import DataError
from ...data.listing import counted
from ...data.packed import Packed
from ...run import replicas
from ...run.batches import Batches

DETECTORS = {"mask_rcnn": MaskRCNN, "cascade_mask_rcnn": CascadeMaskRCNN}


def load(config):
    """Returns the Dataset that a configuration names.

    Raises:
        DataError: if the data are not there or not usable, or nothing can measure detections.

    Warns:
        UserWarning: about what is left out.
    """
    try:
        check_available()
    except ImportError as error:
        raise DataError(str(error)) from error
    dataset = coco.of_config(vars(config))
    many = [image.count for image in dataset.train.images if image.count > config.objects]
    if many:
        warnings.warn(
            f"More than {config.objects} objects: {counted(len(many), 'image')}, of which the "
            f"largest are learned; the most are {max(many):,}, --objects raises the limit.",
            stacklevel=2,
        )
    return dataset


class Pipeline(Batches):
    """The batches of a run of detection; arguments as of `Batches`.

    The images of a batch are all landscapes or all portraits.
    """

    def __init__(self, config, dataset, devices, steps_per_epoch):
        augment = config.recipe
        if config.canvas[0] != config.canvas[1]:
            dataset = _in_batches(dataset, config.micro_batch, augment)
        bad_images = pairs.BadPairs(dataset.train, verify)
        packed = Packed(augment, config.masks)
        super().__init__(config, dataset, devices, steps_per_epoch, packed, bad_images)

    def validation(self):
        """Returns the batches of all images, landscapes first.

        The last batch of each kind is filled up with its first image. The repetitions, whose
        `weights` are 0, count in the loss and not in the scores.
        """
        frame = self.config.validation_recipe
        split = self.dataset.validation
        is_portrait = np.array([frame.view(image.size).is_portrait for image in split.images])
        is_portrait &= frame.canvas[0] != frame.canvas[1]
        packed, batches = Packed(frame, self.config.masks), None
        for wanted in (~is_portrait, is_portrait):
            if wanted.any():
                part = self._unchanged(split.where(wanted), packed)
                batches = part if batches is None else batches.concatenate(part)
        return self.devices.dataset(batches)

    def _unchanged(self, split, packed):
        def weighted(vectors, labels, weights, key):
            return {**packed.batch(vectors, labels, weights), "weights": weights}

        return self.in_order(split, packed, weighted, pairs.refuse_pair(verify))


def _in_batches(dataset, batch, augment):
    """Returns the dataset with training images that come in batches of one shape."""

    def is_portrait(size, key):
        return augment.viewed(size, key).is_portrait

    return dataclasses.replace(dataset, train=dataset.train.in_batches(batch, is_portrait))


def network(config, classes, channels=3):
    """Returns the detector of a configuration; its images have 3 channels."""
    return DETECTORS[config.detector](
        config.variant,
        backbone_weights=config.weights,
        classes=classes,
        drop_path_rate=config.drop_path_rate,
        masks=config.masks,
        settings=config.settings,
    )


served = network  # what is trained is what is left


def objective(plan):
    """Returns nothing to `compile` with: a `DetectionModel` has losses of its own."""
    return {}


def optimizer(plan, model, devices):
    """Returns the paper's AdamW (Appendix A.3) as the configuration asks for it."""
    config = plan.config
    schedule = WarmupSteps(
        config.learning_rate,
        plan.boundaries,
        config.decay_factor,
        plan.warmup_updates,
        config.warmup_factor,
        minimum=config.minimum_learning_rate,
    )
    decay = config.layer_decay
    scales = learning_rate_scales(model, decay) if decay < 1 else None
    return replicas.adamw(plan, schedule, scales, devices)


def scores(plan, batches, devices):
    """Returns a function of the model and the number of an epoch that measures the average
    precision of the validation, where it is to be measured in that epoch.

    With several processes, each of which has a part of the images, it measures nothing, and the
    best epoch is the one with the lowest loss.

    Args:
        plan: a `Plan`.
        batches: of the validation.
        devices: a `Distribution`.
    """
    measured, config = COCOScores(batches), plan.config

    def measure(model, epoch):
        is_due = epoch % config.score_epochs == 0 or epoch == config.epochs
        return measured.measure(model) if is_due and devices.workers == 1 else {}

    return measure
