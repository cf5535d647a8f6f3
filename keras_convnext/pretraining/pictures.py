"""Pictures of what a masked autoencoder sees and predicts."""

import numpy as np
from keras import ops
from PIL import Image, ImageDraw, ImageFont

from keras_convnext.pictures import side_by_side
from keras_convnext.pretraining.losses import moments, patchify, unpatchify
from keras_convnext.pretraining.patches import visible_patches

HEADINGS = ("original", "masked", "reconstructed")
GREY = 127  # of what is hidden
GAP = 4  # pixels between rows, and between the columns of `side_by_side`


def reconstructions(model, images, mask=None):
    """As `FCMAE.reconstructions`."""
    patches = None
    if mask is not None:
        patches = visible_patches(mask, model.grn_over == "batch")
    outputs = model(images, training=False, patches=patches)
    normalized = model.normalized(images)
    original = _uint8(model.pixels(ops.convert_to_numpy(normalized)))
    predicted = _uint8(model.pixels(_predicted(model, normalized, outputs["prediction"])))
    hidden = ops.convert_to_numpy(outputs["mask"])
    hidden = hidden.repeat(model.patch_size, 1).repeat(model.patch_size, 2)[..., None]
    masked = np.where(hidden, np.uint8(GREY), original)
    filled = np.where(hidden, predicted, original)
    rows = [_row(*parts) for parts in zip(original, masked, filled, strict=True)]
    gap = np.full((GAP, *rows[0].shape[1:]), 255, "uint8")
    sheet = np.concatenate([part for row in rows for part in (row, gap)][:-1])
    return np.concatenate([_headings(sheet.shape[1]), sheet])


def _predicted(model, normalized, prediction):
    """Returns what is predicted as normalised images, an array."""
    if model.normalize_targets:
        mean, deviation = moments(patchify(normalized, model.patch_size))
        prediction = prediction * deviation + mean
    return ops.convert_to_numpy(unpatchify(prediction, model.patch_size))


def _headings(width):
    """Returns a strip of that width with a heading in the middle of each column.

    Text of a tenth of a column is read where a sheet is shown at half its size, and fits.
    """
    column = (width + GAP) / len(HEADINGS)
    strip = Image.new("RGB", (width, round(column / 6)), "white")
    pen, font = ImageDraw.Draw(strip), ImageFont.load_default(column / 10)
    for number, heading in enumerate(HEADINGS):
        middle = (number + 0.5) * column - GAP / 2
        pen.text((middle, strip.height / 2), heading, "black", font, anchor="mm")
    return np.asarray(strip)


def _uint8(pixels):
    return np.clip(np.rint(pixels), 0, 255).astype("uint8")


def _row(*parts):
    """Returns images of any number of channels beside each other; the first three are shown."""
    shown = (part[..., :3] if part.shape[-1] >= 3 else part[..., :1] for part in parts)
    return side_by_side(*shown)
