"""Weights given by a name: a published checkpoint, a hub address or a file."""

import dataclasses
import functools
import importlib
import itertools
import os
import zipfile
from pathlib import Path

from keras_convnext import untrusted
from keras_convnext.pretrained import checkpoint, contents, registry, resolve
from keras_convnext.pretrained.heads import READERS, with_article
from keras_convnext.variants import VARIANTS, Variant

CONFIG = "config.json"  # of a `.keras` file


class ArgumentsError(ValueError):
    """Arguments that contradict each other or the model, or of which one is missing."""


@dataclasses.dataclass(frozen=True)
class NamedWeights:
    """A local file of weights, and the architecture that it is of.

    Attributes:
        name: for messages.
        variant: the `Variant`.
        path: of the local, verified file.
        row: of the registry, or `None` for any other file.
        head: what is on the ConvNeXt, a key of `pretrained.heads.NAMES`.
    """

    name: str
    variant: object
    path: Path
    row: object = None
    head: str | None = None

    @functools.cached_property
    def checkpoint(self):
        """The opened file, read as the variant."""
        layouts = contents.LAYOUTS_OF[self.head]
        return checkpoint.open(self.path, layouts).read_as(self.variant)

    @property
    def classes(self):
        """Number of classes of the file, 0 without a classifier."""
        return self.checkpoint.classes or 0

    def build(self, **arguments):
        """Returns the filled model, channels last; without a classifier where the file has none.

        Args:
            **arguments: of the function that builds it: `ConvNeXt`, or that of the head.
        """
        import keras

        arguments |= {"weights": self.path, **self.arguments()}
        module, _, name = READERS[self.head].rpartition(".")
        builder = getattr(importlib.import_module(module), name)
        chosen = keras.config.image_data_format()
        keras.config.set_image_data_format("channels_last")
        try:
            model = builder(self.variant, **arguments)
        finally:
            keras.config.set_image_data_format(chosen)
        model.published = self.row.name if self.row else None
        return model

    def arguments(self):
        """Returns the arguments of `build` that are as the file has its layers."""
        outputs = self.checkpoint.outputs
        if self.head is None:
            return {"include_top": self.classes > 0}
        if self.head == "upernet":
            channels = outputs("decode_head/bottleneck/conv/kernel")
            auxiliary = outputs("auxiliary_head/conv0/conv/kernel")
            return {"channels": channels, "auxiliary_channels": auxiliary}
        from keras_convnext.detection.checkpoints import settings_of

        masks = outputs("mask_head0/classifier/kernel") is not None
        return {"masks": masks, "settings": settings_of(self.checkpoint)}


def weights_of(name, variant=None, any_head=False):
    """Returns the `NamedWeights` of a name; downloads what is not here.

    Args:
        name: of a row of the registry, `"hf://owner/repo[@revision][/file]"`, or a file's path.
        variant: name of the architecture; `None`: the name or the file tells it.
        any_head: whether UperNets and detectors are wanted as well as ConvNeXts alone.

    Raises:
        ValueError: if no weights have that name.
        ArgumentsError: (a ValueError) if the file is of no known variant, may be of several, or
            holds more than was wanted.
        FileNotFoundError: if there is no such file.
        DownloadError: (an OSError) if no source gave the file.
        WeightsError: (a ValueError) if the file cannot be read.
    """
    row = row_of(name, variant, any_head)
    if row is not None:
        is_address = name.startswith("hf://")
        path = resolve.hub_file(name) if is_address else resolve.fetch(row, row.classes > 0)
        known = name if is_address else row.name
        return NamedWeights(known, row.architecture(), path, row, row.head)
    if not name.startswith("hf://") and not os.path.isfile(name):
        raise FileNotFoundError(f"No file {name!r}, and no checkpoint of that name.")
    path = resolve.resolve(name).path
    head = contents.head_of(path)
    if head is not None and not any_head:
        raise ArgumentsError(
            f"{name} holds {with_article(head)}, no classifier: `{READERS[head]}` reads it."
        )
    own = None if variant else _own_variant(path)
    own = own or VARIANTS[variant or _identified(name, path, head)]
    return NamedWeights(name, own, Path(path), head=head)


def _own_variant(path):
    """Returns the `Variant` that a `.keras` file says it is of; `None` where it does not say."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.getinfo(CONFIG).file_size > untrusted.LARGEST:
                return None
            content = untrusted.json_of(archive.read(CONFIG))
            return Variant(**content["config"]["variant"])
    except (OSError, zipfile.BadZipFile, ValueError, KeyError, TypeError):
        return None  # another format, or another model: its tensors are asked


def row_of(name, variant=None, any_head=False):
    """Returns the registry's row that a name stands for, `None` for any other file.

    The address of a published file on the hub stands for its row, too. Arguments and errors are
    those of `weights_of`.
    """
    address = resolve.HUB.fullmatch(name)
    if address is None:
        task = registry.task_of(name, variant) if any_head else None
        return resolve.row_of(name, variant, task or "classification")
    place = address["repo"], address["file"] or "model.safetensors"
    tasks = registry.USUAL if any_head else ("classification",)
    found = [
        row
        for row in itertools.chain.from_iterable(map(registry.rows, tasks))
        if variant in (None, row.variant) and place in [(s.repo, s.file) for s in row.sources]
    ]
    return found[0] if len(found) == 1 else None


def _identified(name, path, head):
    opened = checkpoint.open(path, contents.LAYOUTS_OF[head])
    found = opened.identify()
    if head is not None:  # what tells the others apart is in the classifier that it lacks
        found = [reading.variant.name for reading in opened.similar()][:1]
    if len(found) != 1:
        which = f"may be of {' or '.join(found)}" if found else "is of no known variant"
        raise ArgumentsError(
            f"{name}, by its tensors, {which}: say which with `variant=`, the name of an "
            "architecture."
        )
    return found[0]
