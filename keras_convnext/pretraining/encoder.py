"""The masked encoder: the layers of a ConvNeXt, on the visible patches of images alone."""

from keras_convnext import names


def masked_stages(encoder, images, patches, training=False):
    """Returns the outputs of a ConvNeXt's stages for images of which some patches are hidden.

    Nothing that is hidden has any influence on them. With nothing hidden they are the outputs of
    the ordinary model.

    Source: arXiv 2301.00808, section 3.1, where the layers are submanifold sparse convolutions.

    Args:
        encoder: made by `ConvNeXt(..., include_top=False)`, with patches as large as its stride.
        images: float `(batch, height, width, channels)`, normalised, channels last.
        patches: a `VisiblePatches`.
        training: as of the layers.

    Returns:
        list of one packed map per stage, from fine to coarse; `patches.unpack` puts them in place.
    """
    stages = {}
    for layer in encoder.layers:
        place = names.parse(layer.name)
        kind = place and place.kind
        if kind == "stem":
            # some stems have windows that overlap, so that they need the whole image
            x = patches.pack(layer(patches.hide(images)))
        elif kind == "downsample":
            x = layer(x)
        elif kind == "block":
            x = stages[place.stage] = layer(x, training=training, patches=patches)
    return list(stages.values())
