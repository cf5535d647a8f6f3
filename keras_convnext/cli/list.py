"""`list`: the published classifiers or UperNets that meet some conditions."""

from keras_convnext.cli import classifier_rows, flags, upernet_rows
from keras_convnext.pretrained import registry

LABEL_SETS = f"{', '.join(registry.LABEL_SETS)}, ade20k for segmentation"
ORDERS = list(dict.fromkeys((*classifier_rows.ORDERS, *upernet_rows.ORDERS)))


def add_parser(commands):
    examples = (
        "--label-set imagenet1k --max-params 30M --min-top1 84 --sort top1",
        "--variant convnext_tiny",
        "--licence mit --json",
        "--task segmentation --sort mean_iou",
    )
    parser = flags.add_command(commands, "list", run, "list the published checkpoints", examples)
    parser.add_argument(
        "--task",
        choices=("classification", "segmentation"),
        default="classification",
        help="classifiers, or UperNets (default: %(default)s)",
    )
    flags.add_variant(parser, "only this architecture")
    parser.add_argument("--family", help="only this publication: v1, v2, timm, clip, dinov3, ...")
    parser.add_argument("--licence", help="only this licence, for example MIT or apache-2.0")
    parser.add_argument("--label-set", help=f"only these classes: {LABEL_SETS}")
    parser.add_argument("--size", type=flags.positive, help="only this size of images or crops")
    parser.add_argument("--max-params", type=flags.count, help="at most so many parameters, as 30M")
    parser.add_argument("--min-top1", type=float, help="at least this published top-1, in percent")
    parser.add_argument("--sort", choices=ORDERS, help="default: by variant")


def run(arguments):
    published = upernet_rows if arguments.task == "segmentation" else classifier_rows
    return published.run_list(arguments)
