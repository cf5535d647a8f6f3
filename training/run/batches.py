"""The training batches of a run, whatever it learns."""

from training.data import stream


class Batches:
    """The training batches of a run.

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
