"""Images and objects for a detector: resized, cropped, mirrored, on a canvas of fixed size.

A recipe turns an image of any size into arrays of shapes that are known beforehand, so that a
compiler works once for landscapes and once for portraits. What is random is a function of a key.

Sources: the configurations published with arXiv 2201.03545 (section 4), whose augmentation is that
of DETR (arXiv 2005.12872) and Sparse R-CNN; large-scale jittering is arXiv 2012.07177.
"""

import dataclasses
from collections.abc import Callable

import numpy as np
from PIL import Image

from keras_convnext import checks
from keras_convnext.detection.settings import MULTIPLE
from keras_convnext.sizes import fitting, scaled

CROP_SIDE = 112  # of a mask that is cropped to its box
DRAWS = 8
THINNEST = 0.01  # pixels; what a crop leaves of a box is dropped below
LEAST_PART = 1e-3  # pixels of a mask that Pillow resizes


@dataclasses.dataclass(frozen=True, eq=False)
class Objects:
    """The objects of an image.

    Attributes:
        boxes: float32 (n, 4), x1, y1, x2, y2 in pixels of the image.
        labels: int32 (n,), from 0.
        mask: the index of an object -> bool (height, width); `None` where there are no masks.
    """

    boxes: np.ndarray
    labels: np.ndarray
    mask: Callable | None = None


@dataclasses.dataclass(frozen=True)
class View:
    """A part of an image, and the size at which it is shown.

    Attributes:
        part: left, top, width and height in pixels of the image.
        size: `(width, height)` in pixels, to which the part is resized.
        mirrored: whether left and right are exchanged.
    """

    part: tuple
    size: tuple
    mirrored: bool = False

    @property
    def is_portrait(self):
        """Whether it is higher than wide."""
        return self.size[1] > self.size[0]

    def image(self, image):
        """Returns the Pillow image that is shown. Bilinear with half-pixel centres, without
        antialiasing."""
        left, top, *sides = self.part
        across, down = (old / new for old, new in zip(sides, self.size, strict=True))
        if (left, top, *sides) == (0, 0, *self.size) and image.size == self.size:
            shown = image
        else:
            steps = (across, 0, left, 0, down, top)
            shown = image.transform(
                self.size, Image.Transform.AFFINE, steps, Image.Resampling.BILINEAR
            )
        return shown.transpose(Image.Transpose.FLIP_LEFT_RIGHT) if self.mirrored else shown

    def boxes(self, boxes):
        """Returns boxes (n, 4) of the image as they are shown, clipped to what is shown."""
        left, top, *sides = self.part
        scale = np.divide(self.size, sides)
        shown = (np.reshape(boxes, (-1, 2, 2)) - [left, top]) * scale
        shown = np.clip(shown, 0, self.size)
        if self.mirrored:
            shown[..., 0] = self.size[0] - shown[:, ::-1, 0]
        return shown.reshape(-1, 4).astype("float32")

    def mask(self, mask, box):
        """Returns uint8 (112, 112), 0 or 1: a mask of the image inside a box that is shown.

        Args:
            mask: bool (height, width), of the whole image.
            box: x1, y1, x2, y2, one that `boxes` returns.
        """
        x1, y1, x2, y2 = box
        if self.mirrored:
            x1, x2 = self.size[0] - x2, self.size[0] - x1
        left, top, *sides = self.part
        across, down = np.divide(sides, self.size)
        corners = [[x1 * across, y1 * down], [x2 * across, y2 * down]]
        crop = _cropped(mask, np.add(corners, [left, top]))
        return crop[:, ::-1] if self.mirrored else crop


def _cropped(mask, corners):
    """Returns uint8 (112, 112) of the part of a mask between the corners ((x1, y1), (x2, y2)), in
    pixels."""
    sides = np.array(mask.shape[::-1])
    low = np.clip(corners[0], 0, sides - LEAST_PART)
    high = np.clip(corners[1], low + LEAST_PART, sides)
    (x1, y1), (x2, y2) = np.floor(low).astype(int), np.ceil(high).astype(int)
    part = Image.fromarray(np.where(mask[y1:y2, x1:x2], np.uint8(255), np.uint8(0)))
    box = tuple(float(edge) for edge in (*(low - [x1, y1]), *(high - [x1, y1])))
    shown = part.resize((CROP_SIDE, CROP_SIDE), Image.Resampling.BILINEAR, box)
    return (np.asarray(shown) > 127).astype("uint8")


