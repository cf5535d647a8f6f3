"""What a model and its optimizer need besides Keras when several processes share a batch."""

import contextlib
import os

import keras

from keras_convnext.augmentation.train_step import DeviceAugmented, augmented
from keras_convnext.optimization import AdamW
from keras_convnext.segmentation.models import SegmentationModel


def training_model(model, devices):
    """Returns the model that is trained: with what its task and `devices` need in each step.

    A classifier erases and mixes its images there.
    """
    is_classifier = not isinstance(model, SegmentationModel)
    if devices.workers == 1 or keras.backend.backend() == "jax":
        return augmented(model) if is_classifier else model
    make = {"tensorflow": _multi_worker, "torch": _all_reduced}[keras.backend.backend()]
    kind = make(DeviceAugmented if is_classifier else SegmentationModel)
    return kind(model.input, model.output, name=model.name)


def adamw(config, schedule, scales, devices):
    """Returns the `AdamW` that a `training.run.config.Run` asks for; in a run of several PyTorch
    processes it adds up their gradients.

    Args:
        schedule: of the learning rate.
        scales: `{layer name: factor}` on it, or `None`.
    """
    several = devices.workers > 1 and keras.backend.backend() == "torch"
    accumulated = config.gradient_accumulation
    return (_AllReducedAdamW if several else AdamW)(
        schedule,
        weight_decay=config.weight_decay,
        learning_rate_scales=scales,
        global_clipnorm=config.clip_norm,
        use_ema=config.ema_momentum is not None,
        ema_momentum=config.ema_momentum or 0.0,
        gradient_accumulation_steps=accumulated if accumulated > 1 else None,
    )


def _multi_worker(kind):
    class MultiWorker(kind):
        """What `fit` lacks under MultiWorkerMirroredStrategy (Keras 3.15): it takes the mean of the
        logs along an axis that scalars do not have, and averages a batch over the processes to
        build a model that is built already."""

        def train_step(self, data):
            return _with_axis(super().train_step(data))

        def test_step(self, data):
            return _with_axis(super().test_step(data))

        def _maybe_symbolic_build(self, iterator=None, data_batch=None):
            pass  # `compiling.prepare` has made all variables

    return MultiWorker


def _with_axis(logs):
    return {name: keras.ops.expand_dims(value, 0) for name, value in logs.items()}


def _all_reduced(kind):
    class AllReduced(kind):
        """Its metrics are those of all processes, and each process drops other branches."""

        has_parts_of_metrics = True

        def get_metrics_result(self):
            with summed_metrics(self):
                return super().get_metrics_result()

    return AllReduced


@contextlib.contextmanager
def summed_metrics(model):
    """In it, metrics that each process keeps for its own images are those of all processes."""
    if not getattr(model, "has_parts_of_metrics", False):
        yield
        return
    import torch

    values = [variable.value.clone() for variable in model.metrics_variables]
    for variable, value in zip(model.metrics_variables, values, strict=True):
        total = value.clone()
        torch.distributed.all_reduce(total)
        variable.assign(total)
    try:
        yield
    finally:
        for variable, value in zip(model.metrics_variables, values, strict=True):
            variable.assign(value)


def count_once(model, devices):
    """After the metrics of all processes were restored in each: only the first one keeps them."""
    if getattr(model, "has_parts_of_metrics", False) and not devices.is_chief:
        model.reset_metrics()


class _AllReducedAdamW(AdamW):
    """Takes the mean of the gradients over the processes, which then take the same step."""

    def apply(self, grads, trainable_variables=None):
        import torch

        for grad in grads:
            torch.distributed.all_reduce(grad)
            grad /= int(os.environ["WORLD_SIZE"])
        return super().apply(grads, trainable_variables)
