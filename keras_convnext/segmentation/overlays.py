"""Pictures of a segmentation: colours for classes, laid over the photograph, and a legend."""

import colorsys

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_convnext import checks
from keras_convnext.images import load_image

IGNORED_COLOUR = (0, 0, 0)
GOLDEN_SHARE = 0.618033988749895  # of the circle of hues: neighbours in number are far apart
SHADES = ((0.65, 0.95), (0.95, 0.75), (0.45, 1.0), (0.9, 0.5))  # saturation, value


def palette(classes):
    """Returns uint8 (256, 3): an RGB colour for each class, black for all other labels.

    Args:
        classes: their number, 1 to 255.

    Raises:
        ValueError: if there are more than 255 classes, more than a palette has room for.

    Example:
        from keras_convnext.segmentation import palette
        palette(3).shape  # (256, 3)
        palette(3)[3]  # [0, 0, 0]
    """
    if not 1 <= classes <= 255:
        raise ValueError(f"A palette has colours for 1 to 255 classes, received {classes}.")
    colours = np.zeros((256, 3), "uint8")
    colours[:] = IGNORED_COLOUR
    for number in range(classes):
        saturation, value = SHADES[number % len(SHADES)]
        colour = colorsys.hsv_to_rgb(number * GOLDEN_SHARE % 1, saturation, value)
        colours[number] = np.rint(255 * np.array(colour))
    return colours


def label_map(labels, classes):
    """Returns a palette image for a PNG: its values are the labels, its palette shows them in
    colours.

    Args:
        labels: int array (height, width) in [0, 255].
        classes: number of classes, 1 to 255.

    Returns:
        `PIL.Image.Image` of mode "P".

    Raises:
        ValueError: if a label is out of that range.

    Example:
        import numpy as np
        from keras_convnext.segmentation import label_map
        label_map(np.array([[0, 1], [2, 2]]), classes=3).save("labels.png")
    """
    labels = np.asarray(labels)
    if labels.size and not 0 <= labels.min() <= labels.max() <= 255:
        raise ValueError(
            f"Labels must be in [0, 255], received {labels.min()} to {labels.max()}: a palette has "
            "no more colours."
        )
    image = Image.fromarray(np.ascontiguousarray(labels, "uint8"))
    image.putpalette(palette(classes).tobytes())
    return image


def overlay(image, labels, classes, opacity=0.55, upright=True):
    """Returns the photograph with the colours of its classes over it.

    Args:
        image: anything that `keras_convnext.images.load_image` takes.
        labels: int array (height, width) of the image's size; where a label is no class, the
            photograph stays as it is.
        classes: number of classes, 1 to 255.
        opacity: of the colours, in [0, 1].
        upright: as of the `Segmenter` that the labels are from.

    Returns:
        uint8 array (height, width, 3).

    Raises:
        ValueError: if the sizes differ, or `opacity` is out of its range.

    Example:
        import numpy as np
        from keras_convnext.segmentation import overlay
        photo, labels = np.zeros((40, 50, 3), "uint8"), np.zeros((40, 50), int)
        overlay(photo, labels, classes=3).shape  # (40, 50, 3)
    """
    checks.number("opacity", opacity, least=0, most=1)
    pixels, labels = load_image(image, upright), np.asarray(labels)
    pixels = np.asarray(pixels, "float32")
    if labels.shape != pixels.shape[:2]:
        raise ValueError(f"`labels` must be {pixels.shape[:2]} like the image, not {labels.shape}.")
    share = np.where((labels >= 0) & (labels < classes), opacity, 0.0).astype("float32")[..., None]
    colours = palette(classes)[np.clip(labels, 0, 255)]
    return np.rint(pixels + share * (colours - pixels)).astype("uint8")


def legend(names, shares=None):
    """Returns a picture of the colours and names of the classes.

    Args:
        names: of all classes, in order.
        shares: {class: part of the pixels} of the classes to show, the largest first; `None`: all
            classes, without numbers.

    Returns:
        `PIL.Image.Image` of mode "RGB".

    Example:
        from keras_convnext.segmentation import legend
        legend(["sky", "road"], {0: 0.75, 1: 0.25}).save("legend.png")
    """
    colours, line, font_size = palette(len(names)), 22, 14
    numbers = range(len(names)) if shares is None else sorted(shares, key=shares.get, reverse=True)
    texts = [
        names[n] if shares is None else f"{names[n]}  {100 * shares[n]:.1f} %" for n in numbers
    ]
    font = ImageFont.load_default(font_size)
    width = max((int(font.getlength(text)) for text in texts), default=0)
    picture = Image.new("RGB", (width + 2 * line + 8, line * max(1, len(texts)) + 8), "white")
    draw = ImageDraw.Draw(picture)
    for row, (number, text) in enumerate(zip(numbers, texts, strict=True)):
        top = 4 + row * line
        draw.rectangle((6, top + 3, line, top + line - 4), tuple(map(int, colours[number])))
        draw.text((line + 8, top + 2), text, "black", font)
    return picture


def shares_of(labels, classes):
    """Returns {class: part of the pixels} of the classes in an int array (height, width)."""
    counts = np.bincount(np.asarray(labels).ravel(), minlength=classes)[:classes]
    return {int(n): counts[n] / np.size(labels) for n in np.flatnonzero(counts)}