@dataclasses.dataclass(frozen=True)
class Recipe:
    """What all recipes share: the canvas, and the number of objects on it.

    Args:
        canvas: `(height, width)` of the result for landscapes, multiples of 32, the width not
            below the height; portraits have it turned. The image lies at the top left; the rest
            has the mean colour.
        objects: rows of the result. Where there are more objects, the largest are kept.
        mean: colour in [0, 1] around the image.

    Raises:
        ValueError: if an argument is out of its range.
    """

    canvas: tuple = (832, 1344)
    _: dataclasses.KW_ONLY
    objects: int = 100
    mean: tuple = (0.485, 0.456, 0.406)

    def __post_init__(self):
        checked_canvas("canvas", self.canvas)
        checks.integer("objects", self.objects, 1)
        checks.moments("mean", self.mean, 0)

    def view(self, size, draws):
        """Returns the `View` of an image of `size`, `(width, height)`.

        Args:
            size: of the image in pixels.
            draws: eight uniform numbers in [0, 1).
        """
        raise NotImplementedError

    def viewed(self, size, key):
        """Returns the `View` of an image for a key, three integers >= 0: seed, epoch and index.

        It is a pure function of both.
        """
        return self.view(size, np.random.default_rng(key).random(DRAWS))

    def __call__(self, image, objects, key):
        """Returns a training example.

        Args:
            image: Pillow image of mode "RGB".
            objects: its `Objects`.
            key: seed, epoch and index of the image.

        Returns:
            dict of arrays, with M = `objects` rows: `image` uint8 (height, width, 3);
            `image_shape` float32 (2,), height and width of the part of the canvas that the image
            fills; `boxes` float32 (M, 4), x1, y1, x2, y2 in pixels of the canvas; `labels` int32
            (M,), -1 where a row is none; and where there are masks `mask_crops` uint8 (M, 112,
            112), 0 or 1, each mask cropped to its box.
        """
        view = self.viewed(image.size, key)
        boxes = view.boxes(objects.boxes)
        kept = _largest(boxes, self.objects)
        filled = slice(0, len(kept))
        result = {
            "image": self._on_canvas(view.image(image), view.is_portrait),
            "image_shape": np.float32(view.size[::-1]),
            "boxes": np.zeros((self.objects, 4), "float32"),
            "labels": np.full(self.objects, -1, "int32"),
        }
        result["boxes"][filled] = boxes[kept]
        result["labels"][filled] = objects.labels[kept]
        if objects.mask is not None:
            crops = np.zeros((self.objects, CROP_SIDE, CROP_SIDE), "uint8")
            for row, number in enumerate(kept):
                crops[row] = view.mask(objects.mask(number), boxes[number])
            result["mask_crops"] = crops
        return result

    def _on_canvas(self, image, is_portrait):
        height, width = self.canvas[::-1] if is_portrait else self.canvas
        canvas = np.empty((int(height), int(width), 3), "uint8")
        canvas[:] = [round(255 * value) for value in self.mean]
        canvas[: image.height, : image.width] = np.asarray(image)
        return canvas


def checked_canvas(name, canvas):
    """Raises a ValueError unless `canvas` is `(height, width)` of a landscape or a square in
    multiples of 32."""
    good = isinstance(canvas, tuple | list) and len(canvas) == 2
    good = good and all(checks.is_number(side) and side > 0 for side in canvas)
    if not good or any(side % MULTIPLE for side in canvas) or canvas[0] > canvas[1]:
        checks.fail(
            name,
            canvas,
            f"(height, width) in multiples of {MULTIPLE}, the width not below the height, as "
            "portraits have it turned",
        )


def _largest(boxes, count):
    """Returns the indices of the boxes that show anything, in order; at most `count`, the largest
    ones."""
    width, height = (boxes[:, 2:] - boxes[:, :2]).T
    seen = np.flatnonzero((width >= THINNEST) & (height >= THINNEST))
    order = np.argsort(-(width * height)[seen], kind="stable")
    return np.sort(seen[order[:count]])


@dataclasses.dataclass(frozen=True)
class Fit(Recipe):
    """The evaluation's resize, without randomness.

    Args:
        canvas, objects, mean: see `Recipe`.
        size: `(long, short)`: an image is resized, keeping its ratio, so that neither side is
            longer than these. It must fit on the canvas.
    """

    _: dataclasses.KW_ONLY
    size: tuple = (1333, 800)

    def __post_init__(self):
        super().__post_init__()
        _check_fits("size", self.size, self.canvas)

    def view(self, size, draws=None):
        return View((0, 0, *size), scaled(size, fitting(size, self.size)))

    def viewed(self, size, key=None):
        return self.view(size)


