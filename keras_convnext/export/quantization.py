"""Files in int8: static quantization of the products and convolutions, and what it costs.

The ranges of activations are taken from images (calibration). Where the answers then differ from
the float model's too often, the blocks that cost most stay in float.
"""

import dataclasses
import statistics
import time
import warnings

import numpy as np

from keras_convnext import names
from keras_convnext.export import placing, runners
from keras_convnext.export.int8_writers import BATCH, WRITERS

PROBES = 32  # images that tell which blocks cost most
TOP1, COSINE = 0.99, 0.98  # below one of them, blocks are left in float
TURNS = 7  # measurements of the time, of which the median is told


@dataclasses.dataclass(frozen=True)
class Agreement:
    """How a quantized file compares with the float one, on the images that it was compared on.

    Attributes:
        images: their number.
        top1: share of images (of pixels, where each has a class) whose best class is the same;
            `None` for a model that gives no classes.
        cosine: the smallest cosine between the outputs for one image; of logarithms where these are
            probabilities.
        float_bytes, bytes: sizes of both files.
        float_milliseconds, milliseconds: median time for one image, measured in turns.
        left_in_float: names of the blocks that were not quantized.
        float_accuracy, accuracy: shares of images whose best class is their own; `None` where their
            classes are not known.
    """

    images: int
    top1: float | None
    cosine: float
    float_bytes: int
    bytes: int
    float_milliseconds: float
    milliseconds: float
    left_in_float: tuple
    float_accuracy: float | None = None
    accuracy: float | None = None


def quantize(source, path, calibration, images, has_classes):
    """Writes the int8 form of a file, and returns the names of the blocks left in float.

    Args:
        source: path of the float file, `.onnx` or `.xml`.
        path: of the new file, of the same format.
        calibration: array of images, as the file takes them.
        images: such images too, on which both are compared.
        has_classes: whether the last axis of the outputs are classes.

    Raises:
        MissingPackageError: (an ImportError) without the package that quantizes: onnxruntime, or
            nncf.
    """
    task = _Task(source, path, calibration, images, has_classes)
    task.write(())
    found, left = task.compare(), ()
    if _is_low(found):
        order = task.by_cost()
        while _is_low(found) and len(left) < len(order) // 2:
            left = order[: len(left) + 1]
            task.write(left)
            found = task.compare()
    return tuple(left)


def agreement(whole, path, images, has_classes, left_in_float, truth=None):
    """Returns the `Agreement` of two files of one format, a float one and its int8 form.

    Args:
        whole: path of the float file.
        path: of the int8 file.
        images: array of images, as the files take them, on which both are compared.
        has_classes: whether the last axis of the outputs are classes.
        left_in_float: names of the blocks that were not quantized.
        truth: the class of each image, int array, or `None`.

    Warns:
        UserWarning: if they agree too rarely, whatever was left in float.
    """
    before, after = runners.opened(whole), runners.opened(path)
    outputs = [_outputs(file, images) for file in (after, before)]
    found = top1, cosine = _compared(*outputs, before.names, has_classes)
    if _is_low(found):
        share = "" if top1 is None else f"the best class is the same in {top1:.1%}, and "
        warnings.warn(
            f"{path.name}: in int8, {share}the smallest cosine of the outputs is {cosine:.3f} "
            f"(wanted: {TOP1:.0%}, {COSINE}), with {len(left_in_float)} blocks left in float. "
            "Calibrate with more images like those that will come, or write the model in float.",
            stacklevel=5,  # the caller of `export`
        )
    sizes = placing.size_of(whole), placing.size_of(path)
    times = _times(before, after, images[:1])
    scores = (_accuracy(made, before.names, truth) for made in reversed(outputs))
    return Agreement(len(images), top1, cosine, *sizes, *times, left_in_float, *scores)


def _is_low(found):
    top1, cosine = found
    return cosine < COSINE or (top1 is not None and top1 < TOP1)


class _Task:
    """One file, its images, and the ways to quantize it."""

    def __init__(self, source, path, calibration, images, has_classes):
        self._writer = WRITERS[source.suffix.lower()](source, path, calibration)
        self._path, self._images, self._has_classes = path, images, has_classes
        self._expected = _outputs(runners.opened(source), images)
        self._nodes = self._writer.nodes

    def write(self, left_in_float):
        """Writes the file with the products and convolutions of all blocks but these quantized."""
        self._writer.write([name for name in self._nodes if _group(name) in left_in_float])

    def compare(self, most=None):
        """Returns the share of equal best classes, or `None`, and the smallest cosine.

        Args:
            most: how many images are taken; `None`: all.
        """
        file = runners.opened(self._path)
        found = _outputs(file, self._images[:most])
        return _compared(found, self._expected[:most], file.names, self._has_classes)

    def by_cost(self):
        """Returns the blocks, those whose quantization alone changes the outputs most first."""
        groups, costs = dict.fromkeys(map(_group, self._nodes)), {}
        for group in groups:
            self._writer.write([name for name in self._nodes if _group(name) != group])
            costs[group] = -self.compare(PROBES)[1]
        return sorted(costs, key=costs.get, reverse=True)


def _compared(found, expected, names, has_classes):
    """Returns the share of equal best classes, or `None`, and the smallest cosine.

    Args:
        found, expected: outputs for the same images.
        names: of the outputs of the file.
        has_classes: whether the last axis of the outputs are classes.
    """
    top1 = None
    if has_classes and found.shape[-1] > 1:
        top1 = float(np.mean(found.argmax(-1) == expected.argmax(-1)))
    if has_classes and names == ["probabilities"]:
        found, expected = (np.log(np.maximum(part, 1e-30)) for part in (found, expected))
        found, expected = (part - part.mean(-1, keepdims=True) for part in (found, expected))
    return top1, _smallest_cosine(found, expected)


def _accuracy(outputs, names, truth):
    """Returns the share of outputs that are largest for the true class, or `None` without `truth`.

    Args:
        outputs: array `(n, classes)`, or `(n, 1)` where one output tells two classes apart.
        names: of the outputs of the file.
        truth: int array `(n,)`, or `None`.
    """
    if truth is None:
        return None
    best = outputs.argmax(-1)
    if outputs.shape[-1] == 1:
        best = outputs[:, 0] > (0.5 if names == ["probabilities"] else 0)
    return float(np.mean(best == truth))


def _group(name):
    """Returns the block that a node belongs to, or the layer of the model where it is in none."""
    *layers, _ = name.split("/")
    for place, layer in enumerate(layers, 1):
        if names.is_block(layer):
            return "/".join(layers[:place])
    return layers[0] if layers else name


def _outputs(file, images):
    """Returns the first output of a file for images, float64."""
    parts = [
        next(iter(file(images[start : start + BATCH]).values()))
        for start in range(0, len(images), BATCH)
    ]
    return np.concatenate(parts).astype("float64")


def _smallest_cosine(found, expected):
    found, expected = (part.reshape(len(part), -1) for part in (found, expected))
    lengths = np.linalg.norm(found, axis=1) * np.linalg.norm(expected, axis=1)
    cosines = (found * expected).sum(1) / np.maximum(lengths, np.finfo("float64").tiny)
    return float(cosines.min())


def _times(first, second, images):
    """Returns the median milliseconds of two files, which take turns."""
    found = {file: [] for file in (first, second)}
    for _ in range(TURNS):
        for file, times in found.items():
            start = time.perf_counter()
            file(images)
            times.append(1e3 * (time.perf_counter() - start))
    return tuple(round(statistics.median(times), 3) for times in found.values())
