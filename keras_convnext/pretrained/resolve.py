"""What `weights=` may say, and the verified local file that it stands for."""

import dataclasses
import os
import re
from pathlib import Path

from keras_convnext.pretrained import checkpoint as loading
from keras_convnext.pretrained import download, registry
from keras_convnext.variants import VARIANTS

HUB = re.compile(r"hf://(?P<repo>[^/@]+/[^/@]+)(@(?P<revision>[^/]+))?(/(?P<file>.+))?")
SUFFIXES = (".safetensors", ".pth", ".pt", ".bin", ".h5", ".keras")


def open_checkpoint(weights, variant, include_top=True):
    """-> the `Checkpoint` that `weights` stands for, to be loaded into a model of `variant`.

    Args:
        weights: a path (str or `os.PathLike`); `"hf://owner/repo[@revision][/file]"` (the file is
            `model.safetensors` by default); or the name of a row of the registry: `"imagenet"`, a
            tag of the variant, `"variant.tag"`, or the publisher's own name.
        variant: a `Variant`.
        include_top: whether the classifier will be wanted; some files are published without.

    Raises:
        ValueError: if a name is unknown; the message has the nearest ones. Or if its weights have a
            stem of another stride than the variant.
        FileNotFoundError: if there is no such file.
        DownloadError: if no source gave the file.
        WeightsError: if the file cannot be read.
    """
    if isinstance(weights, str) and weights.startswith("hf://"):
        return loading.open_checkpoint(hub_file(weights), variant)
    if isinstance(weights, os.PathLike) or is_path(weights):
        return loading.open_checkpoint(weights, variant)
    row = _row(weights, variant)
    _check_stem(row, variant)
    path = fetch(row, include_top)
    checkpoint = loading.open_checkpoint(path, dataclasses.replace(variant, **row.overrides))
    return dataclasses.replace(checkpoint, size=row.size)


def _check_stem(row, variant):
    published = row.architecture().stem_stride
    if variant.stem_stride != published:
        raise ValueError(
            f"{row.name} was trained with a stem of stride {published}, asked for is "
            f"`stem_stride={variant.stem_stride}`. Leave `stem_stride` away and enlarge the images "
            f"{published // variant.stem_stride} times, which gives the stages maps of the same "
            "size; or pass `weights=None` to train from random weights."
        )


def fetch(row, include_top=True):
    """-> the verified local file of a row of the registry, downloaded if need be."""
    sources = [source_of(source, row) for source in row.sources if source.top or not include_top]
    notice = row.licence.notice or row.licence.gated or row.licence.non_commercial
    return download.fetch(
        sources,
        name=row.name,
        licence=row.licence.name if notice else None,
        licence_url=row.licence.url if notice else None,
        latest=False,  # a row stands for one content
    )


def source_of(source, row):
    if source.repo is not None:
        return download.HubFile(
            source.repo, source.file, source.revision, source.sha256, source.size
        )
    # hosts have files of equal names: the row's name keeps them apart in the cache
    return download.Url(
        source.url,
        f"{row.name}/{source.file_name}",
        source.sha256,
        source.sha256_prefix,
        source.size,
    )


def hub_file(address):
    """-> the verified local file of an `hf://` address."""
    match = HUB.fullmatch(address)
    if match is None:
        raise ValueError(
            f"{address!r} is not of the form 'hf://owner/repo[@revision][/file]', for example "
            "'hf://timm/convnext_tiny.fb_in1k' or 'hf://owner/repo@main/pytorch_model.bin'."
        )
    file = match["file"] or "model.safetensors"
    source = download.HubFile(match["repo"], file, match["revision"])
    return download.fetch([source], name=address)


def is_path(weights):
    """Whether a name is meant as a path: it exists, or looks like one and is no row's name."""
    if os.path.exists(weights):
        return True
    named = weights in {row.id for row in registry.rows()}  # some of these have a slash
    return not named and (os.sep in weights or Path(weights).suffix in SUFFIXES)


def _row(name, variant):
    if variant.name not in VARIANTS:
        raise ValueError(
            f"Weights {name!r} are published for named variants, {variant.name!r} is none. "
            "Pass the path of a file, or `weights=None`."
        )
    return registry.find(name, variant.name)
