"""`export`: a model as a file that runs without Keras."""

import dataclasses
from pathlib import Path

from keras_convnext import named_weights
from keras_convnext.cli import console, detect, flags
from keras_convnext.cli.flags import UsageError
from keras_convnext.cli.predict import classifier_of
from keras_convnext.cli.run import FLAGS
from keras_convnext.export import export, export_for, placing
from keras_convnext.export.exporting import ENDS, FORMATS, OF_KERAS, check_detector, check_plain
from keras_convnext.export.folders import TARGETS, check_folder
from keras_convnext.export.metadata import parsed

OF_DETECTORS = ("labels", "upright")  # flags that classifiers are not alone to have


def add_parser(commands):
    examples = (
        "convnext_tiny.fb_in1k --to tiny.onnx",
        "mine.keras --to mine.onnx --labels names.txt",
        "records/2026-01-31_folder --to flowers.onnx --dynamic",
        "mine.keras --to small.onnx --int8 --calibration photos/",
        "upernet_convnext_tiny --to upernet.xml --dynamic",
        "mask_rcnn_convnext_tiny --to detector.onnx",
        "convnext_atto.d2_in1k --for web page",
        "mine.keras --labels names.txt --for triton models/mine",
    )
    help = "write a model as a file that runs without Keras"
    parser = flags.add_command(commands, "export", run, help, examples)
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="a checkpoint's name, hf://owner/repo, a file, or the folder of a training",
    )
    _add_destination(parser)
    flags.add_variant(parser)
    flags.add_activation(parser)
    flags.add_labels(parser)
    _add_file(parser)
    _add_numbers(parser)
    flags.add_transform(parser)


def _add_destination(parser):
    place = parser.add_mutually_exclusive_group(required=True).add_argument
    place("--to", metavar="FILE", help=f"a name that ends in {ENDS}")
    place(
        "--for",
        nargs=2,
        dest="target",
        metavar=("TARGET", "DIR"),
        help="a new folder: `web`, a page that classifies photos in the browser; `triton` or "
        "`ovms`, the model's folder in the repository of NVIDIA Triton or OpenVINO Model Server",
    )
    parser.add_argument("--force", action="store_true", help="replace FILE or DIR if it exists")
    parser.add_argument(
        "--runtime",
        metavar="FOLDER",
        help="of the npm package onnxruntime-web, which `--for web` copies into the page (default: "
        "node_modules here or above)",
    )


def _add_file(parser):
    """Adds the flags about what the file takes and returns."""
    add = parser.add_argument_group("file").add_argument
    add(
        "--dynamic",
        action="store_true",
        help="leave height and width free (default: one size; the batch is always free)",
    )
    add(
        "--input-dtype",
        choices=("uint8", "float32"),
        help="of the images in the file (default: uint8 where it normalises them)",
    )
    add(
        "--no-preprocessing",
        action="store_true",
        help="leave the normalisation of the images out; the file tells mean and std",
    )
    add("--no-softmax", action="store_true", help="return logits, not probabilities")
    add(
        "--check",
        choices=("on", "off"),
        default="on",
        help="compare the file with the model (default: %(default)s)",
    )


def _add_numbers(parser):
    """Adds the flags about smaller numbers, and the images that tell what they cost."""
    add = parser.add_argument_group("numbers").add_argument
    add("--float16", action="store_true", help="keep the numbers in float16: half the size")
    add("--int8", action="store_true", help="compute products in int8: a smaller file")
    add(
        "--calibration",
        metavar="FOLDER",
        help="a few hundred images like those that will come, for --int8",
    )
    add(
        "--images",
        metavar="FOLDER",
        help="real images, of which the file is compared with the model, and an int8 file with the "
        "float one (default: those of --calibration); where each class has a folder of its name, "
        "--int8 tells the accuracy of both",
    )


