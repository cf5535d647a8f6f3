"""`run`: images in, the best classes of each out, by an exported file alone."""

from keras_convnext.cli import flags, predict


def add_parser(commands):
    examples = (
        "tiny.onnx photo.jpg",
        "tiny.onnx -k 1 --output labels.csv photos/",
        "tiny.onnx --json - < photo.jpg",
    )
    help = "classify images by an exported file, without Keras"
    parser = flags.add_command(commands, "run", run, help, examples)
    parser.add_argument("file", metavar="FILE", help="what `keras-convnext export` has written")
    parser.add_argument("images", nargs="+", metavar="IMAGE", help="files, folders, or - for stdin")
    predict.add_answers(parser)


def run(arguments):
    from keras_convnext.export import ExportedClassifier

    return predict.answer(
        arguments, lambda: ExportedClassifier(arguments.file, batch_size=arguments.batch_size)
    )
