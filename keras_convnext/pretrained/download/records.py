"""Verification: files are compared with what is known of them, and what was seen is recorded.

`hashes.json` in our cache has two tables: `sources`, the hash of a file at its first use, where
nobody published one; and `files`, the size, time and hash of each verified file, which is not read
again while size and time stay the same.
"""

import datetime
import hashlib
import json
import os
import re
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from keras_convnext.pretrained.download import locks, settings
from keras_convnext.pretrained.download.failures import (
    DownloadError,
    FirstUseNotice,
    MismatchError,
    UnreadableError,
)
from keras_convnext.pretrained.download.sources import SHA256, HubFile, Url

Check = Callable[[Path], object]


@dataclass(frozen=True)
class Seen:
    """What a file was when it was hashed."""

    size: int
    mtime_ns: int
    sha256: str


def sha256_of(path: str | os.PathLike) -> str:
    """Returns the sha256 of a file as 64 hex digits; the file is read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(settings.CHUNK):
            digest.update(piece)
    return digest.hexdigest()


def accept(path: Path, source: HubFile | Url, check: Check | None = None) -> None:
    """Verifies a file in its final place and records that it was.

    Raises:
        MismatchError: it is not the file that was promised, or `check` refuses it.
    """
    remember(path, source, inspect(path, source, check=check))


def verify(path: Path, source: HubFile | Url) -> None:
    """As `accept`, but a hash that nobody published is not recorded as the one of first use.

    Raises:
        MismatchError: it is not the file that was promised.
    """
    seen = inspect(path, source)
    if _is_known(_read_store(), path, source):
        remember(path, source, seen)


def inspect(
    path: Path,
    source: HubFile | Url,
    meant_for: Path | None = None,
    check: Check | None = None,
) -> Seen:
    """Compares a file with everything that is known of it and returns what it is.

    Args:
        path: the file.
        source: where it comes from.
        meant_for: its final place, if it is not there yet.
        check: called with the path if no hash is known; whatever it raises refuses the file.

    Raises:
        MismatchError: something differs.
        UnreadableError: (a MismatchError) `check` refuses the file.
    """
    store, place = _read_store(), meant_for or path
    try:
        stat = path.stat()  # before hashing: a change during it then makes the record stale
        if source.size not in (None, stat.st_size):
            raise MismatchError(f"it has {stat.st_size} bytes, expected {source.size}")
        digest = _remembered(store, path, stat) or sha256_of(path)
    except OSError as error:
        raise MismatchError(f"it cannot be read ({error})") from error
    for expected, origin in _expectations(store, place, source):
        if not digest.startswith(expected):
            raise MismatchError(f"its sha256 is {digest}, expected {expected} ({origin})")
    if check is not None and not _is_known(store, place, source):
        try:
            check(path)
        except Exception as error:  # readers report a damaged file in any way
            raise UnreadableError(f"it cannot be read as weights ({error})") from error
    return Seen(stat.st_size, stat.st_mtime_ns, digest)


def _remembered(store: dict, path: Path, stat: os.stat_result) -> str | None:
    record = store["files"].get(str(path))
    if record and (record["size"], record["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns):
        return record["sha256"]
    return None


def _expectations(store: dict, path: Path, source: HubFile | Url) -> Iterator[tuple[str, str]]:
    """Yields the hashes that the file must have, each with where it is known from."""
    if isinstance(source, Url) and source.sha256_prefix:
        yield source.sha256_prefix, "the publisher's first 8 digits"
    if source.sha256:
        yield source.sha256, "pinned"
    elif stated := _hash_stated_by_hub(path):
        yield stated, "stated by the hub"
    elif record := store["sources"].get(key := _key(source, path)):
        yield record["sha256"], f"recorded at first use, {record['first_used']}; {_how(key)}"


def _how(key: str) -> str:
    return (
        "if the publisher has replaced the file since, `keras-convnext cache clear` or "
        f"`keras_convnext.pretrained.download.forget({key!r})` forgets this hash"
    )


def _is_known(store: dict, path: Path, source: HubFile | Url) -> bool:
    """Whether a whole hash is known, so that this is no first use."""
    return any(len(expected) == 64 for expected, _ in _expectations(store, path, source))


def _hash_stated_by_hub(path: Path) -> str | None:
    """Returns the sha256 that the server stated: the hub's cache names a large file's blob by it.

    Only the first link is read: behind it there may be a store with names of another kind.
    """
    if not path.is_symlink():
        return None
    blob = Path(os.readlink(path))
    return blob.name if blob.parent.name == "blobs" and SHA256.fullmatch(blob.name) else None


def _key(source: HubFile | Url, path: Path) -> str:
    """Returns the source's name in the records; a moving revision is named by its commit then."""
    if isinstance(source, Url):
        return source.url
    folder = "models--" + source.repo.replace("/", "--")
    match = re.search(rf"{re.escape(folder)}/snapshots/([^/]+)/", path.as_posix())
    commit = match.group(1) if match else None
    return f"hf://{source.repo}@{commit or source.revision or 'main'}/{source.filename}"


