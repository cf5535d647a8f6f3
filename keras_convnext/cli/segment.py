"""`segment`: images in, a class for every pixel out, as pictures."""

import dataclasses
from pathlib import Path

from keras_convnext import labels
from keras_convnext.atomic import replacing
from keras_convnext.cli import console, flags, pictured
from keras_convnext.cli.flags import UsageError
from keras_convnext.cli.predict import images_of, with_progress

DEFAULT = "upernet_convnext_tiny"
WINDOW, BATCH = 512, 4  # pixels of a side; windows at once
COLUMNS = ("image", "class", "name", "share", "overlay")


def add_parser(commands):
    examples = (
        "street.jpg",
        "--output pictures --multi-scale photos/",
        "--model upernet_convnext_base.fb_in22k_ft_ade20k_640 street.jpg",
        "--model best.keras --labels names.txt --window 256 street.jpg",
    )
    help = "give every pixel a class: overlay, label map and legend"
    parser = flags.add_command(commands, "segment", run, help, examples)
    pictured.add_arguments(parser, DEFAULT, "UperNet", "segmented")
    flags.add_labels(parser, "ade20k")
    _add_inference(parser)


def _add_inference(parser):
    add = parser.add_argument
    add(
        "--mode",
        choices=("slide", "whole"),
        help="windows whose results are averaged, or the image at once (default: slide, or whole "
        "with --multi-scale)",
    )
    add(
        "--window",
        type=flags.positive,
        help="side of the windows in pixels (default for files: 512)",
    )
    add(
        "--size",
        type=flags.positive,
        help="short side of the resized image (default for files: none)",
    )
    add("--multi-scale", action="store_true", help="at six scales and mirrored: slow")
    add(
        "--batch-size",
        type=flags.positive,
        default=BATCH,
        help="windows at once (default: %(default)s)",
    )
    flags.add_upright(parser)


def run(arguments):
    return answer(arguments, lambda: _segmenter(arguments))


def answer(arguments, opened):
    """Segments the images of a command, writes the pictures, and returns the exit code.

    Args:
        arguments: with `images`, `output` and `json`.
        opened: function that returns the `Segmenter` and the names of its classes; it is called
            when all else is checked.
    """
    images = images_of(arguments.images)
    folder = pictured.folder_of(arguments)
    segmenter, names = opened()
    folder.mkdir(parents=True, exist_ok=True)
    stems = pictured.stems_of([name for name, _ in images])
    results = [
        _segmented(name, source, folder / stem, segmenter, names)
        for (name, source), stem in with_progress(
            list(zip(images, stems, strict=True)), "Segmenting"
        )
    ]
    if arguments.json:
        console.print_json({"results": results})
    else:
        console.print_table(COLUMNS, _cells(results))
    return console.exit_code(results, "segmented")


# ---------------------------------------------------------------------------- the model


def _segmenter(arguments):
    """Returns the `Segmenter` that was asked for and the names of its classes."""
    from keras_convnext import outputs
    from keras_convnext.segmentation import SCALES, Segmenter
    from keras_convnext.whole_models import shape_of

    model, row, beside = _model(arguments)
    outputs.refuse_detector(model, arguments.model)
    found = getattr(model, "output", None)
    found = found.get("logits") if isinstance(found, dict) else found
    shape = tuple(getattr(found, "shape", shape_of(model, "output_shape") or ()))
    if len(shape) != 4 or not 1 <= (shape[-1] or 0) <= 255:
        raise ValueError(
            f"{arguments.model}: returns {shape}; needed are outputs (batch, height, width, "
            "classes) of 1 to 255 classes. `keras-convnext predict` is for classifiers."
        )
    window = arguments.window or (row.size if row else WINDOW)
    short = arguments.size or (row.size if row else None)
    segmenter = Segmenter(
        model,
        mode=arguments.mode or ("whole" if arguments.multi_scale else "slide"),
        window=window,
        batch_size=arguments.batch_size,
        size=None if short is None else (4 * short, short),
        upright=arguments.upright is not False,
    )
    if arguments.multi_scale:
        segmenter = dataclasses.replace(segmenter, scales=SCALES, flip=True)
    classes = max(2, shape[-1])  # one output tells two classes apart
    return segmenter, names_of(arguments.labels or beside, row, classes)


def _model(arguments):
    """Returns the model, its row, and the file of its classes' names; `None` for what is not."""
    from keras_convnext.segmentation import UperNet, checkpoints
    from keras_convnext.whole_models import CLASSES, load_model, whole_file

    name = arguments.model
    if (path := whole_file(name, arguments.variant)) is not None:
        beside = path.parent / CLASSES
        return load_model(path), None, beside if beside.is_file() else None
    if name.startswith("hf://") or Path(name).is_file():
        path = checkpoints.local_file(name)
        return UperNet(arguments.variant or checkpoints.identify(path), weights=path), None, None
    row = checkpoints.find(name, arguments.variant)
    return UperNet(row.variant, weights=row.name), row, None


def names_of(source, row, classes):
    """Returns the names of classes.

    Args:
        source: a file of names or the name of a label set, or `None`.
        row: of published weights, or `None`.
        classes: their number.

    Raises:
        UsageError: if the file has another number of names.
    """
    from keras_convnext.segmentation import checkpoints

    if source is not None:
        known = source in checkpoints.LABEL_SETS
        names = checkpoints.class_names(source) if known else labels.read_names(source)
        names = list(names) if known else [name for _, name in names]
    elif row is not None:
        names = list(checkpoints.class_names(row.label_set))
    else:
        return [f"class {number}" for number in range(classes)]
    if len(names) != classes:
        raise UsageError(f"{source}: has {len(names)} names, the model {classes} classes.")
    return names


# ---------------------------------------------------------------------------- its pictures


def _segmented(name, source, stem, segmenter, names):
    """Returns {"image", "overlay", "labels", "legend", "classes"}, or {"image", "error"}."""
    from PIL import Image

    from keras_convnext.segmentation import overlays

    result = {"image": console.printable(name)}
    try:
        found = segmenter(source)
        shares = overlays.shares_of(found, len(names))
        pictures = {
            "overlay": Image.fromarray(
                overlays.overlay(source, found, len(names), upright=segmenter.upright)
            ),
            "labels": overlays.label_map(found, len(names)),
            "legend": overlays.legend(names, shares),
        }
    except ValueError as error:
        console.say(f"{result['image']}: {error}")
        return {**result, "error": str(error)}
    for kind, picture in pictures.items():
        path = stem.with_name(f"{stem.name}.{kind}.png")
        with replacing(path) as draft:
            picture.save(draft)
        result[kind] = console.printable(str(path))
    order = sorted(shares, key=shares.get, reverse=True)
    result["classes"] = [{"class": n, "name": names[n], "share": float(shares[n])} for n in order]
    return result


def _cells(results):
    for result in results:
        for row in result.get("classes", ()):
            share = f"{100 * row['share']:.1f} %"
            yield result["image"], str(row["class"]), row["name"], share, result["overlay"]
