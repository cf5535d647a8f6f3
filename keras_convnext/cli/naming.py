"""What a name on the command line stands for: a published checkpoint, a hub address or a file."""

import dataclasses
import functools
import os
from pathlib import Path

from keras_convnext.cli.flags import UsageError
from keras_convnext.pretrained import checkpoint as loading
from keras_convnext.pretrained import registry, resolve
from keras_convnext.variants import VARIANTS


@dataclasses.dataclass(frozen=True)
class Weights:
    """What was named on the command line.

    Attributes:
        name: for messages.
        variant: the architecture.
        path: the local, verified file.
        row: of the registry, or `None` for any other file.
    """

    name: str
    variant: object
    path: Path
    row: object = None

    @functools.cached_property
    def classes(self):
        """Width of the classifier in the file, 0 without one."""
        return loading.open_checkpoint(self.path, self.variant).classes or 0

    def build(self, **arguments):
        """-> the model, filled; without a classifier where the file has none."""
        import keras

        from keras_convnext.models import ConvNeXt

        keras.config.set_image_data_format("channels_last")
        return ConvNeXt(self.variant, include_top=self.classes > 0, weights=self.path, **arguments)


def weights_of(name, variant):
    """-> the `Weights` of a registry name, a path or a hub address; downloads if need be."""
    row = row_of(name, variant)
    if row is not None:
        path = resolve.fetch(row, include_top=row.classes > 0)
        return Weights(row.name, row.architecture(), path, row)
    path = name
    if name.startswith("hf://"):  # the architecture does not matter until the file is here
        path = resolve.open_checkpoint(name, VARIANTS["convnext_tiny"]).path
    return Weights(name, VARIANTS[variant or _identified(name, path)], Path(path))


def row_of(name, variant):
    """-> the registry's row of that name, `None` for a path or a hub address."""
    if name.startswith("hf://") or os.path.isfile(name):
        return None
    if variant is None and name in VARIANTS:
        name, variant = "imagenet", name
    try:
        return registry.find(name, variant)
    except ValueError:
        if os.sep in name or Path(name).suffix in resolve.SUFFIXES:
            raise FileNotFoundError(f"No file {name!r}, and no checkpoint of that name.") from None
        raise


def _identified(name, path):
    found = loading.identify(path)
    if len(found) != 1:
        which = f"may be of {' or '.join(found)}" if found else "is of no known variant"
        raise UsageError(f"{name}, by its tensors, {which}: say which with --variant.")
    return found[0]
