"""`explain`: where in an image the model sees what it says."""

from pathlib import Path

from keras_convnext.cli import console, flags, predict
from keras_convnext.cli.flags import UsageError

METHODS = ("grad-cam", "eigen-cam", "receptive-field")


def add_parser(commands):
    examples = (
        "cat.jpg",
        "cat.jpg --class 282 --layer stage2_block8 --output tiger_cat.png",
        "--method eigen-cam --model convnextv2_tiny.fcmae_ft_in22k_in1k cat.jpg",
        "--model mine.keras --labels names.txt --json - < cat.jpg",
    )
    help = "show where in an image the model sees what it says"
    parser = flags.add_command(commands, "explain", run, help, examples)
    add = parser.add_argument
    add("image", metavar="IMAGE", help="a file, or - for stdin")
    flags.add_model(parser)
    add(
        "--method",
        choices=METHODS,
        default="grad-cam",
        help="the evidence for a class, what stands out whichever the class, or the pixels that "
        "matter to the middle of the layer (default: %(default)s)",
    )
    add("--layer", metavar="NAME", help="for example stage2_block8 (default: the last block)")
    add(
        "--class",
        dest="target",
        type=flags.number,
        metavar="N",
        help="default: the most probable one",
    )
    flags.add_labels(parser)
    add("--output", metavar="FILE", help="a .png (default: IMAGE_METHOD.png in this folder)")
    flags.add_transform(parser)


def run(arguments):
    (name, source), *more = predict.images_of([arguments.image])
    if more:
        raise UsageError(f"{arguments.image} is a folder: `explain` takes one image at a time.")
    output = _output(arguments)
    classifier = predict.classifier_of(arguments)
    names = classifier.labels
    image = classifier.pixels(source)
    probabilities = classifier.of_pixels(image[None])[0]
    best = int(probabilities.argmax()) if arguments.target is None else arguments.target
    if best >= len(names):
        raise UsageError(f"{classifier.name} has the classes 0 to {len(names) - 1}, not {best}.")
    target = 1 if classifier.classes == 1 else best  # 0 would be against the one class
    layer = _explain(classifier.model, image, target, arguments, output)
    console.report(
        arguments.json,
        {
            "image": console.printable(name),
            "model": classifier.name,
            "method": arguments.method,
            "layer": layer,
            "class": best,
            "name": names[best],
            "probability": round(float(probabilities[best]), 6),
            "output": str(output),
        },
    )
    return 0


def _output(arguments):
    """Returns where the picture goes. All faults show before any download."""
    stem = "stdin" if arguments.image == "-" else Path(arguments.image).stem
    output = Path(arguments.output or f"{stem}_{arguments.method}.png")
    if output.suffix.lower() != ".png":
        raise UsageError(f"{output}: the name must end in .png.")
    console.check_writable(output)
    if arguments.target is not None and arguments.method != "grad-cam":
        raise UsageError(f"--class belongs to grad-cam: {arguments.method} knows no classes.")
    return output


def _explain(model, image, best, arguments, output):
    """Writes the image beside what the method makes of it; returns the layer's name."""
    from keras_convnext import interpret, pictures

    layer = interpret.layer_of(model, arguments.layer).name
    if arguments.method == "receptive-field":
        field = interpret.effective_receptive_field(model, image[None], layer)
        picture = pictures.field_picture(field)
    elif arguments.method == "eigen-cam":
        picture = pictures.overlay(image, interpret.eigen_cam(model, image[None], layer)[0])
    else:
        picture = pictures.overlay(image, interpret.grad_cam(model, image[None], layer, best)[0])
    pictures.save_png(pictures.side_by_side(image, picture), output)
    return layer
