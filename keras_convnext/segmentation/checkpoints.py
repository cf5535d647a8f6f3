"""The published UperNet checkpoints, one row each, and how a name becomes an opened file.

`checkpoints.json` is the source; edit it by hand. A tag says who trained it, what the ConvNeXt had
learned before, on what the whole was trained, and the side of the crops:
`fb_in22k_ft_ade20k_640`. `fb` are the authors of ConvNeXt, `mm` is OpenMMLab.
"""

import dataclasses
import functools
import importlib.resources
import json
import os

from keras_convnext.pretrained import WeightsError, resolve
from keras_convnext.pretrained import checkpoint as loading
from keras_convnext.pretrained.layouts import UPERNET_LAYOUTS
from keras_convnext.pretrained.registry import Licence, Source
from keras_convnext.variants import VARIANTS

LABEL_SETS = {"ade20k": "ade20k.txt"}


@dataclasses.dataclass(frozen=True)
class Row:
    """One published checkpoint, and all that is needed to use it.

    Attributes:
        variant: of the ConvNeXt, a key of `VARIANTS`.
        tag: see above; unique within the variant.
        id: the publisher's own name of it.
        classes: number of classes.
        label_set: a key of `LABEL_SETS`.
        params: number of trained weights, without the statistics of batch normalization.
        crop: side of the training crops, and of the windows of the evaluation, in pixels.
        mean_iou: published mean IoU on the validation set, in percent, one scale.
        mean_iou_multi_scale: the same with six scales and mirror images.
        reference: who published these figures, and where.
        licence: a `Licence`.
        sources: `Source`s of the file, the preferred one first.
    """

    variant: str
    tag: str
    id: str
    classes: int
    label_set: str
    params: int
    crop: int
    mean_iou: float
    mean_iou_multi_scale: float
    reference: str
    licence: Licence
    sources: tuple

    @property
    def name(self):
        """`"upernet_variant.tag"`."""
        return f"upernet_{self.variant}.{self.tag}"


@functools.cache
def rows():
    """-> all rows, a tuple. Read once, at the first call."""
    data = json.loads(_text("checkpoints.json"))
    return tuple(
        Row(
            **{
                **raw,
                "licence": Licence(**data["licences"][raw["licence"]]),
                "sources": tuple(Source(**source) for source in raw["sources"]),
            }
        )
        for raw in data["rows"]
    )


def _text(name):
    return (importlib.resources.files(__package__) / name).read_text(encoding="utf-8")


@functools.cache
def class_names(label_set):
    """-> tuple of the names of the classes of a label set, in the order of the outputs.

    Raises:
        ValueError: if the label set is unknown.
    """
    if label_set not in LABEL_SETS:
        raise ValueError(f"`label_set` must be one of {list(LABEL_SETS)}, received {label_set!r}.")
    return tuple(_text(LABEL_SETS[label_set]).splitlines())


def find(name, variant=None):
    """The row of that name.

    Args:
        name: `"upernet_variant.tag"`, the publisher's own name, or, together with `variant`, a tag
            or `"ade20k"`, which stands for the authors' weights with the highest mean IoU.
            `"upernet_variant"` alone stands for the same.
        variant: key of `VARIANTS` that the row must belong to; `None` for any.

    Raises:
        ValueError: if there is no such row.
    """
    found = [row for row in rows() if variant in (None, row.variant) and name in _names(row)]
    if variant and name == "ade20k":
        found = [row for row in rows() if row.variant == variant]
    if len({row.variant for row in found}) != 1:
        known = [row.name for row in rows() if variant in (None, row.variant)]
        published = ", ".join(known) or f"none with {variant}; use `weights=None`"
        raise ValueError(f"Unknown UperNet weights {name!r}. Published are: {published}.")
    official = [row for row in found if row.tag.startswith("fb_")] or found
    return max(official, key=lambda row: row.mean_iou)


def _names(row):
    return row.name, row.id, row.tag, f"upernet_{row.variant}"


def open_checkpoint(weights, variant):
    """-> the opened file that `weights` stands for, to be loaded into an UperNet of `variant`.

    Args:
        weights: as of `UperNet`.
        variant: a `Variant`.

    Raises:
        ValueError: if a name is unknown.
        FileNotFoundError: if there is no such file.
        DownloadError: if no source gave the file.
        WeightsError: if the file cannot be read.
    """
    return loading.open_checkpoint(local_file(weights, variant.name), variant, UPERNET_LAYOUTS)


def identify(path):
    """-> name of the variant of the UperNet in a file: the first whose blocks it has.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsError: (a ValueError) if it is no UperNet in a known layout, or of no known variant.
    """
    checkpoint = loading.open_checkpoint(path, VARIANTS["convnext_tiny"], UPERNET_LAYOUTS)
    similar = checkpoint.similar()
    if not similar:
        raise WeightsError(f"{path}: its blocks are those of none of {', '.join(VARIANTS)}.")
    return similar[0].variant.name


def local_file(weights, variant=None):
    """-> the path that `weights` stands for; downloads what is named. Arguments as of `find`."""
    if isinstance(weights, str) and weights.startswith("hf://"):
        return resolve.hub_file(weights)
    if isinstance(weights, os.PathLike) or resolve.is_path(weights):
        return weights
    return resolve.fetch(find(weights, variant))