def remember(path: Path, source: HubFile | Url, seen: Seen) -> None:
    """Records a verified file, and its hash where this is the first use of it."""
    store, key, now = _read_store(), _key(source, path), _now()
    is_first_use = not _is_known(store, path, source)
    old = store["files"].get(str(path), {})
    fresh = asdict(seen) | {"source": key, "used": now[:10]}
    if not is_first_use and fresh.items() <= old.items():
        return

    def change(store: dict) -> None:
        verified = old["verified"] if asdict(seen).items() <= old.items() else now
        store["files"][str(path)] = fresh | {"verified": verified}
        if is_first_use:
            store["sources"][key] = {"sha256": seen.sha256, "size": seen.size, "first_used": now}

    recorded = update_store(change)
    if is_first_use:
        _notice_first_use(key, seen.sha256, recorded)


def _notice_first_use(key: str, sha256: str, recorded: bool) -> None:
    then = (
        f"It is recorded in {_store_path()} and later downloads are compared with it."
        if recorded
        else f"It could not be recorded: {settings.cache_dir()} is not writable."
    )
    warnings.warn(
        f"No sha256 is published for {key}; this first download has {sha256}. {then}",
        FirstUseNotice,
        stacklevel=2,
    )


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _store_path() -> Path:
    return settings.cache_dir() / "hashes.json"


def verified_files() -> dict:
    """Returns the table of verified files, `{path: record}`."""
    return _read_store()["files"]


def forget(key: str) -> bool:
    """Forgets the hash that was recorded at the first use of one source.

    The next download of it counts as the first one. A file of it that lies in the caches stays.

    Args:
        key: the source as messages and `cache_entries` name it: a web address, or
            `"hf://owner/repo@revision/file"`.

    Returns:
        Whether there was such a record.
    """
    if key not in _read_store()["sources"]:
        return False
    return update_store(lambda store: store["sources"].pop(key, None))


def _read_store() -> dict:
    try:
        store = json.loads(_store_path().read_bytes())
        return {"sources": dict(store["sources"]), "files": dict(store["files"])}
    except FileNotFoundError:
        return {"sources": {}, "files": {}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        # To continue without it would silently accept files that changed since their first use.
        raise DownloadError(
            f"{_store_path()} cannot be read ({error!r}). It holds the hashes of first use. "
            "Restore it, or delete it to begin anew."
        ) from error


def update_store(change: Callable[[dict], None]) -> bool:
    """Applies `change` to the records; returns False if the cache is read-only or its disk full."""
    try:
        with locks.lock(_store_path()):
            store = _read_store()
            change(store)
            text = json.dumps(store, indent=1, sort_keys=True)
            locks.write_atomically(_store_path(), text)
    except DownloadError:
        raise
    except OSError:
        return False  # a verified file stays good without its record
    return True
