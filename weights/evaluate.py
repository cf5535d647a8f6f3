"""Measures published weights on ImageNet and on the sets that are derived from it.

    python -m weights.evaluate convnext_tiny.fb_in1k convnext_base.fb_in1k \\
        --data imagenet2012 imagenet_a --data_dir ~/tensorflow_datasets --results results.json
    python -m weights.evaluate mine.weights.h5 --variant convnext_tiny --data /data/imagenet/val \\
        --results results.json

Every figure is written as soon as it is there, one per weights and part of a set, and is not
measured again when the same command is given once more. Each image goes through the transform of
its row, decoded and resized by Pillow; `--fast` takes the tf.data form of the same transform.

What is counted: top-1 and top-5 accuracy in percent. On ImageNet-A and -R the classifier chooses
among the 200 classes that occur there, as their authors do. Under the ReaL labels a prediction is
right if it is one of them, and images without any are left out. The images of ImageNet-C are
centre crops of 224 pixels already: they are resized to the row's size without another crop. Its
errors become the mean corruption error (mCE) once all 75 parts are measured. TensorFlow Datasets
makes these images anew from the validation set; published figures are of the authors' own files.
"""

import argparse
import collections
import concurrent.futures
import dataclasses
import datetime
import functools
import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
from filelock import FileLock

from keras_convnext import ConvNeXt
from keras_convnext.atomic import write_text
from keras_convnext.environment import versions
from keras_convnext.images import ImageError
from keras_convnext.preprocessing import FILTERS, RESIZES, EvalTransform, tf_decode
from keras_convnext.pretrained import DownloadError, WeightsError, find, rows
from keras_convnext.pretrained.download import sha256_of
from keras_convnext.variants import VARIANTS
from weights.datasets import CORRUPTIONS, SETS, SEVERITIES, DataError, parts

# AlexNet's errors, averaged over the severities: the unit of the mean corruption error. Published
# by the authors of arXiv 1903.12261 with their code, github.com/hendrycks/robustness.
ALEXNET_ERRORS = {
    "gaussian_noise": 88.6428,
    "shot_noise": 89.4468,
    "impulse_noise": 92.2640,
    "defocus_blur": 81.9880,
    "glass_blur": 82.6268,
    "motion_blur": 78.5948,
    "zoom_blur": 79.8360,
    "snow": 86.6816,
    "frost": 82.6572,
    "fog": 81.9324,
    "brightness": 56.4592,
    "contrast": 85.3204,
    "elastic_transform": 64.6056,
    "pixelate": 71.7840,
    "jpeg_compression": 60.6500,
}
# What makes two measurements the same one, so that the second need not be made.
IDENTITY = ("weights", "sha256", "data", "version", "examples", "transform", "form")
FORMS = ("exact", "fast")
AHEAD = 2  # batches that are decoded while the model computes


@dataclasses.dataclass(frozen=True)
class Subject:
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
    """-> the `Subject` of a row of the registry, at its size or at its larger test size.

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
    return Subject(row.name, transform, _builder(row.variant, row.name, transform))


def subject_of_file(path, variant, transform):
    """-> the `Subject` of a file of weights of `variant`, in any published layout."""
    return Subject(str(path), transform, _builder(variant, Path(path), transform), sha256_of(path))


def _builder(variant, weights, transform):
    shape = (transform.size, transform.size, 3)
    return functools.partial(
        ConvNeXt, variant, weights=weights, input_shape=shape, classifier_activation=None
    )


# ---------------------------------------------------------------- one figure


def measure(model, subject, part, *, form="exact", batch_size=64, workers=None, progress=None):
    """-> the result of one model on one part, as a dict for the file of results.

    Args:
        model: from `subject.build()`.
        part: a `weights.datasets.Part`.
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
        **_identity(subject, part, form),
        "is_whole": part.is_whole,
        "images": images,
        "classes": classes if subset is None else len(subset),
        "hits": hits.tolist(),
        "top1": 100 * int(hits[0]) / images,
        "top5": 100 * int(hits[1]) / images,
        "seconds": round(time.perf_counter() - start, 1),
        **_circumstances(),
    }


def _identity(subject, part, form):
    return {
        "weights": subject.weights,
        "sha256": subject.sha256,
        "data": part.data,
        "version": part.version,
        "examples": part.examples,
        "transform": dataclasses.asdict(subject.transform_for(part)),
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
    """-> function from an example to its pixels, (size, size, 3) uint8"""
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
    """-> how often the first prediction is right, and how often one of the first five"""
    highest = max(max(several) for several in labels)
    if highest >= logits.shape[1]:
        raise DataError(
            f"{part.data}: label {highest} for a classifier of {logits.shape[1]} classes."
        )
    if subset is not None:
        logits = logits[:, subset]
    order = np.argsort(-logits, axis=1, kind="stable")[:, :5]
    if subset is not None:
        order = np.asarray(subset)[order]
    right = [np.isin(row, several) for row, several in zip(order, labels, strict=True)]
    return np.array([sum(row[0] for row in right), sum(row.any() for row in right)])


# ---------------------------------------------------------------- many figures


def load_results(path):
    """-> the list of results in a file, empty if there is none; a ValueError if it is no such."""
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        return [result for result in content["results"] if _key(result)]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no file of results ({error!r}). Move it away or name another."
        ) from error


