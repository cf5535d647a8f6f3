"""The command `keras-convnext`: published checkpoints listed, run, converted and verified.

Exit codes: 0 all is well, 1 something failed, 2 the command was used wrongly, 130 interrupted.
Results go to stdout, notes and errors to stderr. Keras is imported only by what needs a model
or an UperNet.
"""

import argparse
import os
import re
import sys

from keras_convnext.commands import (
    UsageError,
    caching,
    console,
    conversion,
    explanation,
    listing,
    prediction,
    segmentation,
    upernets,
    verification,
)
from keras_convnext.pretrained import registry
from keras_convnext.version import __version__


def main(argv=None):
    """Runs the command line `argv` (default: that of the process) and returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        with console.warnings_as_notes():
            code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except BrokenPipeError:  # the reader has seen enough; nor may the last flush complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (UsageError, ValueError, OSError) as error:
        console.say(f"keras-convnext {arguments.command}: {error}")
        return 2 if isinstance(error, UsageError) else 1
    except KeyboardInterrupt:
        console.say("Interrupted.")
        return 130


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 1")
    return int(text)


def _number(text):
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 0")
    return int(text)


def _count(text):
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMbBgG]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a count such as 30M, 1.2B or 28000000")
    return int(float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9}[match[2].lower()])


def _variant(text):
    try:
        registry.tags(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


_LABEL_SETS = f"{', '.join(registry.LABEL_SETS)}, ade20k for segmentation"
_ORDERS = list(dict.fromkeys((*listing.ORDERS, *upernets.ORDERS)))


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-convnext",
        description="ConvNeXt for Keras: published checkpoints by name, listed, run, converted "
        "and verified.",
        epilog="`keras-convnext COMMAND --help` has examples of each. Exit codes: 0 all is well, "
        "1 something failed, 2 wrong usage.",
    )
    parser.add_argument("--version", action="version", version=f"keras_convnext {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    adders = (_add_list, _add_info, _add_predict, _add_explain, _add_segment, _add_convert)
    for add in (*adders, _add_verify, _add_cache):
        add(commands)
    return parser


def _command(commands, name, run, help, examples):
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


def _add_variant(parser, help="the architecture, where the name alone does not tell it"):
    parser.add_argument("--variant", type=_variant, metavar="VARIANT", help=help)


def _add_list(commands):
    examples = (
        "--label-set imagenet1k --max-params 30M --min-top1 84 --sort top1",
        "--variant convnext_tiny",
        "--licence mit --json",
        "--task segmentation --sort mean_iou",
    )
    parser = _command(commands, "list", _run_list, "list the published checkpoints", examples)
    parser.add_argument(
        "--task",
        choices=("classification", "segmentation"),
        default="classification",
        help="classifiers, or UperNets (default: %(default)s)",
    )
    _add_variant(parser, "only this architecture")
    parser.add_argument("--family", help="only this publication: v1, v2, timm, clip, dinov3, ...")
    parser.add_argument("--licence", help="only this licence, for example MIT or apache-2.0")
    parser.add_argument("--label-set", help=f"only these classes: {_LABEL_SETS}")
    parser.add_argument("--size", type=_positive, help="only this size of images or crops")
    parser.add_argument("--max-params", type=_count, help="at most so many parameters, as 30M")
    parser.add_argument("--min-top1", type=float, help="at least this published top-1, in percent")
    parser.add_argument("--sort", choices=_ORDERS, help="default: by variant")


def _run_list(arguments):
    command = upernets if arguments.task == "segmentation" else listing
    return command.run_list(arguments)


def _run_info(arguments):
    segments = arguments.name.startswith("upernet_") and not os.path.isfile(arguments.name)
    command = upernets if segments else listing
    return command.run_info(arguments)


def _add_info(commands):
    examples = (
        "convnext_tiny",
        "convnext_base.fb_in22k_ft_in1k_384",
        "fb_in1k --variant convnext_small",
        "upernet_convnext_tiny",
    )
    parser = _command(commands, "info", _run_info, "show all about one checkpoint", examples)
    parser.add_argument(
        "name",
        metavar="NAME",
        help="VARIANT.TAG, or VARIANT for its usual one; of an UperNet, upernet_ before that",
    )
    _add_variant(parser)


def _add_predict(commands):
    examples = (
        "cat.jpg",
        "-k 1 --output labels.csv photos/",
        "--model convnextv2_tiny.fcmae_ft_in22k_in1k_384 --json cat.jpg dog.jpg",
        "--model mine.safetensors --variant convnext_tiny --labels names.txt photos/",
        "--model mine.keras --labels names.txt - < cat.jpg",
    )
    parser = _command(commands, "predict", prediction.run, "classify images", examples)
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="files, folders, or - for stdin")
    _add_model(parser)
    add("-k", type=_positive, default=5, help="how many classes per image (default: %(default)s)")
    add("--labels", metavar="FILE", help="names of the classes, or imagenet1k for that list")
    add("--batch-size", type=_positive, default=32, help="default: %(default)s")
    add(
        "--output",
        metavar="FILE",
        help="write there: CSV if it ends in .csv, JSON in .json, else tabs between the columns",
    )
    _add_transform(parser)


def _add_explain(commands):
    examples = (
        "cat.jpg",
        "cat.jpg --class 282 --layer stage2_block8 --output tiger_cat.png",
        "--method eigen-cam --model convnextv2_tiny.fcmae_ft_in22k_in1k cat.jpg",
        "--model mine.keras --labels names.txt --json - < cat.jpg",
    )
    help = "show where in an image the model sees what it says"
    parser = _command(commands, "explain", explanation.run, help, examples)
    add = parser.add_argument
    add("image", metavar="IMAGE", help="a file, or - for stdin")
    _add_model(parser)
    add(
        "--method",
        choices=explanation.METHODS,
        default="grad-cam",
        help="the evidence for a class, what stands out whichever the class, or the pixels that "
        "matter to the middle of the layer (default: %(default)s)",
    )
    add("--layer", metavar="NAME", help="for example stage2_block8 (default: the last block)")
    add("--class", dest="target", type=_number, metavar="N", help="default: the most probable one")
    add("--labels", metavar="FILE", help="names of the classes, or imagenet1k for that list")
    add("--output", metavar="FILE", help="a .png (default: IMAGE_METHOD.png in this folder)")
    _add_transform(parser)


def _add_model(parser):
    parser.add_argument(
        "--model",
        default="convnext_tiny",
        help="a checkpoint's name, hf://owner/repo, or a file; a .keras file is loaded as a whole "
        "model, which works if all its layers are of Keras or of this package, and must take "
        "images in [0, 255] (default: %(default)s)",
    )
    _add_variant(parser)


def _add_transform(parser):
    group = parser.add_argument_group(
        "images",
        "A published checkpoint has its own evaluation transform, which these change. Files have "
        "the authors': bicubic, short side size / 0.875 and centre crop, squash from 384 on.",
    )
    group.add_argument("--size", type=_positive, help="in pixels (default for files: 224)")
    group.add_argument("--crop-pct", type=float, help="crop / short side, in (0, 1]")
    group.add_argument("--resize", choices=("shortest", "squash"))
    group.add_argument("--interpolation", choices=("bicubic", "bilinear"))


def _add_segment(commands):
    examples = (
        "street.jpg",
        "--output pictures --multi-scale photos/",
        "--model upernet_convnext_base.fb_in22k_ft_ade20k_640 street.jpg",
        "--model best.keras --labels names.txt --window 256 street.jpg",
    )
    help = "give every pixel a class: overlay, label map and legend"
    parser = _command(commands, "segment", segmentation.run, help, examples)
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="files, folders, or - for stdin")
    add(
        "--model",
        default=segmentation.DEFAULT,
        help="a published UperNet's name, hf://owner/repo, or a file; a .keras file is loaded as a "
        "whole model, which must take images in [0, 255] (default: %(default)s)",
    )
    _add_variant(parser, "the architecture of the ConvNeXt, where the file does not tell it")
    add("--output", default="segmented", metavar="DIR", help="default: %(default)s")
    add("--labels", metavar="FILE", help="names of the classes, or ade20k for that list")
    add("--mode", choices=("slide", "whole"), help="default: slide, or whole with --multi-scale")
    add("--window", type=_positive, help="side of the windows in pixels (default for files: 512)")
    add("--size", type=_positive, help="short side of the resized image (default for files: none)")
    add("--multi-scale", action="store_true", help="at six scales and mirrored: slow")
    add("--batch-size", type=_positive, default=4, help="windows at once (default: %(default)s)")


def _add_convert(commands):
    examples = (
        "convnext_tiny.fb_in1k tiny.keras",
        "convnextv2_atto.fcmae_ft_in1k atto.weights.h5",
        "mine.keras mine.safetensors --variant convnext_tiny --layout official",
        "hf://timm/convnext_nano.in12k_ft_in1k nano.keras --size 288",
    )
    parser = _command(
        commands, "convert", conversion.run, "write weights in another format", examples
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="a checkpoint's name, hf://owner/repo, or a file")
    add(
        "destination",
        metavar="DEST",
        help="a name that ends in " + ", ".join(conversion.DESTINATIONS),
    )
    _add_variant(parser)
    add("--layout", choices=("timm", "official"), help="of .safetensors (default: timm)")
    add(
        "--size", type=_positive, help="of the images of a .keras model (default: the checkpoint's)"
    )
    add("--force", action="store_true", help="replace DEST if it exists")


def _add_verify(commands):
    examples = (
        "convnext_tiny.fb_in1k",
        "convnext_tiny.fb_in1k --image 000000039769.jpg",
        "mine.safetensors --variant convnext_tiny",
    )
    help = "hash a checkpoint again, load it strictly, compare published logits"
    parser = _command(commands, "verify", verification.run, help, examples)
    parser.add_argument("name", metavar="NAME", help="a checkpoint's name, hf://..., or a file")
    _add_variant(parser)
    parser.add_argument(
        "--image", metavar="FILE", help=f"the photograph {registry.FIRST_LOGITS_IMAGE}"
    )


def _add_cache(commands):
    examples = ("", "show --json", "clear --yes")
    parser = _command(
        commands, "cache", caching.run, "show or clear the downloaded files", examples
    )
    parser.add_argument("action", nargs="?", choices=("show", "clear"), default="show")
    parser.add_argument("--yes", action="store_true", help="clear without asking")


if __name__ == "__main__":
    sys.exit(main())
