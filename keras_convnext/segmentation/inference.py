"""A class for every pixel of an image of any size: whole, in windows, or at several scales.

What the model sees at once is bounded by `window` and `batch_size`, whatever the image's size; the
sums over the windows are kept in main memory, `height * width * classes` floats.

Source of the defaults: arXiv 2201.03545, Appendix A.3, and the configurations published with it.
"""

import dataclasses

import numpy as np
from keras import ops

from keras_convnext.layers import one_of
from keras_convnext.preprocessing import load_image
from keras_convnext.segmentation.resampling import resize_to

MODES = ("slide", "whole")
SCALES = (0.5, 0.75, 1.0, 1.25, 1.5, 1.75)  # of the published evaluation at several scales


@dataclasses.dataclass(frozen=True)
class Segmenter:
    """From an image to labels, with a model's logits.

        segment = Segmenter(UperNetConvNeXtTiny("ade20k"))
        labels = segment("photo.jpg")           # (height, width) of the photograph

    Args:
        model: from `(batch, h, w, 3)` in [0, 255] to logits `(batch, h, w, classes)`, such as a
            `SegmentationModel`.
        mode: `"slide"`: windows that overlap, whose logits are averaged; `"whole"`: the image at
            once. An image no larger than the window is the same in both.
        window: side of the windows in pixels; the paper's are those of its training crops, 512 or
            640.
        stride: from one window to the next; `None`: two thirds of the window.
        batch_size: windows that the model sees at once.
        size: `(long, short)`: the image is first resized, keeping its ratio, so that neither side
            is longer than that; the paper: `(4 * window, window)`. `None`: it is taken as it is.
        scales: factors on that size; the probabilities of all are averaged. The paper's evaluation
            at several scales: `SCALES` and `flip`, with `mode="whole"`.
        flip: whether mirror images are averaged in, too.

    Raises:
        ValueError: if an argument is out of its range.
    """

    model: object
    mode: str = "slide"
    window: int = 512
    stride: int | None = None
    batch_size: int = 4
    size: tuple | None = None
    scales: tuple = (1.0,)
    flip: bool = False

    def __post_init__(self):
        one_of("mode", self.mode, MODES)
        for name in ("window", "batch_size"):
            if type(getattr(self, name)) is not int or getattr(self, name) < 1:
                raise ValueError(f"`{name}` must be an int >= 1, received {getattr(self, name)!r}.")
        if self.stride is not None and not 1 <= self.stride <= self.window:
            raise ValueError(
                f"`stride` must be from 1 to the `window` of {self.window}, or pixels between the "
                f"windows would have no class; received {self.stride!r}."
            )
        if not self.scales or min(self.scales) <= 0:
            raise ValueError(f"`scales` must be numbers > 0, received {self.scales!r}.")

    def __call__(self, image):
        """The labels of an image.

        Args:
            image: anything that `keras_convnext.preprocessing.load_image` takes.

        Returns:
            array (height, width) of the image's own size, uint8, or int32 from 257 classes on.

        Raises:
            ImageError: if it cannot be read.
            ValueError: if the model does not take images of that size.
        """
        probabilities = self.probabilities(image)
        return probabilities.argmax(-1).astype(
            "uint8" if probabilities.shape[-1] < 257 else "int32"
        )

    def probabilities(self, image):
        """-> float32 array (height, width, classes); arguments and errors as above."""
        pixels = np.asarray(load_image(image), "float32")
        height, width = pixels.shape[:2]
        total, count = 0, 0
        for scale in self.scales:
            scaled = _resized(pixels, *self._scaled(height, width, scale))
            for mirrored in (False, True) if self.flip else (False,):
                logits = self._logits(scaled[:, ::-1] if mirrored else scaled)
                logits = logits[:, ::-1] if mirrored else logits
                total, count = total + _softmax(_resized(logits, height, width)), count + 1
        return total / count

    def _scaled(self, height, width, scale):
        if self.size is not None:
            long, short = self.size
            scale *= min(long / max(height, width), short / min(height, width))
        return max(1, int(height * scale + 0.5)), max(1, int(width * scale + 0.5))

    def _logits(self, pixels):
        """float32 (h, w, 3) -> float32 (h, w, classes)"""
        height, width = pixels.shape[:2]
        if self.mode == "whole" or max(height, width) <= self.window:
            return self._predict(pixels[None])[0]
        stride = self.stride or max(1, 2 * self.window // 3)
        tops, lefts = (starts(length, self.window, stride) for length in (height, width))
        places = [(top, left) for top in tops for left in lefts]
        h, w = min(height, self.window), min(width, self.window)
        total = None
        for first in range(0, len(places), self.batch_size):
            batch = places[first : first + self.batch_size]
            # the last batch is filled up: another size would be compiled anew
            full = (batch * self.batch_size)[: max(len(batch), min(self.batch_size, len(places)))]
            logits = self._predict(np.stack([pixels[t : t + h, le : le + w] for t, le in full]))
            if total is None:
                total = np.zeros((height, width, logits.shape[-1]), "float32")
            for (top, left), values in zip(batch, logits, strict=False):
                total[top : top + h, left : left + w] += values
        rows, columns = _cover(tops, h, height), _cover(lefts, w, width)
        total /= (rows[:, None] * columns)[..., None]
        return total

    def _predict(self, pixels):
        expected = self.model.input_shape
        fits = all(a in (None, b) for a, b in zip(expected, pixels.shape, strict=True))
        if not fits:
            raise ValueError(
                f"The model takes images of {expected[1:]}, received {pixels.shape[1:]}. Build it "
                "with `input_shape=(None, None, 3)`, or choose a `window` and a `size` that fit."
            )
        return np.asarray(self.model.predict_on_batch(pixels), "float32")


def starts(length, window, stride):
    """-> where windows begin that cover `length` pixels; the last one ends with the image."""
    last = max(length - window, 0)
    return [*range(0, last, stride), last]


def _cover(starts, window, length):
    """-> float32 (length,): how many windows cover each pixel."""
    count = np.zeros(length, "float32")
    for start in starts:
        count[start : start + window] += 1
    return count


def _resized(array, height, width):
    if array.shape[:2] == (height, width):
        return array
    resized = resize_to(ops.convert_to_tensor(array[None]), height, width)
    return ops.convert_to_numpy(resized)[0]


def _softmax(logits):
    """In a single copy: there may be 150 numbers per pixel."""
    powers = logits - logits.max(-1, keepdims=True)
    np.exp(powers, out=powers)
    powers /= powers.sum(-1, keepdims=True)
    return powers
