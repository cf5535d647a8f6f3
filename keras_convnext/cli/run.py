"""`run`: images in, answers out, by an exported file alone."""

from keras_convnext.cli import flags, predict, segment
from keras_convnext.cli.flags import UsageError

PICTURES = "segmented"  # the folder of them


def add_parser(commands):
    examples = (
        "tiny.onnx photo.jpg",
        "tiny.onnx -k 1 --output labels.csv photos/",
        "tiny.onnx --json - < photo.jpg",
        "upernet.onnx --output pictures street.jpg",
    )
    help = "classify images by an exported file, without Keras; or segment them"
    parser = flags.add_command(commands, "run", run, help, examples)
    parser.add_argument("file", metavar="FILE", help="what `keras-convnext export` has written")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, or - for stdin")
    predict.add_answers(parser)
    add = parser.add_argument_group(
        "segmentation",
        "A file of a segmentation model gives pictures, as `keras-convnext segment` does. --output "
        f"is their folder (default: {PICTURES}); -k is not used.",
    ).add_argument
    add("--window", type=flags.positive, help="side of the windows in pixels (default: the file's)")
    add("--size", type=flags.positive, help="short side of the resized image (default: the file's)")
    flags.add_labels(parser, "ade20k")


def run(arguments):
    from keras_convnext.export import metadata, runners

    runner = runners.opened(arguments.file)
    description = metadata.parsed(runner.texts, arguments.file)
    if description.get("task") == "segmentation":
        return _segment(arguments, runner, description)
    for flag in ("window", "size", "labels"):
        if getattr(arguments, flag) is not None:
            raise UsageError(f"--{flag} is for segmentation, which {arguments.file} does not do.")
    from keras_convnext.export import ExportedClassifier

    opened = lambda: ExportedClassifier(runner, batch_size=arguments.batch_size)  # noqa: E731
    return predict.answer(arguments, opened)


def _segment(arguments, runner, description):
    """Writes the pictures of images, and returns the exit code."""
    from keras_convnext.export.segmenting import segmenter_of

    measured = description.get("window")
    short = arguments.size or measured
    options = {
        "batch_size": min(arguments.batch_size, segment.BATCH),
        "window": arguments.window or measured or segment.WINDOW,
        "size": None if short is None else (4 * short, short),
    }
    segmenter, names = segmenter_of(runner, description, **options)
    if arguments.labels is not None:
        names = segment.names_of(arguments.labels, None, len(names))
    arguments.output = arguments.output or PICTURES
    return segment.answer(arguments, lambda: (segmenter, names))
