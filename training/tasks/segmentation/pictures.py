"""Pictures of a segmentation: photograph, mask and prediction side by side."""

import dataclasses

import numpy as np
from PIL import Image

from keras_convnext.atomic import replacing
from keras_convnext.segmentation import legend, overlay

WIDTH = 320  # pixels of each picture
GAP = 6


@dataclasses.dataclass(frozen=True, eq=False)
class Example:
    """One photograph with its segmentation.

    Attributes:
        image: Pillow image.
        labels: uint8 (height, width), 255 where they do not count.
        predicted: uint8 (height, width).
        mean_iou: of this image, in [0, 1].
    """

    image: Image.Image
    labels: np.ndarray
    predicted: np.ndarray
    mean_iou: float


def comparison(examples, names, path):
    """Draws a row per example: the photograph, its mask over it, the prediction over it. The names
    of the classes stand beside.

    Args:
        examples: list of `Example`.
        names: of the classes.
        path: of the PNG.

    Raises:
        OSError: if the file cannot be written.
    """
    rows = [_row(example, len(names)) for example in examples]
    side = legend(names)
    height = max(side.height, sum(row.height + GAP for row in rows))
    sheet = Image.new("RGB", (3 * (WIDTH + GAP) + side.width, height), "white")
    top = 0
    for row in rows:
        sheet.paste(row, (0, top))
        top += row.height + GAP
    sheet.paste(side, (3 * (WIDTH + GAP), 0))
    with replacing(path) as draft:
        sheet.save(draft)


def _row(example, classes):
    pictures = [
        example.image,
        Image.fromarray(overlay(example.image, example.labels, classes, upright=False)),
        Image.fromarray(overlay(example.image, example.predicted, classes, upright=False)),
    ]
    height = max(1, round(WIDTH * example.image.height / example.image.width))
    row = Image.new("RGB", (3 * (WIDTH + GAP), height), "white")
    for number, picture in enumerate(pictures):
        row.paste(picture.resize((WIDTH, height)), (number * (WIDTH + GAP), 0))
    return row
