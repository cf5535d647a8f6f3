"""Masks: images whose values, or whose colours, are classes."""

import dataclasses
import functools
import os

import numpy as np

from keras_convnext.images import ImageError, open_image
from keras_convnext.segmentation.losses import IGNORED

SHOWN = 5  # wrong values in a message


def read_mask(source, in_colour=False):
    """Returns the values of a mask as they are stored; for a palette image the indices.

    Args:
        source: the content of an image file, or its path. Grey of any depth, palette, one bit
            (0 and 1), with or without alpha, which is dropped; RGB with equal channels; floats
            that are whole numbers.
        in_colour: whether the colours are wanted instead, of any kind of image.

    Returns:
        array (height, width), uint8, uint16 or int32; in colour uint8 (height, width, 3).

    Raises:
        ImageError: (a ValueError) if the file cannot be read, or its pixels are not single whole
            numbers and `in_colour` is False.
    """
    is_path = isinstance(source, (str, os.PathLike))
    name = repr(os.fspath(source)) if is_path else f"{len(source)} bytes of data"
    try:
        with open_image(source) as image:
            mode, values = image.mode, _values(image, in_colour)
    except Exception as error:  # whatever Pillow's decoders raise on a damaged file
        raise ImageError(f"Cannot read a mask from {name}: {error}.") from error
    if in_colour:
        return values
    if values.ndim == 3 and (values[..., :3] == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim != 2:
        raise ImageError(
            f"{name}: is a picture in colours (mode {mode}); a mask has one value per pixel, the "
            "number of its class. Save it as a grey or palette PNG, or say which colour is which "
            "class (`LabelMap(colours=...)`)."
        )
    return _whole(values, name)


def _values(image, in_colour):
    if in_colour:
        return np.asarray(image.convert("RGB"))
    has_one_channel_and_alpha = image.mode in ("LA", "La", "PA")
    return np.asarray(image.getchannel(0) if has_one_channel_and_alpha else image)


def _whole(values, name):
    if values.dtype == bool:
        return values.astype("uint8")
    if values.dtype.kind == "f":
        if not (np.isfinite(values) & (values == np.floor(values))).all():
            raise ImageError(
                f"{name}: has fractions or NaN from {values.min():g} to {values.max():g}; a mask "
                "has whole numbers, those of the classes."
            )
        return values.astype("int32")
    return values.astype(values.dtype.newbyteorder("="))


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """Translates the values of masks to classes 0, 1, ... and 255 for pixels that do not count.

    Args:
        classes: number of classes, 1 to 255.
        first: the value of class 0; the others follow, lower values do not count. ADE20K: 1.
        ignored: another value that does not count, or `None`. 255 never counts, unless it is one
            of `values`.
        values: the value of each class in [0, 255], if they do not follow each other: `(0, 255)`
            of black and white masks. `first` must be 0.
        colours: pairs `((red, green, blue), class)` for masks in colours; the class may be 255 for
            a colour that does not count. Several colours may have one class.

    Called with an int array of any shape it returns uint8 of that shape; with `colours` it takes
    uint8 (height, width, 3) and returns (height, width).

    Raises:
        ValueError: if an argument is out of range or contradicts another, or (when called) a value
            is no class.
    """

    classes: int
    first: int = 0
    ignored: int | None = None
    values: tuple | None = None
    colours: tuple | None = None

    def __post_init__(self):
        if self.classes < 1 or self.first < 0 or self.first + self.classes > IGNORED:
            raise ValueError(
                "There must be 1 to 255 classes with values in [0, 254], received "
                f"`classes`={self.classes} and `first`={self.first}."
            )
        if self.values is not None:
            self._check_values()
        if self.colours is not None:
            self._check_colours()
        if self.ignored is not None and self.ignored not in {*range(256)} - {*self._values}:
            raise ValueError(
                "`ignored` must be `None` or a value in [0, 255] that is no class, received "
                f"{self.ignored}; the classes are {self._values_in_words()}."
            )

    def _check_values(self):
        distinct = len(set(self.values)) == len(self.values) == self.classes
        if not distinct or not set(self.values) <= set(range(256)) or self.first:
            raise ValueError(
                f"`values` must be {self.classes} different numbers in [0, 255], one for each "
                f"class, with `first`=0; received {self.values} and `first`={self.first}."
            )

    def _check_colours(self):
        if self.values is not None or self.first or self.ignored is not None:
            raise ValueError("`colours` excludes `values`, `first` and `ignored`: give them alone.")
        known = {label for _, label in self.colours}
        shapes = all(
            len(colour) == 3 and set(colour) <= set(range(256)) for colour, _ in self.colours
        )
        if not shapes or len(dict(self.colours)) != len(self.colours):
            raise ValueError(
                "`colours` must be pairs ((red, green, blue), class) of different colours with "
                f"numbers in [0, 255], received {self.colours}."
            )
        if known - {IGNORED} != set(range(self.classes)):
            raise ValueError(
                f"`colours` must have a colour for each of the {self.classes} classes, and 255 for "
                f"colours that do not count; received the classes {sorted(known)}."
            )

    @property
    def in_colour(self):
        """Whether it takes colours instead of values."""
        return self.colours is not None

    @property
    def _values(self):
        return self.values or range(self.first, self.first + self.classes)

    def _values_in_words(self):
        if self.values is not None:
            return ", ".join(map(str, self.values))
        return f"{self._values[0]} to {self._values[-1]}"

    @functools.cached_property
    def _table(self):
        """Per value its class; -1 where there is none."""
        table = np.full(256, -1, "int16")
        table[: self.first] = IGNORED
        table[[IGNORED] if self.ignored is None else [IGNORED, self.ignored]] = IGNORED
        table[list(self._values)] = np.arange(self.classes)
        return table

    def __call__(self, values):
        values = np.asarray(values)
        if self.in_colour:
            values = _packed(values)
            labels = self._of_colours(values)
        else:
            inside = (values >= 0) & (values < 256)
            labels = np.where(inside, self._table[np.where(inside, values, 0)], -1)
        if (labels < 0).any():
            raise ValueError(self._wrong(np.unique(values[labels < 0])[:SHOWN]))
        return labels.astype("uint8")

    def _of_colours(self, packed):
        colours, labels = zip(*self.colours, strict=True)
        known = _packed(np.array(colours))
        order = np.argsort(known)
        known, labels = known[order], np.array(labels, "int16")[order]
        place = np.minimum(np.searchsorted(known, packed), len(known) - 1)
        return np.where(known[place] == packed, labels[place], -1)

    def _wrong(self, values):
        if self.in_colour:
            colours = [(int(v) >> 16, int(v) >> 8 & 255, int(v) & 255) for v in values]
            return (
                f"The mask has the colours {colours}, which belong to no class and to none that "
                "does not count. Colours in between come from resizing or from JPEG."
            )
        return (
            f"The mask has the values {values.tolist()}; allowed are {self._values_in_words()} of "
            f"the {self.classes} classes, and {self._ignored_in_words()} for pixels that do not "
            "count."
        )

    def _ignored_in_words(self):
        values = [value for value in (self.ignored, IGNORED) if value is not None]
        values = [value for value in values if value not in self._values]
        return " and ".join(map(str, [*(["lower ones"] if self.first else []), *values])) or "none"


def _packed(colours):
    """Returns one int32 for each colour of an array (..., 3)."""
    if colours.shape[-1:] != (3,):
        raise ValueError(f"Colours must be (height, width, 3), received {colours.shape}.")
    red, green, blue = np.moveaxis(colours.astype("int32"), -1, 0)
    return red << 16 | green << 8 | blue
