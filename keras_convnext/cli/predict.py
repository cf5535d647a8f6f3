"""`predict`: images in, the best classes of each out."""

import csv
import io
import json
import os
import sys
from pathlib import Path

from keras_convnext.atomic import write_text
from keras_convnext.cli import classifiers, console, flags
from keras_convnext.cli.flags import UsageError

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".jp2", ".avif"),
)
COLUMNS = ("image", "rank", "class", "wnid", "name", "probability")


def add_parser(commands):
    examples = (
        "cat.jpg",
        "-k 1 --output labels.csv photos/",
        "--model convnextv2_tiny.fcmae_ft_in22k_in1k_384 --json cat.jpg dog.jpg",
        "--model mine.safetensors --variant convnext_tiny --labels names.txt photos/",
        "--model mine.keras --labels names.txt - < cat.jpg",
    )
    parser = flags.add_command(commands, "predict", run, "classify images", examples)
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="files, folders, or - for stdin")
    flags.add_model(parser)
    add(
        "-k",
        type=flags.positive,
        default=5,
        help="how many classes per image (default: %(default)s)",
    )
    add("--labels", metavar="FILE", help="names of the classes, or imagenet1k for that list")
    add("--batch-size", type=flags.positive, default=32, help="default: %(default)s")
    add(
        "--output",
        metavar="FILE",
        help="write there: CSV if it ends in .csv, JSON in .json, else tabs between the columns",
    )
    flags.add_transform(parser)


def run(arguments):
    images = images_of(arguments.images)
    form = _form(arguments)
    classifier = classifiers.classifier_of(arguments)
    names = classifiers.names_of(arguments.labels, classifier)
    results = list(_predicted(images, classifier, names, arguments))
    if form == "table" and not arguments.output:
        console.print_table(COLUMNS, _cells(results))
    else:
        _write(_formatted(results, form, classifier.name), arguments.output)
    failed = sum("error" in result for result in results)
    if failed:
        console.say(f"{failed} of {len(results)} images could not be read.")
    return 1 if failed else 0


def _form(arguments):
    suffix = ".json" if arguments.json else Path(arguments.output or "").suffix.lower()
    return {".json": "json", ".csv": "csv"}.get(suffix, "table")


def _write(text, path):
    if path is None:
        sys.stdout.write(text)
    else:
        write_text(path, text)


def images_of(arguments):
    """-> [(name, path or bytes)] of files, of all images below folders, and of stdin for `-`."""
    if arguments.count("-") > 1:
        raise UsageError("`-` (one image from stdin) can be given once only.")
    missing = [name for name in arguments if name != "-" and not os.path.exists(name)]
    if missing:
        raise FileNotFoundError(f"No such image or folder: {', '.join(missing)}.")
    images = [image for argument in arguments for image in _images_of(argument)]
    if not images:
        raise ValueError(
            f"No images in {', '.join(arguments)}: looked for {' '.join(IMAGE_SUFFIXES)}, also in "
            "the folders within. A file of another name can be given itself."
        )
    return images


def _images_of(argument):
    if argument == "-":
        return [("-", sys.stdin.buffer.read())]
    if not os.path.isdir(argument):
        return [(argument, argument)]
    paths = sorted(p for p in Path(argument).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    visible = (path for path in paths if not path.name.startswith(".") and path.is_file())
    return [(str(path), str(path)) for path in visible]


def _predicted(images, classifier, names, arguments):
    """-> per image `{"image", "predictions"}` or `{"image", "error"}`, in order."""
    size = arguments.batch_size
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    for batch in with_progress(batches, "Predicting"):
        yield from _predicted_batch(batch, classifier, names, arguments.k)


def with_progress(batches, doing):
    """-> the batches; where a person looks, with a bar on stderr."""
    from rich.console import Console
    from rich.progress import track

    terminal = Console(stderr=True)
    hidden = not terminal.is_terminal or len(batches) < 2
    return track(batches, doing, console=terminal, transient=True, disable=hidden)


def _predicted_batch(batch, classifier, names, k):
    import numpy as np

    pixels, results = [], []
    for name, source in batch:
        try:
            pixels.append(classifier.transform(source))
            results.append({"image": console.printable(name)})
        except ValueError as error:
            console.say(f"{console.printable(name)}: {error}")
            results.append({"image": console.printable(name), "error": str(error)})
    if pixels:
        probabilities = iter(classifier.probabilities(np.stack(pixels)))
    for result in results:
        if "error" not in result:
            result["predictions"] = _best(next(probabilities), names, k)
    return results


def _best(probabilities, names, k):
    order = (-probabilities).argsort(kind="stable")[:k].tolist()
    return [
        {
            "rank": rank,
            "class": index,
            "wnid": names[index][0],
            "name": names[index][1],
            "probability": float(probabilities[index]),
        }
        for rank, index in enumerate(order, 1)
    ]


def _formatted(results, form, model):
    if form == "json":
        return json.dumps({"model": model, "results": results}, indent=1) + "\n"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", delimiter="," if form == "csv" else "\t")
    writer.writerow(COLUMNS)
    writer.writerows(_cells(results))
    return text.getvalue()


def _cells(results):
    for result in results:
        for best in result.get("predictions", ()):
            rank, index = str(best["rank"]), str(best["class"])
            numbers = (rank, index, best["wnid"] or "", best["name"])
            yield result["image"], *numbers, f"{best['probability']:.6f}"
