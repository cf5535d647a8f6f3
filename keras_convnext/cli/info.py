"""`info`: all that is known about one published checkpoint."""

import os

from keras_convnext.cli import (
    classifier_rows,
    console,
    detector_rows,
    flags,
    rows,
    upernet_rows,
)

ROWS_OF = {
    "upernet_": upernet_rows,
    "mask_rcnn_": detector_rows,
    "cascade_mask_rcnn_": detector_rows,
}


def add_parser(commands):
    examples = (
        "convnext_tiny",
        "convnext_base.fb_in22k_ft_in1k_384",
        "fb_in1k --variant convnext_small",
        "upernet_convnext_tiny",
        "cascade_mask_rcnn_convnext_base",
    )
    parser = flags.add_command(commands, "info", run, "show all about one checkpoint", examples)
    parser.add_argument(
        "name",
        metavar="NAME",
        help="VARIANT.TAG, or VARIANT for its usual one; before that upernet_ of an UperNet, "
        "mask_rcnn_ or cascade_mask_rcnn_ of a detector",
    )
    flags.add_variant(parser)


def run(arguments):
    found = (theirs for begin, theirs in ROWS_OF.items() if arguments.name.startswith(begin))
    published = None if os.path.isfile(arguments.name) else next(found, None)
    theirs = published or classifier_rows
    row = theirs.find(arguments.name, arguments.variant)
    cached = rows.verified_file(row)
    if arguments.json:
        console.print_json({**theirs.as_dict(row), **theirs.details(row), "cached": cached})
    else:
        console.print_table(("field", "value"), theirs.facts(row, cached))
    return 0
