"""`Dataset`: splits of labelled images, each in a fixed order."""

import contextlib
import dataclasses
import os

import numpy as np

from .fingerprint import digest


class DataError(ValueError):
    """Data that is missing, damaged or unusable as it is. The message is one sentence or two."""


@dataclasses.dataclass(frozen=True, eq=False)
class Split:
    """Labelled images in a fixed order.

    Attributes:
        name: for messages, such as `"flowers/train"`.
        size: number of images.
        image_shape: (height, width, channels), None where it varies.
        labels: (size,) int64 where they are known without reading the images, else None.
    """

    name: str
    size: int
    image_shape: tuple
    labels: np.ndarray | None

    def examples(self, start=0, part=None, order_seed=None, epoch=0):
        """The examples of one epoch, a pure function of `(order_seed, epoch)`.

        Args:
            start: number of examples to skip at the front; they are not decoded.
            part: None for all, or `(worker, workers, batch)`: of each `batch` consecutive examples
                (counted from the front of the epoch, not from `start`) the `worker`-th of
                `workers` equal parts.
            order_seed: None for the fixed order, or an integer >= 0: each epoch then has a
                permutation of its own.
            epoch: an integer >= 0.

        Returns:
            tf.data.Dataset of `{"image": scalar string with the content of an image file, or an
            array (height, width, channels) with values in [0, 255]; "label": int64; "index":
            int64, the place in the fixed order; "name": string}`. Nothing is decoded.

        Raises:
            ValueError: if an argument is out of range.
            tf.errors.OpError: (when it is iterated) if files or records cannot be read, see
                `training.data.stream.sentences`.
        """
        check_part(part)
        if not 0 <= start <= self.size:
            raise ValueError(
                f"`start` must be between 0 and the {self.size} images, received {start}."
            )
        return untuned(self._examples(start, part, order_seed, epoch))

    def _examples(self, start, part, order_seed, epoch):
        raise NotImplementedError

    def all_labels(self):
        """Returns int64 (size,) in the fixed order; where they are not known, the split is read."""
        if self.labels is not None:
            return self.labels
        examples = self.examples().as_numpy_iterator()
        return np.fromiter((example["label"] for example in examples), "int64", self.size)

    def damage(self):
        """Yields a sentence about each file that cannot be read. Reads everything."""
        yield from ()

    def fingerprint(self):
        """Returns `{"images": number, "digest": text}`, equal for equal examples in equal order.

        Files count by their names relative to the directory, their sizes and labels; their
        contents are not read.
        """
        return {"images": int(self.size), "digest": digest(self._identity())}

    def _identity(self):
        """Yields strings that together tell this split from another one."""
        yield f"{self.name} {self.size}"


@dataclasses.dataclass(frozen=True, eq=False)
class IndexedSplit(Split):
    """A split with random access to its images: its order is any permutation."""

    def _examples(self, start, part, order_seed, epoch):
        tf = tensorflow()
        places = np.arange(start, self.size)
        if part is not None:
            places = places[is_kept(places, part)]
        indices = self._order(order_seed, epoch)[places]
        read = self._reader(tf)
        return tf.data.Dataset.from_tensor_slices(indices).map(
            lambda index: read(index) | {"index": index},
            num_parallel_calls=cores(),
            deterministic=True,
        )

    def _order(self, seed, epoch):
        if seed is None:
            return np.arange(self.size)
        return np.random.default_rng((seed, epoch)).permutation(self.size)

    def _reader(self, tf):
        """Returns a function of the scalar tensor `index` that gives image, label and name."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A set of labelled images for training and validation.

    Attributes:
        name: as it was asked for.
        class_names: of the labels 0, 1, ..., in order.
        train: the `Split` to learn from.
        validation: the `Split` that accuracy is reported on.
        test: a `Split` that training never uses, or None.
        summary: a sentence about what was found, for a reader before the training; may be empty.
        divided: whether images of one folder were divided into training and validation.

    Raises:
        DataError: if a label is none of 0 to `len(class_names) - 1`.
    """

    name: str
    class_names: tuple
    train: Split
    validation: Split
    test: Split | None = None
    summary: str = ""
    divided: bool = False

    def __post_init__(self):
        for split in (self.train, self.validation, self.test):
            if split is not None and split.labels is not None:
                check_labels(split.name, split.labels, len(self.class_names))

    def fingerprint(self):
        """Returns what identifies the data, for a record: a dict that JSON can hold.

        `{"classes": names, "train": {"images": number, "digest": text}, "validation": the same}`;
        `training.data.differences` compares two of them. It does not depend on where the
        directory lies.
        """
        splits = {"train": self.train.fingerprint(), "validation": self.validation.fingerprint()}
        return {"classes": list(self.class_names), **splits}


def check_labels(name, labels, classes):
    """Raises DataError unless all labels of the split `name` are integers in [0, classes).

    Labels that begin with 1 would otherwise be shifted by one class, or be clipped or become NaN
    on some backends.
    """
    labels = np.asarray(labels)
    if labels.dtype.kind not in "iu":
        raise DataError(f"The labels of {name!r} must be integers, received {labels.dtype}.")
    wrong = np.unique(labels[(labels < 0) | (labels >= classes)])
    if not len(wrong):
        return
    hint = ""
    if labels.min() == 1 and labels.max() == classes:
        hint = f" They seem to count from 1: subtract 1, so that they are 0 to {classes - 1}."
    raise DataError(
        f"The labels of {name!r} must be in 0 to {classes - 1} for {classes} classes, received "
        f"{', '.join(map(str, wrong[:5]))}.{hint}"
    )


def check_part(part):
    """Raises ValueError unless `part` is None or a valid `(worker, workers, batch)`."""
    if part is None:
        return
    worker, workers, batch = part
    if not 0 <= worker < workers:
        raise ValueError(f"The worker must be in 0 to {workers - 1}, received {worker}.")
    if batch < 1 or batch % workers:
        raise ValueError(
            f"The batch must be a multiple of the {workers} workers, received {batch}."
        )


def is_kept(places, part):
    """Returns which places of an epoch (array or tensor) belong to the worker of `part`."""
    worker, workers, batch = part
    return places % batch // (batch // workers) == worker


def tensorflow():
    """Returns the module, imported late: Keras on PyTorch aborts if TensorFlow is imported first.

    On other backends TensorFlow only reads data, for which it would reserve the memory of every
    GPU.
    """
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        with contextlib.suppress(RuntimeError):  # it is in use, so the choice is made
            tf.config.set_visible_devices([], "GPU")
    return tf


def untuned(dataset):
    """Returns the `tf.data.Dataset` with the parallelism that it was built with, never tuned.

    In TensorFlow 2.21 the end of an iterator may wait until the tuning has ended its turn. Turns
    take 10 ms, 20 ms, 40 ms and so on, up to a minute: the end comes up to twice as late, at 1.27
    s, 2.55 s or 5.11 s. (What `tf.distribute` makes of it for several devices is tuned all the
    same.)
    """
    options = tensorflow().data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def cores():
    """Returns the number of processors that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
