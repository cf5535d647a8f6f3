"""What `segment` and `detect` share: photos in, pictures in a folder out."""

from pathlib import Path

from keras_convnext.cli import flags
from keras_convnext.cli.flags import UsageError


def add_arguments(parser, model, kind, output, *, model_flags=("--model",)):
    """Adds the images, the model and the folder of the pictures to a parser.

    Args:
        parser: of the command.
        model: name of the published model that is the default.
        kind: what it is called: "UperNet", "detector".
        output: the default folder.
        model_flags: the flags that name the model.
    """
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="files, folders, or - for stdin")
    add(
        *model_flags,
        default=model,
        help=f"a published {kind}'s name, hf://owner/repo, a file, or the folder of a training; a "
        ".keras file is loaded as a whole model, which must take images in [0, 255] (default: "
        "%(default)s)",
    )
    flags.add_variant(parser, "the architecture of the ConvNeXt, where the file does not tell it")
    add(
        "--output",
        default=output,
        metavar="DIR",
        help="folder that gets the pictures (default: %(default)s)",
    )


def folder_of(arguments):
    """Returns the folder of the pictures, which may not exist yet.

    Raises:
        UsageError: if it is a file.
    """
    folder = Path(arguments.output)
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"--output {folder}: is a file, needed is a folder for the pictures.")
    return folder


def stems_of(names):
    """Returns for each image the beginning of its files' names, all different."""
    stems = []
    for name in names:
        stem = "stdin" if name == "-" else Path(name).stem
        taken = sum(other == stem or other.startswith(f"{stem}~") for other in stems)
        stems.append(f"{stem}~{taken + 1}" if taken else stem)
    return stems