def run(arguments):
    _check_flags(arguments)
    target, place = arguments.target or (None, arguments.to)
    if target is None:
        _check_destination(Path(place), arguments)
    else:
        _check_target(target, place, arguments)
    options = _options(arguments)
    _check_formats(arguments, options)
    model = _model(arguments)
    options |= {
        "input_shape": _free_size() if arguments.dynamic else None,
        "calibration": arguments.calibration,
        "images": arguments.images,
        "check": arguments.check == "on",
    }
    if target is None:
        made = export(model, place, **options)
    else:
        more = {"runtime": arguments.runtime, "replace": arguments.force}
        made = export_for(target, model, place, **more, **options)
    _report(arguments, made)
    return 0


def _options(arguments):
    """Returns those arguments of `export` that not every format and model has."""
    return {
        "input_dtype": arguments.input_dtype,
        "preprocessing": not arguments.no_preprocessing,
        "softmax": False if arguments.no_softmax else None,
        "dtype": "float16" if arguments.float16 else "float32",
        "quantize": "int8" if arguments.int8 else None,
    }


def _report(arguments, made):
    said = parsed(made.metadata, made.path)
    names = said.pop("names", None)
    for key in ("ids", "categories"):
        said.pop(key, None)
    if names and not arguments.json:
        said["class names"] = "in the file"
    report = {"destination": str(made.path), "format": made.format, "bytes": made.bytes}
    report["largest difference"] = made.difference if made.note is None else made.note
    if made.agreement is not None:
        found = dataclasses.asdict(made.agreement)
        report["int8"] = {key: value for key, value in found.items() if value is not None}
    console.report(arguments.json, {**report, **said})


def _free_size():
    import keras

    first = keras.config.image_data_format() == "channels_first"
    return (3, None, None) if first else (None, None, 3)


def _check_flags(arguments):
    """Checks before any download what belongs together."""
    if arguments.no_preprocessing and arguments.input_dtype == "uint8":
        raise UsageError("--input-dtype uint8 is for files that normalise: omit one of the flags.")
    if arguments.int8 != (arguments.calibration is not None):
        raise UsageError("--int8 and --calibration belong together: give both, or none of them.")
    if arguments.int8 and arguments.float16:
        raise UsageError("--int8 begins from float32: omit --float16.")
    for folder in (arguments.calibration, arguments.images):
        if folder is not None and not Path(folder).is_dir():
            raise FileNotFoundError(f"No folder {folder!r} of images.")


def _check_target(target, folder, arguments):
    """Checks target and folder of `--for` before any download."""
    if target not in TARGETS:
        raise UsageError(f"--for {target}: it is one of {', '.join(TARGETS)}.")
    if target == "web" and (own := _flags_of_files(arguments)):
        raise UsageError(f"--for web has its own input and output: omit {', '.join(own)}.")
    if target != "web" and arguments.runtime is not None:
        raise UsageError("--runtime is for --for web.")
    check_folder(target, folder, arguments.force)
    console.check_writable(Path(folder).absolute().with_name("draft"))


def _flags_of_files(arguments):
    """Returns the given flags that say what a file takes and returns."""
    given = {
        "--dynamic": arguments.dynamic,
        "--input-dtype": arguments.input_dtype,
        "--no-preprocessing": arguments.no_preprocessing,
        "--no-softmax": arguments.no_softmax,
    }
    return [flag for flag, value in given.items() if value]


