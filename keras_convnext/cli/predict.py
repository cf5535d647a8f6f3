"""`predict`: images in, the best classes of each out."""

import csv
import io
import json
import os
import sys
from pathlib import Path

from keras_convnext.atomic import write_text
from keras_convnext.cli import console, flags
from keras_convnext.cli.flags import UsageError

COLUMNS = ("image", "rank", "class", "wnid", "name", "probability")
ANIMATED = (".gif", ".webp", ".apng")  # images that are often animations


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
    add_answers(parser)
    flags.add_labels(parser)
    flags.add_transform(parser)


def add_answers(parser):
    """Adds the flags about answers: how many, how, and where they go."""
    add = parser.add_argument
    add(
        "-k",
        type=flags.positive,
        default=5,
        help="how many classes per image (default: %(default)s)",
    )
    add(
        "--batch-size",
        type=flags.positive,
        default=32,
        help="images that the model sees at once (default: %(default)s)",
    )
    add(
        "--output",
        metavar="FILE",
        help="write there: CSV if it ends in .csv, JSON in .json, else tabs between the columns "
        "(default: the screen)",
    )


def run(arguments):
    return answer(arguments, lambda: classifier_of(arguments, batch_size=arguments.batch_size))


def answer(arguments, opened):
    """Classifies the images of a command, writes the answers, and returns the exit code.

    Args:
        arguments: with the flags of `add_answers`, `images` and `json`.
        opened: function that returns the `Predictor`; it is called when all else is checked.
    """
    images = images_of(arguments.images)
    form = _form(arguments)
    if arguments.output:
        console.check_writable(Path(arguments.output))
    classifier = opened()
    results = list(_predicted(images, classifier, arguments.k))
    if form == "table" and not arguments.output:
        console.print_table(COLUMNS, _cells(results))
    else:
        _write(_formatted(results, form, classifier.name), arguments.output)
    return console.exit_code(results, "read")


def classifier_of(arguments, **options):
    """Returns the `Classifier` that the flags ask for; downloads what is not here."""
    from keras_convnext.classifier import Classifier

    return Classifier(
        arguments.model,
        transform=flags.transform_of(arguments),
        labels=arguments.labels,
        variant=arguments.variant,
        activation=arguments.activation,
        **options,
    )


def _form(arguments):
    suffix = ".json" if arguments.json else Path(arguments.output or "").suffix.lower()
    return {".json": "json", ".csv": "csv"}.get(suffix, "table")


def _write(text, path):
    if path is None:
        sys.stdout.write(text)
    else:
        write_text(path, text)


def images_of(arguments):
    """Returns (name, path or bytes) of files, of all images below folders, and of stdin for `-`.

    Says of which animations only the first frame is read.

    Raises:
        UsageError: if stdin is named twice, or a video is named.
        FileNotFoundError: if there is no such file or folder.
        ValueError: if folders have no images.
    """
    if arguments.count("-") > 1:
        raise UsageError("`-` (one image from stdin) can be given once only.")
    from keras_convnext.images import SUFFIXES, about_video, images_in, is_animation

    for name in arguments:
        if not os.path.isdir(name) and (video := about_video(name)):
            raise UsageError(video)
    missing = [name for name in arguments if name != "-" and not os.path.exists(name)]
    if missing:
        raise FileNotFoundError(f"No such image or folder: {', '.join(missing)}.")
    images = []
    for argument in arguments:
        if argument == "-":
            images.append(("-", sys.stdin.buffer.read()))
        elif os.path.isdir(argument):
            images += [(str(path), str(path)) for path in images_in(argument)]
        else:
            images.append((argument, argument))
    if not images:
        raise ValueError(
            f"No images in {', '.join(arguments)}: looked for {' '.join(SUFFIXES)}, also in "
            "the folders within. A file of another name can be given itself."
        )
    for name, source in images:
        if name.lower().endswith(ANIMATED) and is_animation(source):
            console.say(f"Note: {name} is an animation, of which only the first frame is read.")
    return images


def _predicted(images, classifier, top):
    """Yields `{"image", "predictions"}` or `{"image", "error"}` for each image, in order."""
    size = classifier.batch_size
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    for batch in with_progress(batches, "Predicting"):
        yield from _predicted_batch(batch, classifier, top, fill=len(batches) > 1)


def with_progress(batches, doing):
    """Returns the batches; where a person looks, with a bar on stderr."""
    from rich.console import Console
    from rich.progress import track

    terminal = Console(stderr=True)
    hidden = not terminal.is_terminal or len(batches) < 2
    return track(batches, doing, console=terminal, transient=True, disable=hidden)


def _predicted_batch(batch, classifier, top, fill):
    import numpy as np

    pixels, results = [], []
    for name, source in batch:
        try:
            pixels.append(classifier.pixels(source))
            results.append({"image": console.printable(name)})
        except ValueError as error:
            console.say(f"{console.printable(name)}: {error}")
            results.append({"image": console.printable(name), "error": str(error)})
    if pixels:
        probabilities = iter(classifier.of_pixels(np.stack(pixels), fill))
    for result in results:
        if "error" not in result:
            result["predictions"] = _best(classifier.best(next(probabilities), top))
    return results


def _best(predictions):
    return [
        {
            "rank": rank,
            "class": found.index,
            "wnid": found.id,
            "name": found.name,
            "probability": found.probability,
        }
        for rank, found in enumerate(predictions, 1)
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
