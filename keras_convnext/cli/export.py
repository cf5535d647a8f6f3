"""`export`: a model as a file that runs without Keras."""

import dataclasses
from pathlib import Path

from keras_convnext import named_weights
from keras_convnext.cli import console, flags
from keras_convnext.cli.flags import UsageError
from keras_convnext.cli.predict import classifier_of
from keras_convnext.export import export, placing
from keras_convnext.export.exporting import ENDS, FORMATS
from keras_convnext.export.metadata import parsed


def add_parser(commands):
    examples = (
        "convnext_tiny.fb_in1k --to tiny.onnx",
        "mine.keras --to mine.onnx --labels names.txt",
        "records/2026-01-31_folder --to flowers.onnx --dynamic",
        "mine.keras --to small.onnx --int8 --calibration photos/",
        "upernet_convnext_tiny --to upernet.xml --dynamic",
    )
    help = "write a model as a file that runs without Keras"
    parser = flags.add_command(commands, "export", run, help, examples)
    add = parser.add_argument
    add(
        "model",
        metavar="MODEL",
        help="a checkpoint's name, hf://owner/repo, a file, or the folder of a training",
    )
    add("--to", required=True, metavar="FILE", help=f"a name that ends in {ENDS}")
    add("--force", action="store_true", help="replace FILE if it exists")
    flags.add_variant(parser)
    flags.add_activation(parser)
    flags.add_labels(parser)
    _add_file(parser)
    flags.add_transform(parser)


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
    add("--float16", action="store_true", help="keep the numbers in float16: half the size")
    add("--int8", action="store_true", help="compute products in int8: a smaller file")
    add(
        "--calibration",
        metavar="FOLDER",
        help="a few hundred images like those that will come, for --int8",
    )
    add("--no-softmax", action="store_true", help="return logits, not probabilities")
    add(
        "--check",
        choices=("on", "off"),
        default="on",
        help="compare the file with the model (default: %(default)s)",
    )


def run(arguments):
    destination = Path(arguments.to)
    _check_destination(destination, arguments)
    model = _model(arguments)
    made = export(
        model,
        destination,
        input_shape=_free_size() if arguments.dynamic else None,
        input_dtype=arguments.input_dtype,
        preprocessing=not arguments.no_preprocessing,
        softmax=False if arguments.no_softmax else None,
        dtype="float16" if arguments.float16 else "float32",
        quantize="int8" if arguments.int8 else None,
        calibration=arguments.calibration,
        check=arguments.check == "on",
    )
    said = parsed(made.metadata, made.path)
    names = said.pop("names", None)
    said.pop("ids", None)
    if names and not arguments.json:
        said["class names"] = "in the file"
    report = {"destination": str(made.path), "format": made.format, "bytes": made.bytes}
    report["largest difference"] = made.difference if made.note is None else made.note
    if made.agreement is not None:
        report["int8"] = dataclasses.asdict(made.agreement)
    console.report(arguments.json, {**report, **said})
    return 0


def _free_size():
    import keras

    first = keras.config.image_data_format() == "channels_first"
    return (3, None, None) if first else (None, None, 3)


def _check_destination(path, arguments):
    """Checks the name of the file before any download."""
    if path.suffix.lower() not in FORMATS:
        raise UsageError(f"--to {path}: the name must end in {ENDS}.")
    if arguments.no_preprocessing and arguments.input_dtype == "uint8":
        raise UsageError("--input-dtype uint8 is for files that normalise: omit one of the flags.")
    if arguments.int8 != (arguments.calibration is not None):
        raise UsageError("--int8 and --calibration belong together: give both, or none of them.")
    if arguments.int8 and arguments.float16:
        raise UsageError("--int8 begins from float32: omit --float16.")
    if arguments.calibration is not None and not Path(arguments.calibration).is_dir():
        raise FileNotFoundError(f"No folder {arguments.calibration!r} of images.")
    if path.suffix or not path.is_dir():  # the folder of a SavedModel may be replaced
        console.check_writable(path)
    placing.check(path)
    if path.exists() and not arguments.force:
        numbers = placing.companion(path)
        both = f", with {numbers.name}" if numbers is not None and numbers.exists() else ""
        raise FileExistsError(f"{path} exists already; --force replaces it{both}.")


def _model(arguments):
    """Returns the `Classifier`, or the model of another kind, that the flags ask for."""
    from keras_convnext.whole_models import load_model, shape_of, whole_file

    source, variant = arguments.model, arguments.variant
    if (path := whole_file(source, variant)) is not None:
        model = load_model(path)
        shape = shape_of(model, "output_shape")
        if isinstance(shape, tuple) and len(shape) == 2:
            return classifier_of(arguments)
    elif source.startswith("upernet_"):
        from keras_convnext.pretrained import registry
        from keras_convnext.segmentation import UperNet

        row = registry.find(source, variant, "segmentation")
        model = UperNet(row.variant, weights=row.name)
    else:
        weights = named_weights.weights_of(source, variant)
        is_clip = weights.row is not None and weights.row.label_set == "clip"
        if weights.classes and not is_clip:
            return classifier_of(arguments)
        model = weights.build(input_shape=(None, None, 3))
    _refuse_flags_of_classifiers(arguments)
    return model


def _refuse_flags_of_classifiers(arguments):
    given = {**flags.transform_of(arguments), "labels": arguments.labels}
    given["activation"] = arguments.activation
    for field, value in given.items():
        if value is not None:
            flag = field.replace("_", "-")
            raise UsageError(f"--{flag} is for classifiers, and {arguments.model} is not one.")
