"""Extends a model and its optimizer for several processes that share a batch."""

import contextlib
import os
import warnings

import keras

from keras_convnext.augmentation.train_step import DeviceAugmented, augmented
from keras_convnext.detection.rcnn import PARTS, DetectionModel
from keras_convnext.optimization import AdamW
from keras_convnext.pretraining import FCMAE
from keras_convnext.segmentation.models import SegmentationModel


def training_model(model, devices):
    """Returns the model that is trained: with what its task and `devices` need in each step.

    A classifier erases and mixes its images there.

    Warns:
        UserWarning: if batch normalization is not that of the whole batch.
    """
    _note_batch_normalization(model, devices)
    if isinstance(model, FCMAE):
        return _pretraining_model(model, devices)
    is_classifier = not isinstance(model, SegmentationModel | DetectionModel)
    if devices.workers == 1 or keras.backend.backend() == "jax":
        return augmented(model) if is_classifier else model
    make = {"tensorflow": _multi_worker, "torch": _all_reduced}[keras.backend.backend()]
    if isinstance(model, DetectionModel):
        parts = {part: getattr(model, part) for part in (*PARTS, "settings", "name")}
        return make(DetectionModel)(**parts, dtype=model.dtype_policy)
    kind = make(DeviceAugmented if is_classifier else SegmentationModel)
    return kind(model.input, model.output, name=model.name)


def _note_batch_normalization(model, devices):
    """Warns, in the first of several PyTorch processes, where Keras synchronises nothing."""
    if devices.workers == 1 or not devices.is_chief or keras.backend.backend() != "torch":
        return
    layers = model._flatten_layers(include_self=False)
    count = sum(isinstance(layer, keras.layers.BatchNormalization) for layer in layers)
    if count:
        warnings.warn(
            f"The {count} layers of batch normalization take their statistics over the images of "
            "one process each, as Keras does not synchronise them on PyTorch: give each process "
            "several images, or share the batch on TensorFlow or JAX, where all of it counts.",
            stacklevel=2,
        )


class _Unlabelled(FCMAE):
    """Batches have labels, which say nothing here."""

    def compute_loss(self, x=None, y=None, y_pred=None, sample_weight=None, training=True):
        return super().compute_loss(x, None, y_pred, sample_weight, training)


def _pretraining_model(model, devices):
    """Returns a copy of an `FCMAE`, which is no functional model, with what `devices` need."""
    kind, backend = _Unlabelled, keras.backend.backend()
    if devices.workers > 1 and backend != "jax":
        kind = {"tensorflow": _multi_worker, "torch": _all_reduced}[backend](kind)
    copy = kind.from_config(model.get_config())
    copy.set_weights(model.get_weights())
    return copy


def adamw(plan, schedule, scales, devices):
    """Returns the `AdamW` that a `Plan` asks for.

    In a run of several PyTorch processes it adds up their gradients; where the plan says so, the
    momentum of its averages is warmed up.

    Args:
        plan: a `Plan`.
        schedule: of the learning rate.
        scales: `{layer name: factor}` on it, or `None`.
        devices: a `Distribution`.
    """
    config, kind = plan.config, AdamW
    if devices.workers > 1 and keras.backend.backend() == "torch":
        kind = _all_reduced_steps(kind)
    if plan.warms_averages_up:
        kind = averages_warmed_up(kind)
    accumulated = config.gradient_accumulation
    return kind(
        schedule,
        weight_decay=config.weight_decay,
        beta_2=plan.beta_2,
        learning_rate_scales=scales,
        global_clipnorm=config.clip_norm,
        use_ema=config.ema_momentum is not None,
        ema_momentum=config.ema_momentum or 0.0,
        gradient_accumulation_steps=accumulated if accumulated > 1 else None,
    )


def averages_warmed_up(kind):
    """Returns a class of optimizers made of `kind` whose averages forget the initial weights soon.

    The momentum of update t = 0, 1, ... is the smaller of `ema_momentum` and (1 + t) / (10 + t), as
    in TensorFlow's `ExponentialMovingAverage`.
    """

    class AveragesWarmedUp(kind):
        @property
        def ema_momentum(self):
            highest = self.__dict__.get("highest_momentum")
            if highest is None:  # TensorFlow's tracking asks before the first assignment
                return None
            updates = self.iterations
            if keras.backend.backend() == "torch":  # whose fused operations take plain numbers
                return min(highest, (1 + int(updates)) / (10 + int(updates)))
            updates = keras.ops.cast(updates, "float32")
            return keras.ops.minimum(highest, (1 + updates) / (10 + updates))

        @ema_momentum.setter
        def ema_momentum(self, value):
            self.__dict__["highest_momentum"] = value

        def get_config(self):
            return {**super().get_config(), "ema_momentum": self.__dict__["highest_momentum"]}

    return AveragesWarmedUp


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
    """Sums, inside of a `with` block, the metrics that each process keeps for its own images."""
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
    """Resets restored metrics but in the first process: each has those of all processes."""
    if getattr(model, "has_parts_of_metrics", False) and not devices.is_chief:
        model.reset_metrics()


def _all_reduced_steps(kind):
    class AllReducedSteps(kind):
        """Takes the mean of the gradients over the processes, which then take the same step."""

        def apply(self, grads, trainable_variables=None):
            import torch

            for grad in grads:
                torch.distributed.all_reduce(grad)
                grad /= int(os.environ["WORLD_SIZE"])
            return super().apply(grads, trainable_variables)

    return AllReducedSteps
