"""What a model and its optimizer need besides Keras when several processes share a batch."""

import contextlib
import os

import keras

from keras_convnext.augmentation.train_step import DeviceAugmented, augmented
from keras_convnext.optimization import AdamW


def training_model(model, devices):
    """-> the model that is trained: erasing and mixing in its step, and what `devices` need."""
    if devices.workers == 1 or keras.backend.backend() == "jax":
        return augmented(model)
    kind = {"tensorflow": _MultiWorkerModel, "torch": _AllReducedModel}[keras.backend.backend()]
    return kind(model.inputs[0], model.outputs[0], name=model.name)


def optimizer_class(devices):
    """-> `AdamW`, or its form that adds up the gradients of several PyTorch processes."""
    several = devices.workers > 1 and keras.backend.backend() == "torch"
    return _AllReducedAdamW if several else AdamW


class _MultiWorkerModel(DeviceAugmented):
    """What `fit` lacks under MultiWorkerMirroredStrategy (Keras 3.15): it takes the mean of the
    logs along an axis that scalars do not have, and averages a batch over the processes to build
    a model that is built already."""

    def train_step(self, data):
        return _with_axis(super().train_step(data))

    def test_step(self, data):
        return _with_axis(super().test_step(data))

    def _maybe_symbolic_build(self, iterator=None, data_batch=None):
        pass  # `building.prepare` has made all variables


def _with_axis(logs):
    return {name: keras.ops.expand_dims(value, 0) for name, value in logs.items()}


class _AllReducedModel(DeviceAugmented):
    """Its metrics are those of all processes, and each process drops other branches."""

    def get_metrics_result(self):
        with summed_metrics(self):
            return super().get_metrics_result()


@contextlib.contextmanager
def summed_metrics(model):
    """In it, metrics that each process keeps for its own images are those of all processes."""
    if not isinstance(model, _AllReducedModel):
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
    if isinstance(model, _AllReducedModel) and not devices.is_chief:
        model.reset_metrics()


class _AllReducedAdamW(AdamW):
    """Takes the mean of the gradients over the processes, which then take the same step."""

    def apply(self, grads, trainable_variables=None):
        import torch

        for grad in grads:
            torch.distributed.all_reduce(grad)
            grad /= int(os.environ["WORLD_SIZE"])
        return super().apply(grads, trainable_variables)
