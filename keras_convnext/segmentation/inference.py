"""A class for every pixel of an image of any size: whole, in windows, or at several scales.

What the model sees at once is bounded by `window` and `batch_size`, whatever the image's size. The
logits of one row of windows are kept, or all of them where it sees the image whole; whatever is as
large as the image is computed a band of rows at a time.

Source of the defaults: arXiv 2201.03545, Appendix A.3, and the configurations published with it.
"""

import dataclasses
import math
import numbers

import numpy as np

from keras_convnext import checks
from keras_convnext.images import load_image
from keras_convnext.predictions import ACTIVATIONS, TOLERANCE
from keras_convnext.sizes import bilinear, fitting, scaled

MODES = ("slide", "whole")
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # of the published evaluation at several scales
LEAST = 32  # pixels of a side, of which the coarsest map has one
BAND = 2**14  # pixels whose probabilities are computed at once


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """From an image to labels, with a model's logits.

    Args:
        model: from `(batch, h, w, 3)` in [0, 255] to logits or probabilities `(batch, h, w,
            classes)`, such as a `SegmentationModel`.
        mode: `"slide"`: windows that overlap, whose logits are averaged; `"whole"`: the image at
            once. An image no larger than the window is the same in both.
        window: side of the windows in pixels, >= 32; the paper's are those of its training crops,
            512 or 640.
        stride: from one window to the next; `None`: two thirds of the window.
        batch_size: windows that the model sees at once.
        size: `(long, short)`, in any order, >= 32: the image is first resized, keeping its ratio,
            so that neither side is longer than that; the paper: `(4 * window, window)`. `None`: it
            is taken as it is.
        scales: factors on that size; the probabilities of all are averaged. The paper's evaluation
            at several scales: `SCALES` and `flip`, with `mode="whole"`. A side that would be
            shorter than 32 pixels becomes 32.
        flip: whether mirror images are averaged in, too.
        activation: what turns the model's outputs into probabilities: "softmax", "sigmoid", or
            "none" where they are probabilities already. `None`: it is recognised. One output per
            pixel tells two classes apart: it is of class 1.
        upright: whether a photo is turned as its EXIF says; else it is taken as it is stored.

    Raises:
        ValueError: if an argument is out of its range.

    Example:
        from keras_convnext.segmentation import Segmenter, UperNetConvNeXtTiny
        segment = Segmenter(UperNetConvNeXtTiny(weights="ade20k"))
        labels = segment("photo.jpg")  # (height, width) of the photo
    """

    model: object
    mode: str = "slide"
    window: int = 512
    stride: int | None = None
    batch_size: int = 4
    size: tuple | None = None
    scales: tuple = (1.0,)
    flip: bool = False
    activation: str | None = None
    upright: bool = True

    def __post_init__(self):
        checks.one_of("upright", self.upright, (True, False))
        self.check_model()
        checks.one_of("activation", self.activation, (None, *ACTIVATIONS))
        checks.one_of("mode", self.mode, MODES)
        checks.integer("window", self.window, LEAST)
        checks.integer("batch_size", self.batch_size, 1)
        if self.stride is not None:
            checks.integer("stride", self.stride, 1)
            if self.stride > self.window:
                raise ValueError(
                    f"`stride` must be from 1 to the `window` of {self.window}, or pixels between "
                    f"the windows would have no class; received {self.stride!r}."
                )
        if self.size is not None and not is_pair(self.size):
            raise ValueError(
                f"`size` must be `None` or (long, short), two numbers of pixels >= {LEAST}, "
                f"received {self.size!r}."
            )
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"`scales` must be numbers > 0, received {self.scales!r}.")

    def check_model(self):
        """Raises a ValueError if the model is for something else."""
        from keras_convnext import outputs  # Keras, which the file of an export needs not

        outputs.refuse_detector(self.model, getattr(self.model, "name", type(self.model).__name__))

    def told_activation(self):
        """Returns the activation that the model itself tells; `None` where only the numbers do."""
        from keras_convnext import outputs

        return outputs.activation_of(self.model)

    def __call__(self, image):
        """The labels of an image.

        Args:
            image: anything that `keras_convnext.images.load_image` takes.

        Returns:
            array (height, width) of the image's own size, where `upright` of the turned one;
            uint8, or int32 from 257 classes on.

        Raises:
            ImageError: if it cannot be read.
            ValueError: if the model does not take images of that size.
        """
        return np.concatenate([_labels(band) for band in self._bands(image)])

    def probabilities(self, image):
        """Returns the float32 array (height, width, classes); arguments and errors as above."""
        return np.concatenate([*self._bands(image)])

    def _bands(self, image):
        """Returns the probabilities from top to bottom, (rows, width, classes) each."""
        pixels = np.asarray(load_image(image, self.upright), "float32")
        height, width = pixels.shape[:2]
        steps = (1, -1) if self.flip else (1,)
        views = [self._view(pixels, scale, step) for scale in self.scales for step in steps]
        if self._kept(height, width) <= height * width:
            sums = (sum(map(_softmax, logits)) for logits in zip(*views, strict=True))
        else:  # one after the other: the sum is smaller than what all of them keep
            sums = [*map(_softmax, views[0])]
            for view in views[1:]:
                for total, logits in zip(sums, view, strict=True):
                    total += _softmax(logits)
        return (total / len(views) for total in sums)

    def _kept(self, height, width):
        """Returns how many pixels' logits all views keep at once."""
        limit = self.window if self.mode == "slide" else math.inf
        sizes = (self._scaled(height, width, scale) for scale in self.scales)
        return (1 + self.flip) * sum(min(h, limit) * w for h, w in sizes)

    def _view(self, pixels, scale, step):
        """Yields the logits at one scale, mirrored or not, resized to the image, in bands."""
        height, width = pixels.shape[:2]
        pixels = bilinear(pixels, *self._scaled(height, width, scale))
        pieces = (piece[:, ::step] for piece in self._logits(pixels[:, ::step]))
        yield from in_bands(pieces, len(pixels), height, width)

    def _scaled(self, height, width, scale):
        sides = (height, width)
        return scaled(sides, scale * fitting(sides, self.size), LEAST)

    def _logits(self, pixels):
        """Yields the logits of pixels (h, w, 3) from top to bottom, float32 (rows, w, classes)."""
        height, width = pixels.shape[:2]
        if self.mode == "whole" or max(height, width) <= self.window:
            yield self._predict(pixels[None])[0]
            return
        stride = self.stride or 2 * self.window // 3
        tops, lefts = (starts(length, self.window, stride) for length in (height, width))
        h, w = min(height, self.window), min(width, self.window)
        rows, columns = _cover(tops, h, height), _cover(lefts, w, width)
        windows = self._windows(pixels, [(top, left) for top in tops for left in lefts], h, w)
        total = None
        for top, below in zip(tops, [*tops[1:], height], strict=True):
            for left, logits in zip(lefts, windows, strict=False):
                if total is None:
                    total = np.zeros((h, width, logits.shape[-1]), "float32")
                total[:, left : left + w] += logits
            # no other window reaches the rows above the next
            for first, last in _steps(top, below, width):
                count = rows[first:last, None] * columns
                yield total[first - top : last - top] / count[..., None]
            shared = h - (below - top)
            total[:shared] = total[h - shared :]
            total[shared:] = 0

    def _windows(self, pixels, places, height, width):
        """Yields the logits of the windows that begin at `places`, one by one."""
        for first in range(0, len(places), self.batch_size):
            batch = places[first : first + self.batch_size]
            # the last batch is filled up: another size would be compiled anew
            full = (batch * self.batch_size)[: max(len(batch), min(self.batch_size, len(places)))]
            crops = [pixels[top : top + height, left : left + width] for top, left in full]
            yield from self._predict(np.stack(crops))[: len(batch)]

    def _predict(self, pixels):
        expected = getattr(self.model, "input_shape", None) or pixels.shape  # no graph, no shape
        fits = all(a in (None, b) for a, b in zip(expected, pixels.shape, strict=True))
        if not fits:
            raise ValueError(
                f"The model takes images of {expected[1:]}, received {pixels.shape[1:]}. Build it "
                "with `input_shape=(None, None, 3)`, or choose a `window` and a `size` that fit."
            )
        found = np.asarray(self.model.predict_on_batch(pixels), "float32")
        return _as_logits(found, self.activation or self.told_activation())


