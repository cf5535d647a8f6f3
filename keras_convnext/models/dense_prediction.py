"""What models of dense prediction share: the pyramid of a ConvNeXt, and which weights they load."""

from keras_convnext.features import feature_model
from keras_convnext.layers.initializers import kernels_will_be_loaded
from keras_convnext.models.convnext import ConvNeXt

LEVELS = ("P2", "P3", "P4", "P5")


def check_levels(model, variant):
    """Raises a ValueError unless a variant has the stages that dense models are built on.

    Args:
        model: what is to be built, for the message.
        variant: a `Variant`.
    """
    strides = [variant.stem_stride << stage for stage in range(len(variant.depths))]
    levels = [f"P{stride.bit_length() - 1}" for stride in strides]
    if tuple(levels) != LEVELS:
        raise ValueError(
            f"{model} needs the levels {', '.join(LEVELS)}, {variant.name} has "
            f"{', '.join(levels)}: choose a variant of four stages with strides 4 to 32."
        )


def checkpoint_of(weights, backbone_weights, variant, task, head=None):
    """Returns the opened file of the weights of a whole model, `None` where there are none.

    Args:
        weights, backbone_weights: as of `UperNet`.
        variant: the `Variant` of the ConvNeXt.
        task: `"segmentation"` or `"detection"`.
        head: the family of a detector, `None` of an UperNet.

    Raises:
        ValueError: if both are given, or as `keras_convnext.pretrained` raises.
    """
    if weights is None:
        return None
    if backbone_weights is not None:
        raise ValueError(
            "`weights` are the weights of the whole model, `backbone_weights` those of the "
            f"ConvNeXt alone: pass one of them, received {weights!r} and {backbone_weights!r}."
        )
    from keras_convnext.pretrained import resolve  # the readers of files, if one is read

    return resolve.open_checkpoint(weights, variant, task=task, head=head)


def pyramid_of(variant, is_loaded, backbone_weights, **arguments):
    """Returns a ConvNeXt with a norm behind each stage, a functional model to `{"P2": ..., ...}`.

    Args:
        variant: a `Variant`, as `check_levels` wants it.
        is_loaded: whether weights of the whole model will be loaded into it.
        backbone_weights: its own weights, as `ConvNeXt(weights=...)` takes them.
        **arguments: others of `ConvNeXt`.
    """
    with kernels_will_be_loaded(is_loaded):
        backbone = ConvNeXt(variant, include_top=False, weights=backbone_weights, **arguments)
        return feature_model(backbone, LEVELS, norms=True)
