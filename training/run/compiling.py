"""A plan becomes a compiled model with every variable that a checkpoint holds."""

from pathlib import Path

from keras_convnext import freeze_layers, rematerialize
from keras_convnext.layers.initializers import scale_to_inputs
from keras_convnext.pretrained import resolve

from . import replicas

JIT = {"auto": "auto", "on": True, "off": False}


def check_weights(config):
    """Raises an error if the weights that a configuration starts from cannot be there.

    Nothing is downloaded: it is what can be known at once.

    Raises:
        ValueError: if no weights of that name are published for the variant.
        FileNotFoundError: if there is no such file.
    """
    weights = config.weights
    if weights is None or resolve.row_of(weights, config.variant.name) is not None:
        return
    if not weights.startswith("hf://") and not Path(weights).is_file():
        raise FileNotFoundError(f"`weights` {weights!r}: there is no such file.")


def compiled(plan, task, dataset, devices):
    """Returns the compiled model of a plan, on the devices of a `Distribution`."""
    config = plan.config
    with devices.scope():
        model = task.building.network(config, plan.classes, channels_of(dataset))
        if config.kernel_gain is not None:
            scale_to_inputs(model, config.kernel_gain)
        model = replicas.training_model(model, devices)
        if stages := getattr(config, "freeze_stages", 0):
            freeze_layers(model, stages)
        if config.remat:
            rematerialize(model)
        optimizer = task.building.optimizer(plan, model, devices)
        model.compile(optimizer, **task.building.objective(plan), jit_compile=JIT[config.jit])
    return model


def prepare(model, batches, devices):
    """Makes every variable that a checkpoint holds.

    Keras makes those of metrics and optimizer only when it first needs them. One batch is
    evaluated, which finds broken data early, too.
    """
    with devices.scope():
        model.optimizer.build(model.trainable_variables)
    model.evaluate(batches, steps=1, verbose=0)
    model.reset_metrics()


def channels_of(dataset):
    """Returns the number of channels of a dataset's images; 3 where it varies."""
    return dataset.train.image_shape[-1] or 3
