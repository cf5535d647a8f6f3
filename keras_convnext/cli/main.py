"""The command `keras-convnext`: published checkpoints listed, run, converted and verified.

Exit codes: 0 all is well, 1 something failed, 2 the command was used wrongly, 130 interrupted.
Results go to stdout, notes and errors to stderr. Keras is imported only by what needs a model
or an UperNet.
"""

import os
import sys

from keras_convnext.backend_choice import BackendError
from keras_convnext.cli import (
    cache,
    check,
    console,
    convert,
    detect,
    evaluate,
    explain,
    export,
    info,
    list,
    predict,
    run,
    segment,
    train,
    trainer,
    verify,
)
from keras_convnext.cli.flags import Parser, UsageError
from keras_convnext.export import MissingPackageError
from keras_convnext.named_weights import ArgumentsError
from keras_convnext.version import __version__

COMMANDS = (
    *(list, info, predict, explain, segment, detect, train, evaluate, check),
    *(convert, export, run, verify, cache),
)
# The library's messages say what to call; a command line has flags and commands.
ADVICE = {
    ", or `keras_convnext.pretrained.rows()`": "",
    "`keras_convnext.pretrained.search(label_set='imagenet1k')`": (
        "`keras-convnext list --label-set imagenet1k`"
    ),
    "`segmentation.Segmenter`": "`keras-convnext segment`",
    "`detection.Detector`": "`keras-convnext detect`",
    "is for `Classifier`": "is for `keras-convnext predict`",
    "`keras_convnext.ConvNeXt` reads it": "`keras-convnext predict` takes it",
    "`keras_convnext.segmentation.UperNet` reads it": "`keras-convnext segment` takes it",
    "`keras_convnext.detection.MaskRCNN` reads it": "`keras-convnext detect` takes it",
    "`keras_convnext.detection.CascadeMaskRCNN` reads it": "`keras-convnext detect` takes it",
    "A ConvNeXt's own weights are `backbone_weights`.": "`keras-convnext predict` is for them.",
    "`crop_pct`": "`--crop-pct`",
    "`variant=`": "`--variant`",
    "`activation=`": "`--activation`",
    "`labels=`": "`--labels`",
    "`preprocessing=False`": "`--no-preprocessing`",
    "`softmax`": "`--no-softmax`",
    "`quantize`, `calibration` and `dtype`": "`--int8`, `--calibration` and `--float16`",
    "`quantize`": "`--int8`",
    "`dtype`": "`--float16`",
    "`input_dtype`": "`--input-dtype`",
    "`preprocessing`": "`--no-preprocessing`",
    "`check=False`": "`--check off`",
    "`replace=True`": "`--force`",
    "with its folder as `runtime`": "with `--runtime` and its folder",
}


def main(argv=None):
    """Runs a command line, by default the process' own, and returns the exit code."""
    arguments = _parsed(sys.argv[1:] if argv is None else [*argv])
    try:
        with console.warnings_as_notes(_for_the_command_line):
            code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has seen enough; nor may the last flush complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (UsageError, ValueError, OSError, BackendError, MissingPackageError) as error:
        console.say(f"keras-convnext {arguments.command}: {_for_the_command_line(error)}")
        return 2 if isinstance(error, (UsageError, ArgumentsError)) else 1
    except KeyboardInterrupt:
        console.say("Interrupted. No file was left half written.")
        return 130


def _parsed(argv):
    """Returns the arguments of a command; those of the trainer's commands are left to it."""
    own = 1 if argv and argv[0] in trainer.COMMANDS else len(argv)
    arguments = _parser().parse_args(argv[:own])
    arguments.rest = argv[own:]
    return arguments


def _for_the_command_line(message):
    """Returns the text of an error or a warning, with flags in place of arguments."""
    text = str(message)
    for call, command in ADVICE.items():
        text = text.replace(call, command)
    return text


def _parser():
    parser = Parser(
        prog="keras-convnext",
        description="ConvNeXt for Keras: published checkpoints by name, listed, run, converted "
        "and verified, and models trained on photos of your own.",
        epilog="`keras-convnext COMMAND --help` has examples of each. Exit codes: 0 all is well, "
        "1 something failed, 2 wrong usage.",
    )
    parser.add_argument("--version", action="version", version=f"keras_convnext {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser
