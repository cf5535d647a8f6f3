"""Converts many rows of the registry, for example to host a mirror in one format.

    python -m weights.convert convnext_tiny.fb_in1k convnext_base.fb_in1k --to mirror
    python -m weights.convert --family v1 --to mirror --suffix .safetensors --layout official

writes `<variant>.<tag><suffix>` per row. Files that are there already are left, so an interrupted
run continues when it is repeated; a row that fails is named and the others are converted. A single
file is for `keras-convnext convert`. Mind the licences: some forbid redistribution, or bind it to
conditions.
"""

import argparse
import sys
from pathlib import Path

import keras

from keras_convnext.named_weights import NamedWeights
from keras_convnext.pretrained import find, registry, resolve, search
from keras_convnext.pretrained.saving import WRITABLE_OF, save_keras, save_weights

SUFFIXES = (".weights.h5", ".safetensors")
LAYOUTS = tuple(dict.fromkeys(name for names in WRITABLE_OF.values() for name in names))


def convert(row, folder, suffix=".weights.h5", layout=None):
    """Writes the weights of a row into `folder`, if they are not there; returns the path.

    Args:
        row: of the registry; its weights are downloaded and verified if need be.
        folder: an existing folder.
        suffix: `".weights.h5"` (Keras' own) or `".safetensors"` (in the names of `layout`).
        layout: as of `keras_convnext.pretrained.saving.save_weights`.
    """
    path = Path(folder) / f"{row.name}{suffix}"
    if path.exists():
        return path
    source = resolve.fetch(row, include_top=bool(row.classes))
    weights = NamedWeights(row.name, row.architecture(), source, row, row.head)
    pooling = {} if row.classes else {"pooling": "avg"}
    model = weights.build(input_shape=(None, None, 3), **pooling)
    if suffix == ".safetensors":
        save_weights(model, row.architecture(), path, layout)
    else:
        save_keras(model, path)
    return path


def main(argv=None):
    """Returns the exit status: 0; 1 if a row could not be converted; 2 for a wrong command line."""
    parser = argparse.ArgumentParser(
        prog="python -m weights.convert",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="rows")
    parser.add_argument("--family", help="all rows of a family, in place of names")
    parser.add_argument("--to", required=True, metavar="FOLDER", help="is made if need be")
    parser.add_argument("--suffix", choices=SUFFIXES, default=SUFFIXES[0])
    parser.add_argument(
        "--layout", choices=LAYOUTS, help="of .safetensors; default timm, or official"
    )
    arguments = parser.parse_args(argv)
    try:
        if bool(arguments.names) == bool(arguments.family):
            raise ValueError("Give the names of rows, or --family.")
        if arguments.layout and arguments.suffix != ".safetensors":
            raise ValueError("--layout is for --suffix .safetensors.")
        rows = [_row(name) for name in arguments.names] or search(family=arguments.family)
    except ValueError as error:
        parser.error(str(error))
    Path(arguments.to).mkdir(parents=True, exist_ok=True)
    failed = [row.name for row in rows if not _converted(row, arguments)]
    return 1 if failed else 0


def _row(name):
    return find(name, task=registry.task_of(name) or "classification")


def _converted(row, arguments):
    try:
        path = convert(row, arguments.to, arguments.suffix, arguments.layout)
    except (OSError, ValueError) as error:  # no file, or a layout that cannot express it
        print(f"{row.name}: {error}", file=sys.stderr)
        return False
    finally:
        keras.backend.clear_session(free_memory=True)
    print(path)
    return True


if __name__ == "__main__":
    sys.exit(main())