def add_result(path, result):
    """Adds one result to a file, or replaces the earlier one of the same measurement."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        others = [old for old in load_results(path) if _key(old) != _key(result)]
        content = {"results": [*others, result]}
        write_text(path, json.dumps(content, indent=1) + "\n")


def _key(result):
    return json.dumps([result[field] for field in IDENTITY], sort_keys=True)


def evaluate(subjects, data, path, **options):
    """Measures every subject on every part of `data`, but for what `path` has already.

    Args:
        subjects: list of `Subject`.
        data: list of `Part`.
        path: of the file of results.
        options: of `measure`; and `report`, called with a line of text per step.

    Returns:
        (results, faults): all figures of these subjects and parts, and what went wrong with the
        subjects that could not be built, one line each; the others go on.
    """
    report, faults = options.pop("report", print), []
    for subject in subjects:
        try:
            _evaluate_one(subject, data, path, report, options)
        except (DownloadError, WeightsError, FileNotFoundError, FloatingPointError) as error:
            faults.append(f"{subject.weights}: {error}")
            report(faults[-1])
    form = options.get("form", "exact")
    wanted = {_key(_identity(subject, part, form)) for subject in subjects for part in data}
    return [result for result in load_results(path) if _key(result) in wanted], faults


def _evaluate_one(subject, data, path, report, options):
    form, model = options.get("form", "exact"), None
    done = {_key(result) for result in load_results(path)}
    left = [part for part in data if _key(_identity(subject, part, form)) not in done]
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


# ---------------------------------------------------------------- ImageNet-C


def corruption_errors(errors):
    """-> ({corruption: CE}, mCE), in percent, or None while a part is missing.

    Args:
        errors: `{"corruption_severity": error in percent}`.

    The error of a corruption, averaged over its severities, in units of AlexNet's, is CE; its mean
    over the 15 corruptions is mCE (section 4.2 of arXiv 1903.12261).
    """
    if set(SETS["imagenet2012_corrupted"].configs) - set(errors):
        return None
    relative = {
        corruption: 100
        * float(np.mean([errors[f"{corruption}_{level}"] for level in SEVERITIES]))
        / ALEXNET_ERRORS[corruption]
        for corruption in CORRUPTIONS
    }
    return relative, float(np.mean(list(relative.values())))


def summary(results):
    """-> rows for people: results by weights and set; ImageNet-C as one row once it is complete."""
    lines, corrupted = [], collections.defaultdict(dict)
    for result in results:
        name, _, config = result["data"].partition("/")
        if name == "imagenet2012_corrupted":
            # the figures of one row: equal but for the corruption
            key = _key({**result, "data": name, "examples": None})
            corrupted[key][config] = result
        else:
            lines.append(_line(result, result["data"]))
    for several in corrupted.values():
        ce = corruption_errors({config: 100 - r["top1"] for config, r in several.items()})
        if ce is None:
            lines += [_line(result, result["data"]) for result in several.values()]
            continue
        first = next(iter(several.values()))
        mean = float(np.mean([100 - result["top1"] for result in several.values()]))
        whole = all(result["is_whole"] for result in several.values())
        line = {"top1": None, "top5": None, "mean_error": mean, "ce": ce[0], "mce": ce[1]}
        lines.append({**_line(first, "imagenet2012_corrupted"), **line, "is_whole": whole})
    return lines


def _line(result, data):
    fields = ("weights", "sha256", "form", "images", "classes", "is_whole", "top1", "top5")
    size = result["transform"]["size"]
    return {**{field: result[field] for field in fields}, "data": data, "size": size}


def print_summary(lines):
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    columns = ("weights", "data", "size", "images", "classes", "top-1", "top-5", "mCE", "remark")
    table = Table(*columns, header_style="bold", box=None, pad_edge=False)
    for line in lines:
        figures = (line["top1"], line["top5"], line.get("mce"))
        remarks = ("part of the set" * (not line["is_whole"]), "fast" * (line["form"] == "fast"))
        cells = [line[field] for field in ("weights", "data", "size", "images", "classes")]
        cells += ["-" if figure is None else f"{figure:.3f}" for figure in figures]
        table.add_row(*(Text(str(cell)) for cell in cells), ", ".join(filter(None, remarks)))
    console = Console()
    if not console.is_terminal:
        console = Console(width=200)  # a file has no edge at which to wrap names
    console.print(table)


# ---------------------------------------------------------------- command line


def main(argv=None):
    """-> exit status: 0; 1 if something could not be measured; 2 for a wrong command line."""
    parser = _parser()
    arguments = parser.parse_args(argv)
    try:
        subjects = _subjects(arguments)
        data = [part for name in arguments.data for part in parts(name, arguments.data_dir)]
        load_results(arguments.results)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    keras.config.set_image_data_format("channels_last")
    try:
        with _progress(_left(subjects, data, arguments)) as (progress, report):
            results, faults = evaluate(
                subjects,
                data,
                arguments.results,
                form="fast" if arguments.fast else "exact",
                batch_size=arguments.batch_size,
                workers=arguments.workers,
                progress=progress,
                report=report,
            )
    except DataError as error:  # it would be the same for the other weights
        print(f"error: {error}", file=sys.stderr)
        return 1
    lines = summary(results)
    if arguments.json:
        print(json.dumps({"results": lines, "faults": faults}, indent=1))
    else:
        print_summary(lines)
    return 1 if faults else 0


def _left(subjects, data, arguments):
    """-> how many images remain to be looked at"""
    form = "fast" if arguments.fast else "exact"
    done = {_key(result) for result in load_results(arguments.results)}
    pairs = ((subject, part) for subject in subjects for part in data)
    return sum(p.examples for s, p in pairs if _key(_identity(s, p, form)) not in done)


def _parser():
    parser = argparse.ArgumentParser(
        prog="python -m weights.evaluate",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    positive = _number(int, "a positive integer", lambda value: value > 0)
    parser.add_argument("names", nargs="+", metavar="NAME", help="rows, `all`, or a file")
    parser.add_argument(
        "--data",
        nargs="+",
        required=True,
        help=f"sets ({', '.join(SETS)}), parts of sets (imagenet_v2/topimages), or folders of "
        "class folders",
    )
    parser.add_argument("--data_dir", help="where the sets are; default: TFDS_DATA_DIR")
    parser.add_argument("--results", required=True, help="JSON file, continued if it exists")
    parser.add_argument("--fast", action="store_true", help="the tf.data form of the transform")
    parser.add_argument("--test_size", action="store_true", help="at the rows' larger test size")
    parser.add_argument("--batch_size", type=positive, default=64)
    parser.add_argument("--workers", type=positive, help="threads that decode")
    parser.add_argument("--json", action="store_true", help="the summary as JSON on stdout")
    file = parser.add_argument_group("a file in place of rows")
    file.add_argument("--variant", choices=sorted(VARIANTS), metavar="VARIANT")
    file.add_argument("--size", type=positive, help="pixels; default 224")
    file.add_argument("--resize", choices=RESIZES, help="default: squash from 384 pixels on")
    fraction = _number(float, "a number in (0, 1]", lambda value: 0 < value <= 1)
    file.add_argument("--crop_pct", type=fraction, help="default 0.875")
    file.add_argument("--interpolation", choices=tuple(FILTERS), help="default bicubic")
    return parser


def _number(kind, words, allowed):
    def convert(text):
        try:
            value = kind(text)
        except ValueError:
            value = None
        if value is None or not allowed(value):
            raise argparse.ArgumentTypeError(f"must be {words}, received {text!r}")
        return value

    return convert


def _subjects(arguments):
    if arguments.variant is not None:
        return [_file_subject(arguments)]
    given = [f for f in ("size", "resize", "crop_pct", "interpolation") if getattr(arguments, f)]
    if given:
        raise ValueError(f"--{given[0]} is for a file (with --variant); a row says it itself.")
    names = arguments.names
    if names == ["all"]:
        chosen = [row for row in rows() if row.label_set == "imagenet1k"]
        chosen = [row for row in chosen if row.test_size or not arguments.test_size]
    else:
        chosen = [find(name) for name in names]
    return [subject_of_row(row, arguments.test_size) for row in chosen]


def _file_subject(arguments):
    if len(arguments.names) != 1 or arguments.test_size:
        raise ValueError("--variant is for one file, whose test size is said by --size.")
    path = arguments.names[0]
    if not Path(path).is_file():
        raise ValueError(f"No file {path!r}; without --variant names are those of rows.")
    size = arguments.size or 224
    resize = arguments.resize or ("shortest" if size < 384 or arguments.crop_pct else "squash")
    crop_pct = arguments.crop_pct or (0.875 if resize == "shortest" else None)
    interpolation = arguments.interpolation or "bicubic"
    return subject_of_file(
        path, arguments.variant, EvalTransform(size, crop_pct, resize, interpolation)
    )


class _progress:
    """A bar on a terminal; elsewhere only the lines. -> (advance, report)"""

    def __init__(self, total):
        self.total = total

    def __enter__(self):
        from rich.console import Console
        from rich.progress import MofNCompleteColumn, Progress, TimeRemainingColumn

        self.bar = Progress(
            *Progress.get_default_columns()[:2],
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
            transient=True,
        )
        self.bar.start()
        task = self.bar.add_task("images", total=self.total)
        return (lambda count: self.bar.advance(task, count)), self._report

    def _report(self, line):
        self.bar.console.print(line, markup=False, highlight=False, soft_wrap=True)

    def __exit__(self, *error):
        self.bar.stop()


if __name__ == "__main__":
    sys.exit(main())
