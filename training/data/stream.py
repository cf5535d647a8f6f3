"""Batches of a split: decoded and augmented in parallel, in an order that is known beforehand.

Everything is a pure function of (seed, epoch, step): threads, restarts and the number of processes
change nothing. An image that cannot be decoded does not end a training: it is reported by name, and
a grey image of weight 0 takes its place, so that all other images stay where they are.
"""

import contextlib
import math
import re

from keras_convnext.preprocessing import EvalTransform, tf_decode

from .bad_images import BadImages, refuse
from .dataset import DataError, check_part, cores, tensorflow

GREY = 128
# Bad images are looked for in chunks of this many: one by one it costs 0.2 ms per image.
CHUNK = 16
AHEAD = 4  # batches, at most, that are ready while the model computes; as many are being finished


def batches(
    split,
    transform,
    collate,
    batch_size,
    seed,
    epoch,
    start_step=0,
    steps=None,
    part=None,
    drop_remainder=True,
    weights=None,
    on_bad=None,
):
    """Returns one epoch of training batches.

    Args:
        split: a `Split`.
        transform: has `image(image, key)`, called in TensorFlow's graph with an image as
            `Split.examples` gives it and `key = (seed, epoch, index)`, two ints and an int64
            tensor; returns a tensor of static shape. None: images of one size are used as they
            are.
        collate: called as `collate(images, labels, weights, key)` for each batch, with
            `key = (seed, epoch, step)`; returns an element of the dataset. None: `(images, labels,
            weights)`.
        batch_size: of all workers together.
        seed, epoch: integers >= 0. A seed of None keeps the fixed order, for a `transform` without
            randomness.
        start_step: number of steps to skip at the front, for a resumed epoch.
        steps: largest number of steps, None for all that remain.
        part: None, or `(worker, workers)`: the batches then hold only the worker's share,
            `batch_size / workers` images of each.
        drop_remainder: omit the images that do not fill a batch. Otherwise the last batch is
            filled up with grey images of weight 0.
        weights: float array (classes,) by which the weights of the images are multiplied.
        on_bad: called with the name and the content of an image that the transform cannot take; a
            `DataError` that it raises ends the run. None: a `BadImages(split)`.

    Returns:
        tf.data.Dataset. Weights are float32: 0 for grey images, else 1 or the weight of the class.

    Raises:
        ValueError: if an argument is out of range, or there is no whole batch.
    """
    tf = tensorflow()
    part = _checked_part(part, batch_size)
    total = split.size // batch_size if drop_remainder else -(-split.size // batch_size)
    _check_steps(split, batch_size, total, start_step, steps)
    start = min(start_step * batch_size, split.size)  # the last batch may be filled up
    examples = split.examples(start, part, seed, epoch)
    left = total - start_step
    count = left if steps is None else min(steps, left)
    prepare = _training_form(split, transform, (seed, epoch))
    local = batch_size // (part[1] if part else 1)
    stream = _batched(tf, examples, prepare, local, count, on_bad or BadImages(split))

    def finish(step, batch):
        images, labels, valid = batch
        if weights is not None:
            valid *= tf.gather(tf.constant(weights, tf.float32), labels)
        if collate is None:
            return images, labels, valid
        return collate(images, labels, valid, (seed, epoch, step))

    stream = stream.enumerate(start_step).map(
        finish, num_parallel_calls=min(AHEAD, cores()), deterministic=True
    )
    return _finished(tf, stream, count)


