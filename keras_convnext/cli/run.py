"""`run`: images in, answers out, by an exported file alone."""

import argparse

from keras_convnext.cli import detect, flags, predict, segment
from keras_convnext.cli.flags import UsageError

PICTURES = {"segmentation": "segmented", "detection": "detected"}  # the folders of them
# The flags of each task that others do not have.
FLAGS = {
    "classification": (),
    "segmentation": ("window", "size", "labels", "upright"),
    "detection": ("size", "labels", "threshold", "classes", "upright"),
}


def add_parser(commands):
    examples = (
        "tiny.onnx photo.jpg",
        "tiny.onnx -k 1 --output labels.csv photos/",
        "tiny.onnx --json - < photo.jpg",
        "upernet.onnx --output pictures street.jpg",
        "detector.onnx --threshold 0.5 street.jpg",
    )
    help = "classify images by an exported file, without Keras; segment them, or find objects"
    parser = flags.add_command(commands, "run", run, help, examples)
    parser.add_argument("file", metavar="FILE", help="what `keras-convnext export` has written")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, or - for stdin")
    predict.add_answers(parser)
    _add_pictures(parser)


def _add_pictures(parser):
    group = parser.add_argument_group(
        "segmentation and detection",
        "A file of a segmentation model or of a detector gives pictures, as `keras-convnext "
        "segment` and `keras-convnext detect` do. --output is their folder (default: "
        f"{' or '.join(PICTURES.values())}); -k is not used.",
    )
    add = group.add_argument
    add("--window", type=flags.positive, help="side of the windows in pixels (default: the file's)")
    add(
        "--size",
        type=_size,
        help="of the resized image: its short side; of a detector SHORT,LONG, the limits of both "
        "(default: the file's)",
    )
    detect.add_answers(add, threshold="the file's")
    flags.add_upright(group)
    add(
        "--labels",
        metavar="FILE",
        help="names of the classes: one per line, or JSON; or ade20k or coco for that list "
        "(default: those in the file, else numbers)",
    )


def _size(text):
    try:
        return detect.pair(text) if "," in text else flags.positive(text)
    except argparse.ArgumentTypeError as error:
        raise argparse.ArgumentTypeError(f"{error}, nor a pair such as 800,1333") from None


def run(arguments):
    from keras_convnext.export import metadata, runners

    runner = runners.opened(arguments.file)
    description = metadata.parsed(runner.texts, arguments.file)
    task = description.get("task")
    _check_flags(arguments, task)
    if task in PICTURES:
        arguments.output = arguments.output or PICTURES[task]
    if task == "segmentation":
        return _segment(arguments, runner, description)
    if task == "detection":
        return _detect(arguments, runner)
    from keras_convnext.export import ExportedClassifier

    opened = lambda: ExportedClassifier(runner, batch_size=arguments.batch_size)  # noqa: E731
    return predict.answer(arguments, opened)


def _check_flags(arguments, task):
    """Raises a UsageError for a flag of another task than that of the file."""
    for flag in dict.fromkeys(flag for flags_ in FLAGS.values() for flag in flags_):
        if getattr(arguments, flag) is not None and flag not in FLAGS.get(task, ()):
            tasks = " and ".join(name for name, flags_ in FLAGS.items() if flag in flags_)
            raise UsageError(f"--{flag} is for {tasks}, which {arguments.file} does not do.")
    if isinstance(arguments.size, tuple) and task == "segmentation":
        raise UsageError("--size of a segmentation is one number, the short side.")


def _segment(arguments, runner, description):
    """Writes the pictures of images, and returns the exit code."""
    from keras_convnext.export.segmenting import segmenter_of

    measured = description.get("window")
    short = arguments.size or measured
    options = {
        "batch_size": min(arguments.batch_size, segment.BATCH),
        "window": arguments.window or measured or segment.WINDOW,
        "size": None if short is None else (4 * short, short),
        "upright": arguments.upright is not False,
    }
    segmenter, names = segmenter_of(runner, description, **options)
    if arguments.labels is not None:
        names = segment.names_of(arguments.labels, None, len(names))
    return segment.answer(arguments, lambda: (segmenter, names))


def _detect(arguments, runner):
    """Writes the pictures of images, and returns the exit code."""
    from keras_convnext.export import ExportedDetector

    if isinstance(arguments.size, int):
        raise UsageError("--size of a detector is a pair, such as 800,1333.")
    arguments.json = detect.SCREEN if arguments.json else None
    fields = ("size", "threshold", "labels", "upright")  # `None`: as the file says
    options = {name: getattr(arguments, name) for name in fields}
    return detect.answer(arguments, lambda: ExportedDetector(runner, **options))
