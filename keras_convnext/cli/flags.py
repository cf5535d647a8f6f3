"""Flags that several commands share, the types of their values, and the error of wrong usage."""

import argparse
import difflib
import re

from keras_convnext.pretrained import registry


class UsageError(Exception):
    """The command line asks for something that cannot be meant."""


class Parser(argparse.ArgumentParser):
    """A parser whose errors are the error itself, in one line, and where help is."""

    def parse_args(self, args=None, namespace=None):
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            found.parser.refuse(unknown)
        return found

    def refuse(self, unknown):
        """Ends the process with an error about arguments that are not known."""
        flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
        near = difflib.get_close_matches(unknown[0].partition("=")[0], flags, n=1)
        advice = f"; did you mean {near[0]}?" if near else ""
        self.error(f"unknown argument {unknown[0]}{advice}")

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n`{self.prog} --help` shows what is allowed.\n")


def add_command(commands, name, run, help, examples, with_json=True):
    """Adds the parser of a command and returns it.

    Args:
        commands: of `add_subparsers`.
        name: of the command.
        run: function from the parsed arguments to the exit code.
        help: what the command does, a phrase.
        examples: what may follow the command, a list of str.
        with_json: whether it has the flag `--json` that all others have.
    """
    lines = "\n".join(f"  keras-convnext {name} {example}" for example in examples)
    parser = commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    if with_json:
        parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.set_defaults(run=run, parser=parser)
    return parser


def add_variant(parser, help="the architecture, where the name alone does not tell it"):
    parser.add_argument("--variant", type=variant, metavar="VARIANT", help=help)


def add_model(parser):
    parser.add_argument(
        "--model",
        default="convnext_tiny",
        help="a checkpoint's name, hf://owner/repo, a file, or the folder of a training; a .keras "
        "file is loaded as a whole model, which works if all its layers are of Keras or of this "
        "package, and must take images in [0, 255] (default: %(default)s)",
    )
    add_variant(parser)
    add_activation(parser)


def add_activation(parser):
    parser.add_argument(
        "--activation",
        choices=("none", "softmax", "sigmoid"),
        help="what turns the model's outputs into probabilities: none, softmax for classes that "
        "exclude each other, sigmoid for independent ones (default: it is recognised)",
    )


def add_labels(parser, known="imagenet1k"):
    parser.add_argument(
        "--labels",
        metavar="FILE",
        help=f"names of the classes: one per line, or JSON; or {known} for that list (default: "
        "those that belong to the model, else numbers)",
    )


def add_transform(parser):
    group = parser.add_argument_group(
        "images",
        "A published checkpoint has its own evaluation transform, which these change. Files have "
        "the authors': bicubic, short side size / 0.875 and centre crop, squash from 384 on.",
    )
    add = group.add_argument
    add("--size", type=positive, help="side of the model's images in pixels (default: the model's)")
    add("--crop-pct", type=float, help="side of the crop / short side of the image, in (0, 1]")
    add(
        "--resize",
        choices=("shortest", "squash"),
        help="resize the short side and crop the centre, or squash the whole image to a square",
    )
    add("--interpolation", choices=("bicubic", "bilinear"), help="how pixels are interpolated")
    add_upright(group)


def add_upright(parser):
    parser.add_argument(
        "--upright",
        action=argparse.BooleanOptionalAction,
        help="whether photos are turned as their EXIF says; evaluations of published weights take "
        "them as they are stored (default: they are turned)",
    )


def transform_of(arguments):
    """Returns the flags of `add_transform` that were given, as `Classifier` takes them."""
    fields = ("size", "crop_pct", "resize", "interpolation", "upright")
    given = {field: getattr(arguments, field) for field in fields}
    return {field: value for field, value in given.items() if value is not None}


def positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 1")
    return int(text)


def number(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 0")
    return int(text)


def count(text):
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMbBgG]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a count such as 30M, 1.2B or 28000000")
    return int(float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9}[match[2].lower()])


def variant(text):
    try:
        registry.tags(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text
