"""The files that are already here: found without a request, listed, deleted."""

import contextlib
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from keras_convnext.pretrained.download import locks, records, settings
from keras_convnext.pretrained.download.failures import MismatchError
from keras_convnext.pretrained.download.sources import HubFile, Url


@dataclass(frozen=True)
class CacheEntry:
    """One file of the caches.

    Attributes:
        path: where it is.
        size: bytes.
        source: where it came from; `None` for a file that was never verified.
        sha256: as last verified, or `None`.
        verified, used: UTC times in ISO form (`used` to the day), or `None`.
        shared: it lies in the hub's shared cache; `clear_cache` leaves it alone.
        partial: the beginning of an interrupted download; never returned by `fetch`.
    """

    path: Path
    size: int
    source: str | None = None
    sha256: str | None = None
    verified: str | None = None
    used: str | None = None
    shared: bool = False
    partial: bool = False


def cached(source: HubFile | Url) -> Path | None:
    """Returns the verified local copy of `source`, or `None`. Makes no request.

    A copy whose hash nobody published is returned, too, but its hash is not recorded.
    """
    for path in local_copies(source):
        with contextlib.suppress(MismatchError):
            records.verify(path, source)
            return path
    return None


def accepted(source: HubFile | Url, check: records.Check | None = None) -> Path | None:
    """Returns the local copy that may be used, verified and recorded, or `None`."""
    for path in local_copies(source):
        with contextlib.suppress(MismatchError):
            records.accept(path, source, check)
            return path
    return None


def local_copies(source: HubFile | Url) -> Iterator[Path]:
    """Yields the files of the caches that may hold `source`, unverified."""
    if source.place.is_file():
        yield source.place
    if isinstance(source, HubFile):
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(
            source.repo,
            source.filename,
            cache_dir=settings.hub_cache_dir(),
            revision=source.revision,
        )
        if isinstance(found, str):  # otherwise None, or a mark that the hub has no such file
            yield Path(found)


def described_copies(source: HubFile | Url, check: records.Check | None = None) -> Iterator[str]:
    """Yields a line about each local copy, for the message that says why none was used."""
    for path in local_copies(source):
        try:
            records.inspect(path, source, check=check)
        except MismatchError as mismatch:
            yield f"{path}: not used, {mismatch}; delete it if a new download leaves it"
        else:
            yield f"{path}: good"


def cache_entries() -> list[CacheEntry]:
    """Returns what our cache holds, then the files of the hub's cache that were verified here."""
    known, home = records.verified_files(), settings.cache_dir()
    own = [p for top in ("files", "hub") for p in (home / top).rglob("*") if p.is_file()]
    shared = [Path(path) for path in known if not Path(path).is_relative_to(home)]
    entries = [_entry(path, known.get(str(path))) for path in sorted(own)]
    return entries + [
        _entry(path, known[str(path)], shared=True) for path in sorted(shared) if path.is_file()
    ]


def _entry(path: Path, record: dict | None, shared: bool = False) -> CacheEntry:
    fields = ("source", "sha256", "verified", "used")
    return CacheEntry(
        path=path,
        size=path.stat().st_size,
        **{field: (record or {}).get(field) for field in fields},
        shared=shared,
        partial=path.name.endswith(".part"),
    )


def clear_cache(
    paths: Iterable[str | os.PathLike] | None = None, *, forget_hashes: bool = False
) -> list[CacheEntry]:
    """Deletes files of our own cache; the hub's shared cache is never touched.

    Args:
        paths: the files to delete, as `cache_entries` shows them; `None` for all of them.
        forget_hashes: also forget the hashes recorded at first use, so that a publisher's changed
            file is accepted again. With `paths` only those of these files; `forget` forgets the
            hash of one source whose file is not here.

    Returns:
        What was deleted. A file that another process is downloading right now is left.

    Raises:
        ValueError: a path is not a file of our cache.
    """
    own = {entry.path: entry for entry in cache_entries() if not entry.shared}
    wanted = list(own) if paths is None else [Path(path).absolute() for path in paths]
    for path in wanted:
        if path not in own:
            raise ValueError(
                f"{path} is not a file of {settings.cache_dir()}. Files of the hub's shared cache "
                "are deleted with the hub's own tool: `hf cache rm`."
            )
    removed = [own[path] for path in wanted if locks.remove_unlocked(path)]
    everything = paths is None and forget_hashes
    records.update_store(lambda store: _forget(store, removed, forget_hashes, everything))
    return removed


def _forget(store: dict, removed: list[CacheEntry], hashes: bool, everything: bool) -> None:
    for entry in removed:
        store["files"].pop(str(entry.path), None)
        if hashes:
            store["sources"].pop(entry.source, None)
    if everything:
        store["sources"].clear()
