"""`convert`: weights in another format."""

from pathlib import Path

from keras_convnext import named_weights
from keras_convnext.cli import console, flags
from keras_convnext.cli.flags import UsageError
from keras_convnext.pretrained import download
from keras_convnext.pretrained.heads import with_article

DESTINATIONS = (".keras", ".weights.h5", ".safetensors")
LAYOUTS = ("timm", "official", "transformers", "mmsegmentation", "mmdetection")


def add_parser(commands):
    examples = (
        "convnext_tiny.fb_in1k tiny.keras",
        "convnextv2_atto.fcmae_ft_in1k atto.weights.h5",
        "mine.keras mine.safetensors --variant convnext_tiny --layout official",
        "hf://timm/convnext_nano.in12k_ft_in1k nano.keras --size 288",
        "cascade_mask_rcnn_convnext_tiny detector.safetensors --layout mmdetection",
    )
    parser = flags.add_command(
        commands, "convert", run, "write weights in another format", examples
    )
    add = parser.add_argument
    add("source", metavar="SOURCE", help="a checkpoint's name, hf://owner/repo, or a file")
    add(
        "destination",
        metavar="DEST",
        help="a name that ends in " + ", ".join(DESTINATIONS),
    )
    flags.add_variant(parser)
    add(
        "--layout",
        choices=LAYOUTS,
        help="of .safetensors (default: timm; official of UperNets and detectors)",
    )
    add(
        "--size",
        type=flags.positive,
        help="of the images of a .keras model (default: the checkpoint's)",
    )
    add("--force", action="store_true", help="replace DEST if it exists")


def run(arguments):
    destination = Path(arguments.destination)
    _check_destination(destination, arguments)
    from keras_convnext.macs import trained_parameters
    from keras_convnext.pretrained.saving import save_keras, save_weights

    weights = named_weights.weights_of(arguments.source, arguments.variant, any_head=True)
    layout = _layout(destination, arguments.layout, weights.head)
    size = arguments.size or (weights.row.size if weights.row and not weights.head else None)
    with_size = {"input_shape": (size, size, 3)} if size and weights.classes else {}
    model = weights.build(**with_size)
    if layout:
        save_weights(model, weights.variant, destination, layout)
    else:
        save_keras(model, destination)
    console.report(
        arguments.json,
        {
            "source": weights.name,
            "destination": str(destination),
            "variant": weights.variant.name,
            "layout": layout or "keras_convnext",
            "classes": weights.classes,
            "parameters": trained_parameters(model),
            "bytes": destination.stat().st_size,
            "sha256": download.sha256_of(destination),
        },
    )
    return 0


def _check_destination(path, arguments):
    """Checks what can be checked before a download."""
    if not path.name.endswith(DESTINATIONS):
        raise UsageError(f"{path}: the name must end in one of {', '.join(DESTINATIONS)}.")
    is_torch = path.suffix == ".safetensors"
    if arguments.layout and not is_torch:
        raise UsageError(f"--layout is for .safetensors files, {path} has Keras' own layout.")
    if arguments.size and path.suffix != ".keras":
        raise UsageError(f"--size is for .keras files: {path} holds weights, which have no size.")
    console.check_writable(path)
    if path.exists() and not arguments.force:
        raise FileExistsError(f"{path} exists already; --force replaces it.")


def _layout(path, layout, head):
    """Returns the layout to write, `None` for Keras' own formats."""
    from keras_convnext.pretrained.saving import WRITABLE_OF

    if path.suffix != ".safetensors":
        return None
    if layout not in (None, *WRITABLE_OF[head]):
        allowed = " or ".join(WRITABLE_OF[head])
        raise UsageError(f"--layout of {with_article(head)} is {allowed}, not {layout}.")
    return layout or WRITABLE_OF[head][0]
