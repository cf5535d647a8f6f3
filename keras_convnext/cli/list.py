"""`list`: the published classifiers, UperNets or detectors that meet some conditions."""

from keras_convnext.cli import classifier_rows, console, detector_rows, flags, upernet_rows
from keras_convnext.cli.flags import UsageError
from keras_convnext.pretrained import registry

LABEL_SETS = f"{', '.join(registry.LABEL_SETS)}, ade20k for segmentation, coco for detection"
ROWS_OF = {
    "classification": classifier_rows,
    "segmentation": upernet_rows,
    "detection": detector_rows,
}
CONDITIONS = ("variant", "family", "licence", "label_set", "size", "max_params", "min_top1")
ORDERS = list(dict.fromkeys(order for rows in ROWS_OF.values() for order in rows.ORDERS))


def add_parser(commands):
    examples = (
        "--label-set imagenet1k --max-params 30M --min-top1 84 --sort top1",
        "--variant convnext_tiny",
        "--licence mit --json",
        "--task segmentation --sort mean_iou",
        "--task detection --sort box_ap",
    )
    parser = flags.add_command(commands, "list", run, "list the published checkpoints", examples)
    parser.add_argument(
        "--task",
        choices=ROWS_OF,
        default="classification",
        help="classifiers, UperNets, or detectors (default: %(default)s)",
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
    theirs = ROWS_OF[arguments.task]
    for field in theirs.NOT_THEIRS:
        if getattr(arguments, field) is not None:
            flag = field.replace("_", "-")
            raise UsageError(f"--{flag} is for classifiers only: leave it out.")
    _check_sort(arguments.sort, theirs)
    conditions = {field: getattr(arguments, field) for field in CONDITIONS}
    found = registry.search(task=arguments.task, **conditions)
    if arguments.sort:
        found = sorted(found, key=theirs.ORDERS[arguments.sort])
    if arguments.json:
        console.print_json([theirs.as_dict(row) for row in found])
        return 0
    console.print_table(theirs.COLUMNS, [theirs.cells(row) for row in found])
    if not found:
        console.say(f"No {theirs.KIND} meets all of these conditions.")
    return 0


def _check_sort(order, theirs):
    if order not in (None, *theirs.ORDERS):
        allowed = " or ".join(theirs.ORDERS)
        raise UsageError(
            f"--sort {order} is for another --task; {theirs.KINDS} are sorted by {allowed}."
        )
