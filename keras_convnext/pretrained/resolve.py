"""Resolves `weights=` to a verified local file.

The same road for classifiers and for dense predictors: a path is taken as it is, an `hf://` address
and the name of a row of the registry become a file that is downloaded once and verified.
"""

import dataclasses
import functools
import os
import re
from pathlib import Path

from keras_convnext.pretrained import checkpoint, download, files, registry
from keras_convnext.pretrained.contents import LAYOUTS_OF
from keras_convnext.pretrained.files.tensors import WeightsError
from keras_convnext.pretrained.layouts import DETECTION_LAYOUTS, LAYOUTS, UPERNET_LAYOUTS
from keras_convnext.variants import VARIANTS

HUB = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?(/(?P<file>.+))?")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".h5", ".keras")
TASK_LAYOUTS = {
    "classification": LAYOUTS,
    "segmentation": UPERNET_LAYOUTS,
    "detection": DETECTION_LAYOUTS,
}
# A file may hold each weight in 4 bytes, its moving average and the state of an optimizer; the
# files of a CLIP model hold its text tower, which is smaller than that. The rest is for names.
BYTES_PER_WEIGHT, REST = 16, 1 << 26


@dataclasses.dataclass(frozen=True)
class Resolved:
    """What `weights=` stands for.

    Attributes:
        path: of the local file, verified if it was downloaded.
        row: of the registry, or `None` for a path and a hub address.
    """

    path: Path
    row: registry.Row | None = None


def resolve(weights, variant=None, *, task="classification", include_top=True, head=None):
    """Returns the `Resolved` of what `weights=` says; downloads what is not here.

    Args:
        weights: a path (str or `os.PathLike`); `"hf://owner/repo[@revision][/file]"` (the file is
            `model.safetensors` by default); or the name of a row of the registry, as of
            `registry.find`.
        variant: name of the variant that a row must belong to; `None` for any.
        task, head: of a row, as of `registry.find`.
        include_top: whether the classifier will be wanted; some files are published without.

    Raises:
        ValueError: if a name is unknown; the message has the nearest ones.
        FileNotFoundError: if there is no such file, or it is a folder.
        DownloadError: if no source gave the file.
    """
    row = row_of(weights, variant, task, head)
    if row is not None:
        return Resolved(fetch(row, include_top), row)
    if isinstance(weights, str) and weights.startswith("hf://"):
        return Resolved(hub_file(weights))
    return Resolved(Path(weights).expanduser())


def row_of(weights, variant=None, task="classification", head=None):
    """Returns the row that `weights=` names, `None` for a path or a hub address.

    Raises:
        ValueError: if it is a name that no row has, a web address, or neither a path nor a string.
        FileNotFoundError: if it is a folder.
    """
    if not isinstance(weights, (str, os.PathLike)):
        raise ValueError(
            f"`weights` must be None, a name, an 'hf://' address or a path, received {weights!r}."
        )
    if _is_name(weights, task):
        return registry.find(weights, variant, task, head)
    if isinstance(weights, str) and re.match("(https?|hf):", weights):
        _check_address(weights)
    elif os.path.isdir(weights):
        raise FileNotFoundError(_about_folder(weights))
    return None


def _check_address(weights):
    if not weights.startswith("hf:"):
        raise ValueError(
            f"`weights` cannot be the web address {weights!r}: download the file and pass its "
            "path, or pass a name, or 'hf://owner/repo[@revision][/file]' for a file of the hub."
        )
    if HUB.fullmatch(weights) is None:
        raise ValueError(
            f"{weights!r} is not of the form 'hf://owner/repo[@revision][/file]', for example "
            "'hf://timm/convnext_tiny.fb_in1k' or 'hf://owner/repo@main/pytorch_model.bin'."
        )


