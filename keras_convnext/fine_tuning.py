"""A pre-trained ConvNeXt onto one's own images: what learns, and how fast."""

import re

import keras

from keras_convnext.optimization import (
    LAYER,
    AdamW,
    WarmupCosine,
    learning_rate_scales,
    stage_depths,
)


def fine_tune(
    model,
    total_steps,
    learning_rate=5e-5,
    *,
    freeze=None,
    layer_decay=0.8,
    warmup_steps=0,
    weight_decay=1e-8,
):
    """Freezes the first layers of a model and returns an optimizer for the others.

        model = ConvNeXt("convnext_tiny", weights="fb_in22k", classes=5, head_init_scale=0.001)
        optimizer = fine_tune(model, total_steps=epochs * len(train), freeze=2)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.fit(train, epochs=epochs, validation_data=valid)

    The new classifier comes from `ConvNeXt(..., classes=...)`, and stochastic depth from its
    `drop_path_rate`. The defaults are Table 6 of arXiv 2201.03545 for weights of ImageNet-22K, with
    batches of 512 images. Later layers learn faster than earlier ones (`learning_rate_scales`).
    Stochastic depth keeps dropping frozen blocks while training.

    For what is not among the arguments (averages, clipping, accumulation) make the optimizer
    yourself: `freeze_layers(model, 2)`, then
    `AdamW(WarmupCosine(...), learning_rate_scales=learning_rate_scales(model, 0.8), ...)`.

    Args:
        model: a `ConvNeXt(...)`, or a model that has one inside.
        total_steps: updates of the weights in the whole training: epochs times batches per epoch.
        learning_rate: at the peak, of the last layers.
        freeze: what keeps its weights: `None`, nothing; `"stem"`; or an int n, the stem and the
            first n stages. As many as there are stages leaves norm and classifier to learn.
        layer_decay: factor on the learning rate from one group of layers to the one before, in
            (0, 1]; 0.7 for weights of ImageNet-1K; 1 for one rate.
        warmup_steps: updates until the peak, from 0.
        weight_decay: of `AdamW`.

    Returns:
        An `AdamW`, for `model.compile()`. A call after this one, with another `freeze`, thaws what
        is not frozen by it: compile the model again afterwards.

    Raises:
        ValueError: if an argument is outside of its range, or the model has no ConvNeXt blocks.
            The model is as before then.
    """
    minimum = min(1e-6, learning_rate)
    optimizer = AdamW(
        WarmupCosine(learning_rate, total_steps, warmup_steps, minimum),
        weight_decay,
        learning_rate_scales=learning_rate_scales(model, layer_decay),
    )
    freeze_layers(model, freeze)
    return optimizer


def freeze_layers(model, freeze):
    """Sets `trainable` of the stem, the stages and the downsampling before each stage.

    Compile the model afterwards: a compiled model trains what it did before. Layers that are not of
    `ConvNeXt(...)`, norm and classifier keep their `trainable`.

    Args:
        model: a `ConvNeXt(...)`, or a model that has one inside.
        freeze: `None`, `"stem"` or a number of stages; see `fine_tune`.

    Raises:
        ValueError: if `freeze` is none of these, or the model has no ConvNeXt blocks.
    """
    # a step of the roadmap has sums and activations of these names
    layers = [x for x in _layers(model) if LAYER.fullmatch(x.name) and x.weights]
    stages = len(stage_depths([layer.name for layer in layers]))
    is_number = isinstance(freeze, int) and not isinstance(freeze, bool)
    if not (freeze in (None, "stem") or is_number and 1 <= freeze <= stages):
        raise ValueError(
            f"`freeze` must be None, 'stem' or a number of stages from 1 to {stages}, "
            f"received {freeze!r}."
        )
    until = {None: -1, "stem": 0}.get(freeze, freeze)
    for layer in layers:
        layer.trainable = _place(layer.name) > until


def _place(name):
    """-> 0 of the stem, s + 1 of stage s and the downsampling before it."""
    number = re.search(r"\d+", name)
    return int(number[0]) + 1 if number else 0


def _layers(model):
    """-> the layers of a model and of the models inside of it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
