"""`detect`: photos in, the objects on them out, as pictures and as COCO's results."""

import argparse
import difflib
import json
from pathlib import Path

from keras_convnext.atomic import replacing, write_text
from keras_convnext.cli import console, flags, pictured
from keras_convnext.cli.flags import UsageError
from keras_convnext.cli.predict import images_of, with_progress

DEFAULT, THRESHOLD = "mask_rcnn_convnext_tiny", 0.3
COLUMNS = ("image", "name", "score", "box", "picture")
SCREEN = "-"
SHOWN = 10  # names in an error


def add_parser(commands):
    examples = (
        "street.jpg",
        "--threshold 0.5 --classes person,dog --output pictures photos/",
        "--model cascade_mask_rcnn_convnext_base --threshold 0.05 --json results.json photos/",
        "--model best.keras --labels names.txt street.jpg",
    )
    help = "find objects: pictures with boxes, masks, names and scores"
    parser = flags.add_command(commands, "detect", run, help, examples, with_json=False)
    pictured.add_arguments(
        parser, DEFAULT, "detector", "detected", model_flags=("--model", "--weights")
    )
    parser.add_argument(
        "--json",
        nargs="?",
        const=SCREEN,
        metavar="FILE.json",
        help="write the objects in COCO's format of results, masks as run lengths; without a file "
        "print them, for programs",
    )
    flags.add_labels(parser, "coco")
    _add_inference(parser)


def add_answers(add, threshold=THRESHOLD):
    """Adds the flags about which objects are shown, by an `add_argument`.

    Args:
        add: the method of a parser.
        threshold: what is said of the default of that flag, which stays `None`.
    """
    add(
        "--threshold",
        type=_share,
        help="leave out lower scores, in [0, 1]; COCO's evaluation takes 0.05 (default: "
        f"{threshold})",
    )
    add("--classes", type=_names, metavar="NAMES", help="only these: person,dog")


def _add_inference(parser):
    add = parser.add_argument
    add_answers(add)
    add(
        "--size",
        type=pair,
        metavar="SHORT,LONG",
        default="800,1333",
        help="limits of the resized image's sides in pixels (default: %(default)s)",
    )
    add(
        "--canvas",
        choices=("smallest", "fixed"),
        default="smallest",
        help="pad images to multiples of 32, or to one of two sizes, so that JAX and TensorFlow "
        "compile twice and not for each size of a photo (default: %(default)s)",
    )
    flags.add_upright(parser)


def _share(text):
    try:
        value = float(text)
    except ValueError:
        value = -1
    if not 0 <= value <= 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number in [0, 1]")
    return value


def _names(text):
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} is not a list of names such as person,dog")
    return names


def pair(text):
    sides = text.split(",")
    if len(sides) != 2:
        raise argparse.ArgumentTypeError(f"{text!r} is not a pair such as 800,1333")
    return tuple(map(flags.positive, sides))


def run(arguments):
    threshold = THRESHOLD if arguments.threshold is None else arguments.threshold
    return answer(arguments, lambda: _detector(arguments, threshold))


def answer(arguments, opened):
    """Looks for objects in the images of a command, writes the pictures, and returns the exit code.

    Args:
        arguments: with `images`, `output`, `json` and `classes`.
        opened: function that returns the `PhotoDetector`; it is called when all else is checked.
    """
    images = images_of(arguments.images)
    folder = pictured.folder_of(arguments)
    if arguments.json not in (None, SCREEN):
        _check_json(Path(arguments.json))
    detector = opened()
    _check_classes(arguments.classes, detector)
    folder.mkdir(parents=True, exist_ok=True)
    names = [name for name, _ in images]
    # masks become run lengths only where somebody asks for them
    ids = ids_of(names) if arguments.json else [None] * len(names)
    jobs = list(zip(images, pictured.stems_of(names), ids, strict=True))
    results = [
        _detected(name, source, folder / stem, image_id, detector, arguments.classes)
        for (name, source), stem, image_id in with_progress(jobs, "Detecting")
    ]
    objects = [found for result in results for found in result.get("objects", ())]
    if arguments.json == SCREEN:
        console.print_json(objects)
    else:
        if arguments.json:
            write_text(arguments.json, json.dumps(objects) + "\n")
        console.print_table(COLUMNS, _cells(results))
    return console.exit_code(results, "used: see above")


def _check_json(path):
    # a photo that follows the flag would be taken for the file, and be overwritten
    if path.suffix.lower() != ".json":
        raise UsageError(f"--json {path}: the name of the file must end in .json.")
    console.check_writable(path)


def ids_of(names):
    """Returns the ids of images in COCO's results: the numbers that are their names, as COCO's own
    photos have them; else the names of the files."""
    stems = [Path(name).stem for name in names]
    numbers = [int(stem) for stem in stems if stem.isdecimal() and stem.isascii()]
    if len(numbers) == len(names) and len(set(numbers)) == len(names):
        return numbers
    return [console.printable(name) for name in names]


def _detector(arguments, threshold):
    from keras_convnext.detection import Detector

    return Detector(
        arguments.model,
        variant=arguments.variant,
        labels=arguments.labels,
        size=arguments.size,
        threshold=threshold,
        canvas=arguments.canvas,
        upright=arguments.upright is not False,
    )


def _check_classes(names, detector):
    for name in names or ():
        if name not in detector.names:
            near = difflib.get_close_matches(name, detector.names) or detector.names[:SHOWN]
            raise UsageError(
                f"--classes {name}: is none of the model's {len(detector.names)} classes, for "
                f"example {', '.join(near)}."
            )


def _detected(name, source, stem, image_id, detector, classes):
    """Returns {"image", "picture", "rows"} and, with an id, "objects"; or {"image", "error"}."""
    from keras_convnext.images import load_image

    result = {"image": console.printable(name)}
    try:
        photo = load_image(source, detector.upright)
        found = detector(photo)
    except ValueError as error:
        console.say(f"{result['image']}: {error}")
        return {**result, "error": str(error)}
    if classes:
        found = found[[name in classes for name in found.names]]
    path = stem.with_name(f"{stem.name}.detected.png")
    with replacing(path) as draft:
        found.draw(photo, threshold=0).save(draft)
    result |= {"picture": console.printable(str(path)), "rows": _rows(found)}
    return result if image_id is None else {**result, "objects": found.to_coco(image_id)}


def _rows(found):
    """Returns what is printed of detections; their masks need not be kept until then."""
    boxes = (" ".join(f"{side:.0f}" for side in box) for box in found.boxes)
    scores = (f"{score:.2f}" for score in found.scores)
    return list(zip(found.names, scores, boxes, strict=True)) or [("nothing", "", "")]


def _cells(results):
    for result in results:
        for name, score, box in result.get("rows", ()):
            yield result["image"], name, score, box, result["picture"]
