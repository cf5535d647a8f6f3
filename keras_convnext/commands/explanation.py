"""`explain`: where in an image the model sees what it says."""

from pathlib import Path

from keras_convnext.commands import UsageError, classifiers, console, prediction

METHODS = ("grad-cam", "eigen-cam", "receptive-field")


def run(arguments):
    (name, source), *more = prediction.images_of([arguments.image])
    if more:
        raise UsageError(f"{arguments.image} is a folder: `explain` takes one image at a time.")
    output = _output(arguments)
    classifier = classifiers.classifier_of(arguments)
    names = classifiers.names_of(arguments.labels, classifier)
    image = classifier.transform(source)
    probabilities = classifier.probabilities(image[None])[0]
    best = int(probabilities.argmax()) if arguments.target is None else arguments.target
    if best >= len(names):
        raise UsageError(f"{classifier.name} has the classes 0 to {len(names) - 1}, not {best}.")
    layer = _explain(classifier.model, image, best, arguments, output)
    console.report(
        arguments.json,
        {
            "image": console.printable(name),
            "model": classifier.name,
            "method": arguments.method,
            "layer": layer,
            "class": best,
            "name": names[best][1],
            "probability": round(float(probabilities[best]), 6),
            "output": str(output),
        },
    )
    return 0


def _output(arguments):
    """-> where the picture goes. All faults before any download."""
    stem = "stdin" if arguments.image == "-" else Path(arguments.image).stem
    output = Path(arguments.output or f"{stem}_{arguments.method}.png")
    if output.suffix.lower() != ".png":
        raise UsageError(f"{output}: the name must end in .png.")
    if not output.parent.is_dir():
        raise FileNotFoundError(f"The folder {str(output.parent)!r} does not exist: make it first.")
    if arguments.target is not None and arguments.method != "grad-cam":
        raise UsageError(f"--class belongs to grad-cam: {arguments.method} knows no classes.")
    return output


def _explain(model, image, best, arguments, output):
    """Writes the image beside what the method makes of it; -> the layer's name."""
    from keras_convnext import interpret

    layer = interpret.layer_of(model, arguments.layer).name
    if arguments.method == "receptive-field":
        field = interpret.effective_receptive_field(model, image[None], layer)
        picture = interpret.field_picture(field)
    elif arguments.method == "eigen-cam":
        picture = interpret.overlay(image, interpret.eigen_cam(model, image[None], layer)[0])
    else:
        picture = interpret.overlay(image, interpret.grad_cam(model, image[None], layer, best)[0])
    interpret.save_png(interpret.side_by_side(image, picture), output)
    return layer