def _as_logits(found, activation):
    """Returns logits whose softmax are the probabilities that a model's outputs stand for.

    Args:
        found: float32 array (n, height, width, channels) of outputs.
        activation: "none", "softmax", "sigmoid", or `None` where only the numbers tell.
    """
    alone = found.shape[-1] == 1
    if activation is None:
        within = found.min() >= 0 and found.max() <= 1 + TOLERANCE
        sums_to_1 = within and np.abs(found.sum(-1) - 1).max() <= TOLERANCE
        activation = "none" if sums_to_1 and not alone else "softmax"
    if activation != "none":
        return np.concatenate([np.zeros_like(found), found], -1) if alone else found
    if alone:
        found = np.concatenate([1 - found, found], -1)
    return np.log(np.maximum(found, np.finfo("float32").tiny))


def is_pair(size):
    """Returns whether these are two numbers of pixels, each at least `LEAST`."""
    return (
        isinstance(size, (tuple, list))
        and len(size) == 2
        and all(isinstance(side, numbers.Real) and side >= LEAST for side in size)
    )


def starts(length, window, stride):
    """Returns where windows begin that cover `length` pixels; the last ends with the image."""
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


def _cover(starts, window, length):
    """Returns how many windows cover each pixel, float32 (length,)."""
    count = np.zeros(length, "float32")
    for start in starts:
        count[start : start + window] += 1
    return count


def in_bands(pieces, length, height, width):
    """Resizes a map that comes in pieces, as `bilinear` would resize the whole.

    Args:
        pieces: iterator over the map from top to bottom, float32 (rows, w, channels) each.
        length: rows of all pieces.
        height, width: of the result.

    Returns:
        iterator over the result from top to bottom, float32 (rows, width, channels) each.
    """
    held, start = next(pieces), 0
    for top, bottom in _steps(0, height, width):
        places = (np.arange(top, bottom) + 0.5) * length / height - 0.5
        places = np.clip(places, 0, length - 1)
        first, last = math.floor(places[0]), math.ceil(places[-1]) + 1
        while start + len(held) < last:
            held = np.concatenate([held, next(pieces)])
        held, start = held[first - start :], first
        shares = np.maximum(1 - np.abs(places[:, None] - np.arange(first, last)), 0)
        rows = np.tensordot(shares.astype("float32"), held[: last - first], 1)
        yield bilinear(rows, bottom - top, width)


def _steps(top, bottom, width):
    """Yields `(first, last)` of the bands of the rows from `top` to below `bottom`."""
    rows = max(1, BAND // width)
    for first in range(top, bottom, rows):
        yield first, min(first + rows, bottom)


def _softmax(logits):
    """Returns the probabilities; in a single copy, as there may be 150 numbers per pixel."""
    powers = logits - logits.max(-1, keepdims=True)
    np.exp(powers, out=powers)
    powers /= powers.sum(-1, keepdims=True)
    return powers


def _labels(probabilities):
    return probabilities.argmax(-1).astype("uint8" if probabilities.shape[-1] < 257 else "int32")
