"""`info`: all that is known about one published checkpoint."""

import os

from keras_convnext.cli import classifier_rows, flags, upernet_rows


def add_parser(commands):
    examples = (
        "convnext_tiny",
        "convnext_base.fb_in22k_ft_in1k_384",
        "fb_in1k --variant convnext_small",
        "upernet_convnext_tiny",
    )
    parser = flags.add_command(commands, "info", run, "show all about one checkpoint", examples)
    parser.add_argument(
        "name",
        metavar="NAME",
        help="VARIANT.TAG, or VARIANT for its usual one; of an UperNet, upernet_ before that",
    )
    flags.add_variant(parser)


def run(arguments):
    is_upernet = arguments.name.startswith("upernet_") and not os.path.isfile(arguments.name)
    published = upernet_rows if is_upernet else classifier_rows
    return published.run_info(arguments)
