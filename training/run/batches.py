"""The batches of a run, whatever it learns."""

from ..data import stream


class Batches:
    """The training batches of a run, and what the validation batches of tasks share.

    Args:
        config: a `training.run.config.Run`.
        dataset: a `training.data.Dataset`.
        devices: a `Distribution`.
        steps_per_epoch: micro-batches per epoch.
        augment: has `image` and `batch`, as `augmentation.PaperAugmentation`.
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
        """Returns what `augment.batch` returns, for the rest of an epoch.

        It is a pure function of the seed, the epoch and the step.
        """
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

    def in_order(self, split, transform, collate, on_bad):
        """Returns the batches of all images of a split in its order; the last one is filled up.

        Arguments as of `training.data.stream.batches`.
        """
        return stream.batches(
            split,
            transform,
            collate,
            self.config.micro_batch,
            seed=None,
            epoch=0,
            part=self.devices.part,
            drop_remainder=False,
            on_bad=on_bad,
        )

    @property
    def validation_weight(self):
        """The weight of an image of the validation, a little more than 1: what fills up the last
        batch weighs 0, and the mean over all places is to be that of the images."""
        size, batch = self.dataset.validation.size, self.config.micro_batch
        return -(-size // batch) * batch / size
