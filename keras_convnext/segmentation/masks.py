"""Masks: images whose values are classes."""

import dataclasses
import functools
import io
import os

import numpy as np
from PIL import Image

from keras_convnext.images import ImageError
from keras_convnext.segmentation.losses import IGNORED


def read_mask(source):
    """The values of a mask as they are stored; of a palette image the indices.

    Args:
        source: the content of an image file, or its path. Grey, palette, or RGB with equal
            channels.

    Returns:
        array (height, width), uint8 or int32.

    Raises:
        ImageError: (a ValueError) if it cannot be read, or is a picture in colours.
    """
    is_path = isinstance(source, (str, os.PathLike))
    name = repr(os.fspath(source)) if is_path else f"{len(source)} bytes of data"
    try:
        with Image.open(source if is_path else io.BytesIO(source)) as image:
            values = np.asarray(image)
    except Exception as error:  # whatever Pillow's decoders raise on a damaged file
        raise ImageError(f"Cannot read a mask from {name}: {error}.") from error
    if values.ndim == 3 and (values[..., :3] == values[..., :1]).all():
        values = values[..., 0]
    if values.ndim != 2 or values.dtype.kind not in "uib":
        raise ImageError(
            f"{name}: is a picture in colours (mode {image.mode}); a mask has one value per pixel, "
            "the number of its class. Save it as a grey or palette PNG."
        )
    return values.astype("uint8" if values.dtype == bool else values.dtype)


@dataclasses.dataclass(frozen=True)
class LabelMap:
    """From the values of masks to classes 0, 1, ... and 255 for pixels that do not count.

    Args:
        classes: number of classes, 1 to 255.
        first: the value of class 0; lower values do not count. ADE20K: 1.
        ignored: another value that does not count, or `None`; 255 never does.

    Called with an int array of any shape it returns uint8 of that shape.

    Raises:
        ValueError: if an argument is out of its range, or (when called) a value is no class.
    """

    classes: int
    first: int = 0
    ignored: int | None = None

    def __post_init__(self):
        if self.classes < 1 or self.first < 0 or self.first + self.classes > IGNORED:
            raise ValueError(
                "There must be 1 to 255 classes with values in [0, 254], received "
                f"`classes`={self.classes} and `first`={self.first}."
            )
        if self.ignored is not None and self.ignored not in {*range(256)} - {*self._values}:
            raise ValueError(
                "`ignored` must be `None` or a value in [0, 255] that is no class, received "
                f"{self.ignored}; the classes are {self._values_in_words()}."
            )

    @property
    def _values(self):
        return range(self.first, self.first + self.classes)

    def _values_in_words(self):
        return f"{self._values[0]} to {self._values[-1]}"

    @functools.cached_property
    def _table(self):
        """Per value its class; -1 where there is none."""
        table = np.full(256, -1, "int16")
        table[: self.first] = IGNORED
        table[self._values] = np.arange(self.classes)
        table[[IGNORED] if self.ignored is None else [IGNORED, self.ignored]] = IGNORED
        return table

    def __call__(self, values):
        values = np.asarray(values)
        inside = (values >= 0) & (values < 256)
        labels = np.where(inside, self._table[np.where(inside, values, 0)], -1)
        if (labels < 0).any():
            odd = np.unique(values[labels < 0])[:5].tolist()
            raise ValueError(
                f"The mask has the values {odd}; allowed are {self._values_in_words()} of the "
                f"{self.classes} classes, and {self._ignored_in_words()} for pixels that do not "
                "count."
            )
        return labels.astype("uint8")

    def _ignored_in_words(self):
        values = [IGNORED] if self.ignored is None else [self.ignored, IGNORED]
        return " and ".join(map(str, [*(["lower ones"] if self.first else []), *values]))
