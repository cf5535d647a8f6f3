"""Pictures of detections: masks, boxes, names and scores on the photo, readable at its size."""

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from keras_convnext import checks
from keras_convnext.images import load_image
from keras_convnext.segmentation.overlays import palette

COLOURS = 60  # then they begin again: more cannot be told apart
SMALLEST_TEXT = 8  # pixels


def draw(image, boxes, texts=None, windows=None, opacity=0.45, least=480, kinds=None):
    """Returns the photo with objects on it, each in a colour of its own, or of its kind.

    Lines and letters grow with the photo. A photo smaller than `least` is enlarged by a whole
    number, as no letters would fit into it.

    Args:
        image: anything that `keras_convnext.images.load_image` takes.
        boxes: float array (n, 4): x1, y1, x2, y2 in pixels of the photo. The first is drawn last,
            over the others.
        texts: n texts, for example names; `None`: none.
        windows: sequence of n masks as of `pasting.paste`: `(window, top, left)`; `None`: none.
        opacity: of the masks, in [0, 1].
        least: of the longer side of the picture, in pixels.
        kinds: n integers >= 0: objects of equal numbers have one colour, which is the same in every
            picture; `None`: each object has its own.

    Returns:
        `PIL.Image.Image` of mode "RGB".

    Raises:
        ImageError: (a ValueError) if the photo cannot be read.
        ValueError: if `opacity` is out of its range.
    """
    checks.number("opacity", opacity, least=0, most=1)
    pixels = np.array(load_image(image))
    boxes = np.asarray(boxes, "float64").reshape(-1, 4)
    times = max(1, -(-least // max(pixels.shape[:2])))
    pixels = pixels.repeat(times, 0).repeat(times, 1)
    kinds = np.arange(len(boxes)) if kinds is None else np.asarray(kinds, "int64")
    colours = palette(COLOURS)[kinds % COLOURS]
    line = max(2, max(pixels.shape[:2]) // 400)
    for n in reversed(range(0 if windows is None else len(boxes))):
        window, top, left = windows[n]
        window = window.repeat(times, 0).repeat(times, 1)
        _tint(pixels, window, top * times, left * times, colours[n], opacity, line)
    picture = Image.fromarray(pixels)
    pen = ImageDraw.Draw(picture)
    for box, colour in reversed(list(zip(boxes * times, colours, strict=True))):
        pen.rectangle(_corners(box, picture), outline=tuple(map(int, colour)), width=line)
    if texts is not None:
        _write(pen, picture, boxes * times, texts, colours, line)
    return picture


def _tint(pixels, window, top, left, colour, opacity, line):
    """Lays the colour over the pixels of a mask, and a lighter one along its edge."""
    rows, columns = window.shape
    part = pixels[top : top + rows, left : left + columns]
    edge = window & ~_eroded(window, max(1, line // 2))
    for channel, value in enumerate(colour):
        mixed = np.rint((1 - opacity) * np.arange(256) + opacity * value).astype("uint8")
        plane = part[..., channel]
        plane[window] = mixed[plane[window]]
        plane[edge] = (int(value) + 255) // 2


def _eroded(window, radius):
    """Returns the pixels of a mask that are further than that from its edge in rows and columns."""
    wide, length = np.pad(window, radius), 2 * radius + 1
    for _ in range(2):
        reach = 1
        while reach < length:  # each pixel stands for `reach` of them, which are all of the mask
            step = min(reach, length - reach)
            wide, reach = wide[:-step] & wide[step:], reach + step
        wide = wide.T
    return wide


def _corners(box, picture):
    """Returns a box as whole pixels within the picture, the first corner first."""
    limits = np.array([picture.width, picture.height] * 2) - 1
    x1, y1, x2, y2 = np.clip(np.rint(box), 0, limits).astype(int).tolist()
    return x1, y1, max(x1, x2), max(y1, y2)


# ---------------------------------------------------------------------------- texts


def _write(pen, picture, boxes, texts, colours, line):
    """Writes a text at each box, where none is yet, if there is such a place."""
    font = _font(picture, texts)
    taken, labels = [], []
    for box, text, colour in zip(boxes, texts, colours, strict=True):
        x, y, right, bottom = pen.textbbox((0, 0), text, font)
        size = right + 2 * line, bottom + 2 * line
        corner = _place(_corners(box, picture), size, picture, taken)
        taken.append((*corner, corner[0] + size[0], corner[1] + size[1]))
        labels.append((taken[-1], text, tuple(map(int, colour))))
    for place, text, colour in reversed(labels):
        pen.rectangle(place, fill=colour)
        dark = np.dot(colour, (0.299, 0.587, 0.114)) < 140
        pen.text((place[0] + line, place[1] + line), text, "white" if dark else "black", font)


def _font(picture, texts):
    """Returns a font that grows with the picture, and in which the longest text fits into it."""
    size = max(13, max(picture.size) // 55)
    longest = max(texts, key=len, default="")
    width = ImageFont.load_default(size).getlength(longest) + size
    return ImageFont.load_default(max(SMALLEST_TEXT, min(size, size * picture.width / width)))


def _place(box, size, picture, taken):
    """Returns the upper left corner of a text of some size (width, height).

    Above the box, else in its upper corner, below it, further down in it, or higher up: the first
    of these where no other text is.
    """
    left, top, _, bottom = box
    width, height = size
    lower = range(top + height, bottom - height, height)
    ys = [top - height, top, bottom, *lower, *(top - n * height for n in (2, 3, 4))]
    corners = [
        (
            max(0, min(left, picture.width - 1 - width)),
            max(0, min(y, picture.height - 1 - height)),
        )
        for y in ys
    ]
    free = (
        c for c in corners if not any(_overlap((*c, c[0] + width, c[1] + height), t) for t in taken)
    )
    return next(free, corners[0])


def _overlap(one, other):
    return all(one[i] < other[i + 2] and other[i] < one[i + 2] for i in (0, 1))
