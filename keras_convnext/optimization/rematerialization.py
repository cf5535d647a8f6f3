"""Training in less memory: blocks that are computed once more for their gradients."""

from keras_convnext.layers import ConvNeXtBlock


def rematerialize(model, remat=True):
    """Lets each block of a model keep its input alone while training, and compute the rest again
    when its gradients are asked for (gradient checkpointing).

    The numbers are the same: stochastic depth drops the same samples both times. On a CPU it saves
    memory and takes time on PyTorch, and does little of both on JAX
    (`benchmarks/results/peers.md`). Compile the model afterwards. Nothing of this is saved with a
    model. `keras.RematScope` around the making of a model asks for the same; of other layers than
    ours, those that take `training` refuse it on JAX and TensorFlow.

    Source: arXiv 1604.06174.

    Args:
        model: a Keras model with `ConvNeXtBlock`s, at any depth: a `ConvNeXt(...)`, an `UperNet`, a
            detector, an `FCMAE`.
        remat: False for the usual training.

    Raises:
        ValueError: if the model has no such block.

    Example:
        from keras_convnext import ConvNeXtAtto, rematerialize
        model = ConvNeXtAtto(weights=None, drop_path_rate=0.1)
        rematerialize(model)
        model.compile("adamw", "sparse_categorical_crossentropy")
        model.get_layer("stage0_block0").remat  # True
    """
    layers = model._flatten_layers(include_self=False)
    blocks = [layer for layer in layers if isinstance(layer, ConvNeXtBlock)]
    if not blocks:
        raise ValueError(
            f"{model.name} has no ConvNeXtBlock that could be computed again: pass a model that "
            "`ConvNeXt(...)` made, or one that has such a model inside."
        )
    for block in blocks:
        block.remat = remat
