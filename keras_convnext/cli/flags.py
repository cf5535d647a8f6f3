"""Flags that several commands share, the types of their values, and the error of wrong usage."""

import argparse
import re

from keras_convnext.pretrained import registry


class UsageError(Exception):
    """The command line asks for something that cannot be meant."""


def add_command(commands, name, run, help, examples):
    lines = "\n".join(f"  keras-convnext {name} {example}" for example in examples)
    parser = commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.set_defaults(run=run)
    return parser


def add_variant(parser, help="the architecture, where the name alone does not tell it"):
    parser.add_argument("--variant", type=variant, metavar="VARIANT", help=help)


def add_model(parser):
    parser.add_argument(
        "--model",
        default="convnext_tiny",
        help="a checkpoint's name, hf://owner/repo, or a file; a .keras file is loaded as a whole "
        "model, which works if all its layers are of Keras or of this package, and must take "
        "images in [0, 255] (default: %(default)s)",
    )
    add_variant(parser)


def add_transform(parser):
    group = parser.add_argument_group(
        "images",
        "A published checkpoint has its own evaluation transform, which these change. Files have "
        "the authors': bicubic, short side size / 0.875 and centre crop, squash from 384 on.",
    )
    group.add_argument("--size", type=positive, help="in pixels (default for files: 224)")
    group.add_argument("--crop-pct", type=float, help="crop / short side, in (0, 1]")
    group.add_argument("--resize", choices=("shortest", "squash"))
    group.add_argument("--interpolation", choices=("bicubic", "bilinear"))


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