def open_checkpoint(
    weights, variant, include_top=True, classes=None, task="classification", head=None
):
    """Returns the `Checkpoint` that `weights` stands for, to be loaded into a model of `variant`.

    Args:
        weights: as of `resolve`, `"imagenet"` and the tags of the variant included.
        variant: a `Variant`.
        include_top: whether the classifier will be wanted; some files are published without.
        classes: number of classes of the model; `None`: as many as the file has.
        task: `"classification"`; `"segmentation"` for an UperNet on the variant, `"detection"` for
            a detector on it.
        head: of a detector, `"mask_rcnn"` or `"cascade_mask_rcnn"`.

    Raises:
        ValueError: if a name is unknown; the message has the nearest ones. Or if its weights have a
            stem of another stride than the variant.
        FileNotFoundError: if there is no such file, or it is a folder.
        DownloadError: if no source gave the file.
        WeightsError: if the file cannot be read, or is published without the classifier.

    Example:
        from keras_convnext import VARIANTS
        from keras_convnext.pretrained import open_checkpoint
        checkpoint = open_checkpoint("convnext_tiny.fb_in1k", VARIANTS["convnext_tiny"])
        checkpoint.classes  # 1000
    """
    if variant.name not in VARIANTS and _is_name(weights, task):
        raise ValueError(
            f"Weights {weights!r} are published for named variants, {variant.name!r} is none. "
            "Pass the path of a file, or `weights=None`."
        )
    row = row_of(weights, variant.name, task, head)
    layouts = TASK_LAYOUTS[task] if head is None else LAYOUTS_OF[head]
    if row is not None:
        _check_stem(row, variant)
        if include_top and classes is None and not row.classes:
            raise WeightsError(
                f"{row.name} has no classifier. Pass `include_top=False` for features, or "
                "`classes=` for a new, untrained one."
            )
        path = fetch(row, include_top)
        named = dataclasses.replace(variant, **row.overrides)
        reading = checkpoint.open(path, layouts).read_as(named)
        return dataclasses.replace(reading, size=row.size, published=row.name)
    return checkpoint.open(resolve(weights, task=task).path, layouts).read_as(variant)


def _check_stem(row, variant):
    published = row.architecture().stem_stride
    if variant.stem_stride != published:
        raise ValueError(
            f"{row.name} was trained with a stem of stride {published}, asked for is "
            f"`stem_stride={variant.stem_stride}`. Omit `stem_stride` and enlarge the images "
            f"{published // variant.stem_stride} times, which gives the stages maps of the same "
            "size; or pass `weights=None` to train from random weights."
        )


def fetch(row, include_top=True):
    """Returns the verified local file of a row of the registry, downloaded if need be.

    Raises:
        DownloadError: if no source gave the file.
    """
    sources = [source_of(source, row) for source in row.sources if source.top or not include_top]
    notice = row.licence.notice or row.licence.gated or row.licence.non_commercial
    return download.fetch(
        sources,
        name=row.name,
        licence=row.licence.name if notice else None,
        licence_url=row.licence.url if notice else None,
        latest=False,  # a row stands for one content
        check=functools.partial(checkpoint.open, layouts=TASK_LAYOUTS[row.task]),
    )


def source_of(source, row):
    """Returns a `Source` of a row as a source of `download`."""
    most = BYTES_PER_WEIGHT * row.params + REST
    pins = {"sha256": source.sha256, "size": source.size, "most": most}
    if source.repo is not None:
        return download.HubFile(source.repo, source.file, source.revision, **pins)
    # hosts have files of equal names: the row's name keeps them apart in the cache
    name = f"{row.name}/{source.file_name}"
    return download.Url(source.url, name, sha256_prefix=source.sha256_prefix, **pins)


def hub_file(address):
    """Returns the verified local file of an `hf://` address.

    Raises:
        ValueError: if it is no such address.
        DownloadError: if the hub does not give the file.
    """
    _check_address(address)
    match = HUB.fullmatch(address)
    file = match["file"] or "model.safetensors"
    source = download.HubFile(match["repo"], file, match["revision"])
    return download.fetch([source], name=address, check=files.read)


def _is_name(weights, task):
    """Whether a string is meant as a name: there is no such file, and it looks like no path.

    A folder that happens to be called like published weights does not hide them.
    """
    if not isinstance(weights, str) or os.path.isfile(weights):
        return False
    known = {name for row in registry.rows(task) for name in (row.id, row.name, row.tag)}
    if weights in known or weights in VARIANTS or weights in registry.USUAL.values():
        return True
    is_path = os.path.isdir(weights) or os.sep in weights or Path(weights).suffix in SUFFIXES
    return not is_path


def _about_folder(folder):
    """Returns the message about a folder in the place of a file."""
    inside = sorted(p.name for p in Path(folder).iterdir() if p.name.endswith(SUFFIXES))
    files_of = f" In it are {', '.join(inside[:5])}." if inside else " It holds no such file."
    return f"No file of weights at {os.fspath(folder)!r}: it is a folder.{files_of} Name the file."