def _check_destination(path, arguments):
    """Checks the name of the file before any download."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--to {path}: the name must end in {ENDS}.")
    if arguments.runtime is not None:
        raise UsageError("--runtime is for --for web.")
    if path.suffix or not path.is_dir():  # the folder of a SavedModel may be replaced
        console.check_writable(path)
    placing.check(path)
    if path.exists() and not arguments.force:
        numbers = placing.companion(path)
        both = f", with {numbers.name}" if numbers is not None and numbers.exists() else ""
        raise FileExistsError(f"{path} exists already; --force replaces it{both}.")


def _check_formats(arguments, options):
    """Checks before any download what is not written in that format, or of published weights of
    that kind."""
    path = Path("model.onnx" if arguments.target else arguments.to)
    if path.suffix.lower() in OF_KERAS:
        check_plain(path, **options)
    row, name = _row(arguments), arguments.model
    if row is None or row.head is None and row.classes and row.label_set != "clip":
        return  # no published weights, or a classifier
    is_detector = row.task == "detection"
    _refuse_flags_of_classifiers(arguments, row.task, OF_DETECTORS if is_detector else ())
    if arguments.target and arguments.target[0] == "web":
        raise UsageError(
            f"--for web is for classifiers, and {name} is not one: write an .onnx file."
        )
    if is_detector and arguments.no_softmax:
        raise UsageError(
            f"{name} is a detector, which gives boxes with scores: omit `--no-softmax`."
        )
    if is_detector:
        check_detector(path, options["dtype"], options["quantize"])


def _row(arguments):
    """Returns the registry's row that the model's name stands for, `None` for all else."""
    source, variant = arguments.model, arguments.variant
    if Path(source).exists():
        return None
    if source.startswith("upernet_"):
        from keras_convnext.pretrained import registry

        return registry.find(source, variant, "segmentation")
    return named_weights.row_of(source, variant, any_head=True)


def _model(arguments):
    """Returns the `Classifier`, the `Detector` or the model of another kind that the flags ask
    for."""
    from keras_convnext.detection import DetectionModel
    from keras_convnext.pretrained.registry import TASKS
    from keras_convnext.segmentation import SegmentationModel, UperNet
    from keras_convnext.whole_models import CLASSES, load_model, shape_of, whole_file

    source, variant = arguments.model, arguments.variant
    if (path := whole_file(source, variant)) is not None:
        model = load_model(path)
        shape = shape_of(model, "output_shape")
        if isinstance(shape, tuple) and len(shape) == 2:
            return classifier_of(arguments)
        if isinstance(model, DetectionModel):
            beside = path.parent / CLASSES
            return _detector(arguments, model, beside if beside.is_file() else None)
    elif source.startswith("upernet_") and (row := _row(arguments)) is not None:
        model = UperNet(row.variant, weights=row.name)
    else:
        weights = named_weights.weights_of(source, variant, any_head=True)
        if TASKS[weights.head] == "detection":
            return _detector(arguments, source, variant=variant)
        is_clip = weights.row is not None and weights.row.label_set == "clip"
        if weights.classes and weights.head is None and not is_clip:
            return classifier_of(arguments)
        model = weights.build(input_shape=(None, None, 3))
    task = "segmentation" if isinstance(model, SegmentationModel) else None
    _refuse_flags_of_classifiers(arguments, task)
    return model


def _detector(arguments, source, labels=None, variant=None):
    """Returns the `Detector` of a model, a name or a file, with the names of its classes."""
    from keras_convnext.detection import Detector

    upright = arguments.upright is not False
    _refuse_flags_of_classifiers(arguments, "detection", OF_DETECTORS)
    return Detector(
        source,
        labels=arguments.labels or labels,
        variant=variant,
        threshold=detect.THRESHOLD,  # `run` shows what `detect` does
        upright=upright,
    )


def _refuse_flags_of_classifiers(arguments, task, but=()):
    """Raises the UsageError of flags that a model of that task does not have; `None`: features."""
    given = {**flags.transform_of(arguments), "labels": arguments.labels}
    given["activation"] = arguments.activation
    given = {field: value for field, value in given.items() if field not in but}
    for field, value in given.items():
        if value is not None:
            flag = f"--{field.replace('_', '-')}"
            hint = f": give {flag} to `keras-convnext run`" * (field in FLAGS.get(task, ()))
            raise UsageError(f"{flag} is for classifiers, and {arguments.model} is not one{hint}.")
