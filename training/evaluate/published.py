"""Measures published weights on ImageNet and the sets derived from it, image by image as published.

Weights are named with their transform before they are there: what a file of results has already is
neither downloaded nor built.
"""

import collections
import concurrent.futures
import dataclasses
import datetime
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from keras_convnext import ConvNeXt
from keras_convnext.environment import versions
from keras_convnext.images import ImageError
from keras_convnext.preprocessing import EvalTransform, tf_decode
from keras_convnext.pretrained import DownloadError, WeightsError
from keras_convnext.pretrained.download import sha256_of

from .imagenet import DataError
from .places import best_places
from .results import add_result, key_of, load_results

FORMS = ("exact", "fast")
AHEAD = 2  # batches that are decoded while the model computes


@dataclasses.dataclass(frozen=True)
class Candidate:
    """Weights to measure, and how.

    Attributes:
        weights: name of the row, or path of a file.
        transform: the `EvalTransform` of its images.
        build: -> the model, from uint8 images (N, size, size, 3) to logits (N, classes).
        sha256: of a file that is given by its path.
    """

    weights: str
    transform: EvalTransform
    build: Callable
    sha256: str | None = None

    def transform_for(self, part):
        """The transform; without crop where the images are crops already."""
        if not part.is_cropped:
            return self.transform
        transform = self.transform
        return EvalTransform(transform.size, resize="squash", interpolation=transform.interpolation)


def subject_of_row(row, use_test_size=False):
    """Returns the `Candidate` of a row of the registry, at its size or at its larger test size.

    Raises:
        ValueError: if it is no ImageNet-1K classifier, or has no test size.
    """
    if row.label_set != "imagenet1k":
        kind = f"labels of {row.label_set}" if row.label_set else "no classifier"
        raise ValueError(
            f"{row.name} has {kind}; measured are ImageNet-1K classifiers "
            "(`keras-convnext list --label-set imagenet1k`)."
        )
    transform = row.transform()
    if use_test_size:
        if row.test_size is None:
            raise ValueError(f"{row.name} has no other test size than {row.size}.")
        transform = EvalTransform(
            row.test_size, row.test_crop_pct, row.resize_mode, row.interpolation
        )
    return Candidate(row.name, transform, _builder(row.variant, row.name, transform))


def subject_of_file(path, variant, transform):
    """Returns the `Candidate` of a file of weights of `variant`, in any published layout."""
    return Candidate(
        str(path), transform, _builder(variant, Path(path), transform), sha256_of(path)
    )


def _builder(variant, weights, transform):
    shape = (transform.size, transform.size, 3)
    return functools.partial(
        ConvNeXt, variant, weights=weights, input_shape=shape, classifier_activation=None
    )


def measure(model, subject, part, *, form="exact", batch_size=64, workers=None, progress=None):
    """Returns the result of one model on one part, as a dict for the file of results.

    Args:
        model: from `subject.build()`.
        part: a `training.evaluate.imagenet.Part`.
        form: `"exact"` (Pillow) or `"fast"` (tf.data).
        batch_size: images per step; the last ones are filled up and what was filled is dropped.
        workers: threads that decode; default: one per core.
        progress: called with the number of images, after each batch.

    Raises:
        DataError: if an image cannot be decoded (it is named), the data ends early, or its labels
            are not those of the model.
        FloatingPointError: if an output is not finite.
    """
    classes = model.output_shape[-1]
    if part.classes not in (None, classes):
        raise DataError(
            f"{part.data} has {part.classes} classes, {subject.weights} has {classes} outputs."
        )
    start = time.perf_counter()
    transform, subset = subject.transform_for(part), part.subset()
    prepare = _prepare(part, transform, form)
    images, hits = 0, np.zeros(2, int)
    for pixels, labels in _batches(part, prepare, batch_size, workers, progress):
        logits = _predict(model, pixels, batch_size)
        images, hits = images + len(labels), hits + _hits(logits, labels, subset, part)
    if not images:
        raise DataError(f"{part.data}: no image has a label.")
    return {
        **identity_of(subject, part, form),
        "is_whole": part.is_whole,
        "images": images,
        "classes": classes if subset is None else len(subset),
        "hits": hits.tolist(),
        "top1": 100 * int(hits[0]) / images,
        "top5": 100 * int(hits[1]) / images,
        "seconds": round(time.perf_counter() - start, 1),
        **_circumstances(),
    }


def identity_of(subject, part, form):
    """Returns what makes a measurement another one, a dict with the fields of `IDENTITY`."""
    transform = dataclasses.asdict(subject.transform_for(part))
    del transform["upright"]  # never here, and files of results of 0.1 do not have it
    return {
        "weights": subject.weights,
        "sha256": subject.sha256,
        "data": part.data,
        "version": part.version,
        "examples": part.examples,
        "transform": transform,
        "form": form,
    }


