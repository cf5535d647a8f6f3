"""Training of a pretrained model on new images: the layers that learn, and how fast.

Source: arXiv 2201.03545, section A.2 (Table 6).
"""

import keras

from keras_convnext import checks, names
from keras_convnext.optimization.adamw import AdamW
from keras_convnext.optimization.layer_wise import learning_rate_scales
from keras_convnext.optimization.schedules import WarmupCosine


def fine_tuning_optimizer(
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

    The new classifier comes from `ConvNeXt(..., classes=...)`, and stochastic depth from its
    `drop_path_rate`. The defaults are Table 6 of arXiv 2201.03545 for weights of ImageNet-22K, with
    batches of 512 images. Later layers learn faster than earlier ones (`learning_rate_scales`).
    Stochastic depth keeps dropping frozen blocks while training.

    For averages, clipping or gradient accumulation make the optimizer yourself:
    `freeze_layers(model, 2)`, then
    `AdamW(WarmupCosine(...), learning_rate_scales=learning_rate_scales(model, 0.8), ...)`.

    Args:
        model: a `ConvNeXt(...)`, or a model that has one inside.
        total_steps: updates of the weights in the whole training: epochs times batches per epoch.
        learning_rate: at the peak, of the last layers.
        freeze: the layers that keep their weights: `None` for none, `"stem"`, or an int n for the
            stem and the first n stages. With all stages only norm and classifier learn.
        layer_decay: factor on the learning rate from one group of layers to the one before, in
            (0, 1]; 0.7 for weights of ImageNet-1K; 1 for one rate.
        warmup_steps: updates until the peak, from 0.
        weight_decay: of `AdamW`.

    Returns:
        An `AdamW`, for `model.compile()`. A later call with another `freeze` thaws the layers that
        it does not freeze: compile the model again afterwards.

    Raises:
        ValueError: if an argument is outside its range, or the model has no ConvNeXt blocks. The
            model is unchanged then.

    Example:
        from keras_convnext import ConvNeXt, fine_tuning_optimizer
        model = ConvNeXt("convnext_tiny.fb_in1k", classes=5, head_init_scale=0.001)
        optimizer = fine_tuning_optimizer(model, total_steps=10 * 100, freeze=2)
        model.compile(optimizer, "sparse_categorical_crossentropy", metrics=["accuracy"])
        model.get_layer("stage1_block0").trainable  # False
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

    Compile the model afterwards: a compiled model trains what it did before. Norm, classifier and
    layers that are not of `ConvNeXt(...)` keep their `trainable`.

    Args:
        model: a `ConvNeXt(...)`, or a model that has one inside.
        freeze: `None`, `"stem"` or a number of stages; see `fine_tuning_optimizer`.

    Raises:
        ValueError: if `freeze` is none of these, or the model has no ConvNeXt blocks.

    Example:
        from keras_convnext import ConvNeXtAtto, freeze_layers
        model = ConvNeXtAtto(weights=None)
        freeze_layers(model, 2)  # the stem and the first two stages
        model.compile("adamw", "sparse_categorical_crossentropy")
        model.get_layer("stage1_block0").trainable  # False
        model.get_layer("stage2_block0").trainable  # True
    """
    # a step of the roadmap has sums and activations, without weights, of these names
    layers = [x for x in _layers(model) if names.in_body(x.name) and x.weights]
    stages = len(names.stage_depths([layer.name for layer in layers]))
    if not checks.is_integer(freeze, 1, stages) and freeze not in (None, "stem"):
        checks.fail("freeze", freeze, f"None, 'stem' or a number of stages from 1 to {stages}")
    until = {None: -1, "stem": 0}.get(freeze, freeze)
    for layer in layers:
        layer.trainable = _position(layer.name) > until


def _position(layer):
    """Returns 0 for the stem, and s + 1 for stage s and the downsampling before it."""
    stage = names.parse(layer).stage
    return 0 if stage is None else stage + 1


def _layers(model):
    """Yields the layers of a model and of the models inside it."""
    for layer in model.layers:
        yield layer
        if isinstance(layer, keras.Model):
            yield from _layers(layer)
