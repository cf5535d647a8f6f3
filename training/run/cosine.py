"""The schedule of classifiers and of pre-training: epochs of warm-up from 0, then a cosine."""

from keras_convnext.optimization import WarmupCosine

from .config import Run
from .plan import Plan


class CosineRun(Run):
    """As `Run`, of a configuration that has `learning_rate_batch` and `warmup_epochs` as well."""

    def __post_init__(self):
        super().__post_init__()
        if self.warmup_epochs >= self.epochs:
            raise ValueError(
                f"`warmup_epochs` must be from 0 to below the {self.epochs} epochs, received "
                f"{self.warmup_epochs:g}: lower it, or train longer."
            )

    @property
    def peak_learning_rate(self):
        """The learning rate after the warm-up, for this batch size."""
        return self.learning_rate * self.batch_size / (self.learning_rate_batch or self.batch_size)


class CosinePlan(Plan):
    """As `Plan`, of a `CosineRun`."""

    @property
    def warmup_updates(self):
        return int(self.config.warmup_epochs * self.updates_per_epoch)

    def schedule(self):
        """Returns the learning rate by the update, a `WarmupCosine`."""
        return WarmupCosine(
            self.config.peak_learning_rate,
            self.total_updates,
            self.warmup_updates,
            minimum=self.config.minimum_learning_rate,
        )

    def _rates(self):
        config = self.config
        text = f"{config.peak_learning_rate:g}"
        if config.learning_rate_batch:
            text += (
                f" = {config.learning_rate:g} x {config.batch_size} / {config.learning_rate_batch}"
            )
        if config.warmup_epochs:
            text += f" after {config.warmup_epochs:.3g} epochs"
            text += f" ({self.warmup_updates:,} updates) from 0"
        return f"{text}, cosine to {config.minimum_learning_rate:g}"