def _circumstances():
    backend = keras.backend.backend()
    now = datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")
    return {
        "backend": backend,
        "versions": versions("keras", "numpy", "pillow", backend),
        "date": now,
    }


def _prepare(part, transform, form):
    """Returns a function from an example to its pixels, (size, size, 3) uint8."""
    one = _fast(transform) if form == "fast" else transform

    def prepare(example):
        try:
            return one(example.image)
        except ImageError as error:
            raise DataError(f"{part.data}: image {example.name!r}: {error}") from error

    return prepare


def _fast(transform):
    import tensorflow as tf

    text = tf.TensorSpec((), tf.string)
    graph = tf.function(lambda data: transform.tf(tf_decode(data)), input_signature=[text])

    def one(data):
        try:
            return graph(tf.constant(data)).numpy()
        except tf.errors.OpError as error:
            raise ImageError(str(error).partition("\n")[0]) from error

    return one


def _batches(part, prepare, batch_size, workers, progress):
    """Yields (pixels, labels) of all examples that have a label, decoded ahead by threads."""
    with concurrent.futures.ThreadPoolExecutor(workers or os.cpu_count()) as pool:
        waiting, pixels, labels = collections.deque(), [], []
        try:
            for example in part.read():
                if not example.labels:
                    continue
                pixels.append(pool.submit(prepare, example))
                labels.append(example.labels)
                if len(labels) == batch_size:
                    waiting.append((pixels, labels))
                    pixels, labels = [], []
                if len(waiting) > AHEAD:
                    yield _decoded(waiting.popleft(), progress)
            waiting.append((pixels, labels))
            while waiting:
                if waiting[0][1]:
                    yield _decoded(waiting[0], progress)
                waiting.popleft()
        finally:
            pool.shutdown(cancel_futures=True)


def _decoded(batch, progress):
    pixels, labels = batch
    pixels = np.stack([future.result() for future in pixels])
    if progress is not None:
        progress(len(labels))
    return pixels, labels


def _predict(model, pixels, batch_size):
    """The last batch is filled up: one shape is one compilation."""
    missing = batch_size - len(pixels)
    filled = np.concatenate([pixels, np.repeat(pixels[:1], missing, axis=0)])
    logits = np.asarray(model.predict_on_batch(filled))[: len(pixels)]
    if not np.isfinite(logits).all():
        raise FloatingPointError(f"{model.name} gives NaN or infinite outputs.")
    return logits


def _hits(logits, labels, subset, part):
    """Returns how often the first prediction is right, and how often one of the first five."""
    highest = max(max(several) for several in labels)
    if highest >= logits.shape[1]:
        raise DataError(
            f"{part.data}: label {highest} for a classifier of {logits.shape[1]} classes."
        )
    places = best_places(logits, labels, subset)
    return np.array([(places < 1).sum(), (places < 5).sum()])


def evaluate(subjects, data, path, **options):
    """Measures every subject on every part of `data`, but for what `path` has already.

    Args:
        subjects: list of `Candidate`.
        data: list of `Part`.
        path: of the file of results.
        options: of `measure`; and `report`, called with a line of text per step.

    Returns:
        (results, faults): all results of these candidates and parts, and what went wrong with the
        subjects that could not be built, one line each; the others are measured.
    """
    report, faults = options.pop("report", print), []
    for subject in subjects:
        try:
            _evaluate_one(subject, data, path, report, options)
        except (DownloadError, WeightsError, FileNotFoundError, FloatingPointError) as error:
            faults.append(f"{subject.weights}: {error}")
            report(faults[-1])
    form = options.get("form", "exact")
    wanted = {key_of(identity_of(subject, part, form)) for subject in subjects for part in data}
    return [result for result in load_results(path) if key_of(result) in wanted], faults


def _evaluate_one(subject, data, path, report, options):
    form, model = options.get("form", "exact"), None
    done = {key_of(result) for result in load_results(path)}
    left = [part for part in data if key_of(identity_of(subject, part, form)) not in done]
    if len(left) < len(data):
        report(f"{subject.weights}: {len(data) - len(left)} of {len(data)} are measured already.")
    for part in left:
        model = model or subject.build()
        result = measure(model, subject, part, **options)
        add_result(path, result)
        report(
            f"{subject.weights} on {part.data}: top-1 {result['top1']:.3f}, "
            f"top-5 {result['top5']:.3f} ({result['images']} images, {result['seconds']} s)"
        )
    if model is not None:
        del model
        keras.backend.clear_session(free_memory=True)