@dataclasses.dataclass(frozen=True)
class CropAndResize(Recipe):
    """The augmentation of the paper's detectors: a mirror image, and another size; in half of the
    cases a crop of yet another size before.

    Args:
        canvas, objects, mean: see `Recipe`.
        short_sides: the short side of the result is one of these numbers of pixels, or less where
            the long one would exceed `long_side`.
        long_side: the most pixels of the long side.
        crop: probability of a crop.
        crop_short_sides: the short side before a crop is one of these.
        crop_sides: `(low, high)`: height and width of a crop are drawn from this interval, as far
            as the image reaches.
        flip: probability of a mirror image.

    Raises:
        ValueError: if an argument is out of its range, or the result does not fit on the canvas.
    """

    _: dataclasses.KW_ONLY
    short_sides: tuple = tuple(range(480, 801, 32))
    long_side: int = 1333
    crop: float = 0.5
    crop_short_sides: tuple = (400, 500, 600)
    crop_sides: tuple = (384, 600)
    flip: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        checks.integers("short_sides", self.short_sides, 1)
        checks.integers("crop_short_sides", self.crop_short_sides, 1)
        checks.integers("crop_sides", self.crop_sides, 1, 2)
        checks.interval("crop_sides", self.crop_sides)
        checks.number("crop", self.crop, least=0, most=1)
        checks.number("flip", self.flip, least=0, most=1)
        checks.integer("long_side", self.long_side, max(self.short_sides))
        _check_fits("long_side", (self.long_side, max(self.short_sides)), self.canvas)

    def view(self, size, draws):
        part, shown = (0, 0, *size), size
        if draws[1] < self.crop:
            whole = self._resized(size, self.crop_short_sides, draws[2])
            shown = [_whole(self._limits(side), draws[3 + n]) for n, side in enumerate(whole)]
            spare = [side - kept for side, kept in zip(whole, shown, strict=True)]
            corner = [_whole((0, room), draws[5 + n]) for n, room in enumerate(spare)]
            scale = np.divide(size, whole)
            part = (*np.multiply(corner, scale), *np.multiply(shown, scale))
        final = self._resized(shown, self.short_sides, draws[7])
        return View(tuple(map(float, part)), final, bool(draws[0] < self.flip))

    def _limits(self, side):
        return tuple(min(side, limit) for limit in self.crop_sides)

    def _resized(self, size, short_sides, draw):
        short = short_sides[int(draw * len(short_sides))]
        return scaled(size, fitting(size, (self.long_side, short)))


@dataclasses.dataclass(frozen=True)
class LargeScaleJitter(Recipe):
    """Large-scale jittering: a mirror image at a size between a small part of the canvas and a
    multiple of it, of which a random part is shown.

    Args:
        canvas, objects, mean: see `Recipe`; here a square.
        scale: `(low, high)` factor on the size at which the image just fits on the canvas.
        flip: probability of a mirror image.

    Raises:
        ValueError: if an argument is out of its range.
    """

    canvas: tuple = (1024, 1024)
    _: dataclasses.KW_ONLY
    scale: tuple = (0.1, 2.0)
    flip: float = 0.5

    def __post_init__(self):
        super().__post_init__()
        checks.interval("scale", self.scale)
        checks.number("flip", self.flip, least=0, most=1)
        if self.canvas[0] != self.canvas[1]:
            checks.fail("canvas", self.canvas, "a square, such as (1024, 1024), for this recipe")

    def view(self, size, draws):
        side = int(self.canvas[0])
        low, high = self.scale
        whole = scaled(size, (low + (high - low) * draws[1]) * side / max(size))
        shown = tuple(min(length, side) for length in whole)
        spare = [length - kept for length, kept in zip(whole, shown, strict=True)]
        corner = [_whole((0, room), draws[2 + n]) for n, room in enumerate(spare)]
        scale = np.divide(size, whole)
        part = (*np.multiply(corner, scale), *np.multiply(shown, scale))
        return View(tuple(map(float, part)), shown, bool(draws[0] < self.flip))


def _whole(limits, draw):
    """Returns a whole number from the lower to the upper limit, both included."""
    low, high = map(int, limits)
    return low + int(draw * (high - low + 1))


def _check_fits(name, size, canvas):
    if max(size) > max(canvas) or min(size) > min(canvas):
        checks.fail(
            name,
            size,
            f"at most (long, short) = {max(canvas):g}, {min(canvas):g}, the sides of the `canvas`",
        )
