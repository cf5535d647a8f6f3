"""What every dataset is: two splits of labelled images, each in a fixed order."""

import contextlib
import dataclasses

import numpy as np


class DataError(ValueError):
    """Data that is not there, damaged, or cannot be used so. The message is one sentence or two."""


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
            start: number of examples that are left out at the front; they are not decoded.
            part: None for all, or `(worker, workers, batch)`: of each run of `batch` consecutive
                examples (counted from the front of the epoch, not from `start`) the `worker`-th of
                `workers` equal stretches.
            order_seed: None for the fixed order, or a whole number >= 0: each epoch then has a
                permutation of its own.
            epoch: a whole number >= 0.

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
        return self._examples(start, part, order_seed, epoch)

    def _examples(self, start, part, order_seed, epoch):
        raise NotImplementedError

    def all_labels(self):
        """-> (size,) int64 in the fixed order; where they are not known, the split is read."""
        if self.labels is not None:
            return self.labels
        examples = self.examples().as_numpy_iterator()
        return np.fromiter((example["label"] for example in examples), "int64", self.size)

    def damage(self):
        """Yields a sentence about each file that cannot be read. Reads everything."""
        yield from ()


@dataclasses.dataclass(frozen=True, eq=False)
class IndexedSplit(Split):
    """A split of which any image can be had at once: its order is any permutation."""

    def _examples(self, start, part, order_seed, epoch):
        tf = tensorflow()
        places = np.arange(start, self.size)
        if part is not None:
            places = places[is_kept(places, part)]
        indices = self._order(order_seed, epoch)[places]
        read = self._reader(tf)
        return tf.data.Dataset.from_tensor_slices(indices).map(
            lambda index: read(index) | {"index": index},
            num_parallel_calls=tf.data.AUTOTUNE,
            deterministic=True,
        )

    def _order(self, seed, epoch):
        if seed is None:
            return np.arange(self.size)
        return np.random.default_rng((seed, epoch)).permutation(self.size)

    def _reader(self, tf):
        """-> a function of the scalar tensor `index` that gives image, label and name."""
        raise NotImplementedError


@dataclasses.dataclass(frozen=True, eq=False)
class Dataset:
    """A classification set.

    Attributes:
        name: as it was asked for.
        class_names: of the labels 0, 1, ..., in order.
        train: the `Split` to learn from.
        validation: the `Split` that accuracy is reported on.
    """

    name: str
    class_names: tuple
    train: Split
    validation: Split


def check_part(part):
    """Raises ValueError unless `part` is None or a sound `(worker, workers, batch)`."""
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
    """-> which places of an epoch (array or tensor) belong to the worker of `part`."""
    worker, workers, batch = part
    return places % batch // (batch // workers) == worker


def tensorflow():
    """-> the module, imported late: Keras on PyTorch aborts if TensorFlow is there before it.

    On other backends TensorFlow only reads; it would take all memory of every GPU for that.
    """
    import keras
    import tensorflow as tf

    if keras.backend.backend() != "tensorflow":
        with contextlib.suppress(RuntimeError):  # it was used before, so the choice is made
            tf.config.set_visible_devices([], "GPU")
    return tf