def evaluation_batches(split, transform, batch_size, part=None):
    """Returns batches of all images, each once, in the fixed order.

    Args:
        split: a `Split`.
        transform: an `EvalTransform`; or None for images that all have the split's size.
        batch_size: of all workers together. The last batch is filled up with grey images.
        part: None, or `(worker, workers)`, as in `batches`. All workers have the same number of
            batches, and the last of them may have no image of the split.

    Returns:
        tf.data.Dataset of (images uint8, or float32 for arrays of floats; labels int64; weights
        float32, 0 for the grey images that fill up, else 1).

    Raises:
        tf.errors.OpError: (when it is iterated) for the first image that cannot be decoded, with
            its name; see `sentences`.
    """
    tf = tensorflow()
    part = _checked_part(part, batch_size)
    count = -(-split.size // batch_size)
    examples = split.examples(part=part)
    prepare = _evaluation_form(split, transform)
    local = batch_size // (part[1] if part else 1)
    return _finished(tf, _batched(tf, examples, prepare, local, count, refuse), count)


def _checked_part(part, batch_size):
    """Returns `part` as `Split.examples` takes it."""
    if batch_size < 1:
        raise ValueError(f"`batch_size` must be at least 1, received {batch_size}.")
    part = None if part is None else (*part, batch_size)
    check_part(part)
    return part


def _check_steps(split, batch_size, total, start_step, steps):
    if not total:
        raise ValueError(
            f"{split.name!r} has {split.size} images, fewer than one batch of {batch_size}: choose "
            "a smaller `batch_size`."
        )
    if not 0 <= start_step <= total:
        raise ValueError(
            f"`start_step` must be between 0 and the {total} steps of an epoch, received "
            f"{start_step}."
        )
    if steps is not None and steps < 0:
        raise ValueError(f"`steps` must be at least 0, received {steps}.")


# ---------------------------------------------------------------- an example becomes pixels


def _training_form(split, transform, key):
    if transform is None:
        return _evaluation_form(split, None)
    return lambda example: transform.image(example["image"], (*key, example["index"]))


def _evaluation_form(split, transform):
    """Returns a function of an example that gives pixels of one shape."""
    if transform is None:
        if None in split.image_shape:
            raise ValueError(
                f"The images of {split.name!r} differ in size, {split.image_shape}: they need a "
                "transform."
            )
        return lambda example: _as_they_are(example["image"], split.image_shape)
    if not isinstance(transform, EvalTransform):
        raise TypeError(
            f"`transform` must be an EvalTransform or None, received {type(transform).__name__}."
        )
    return lambda example: transform.tf(_decoded(example["image"]))


def _decoded(image):
    return tf_decode(image) if image.dtype == "string" else image


def _as_they_are(image, shape):
    import tensorflow as tf

    if image.dtype == "string":
        image = tf_decode(image)[..., : shape[-1]]  # the channels of a grey image are equal
    return tf.ensure_shape(image, shape)


# ---------------------------------------------------------------- batches in which images may fail


def _batched(tf, examples, prepare, batch_size, count, on_bad):
    """Returns `count` batches (images, labels, validity float32), filled up with grey images."""
    size = _chunk_size(batch_size)
    chunks_per_batch = batch_size // size
    chunks = examples.batch(size)
    # A worker may have fewer images than others, but all must have the same number of batches.
    chunks = chunks.concatenate(_no_rows(tf, examples.element_spec).repeat())
    at_once = max(2, cores())
    chunks = chunks.take(count * chunks_per_batch).interleave(
        lambda chunk: _prepared(tf, chunk, prepare, size, on_bad),
        cycle_length=at_once,
        block_length=1,
        num_parallel_calls=at_once,
        deterministic=True,
    )
    if chunks_per_batch == 1:
        return chunks

    def merge(*parts):
        return tuple(tf.reshape(part, (batch_size, *part.shape[2:])) for part in parts)

    return chunks.batch(chunks_per_batch, drop_remainder=True).map(merge)


def _chunk_size(batch_size):
    """Returns the divisor of the batch size that is closest to CHUNK."""
    divisors = [size for size in range(1, batch_size + 1) if batch_size % size == 0]
    return min(divisors, key=lambda size: abs(math.log(size / CHUNK)))


def _no_rows(tf, spec):
    """Returns a dataset of one batch without elements."""
    return tf.data.Dataset.from_tensors(
        tf.nest.map_structure(lambda part: tf.zeros((0, *part.shape), part.dtype), spec)
    )


def _prepared(tf, chunk, prepare, size, on_bad):
    """Returns a dataset of one (images, labels, validity) for a chunk of at most `size` examples.

    `ignore_errors` drops the images that fail, and the places that remain tell which they were. It
    follows the reading of files and records, whose errors it must not hide.
    """
    places = tf.range(tf.size(chunk["label"]))
    examples = tf.data.Dataset.from_tensor_slices((chunk, places))
    prepared = examples.map(lambda example, place: (prepare(example), place))
    if not prepared.element_spec[0].shape.is_fully_defined():
        raise ValueError(
            f"The transform gives images of shape {prepared.element_spec[0].shape}; all must have "
            "one shape that is known beforehand."
        )
    good = prepared.ignore_errors().batch(size)
    good = good.concatenate(_no_rows(tf, prepared.element_spec)).take(1)
    return good.map(lambda images, kept: _mended(tf, chunk, images, kept, size, on_bad))


def _mended(tf, chunk, images, kept, size, on_bad):
    """Fills the places without an image, of bad examples and after the last, with grey."""
    count = tf.size(chunk["label"])
    shape = (size, *images.shape[1:])

    def mend():
        grey = tf.fill(shape, tf.cast(GREY, images.dtype))
        at = kept[:, tf.newaxis]
        valid = tf.scatter_nd(at, tf.ones_like(kept, tf.float32), [size])
        labels = tf.pad(chunk["label"], [[0, size - count]])
        return (
            tf.tensor_scatter_nd_update(grey, at, images),
            labels,
            _told(tf, chunk, valid, on_bad),
        )

    def whole():
        return images, chunk["label"], tf.ones([size])

    batch = tf.cond(tf.size(kept) == size, whole, mend)
    shapes = shape, (size,), (size,)
    return tuple(tf.ensure_shape(part, s) for part, s in zip(batch, shapes, strict=True))


def _told(tf, chunk, valid, on_bad):
    """Returns `valid`, after `on_bad` was called for each example whose validity is 0."""
    valid_examples = valid[: tf.size(chunk["label"])]
    bad = tf.where(valid_examples == 0)[:, 0]
    names, images = (tf.gather(chunk[key], bad) for key in ("name", "image"))

    def tell(names, images, valid):
        for name, image in zip(names, images, strict=True):
            on_bad(name.decode("utf-8", "backslashreplace"), image)
        return valid

    return tf.numpy_function(tell, [names, images, valid], tf.float32, stateful=False)


def _finished(tf, stream, count):
    options = tf.data.Options()
    options.deterministic = True
    # `part` says who reads what; a strategy must not guess.
    options.experimental_distribute.auto_shard_policy = tf.data.experimental.AutoShardPolicy.OFF
    stream = stream.apply(tf.data.experimental.assert_cardinality(count))
    return stream.prefetch(AHEAD).with_options(options)


# ---------------------------------------------------------------- errors


@contextlib.contextmanager
def sentences(*splits):
    """Turns what TensorFlow raises in a loop over batches of these splits into a `DataError`.

    TensorFlow's message does not name a damaged record file, so the files are read once more to
    find it.
    """
    tf = tensorflow()
    try:
        yield
    except tf.errors.OpError as error:
        raise DataError(_sentence(splits, error)) from error


def _sentence(splits, error):
    told = re.search(r"DataError: (.*)", error.message)
    if told:
        return told[1].removesuffix("]")  # of an assertion in the graph
    damage = next((sentence for split in splits for sentence in split.damage()), None)
    return damage or f"Reading the data failed: {error.message.partition(chr(10))[0]}"
