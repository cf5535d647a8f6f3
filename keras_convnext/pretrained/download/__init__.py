"""Fetch published weight files: verified, cached, safe to interrupt.

`fetch` takes the sources of one checkpoint (a hub repository first, other hosts as fallbacks) and
returns a local file whose bytes have been checked. A file that fails its check is never returned.

Hub files (`HubFile`) go through `huggingface_hub` into its shared cache, which is used as it is:
timm and transformers find the same files there, and nothing in it is deleted here. The library
compares only sizes on plain HTTP, so the sha256 is computed again here. Other hosts (`Url`) go
through `requests` into a cache of our own. `pooch` was considered: its downloader neither resumes,
nor looks at the status of a range request, nor locks, so all of that would have had to be written
around it, and `requests` is what it uses underneath.

A hash that is not known in advance is recorded at first use, which is said (`FirstUseNotice`), and
compared from then on. A verified file is remembered with its size and time of modification: while
both stay the same it is not read again, and no request is made for it.

Environment variables, all read at the time of the call:

- `KERAS_CONVNEXT_HOME`: our own cache (default `~/.cache/keras_convnext`): `files/` holds what
  came from other hosts, `hub/` hub files that were put there by hand, `hashes.json` the records.
- `KERAS_CONVNEXT_OFFLINE=1`: no request at all, only what is in the caches.
- `KERAS_CONVNEXT_MIRROR=<base url>`: for `Url` sources `<base url>/<filename>` is tried first;
  its bytes are verified like the original's.
- `HF_HOME`, `HF_HUB_CACHE`, `HF_ENDPOINT`, `HF_HUB_OFFLINE`, `HF_TOKEN`: as in `huggingface_hub`.
  `HF_HUB_OFFLINE=1` concerns hub files only.
- `HTTP_PROXY`, `HTTPS_PROXY`, `REQUESTS_CA_BUNDLE`: as in `requests`, for `Url` sources.
"""

import contextlib
import datetime
import errno
import hashlib
import json
import os
import re
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

CONNECT_TIMEOUT = 10.0  # seconds until the server has accepted the connection
READ_TIMEOUT = 30.0  # seconds without one new byte
ATTEMPTS = 4  # requests per address when the fault may pass (5xx, reset, stall)
BACKOFF = 1.0  # seconds before the second attempt, doubled before each further one
LOCK_NOTICE = 5.0  # seconds of waiting for another process before saying so
CHUNK = 1 << 20  # bytes per write

_MAY_PASS = frozenset({408, 429, 500, 502, 503, 504})
_DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})
_COMMIT = re.compile(r"[0-9a-f]{40}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
# Starts with no dot and holds no separator, colon or control character: such a part can neither
# climb out of the cache, nor name a drive, nor hide.
_SAFE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@() -]{0,199}")


class DownloadError(OSError):
    """No source gave a verified file; the message says why for each, and how to do it by hand."""


class LicenceNotice(UserWarning):
    """The weights carry terms that the user should know. Said once per process and checkpoint."""


class FirstUseNotice(UserWarning):
    """Nobody published a hash of this file: the one seen now is recorded and compared later."""


class _SourceError(Exception):
    """This source cannot give the file; the next one may."""


class _TransientError(Exception):
    """This request failed in a way that may pass; another may succeed."""


class _MismatchError(Exception):
    """The file is not what was promised."""


@dataclass(frozen=True)
class HubFile:
    """A file in a repository of the Hugging Face hub.

    Args:
        repo: `"owner/name"`.
        filename: path inside the repository, with `/`.
        revision: a 40-hex commit (then a cached file needs no request), a branch or tag, or
            `None` for the repository's moving `main` (then each fetch asks the server once).
        sha256: 64 lower-case hex digits, where known.
        size: bytes, where known.

    Raises:
        ValueError: a field is malformed or would leave the cache.
    """

    repo: str
    filename: str
    revision: str | None
    sha256: str | None = None
    size: int | None = None

    def __post_init__(self):
        _check_relative("repo", self.repo)
        _check_relative("filename", self.filename)
        if self.revision is not None:
            _check_relative("revision", self.revision)
        _check_pin(self.sha256, self.size)

    @property
    def page(self) -> str:
        """The repository's page, where licences are accepted."""
        return f"{_endpoint()}/{self.repo}"

    @property
    def address(self) -> str:
        """The address of the bytes."""
        return f"{self.page}/resolve/{quote(self.revision or 'main')}/{quote(self.filename)}"

    @property
    def place(self) -> Path:
        """Where a copy that was fetched by hand is looked for."""
        revision = (self.revision or "main").replace("/", "--")
        return cache_dir() / "hub" / self.repo.replace("/", "--") / revision / self.filename


@dataclass(frozen=True)
class Url:
    """A file on any other host.

    Args:
        url: `http` or `https` address.
        filename: its name in our cache and on a mirror; one name stands for one content.
        sha256: 64 lower-case hex digits, where known.
        sha256_prefix: the first 8 hex digits, as some publishers put them into the file's name.
        size: bytes, where known.

    Raises:
        ValueError: a field is malformed or would leave the cache.
    """

    url: str
    filename: str
    sha256: str | None = None
    sha256_prefix: str | None = None
    size: int | None = None

    def __post_init__(self):
        _check_web_address("url", self.url)
        _check_relative("filename", self.filename)
        _check_pin(self.sha256, self.size)
        if self.sha256_prefix is not None and not re.fullmatch("[0-9a-f]{8}", self.sha256_prefix):
            raise ValueError(
                f"sha256_prefix={self.sha256_prefix!r} is not 8 lower-case hex digits."
            )

    @property
    def address(self) -> str:
        """The address of the bytes."""
        return self.url

    @property
    def place(self) -> Path:
        """Where the file is kept in our cache."""
        return cache_dir() / "files" / self.filename


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


@dataclass(frozen=True)
class _Seen:
    """What a file was when it was hashed."""

    size: int
    mtime_ns: int
    sha256: str


def fetch(
    sources: Sequence[HubFile | Url],
    *,
    name: str,
    licence: str | None = None,
    licence_url: str | None = None,
    latest: bool = True,
) -> Path:
    """Return a verified local file, downloading it if no cache holds one.

    The sources are tried in order. A copy of any of them that is already here, and whose content
    cannot have moved on, is taken before a request is made.

    Args:
        sources: the primary source, then fallbacks; all hold the same weights.
        name: what the user asked for, for messages.
        licence: name of terms worth a notice (non-commercial, gated); `None` says nothing.
        licence_url: where these terms are.
        latest: whether a hub file without a pinned revision is asked for anew, as its repository
            may have moved on; if not, any verified copy will do, without a request.

    Returns:
        The path of the file: read it, never write to it.

    Raises:
        DownloadError: no source gave the file.
        ValueError: no source was given, or an environment variable is malformed.
    """
    if not sources:
        raise ValueError(f"No source is given for {name!r}: pass at least one HubFile or Url.")
    if licence is not None:
        _notice_licence(name, licence, licence_url)
    for source in sources:
        settled = not latest or _is_settled(source)
        if settled and (path := cached(source)) is not None:
            return path
    failures = []
    for source in sources:
        try:
            return _download(source)
        except _SourceError as failure:
            failures.append((source, str(failure)))
    raise DownloadError(_explain(name, failures, licence, licence_url))


def cached(source: HubFile | Url) -> Path | None:
    """The verified local copy of `source`, or `None`. Makes no request."""
    for path in _local_copies(source):
        with contextlib.suppress(_MismatchError):
            _accept(path, source)
            return path
    return None


def cache_dir() -> Path:
    """Our own cache (`KERAS_CONVNEXT_HOME`), absolute; it need not exist yet."""
    home = os.environ.get("KERAS_CONVNEXT_HOME") or "~/.cache/keras_convnext"
    return Path(os.path.expandvars(home)).expanduser().absolute()


def cache_entries() -> list[CacheEntry]:
    """What our cache holds, then the files of the hub's shared cache that were verified here."""
    records = _read_store()["files"]
    own = [p for top in ("files", "hub") for p in (cache_dir() / top).rglob("*") if p.is_file()]
    shared = [Path(p) for p in records if not Path(p).is_relative_to(cache_dir())]
    entries = [_entry(path, records.get(str(path))) for path in sorted(own)]
    return entries + [
        _entry(p, records[str(p)], shared=True) for p in sorted(shared) if p.is_file()
    ]


def clear_cache(
    paths: Iterable[str | os.PathLike] | None = None, *, forget_hashes: bool = False
) -> list[CacheEntry]:
    """Delete files of our own cache; the hub's shared cache is never touched.

    Args:
        paths: the files to delete, as `cache_entries` shows them; `None` for all of them.
        forget_hashes: also forget the hashes recorded at first use, so that a publisher's changed
            file is accepted again.

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
                f"{path} is not a file of {cache_dir()}. Files of the hub's shared cache are "
                "deleted with the hub's own tool: `hf cache rm`."
            )
    removed = [own[path] for path in wanted if _remove_unlocked(path)]
    everything = paths is None and forget_hashes
    _update_store(lambda store: _forget(store, removed, forget_hashes, everything))
    return removed


def sha256_of(path: str | os.PathLike) -> str:
    """The sha256 of a file, as 64 hex digits, read in pieces."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while piece := file.read(CHUNK):
            digest.update(piece)
    return digest.hexdigest()


# --- Checks of what is given -------------------------------------------------------------------


def _check_relative(field: str, value: str) -> None:
    parts = value.split("/")
    if not all(_SAFE_PART.fullmatch(part) for part in parts) or value.endswith(".part"):
        raise ValueError(
            f"{field}={value!r} is not a plain relative name: letters, digits and _.+=@()- in "
            "parts separated by '/', no part beginning with a dot, not ending in '.part'."
        )


def _check_pin(sha256: str | None, size: int | None) -> None:
    if sha256 is not None and not _SHA256.fullmatch(sha256):
        raise ValueError(f"sha256={sha256!r} is not 64 lower-case hex digits.")
    if size is not None and size <= 0:
        raise ValueError(f"size={size!r} is not a positive number of bytes.")


def _check_web_address(field: str, value: str) -> None:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{field}={value!r} is not an http:// or https:// address.")


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in {"1", "true", "yes", "on"}


def _offline_reason(source: HubFile | Url) -> str | None:
    variables = ["KERAS_CONVNEXT_OFFLINE"]
    if isinstance(source, HubFile):
        variables += ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
    on = [variable for variable in variables if _is_on(variable)]
    return f"{on[0]} is set, so no request was made" if on else None


def _endpoint() -> str:
    endpoint = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    _check_web_address("HF_ENDPOINT", endpoint)
    return endpoint.rstrip("/")


def _notice_licence(name: str, licence: str, licence_url: str | None) -> None:
    if (name, licence) in _noticed:
        return
    _noticed.add((name, licence))
    where = f" Read it at {licence_url}." if licence_url else ""
    warnings.warn(
        f"The weights {name!r} come under the licence {licence!r}.{where}",
        LicenceNotice,
        stacklevel=3,
    )


_noticed: set[tuple[str, str]] = set()


# --- What is already here ----------------------------------------------------------------------


def _is_settled(source: HubFile | Url) -> bool:
    """Whether a local copy may be used without asking the server for a newer one."""
    return (
        isinstance(source, Url)
        or bool(_COMMIT.fullmatch(source.revision or ""))
        or source.place.is_file()
        or _offline_reason(source) is not None
    )


def _local_copies(source: HubFile | Url) -> Iterator[Path]:
    if source.place.is_file():
        yield source.place
    if isinstance(source, HubFile):
        from huggingface_hub import try_to_load_from_cache

        found = try_to_load_from_cache(
            source.repo, source.filename, cache_dir=_hub_cache_dir(), revision=source.revision
        )
        if isinstance(found, str):  # otherwise None, or a mark that the hub has no such file
            yield Path(found)


def _hub_cache_dir() -> str | None:
    """The shared cache as the environment says now; `None` leaves it to the library."""
    folder = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if not folder and (home := os.environ.get("HF_HOME")):
        folder = os.path.join(home, "hub")
    return os.path.expandvars(os.path.expanduser(folder)) if folder else None


# --- Verification and its records --------------------------------------------------------------


def _accept(path: Path, source: HubFile | Url) -> None:
    """Verify a file in its final place and remember that it was; raises `_MismatchError`."""
    _remember(path, source, _inspect(path, source))


def _inspect(path: Path, source: HubFile | Url, meant_for: Path | None = None) -> _Seen:
    """Compare a file with everything that is known of it; raises `_MismatchError`."""
    store = _read_store()
    try:
        stat = path.stat()  # before hashing: a change during it then makes the record stale
        if source.size not in (None, stat.st_size):
            raise _MismatchError(f"it has {stat.st_size} bytes, expected {source.size}")
        digest = _remembered(store, path, stat) or sha256_of(path)
    except OSError as error:
        raise _MismatchError(f"it cannot be read ({error})") from error
    for expected, origin in _expectations(store, meant_for or path, source):
        if not digest.startswith(expected):
            raise _MismatchError(f"its sha256 is {digest}, expected {expected} ({origin})")
    return _Seen(stat.st_size, stat.st_mtime_ns, digest)


def _remembered(store: dict, path: Path, stat: os.stat_result) -> str | None:
    record = store["files"].get(str(path))
    if record and (record["size"], record["mtime_ns"]) == (stat.st_size, stat.st_mtime_ns):
        return record["sha256"]
    return None


def _expectations(store: dict, path: Path, source: HubFile | Url) -> Iterator[tuple[str, str]]:
    """The hashes that the file has to have, each with where it is known from."""
    if isinstance(source, Url) and source.sha256_prefix:
        yield source.sha256_prefix, "the publisher's first 8 digits"
    if source.sha256:
        yield source.sha256, "pinned"
    elif stated := _hash_stated_by_hub(path):
        yield stated, "stated by the hub"
    elif record := store["sources"].get(_key(source, path)):
        yield record["sha256"], f"recorded at first use, {record['first_used']}"


def _hash_stated_by_hub(path: Path) -> str | None:
    """The hub's cache names the blob of a large file by the sha256 that the server stated.

    Only the first link is read: behind it there may be a store with names of another kind.
    """
    if not path.is_symlink():
        return None
    blob = Path(os.readlink(path))
    return blob.name if blob.parent.name == "blobs" and _SHA256.fullmatch(blob.name) else None


def _key(source: HubFile | Url, path: Path) -> str:
    """The source's name in the records; a moving revision is named by the commit it was."""
    if isinstance(source, Url):
        return source.url
    folder = "models--" + source.repo.replace("/", "--")
    match = re.search(rf"{re.escape(folder)}/snapshots/([^/]+)/", path.as_posix())
    commit = match.group(1) if match else None
    return f"hf://{source.repo}@{commit or source.revision or 'main'}/{source.filename}"


def _remember(path: Path, source: HubFile | Url, seen: _Seen) -> None:
    store, key, now = _read_store(), _key(source, path), _now()
    is_first_use = not any(True for _ in _strong_expectations(store, path, source))
    old = store["files"].get(str(path), {})
    fresh = asdict(seen) | {"source": key, "used": now[:10]}
    if not is_first_use and fresh.items() <= old.items():
        return

    def change(store: dict) -> None:
        verified = old["verified"] if asdict(seen).items() <= old.items() else now
        store["files"][str(path)] = fresh | {"verified": verified}
        if is_first_use:
            store["sources"][key] = {"sha256": seen.sha256, "size": seen.size, "first_used": now}

    recorded = _update_store(change)
    if is_first_use:
        _notice_first_use(key, seen.sha256, recorded)


def _strong_expectations(store: dict, path: Path, source: HubFile | Url) -> list[str]:
    return [h for h, _ in _expectations(store, path, source) if len(h) == 64]


def _notice_first_use(key: str, sha256: str, recorded: bool) -> None:
    then = (
        f"It is recorded in {_store_path()} and later downloads are compared with it."
        if recorded
        else f"It could not be recorded: {cache_dir()} is not writable."
    )
    warnings.warn(
        f"No sha256 is published for {key}; this first download has {sha256}. {then}",
        FirstUseNotice,
        stacklevel=2,
    )


def _now() -> str:
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds")


def _store_path() -> Path:
    return cache_dir() / "hashes.json"


def _read_store() -> dict:
    """`{"sources": {key: hash at first use}, "files": {path: what was verified}}`."""
    try:
        store = json.loads(_store_path().read_bytes())
        return {"sources": dict(store["sources"]), "files": dict(store["files"])}
    except FileNotFoundError:
        return {"sources": {}, "files": {}}
    except (OSError, ValueError, KeyError, TypeError) as error:
        # Going on without it would silently accept files that have changed since their first use.
        raise DownloadError(
            f"{_store_path()} cannot be read ({error!r}). It holds the hashes of first use. "
            "Restore it, or delete it to begin anew."
        ) from error


def _update_store(change: Callable[[dict], None]) -> bool:
    """Apply `change` to the records; False where the cache is read-only or its disk is full."""
    try:
        with _lock(_store_path()):
            store = _read_store()
            change(store)
            _write_atomically(_store_path(), json.dumps(store, indent=1, sort_keys=True))
    except DownloadError:
        raise
    except OSError:
        return False  # a verified file stays good without its record
    return True


def _write_atomically(path: Path, text: str) -> None:
    draft = path.with_name(f"{path.name}.tmp")  # one writer at a time: the caller holds the lock
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _lock(target: Path) -> Iterator[None]:
    """Keep other processes from writing `target`; freed by the system if this one is killed."""
    from filelock import FileLock, Timeout

    lock = FileLock(_lock_path(target))
    lock_folder = Path(lock.lock_file).parent
    lock_folder.mkdir(parents=True, exist_ok=True)
    try:
        lock.acquire(timeout=LOCK_NOTICE)
    except Timeout:
        warnings.warn(f"Waiting for another process that writes {target}.", stacklevel=4)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _lock_path(target: Path) -> Path:
    # A digest, not the name itself: a long name with a suffix could be too long for the disk.
    digest = hashlib.sha256(str(target.relative_to(cache_dir())).encode()).hexdigest()
    return cache_dir() / "locks" / f"{digest[:16]}.lock"


# --- Downloading -------------------------------------------------------------------------------


def _download(source: HubFile | Url) -> Path:
    if reason := _offline_reason(source):
        raise _SourceError(reason)
    download = _download_hub if isinstance(source, HubFile) else _download_url
    try:
        return download(source)
    except _MismatchError as mismatch:
        raise _SourceError(f"the file that came is not the right one: {mismatch}") from mismatch
    except DownloadError:
        raise
    except OSError as error:
        raise _SourceError(_disk_reason(error, source)) from error


def _disk_reason(error: OSError, source: HubFile | Url) -> str:
    if error.errno not in _DISK_FULL:
        return f"{type(error).__name__}: {error}"
    folder, variable = str(cache_dir()), "KERAS_CONVNEXT_HOME"
    if isinstance(source, HubFile):
        folder, variable = _hub_cache_dir() or "the hub's cache", "HF_HOME"
    free = f" ({shutil.disk_usage(folder).free:,} bytes free)" if os.path.isdir(folder) else ""
    return (
        f"no room for the file in {folder}{free}: {error.strerror or error}. Free some space or "
        f"let {variable} name a folder on another disk"
    )


def _retried(request: Callable[[], Path | None]) -> Path | None:
    """Repeat a request whose fault may pass, with growing pauses."""
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(BACKOFF * 2 ** (attempt - 1))
        try:
            return request()
        except _TransientError as broken:
            last = broken
    raise _SourceError(f"{last} ({ATTEMPTS} attempts)") from last


# --- The hub -----------------------------------------------------------------------------------


def _download_hub(source: HubFile) -> Path:
    path = _retried(lambda: _ask_hub(source, force=False))
    try:
        _accept(path, source)
    except _MismatchError:
        path = _retried(lambda: _ask_hub(source, force=True))
        _accept(path, source)
    return path


def _ask_hub(source: HubFile, force: bool) -> Path:
    from huggingface_hub import hf_hub_download

    endpoint = _endpoint() if os.environ.get("HF_ENDPOINT") else None
    try:
        path = hf_hub_download(
            source.repo,
            source.filename,
            revision=source.revision,
            cache_dir=_hub_cache_dir(),
            endpoint=endpoint,
            force_download=force,
        )
    except Exception as error:  # its HTTP library, hence the type, changes between versions
        raise _hub_failure(error, source) from error
    return Path(path)


def _hub_failure(error: Exception, source: HubFile) -> Exception:
    """Sort what the hub library raised: may pass, the disk's fault, or final for this source.

    By itself the library goes on after a stall or an early end. It gives up at once after a 5xx
    answer to GET and a connection reset (`ReadError`, known by name: it belongs to the HTTP
    library, which changes between versions).
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    chain = list(_chain(error))
    for link in chain:
        if getattr(link, "errno", None) in _DISK_FULL:
            return OSError(link.errno, os.strerror(link.errno))
    responses = (getattr(link, "response", None) for link in chain)
    status = next((r.status_code for r in responses if r is not None), None)
    if status in (401, 403):
        return _SourceError(
            f"HTTP {status}: the repository is gated, private or does not exist. Accept its "
            f"licence on {source.page}, then set HF_TOKEN to a token of yours "
            "(or run `hf auth login`)"
        )
    reason = " <- ".join(dict.fromkeys(f"{type(e).__name__}: {_first_line(e)}" for e in chain))
    if status is not None:
        reason = f"HTTP {status}: {reason}"
    # The library has already repeated a failed look-up several times before this error.
    if isinstance(error, LocalEntryNotFoundError):
        return _SourceError(reason)
    may_pass = status in _MAY_PASS or any(type(link).__name__ == "ReadError" for link in chain)
    return _TransientError(reason) if may_pass else _SourceError(reason)


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), "")


# --- Other hosts -------------------------------------------------------------------------------


def _download_url(source: Url) -> Path:
    source.place.parent.mkdir(parents=True, exist_ok=True)
    with _lock(source.place):
        if (path := cached(source)) is not None:  # another process was quicker
            return path
        *mirror, original = _addresses(source)
        reasons = []
        for address in mirror:
            try:
                return _download_from(address, source)
            except (_SourceError, _MismatchError) as failure:
                reasons.append(f"mirror {_without_password(address)}: {failure}; ")
        try:
            return _download_from(original, source)
        except (_SourceError, _MismatchError) as failure:
            raise _SourceError(f"{''.join(reasons)}{failure}") from failure


def _addresses(source: Url) -> list[str]:
    base = os.environ.get("KERAS_CONVNEXT_MIRROR", "").strip().rstrip("/")
    if not base:
        return [source.url]
    _check_web_address("KERAS_CONVNEXT_MIRROR", base)
    return [f"{base}/{quote(source.filename)}", source.url]


def _without_password(address: str) -> str:
    return re.sub(r"//[^/@]*@", "//", address)


def _download_from(address: str, source: Url) -> Path:
    """Download, verify, move into place; a wrong file is fetched once more from its beginning."""
    part = _Part(address, source)
    with part:
        for is_last in (False, True):
            _retried(lambda: _transfer(part))
            try:
                seen = _inspect(part.path, source, meant_for=source.place)
                break
            except _MismatchError:
                part.discard()
                if is_last:
                    raise
        os.replace(part.path, source.place)
    _sync_folder(source.place.parent)
    _remember(source.place, source, seen)
    return source.place


class _Part:
    """The beginning of a file, beside its final place.

    It may be continued only where a splice of two different files would be noticed: a hash is
    known, or this process has seen the server's validator for exactly these bytes.
    """

    def __init__(self, address: str, source: Url):
        digest = hashlib.sha256(address.encode()).hexdigest()[:8]
        self.address = address
        self.source = source
        self.path = source.place.with_name(f"{source.place.name}.{digest}.part")
        self.has_hash = bool(source.sha256 or source.sha256_prefix)
        self.validator: str | None = None

    def __enter__(self) -> "_Part":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        # After a network failure the next run goes on from here. A full disk gets its room back.
        is_resumable = self.has_hash and not (
            isinstance(error, OSError) and error.errno in _DISK_FULL
        )
        if not is_resumable:
            self.discard()

    def discard(self) -> None:
        self.path.unlink(missing_ok=True)
        self.validator = None

    def offset(self) -> int:
        """How many bytes may be kept."""
        if not (self.has_hash or self.validator) or not self.path.exists():
            return 0
        return self.path.stat().st_size

    def request_headers(self) -> dict[str, str]:
        # Compressed transfers would make Content-Length and ranges speak of other bytes.
        headers = {"Accept-Encoding": "identity"}
        if offset := self.offset():
            headers["Range"] = f"bytes={offset}-"
            if self.validator:
                headers["If-Range"] = self.validator
        return headers


def _transfer(part: _Part) -> None:
    """One request that completes the part; raises `_TransientError` or `_SourceError`."""
    import requests

    try:
        with _open(part.address, part.request_headers()) as response:
            _receive(response, part)
    except (requests.ConnectionError, requests.Timeout) as error:
        raise _TransientError(f"{type(error).__name__}: {_first_line(error)}") from error
    except requests.exceptions.ChunkedEncodingError as error:
        size = part.path.stat().st_size
        raise _TransientError(f"the transfer broke off at {size} bytes") from error
    except requests.RequestException as error:  # a redirect to file:// ends here, too
        raise _SourceError(f"{type(error).__name__}: {_first_line(error)}") from error


def _open(address: str, headers: dict[str, str]):
    import requests

    response = requests.get(
        address, headers=headers, stream=True, timeout=(CONNECT_TIMEOUT, READ_TIMEOUT)
    )
    if response.url.startswith("http://") and any(
        step.url.startswith("https://") for step in response.history
    ):
        response.close()
        raise _SourceError(f"redirected from https to {response.url}, which is refused")
    return response


def _receive(response, part: _Part) -> None:
    if response.status_code == 416 and _is_complete(response, part):
        return
    _check_status(response, part)
    offset = _kept_bytes(response, part)
    total = _total_bytes(response, part, offset)
    part.validator = _validator(response)
    _write(response, part.path, offset, total)
    size = part.path.stat().st_size
    if total is not None and size != total:
        raise _TransientError(f"the transfer broke off at {size} of {total} bytes")


def _check_status(response, part: _Part) -> None:
    status = f"HTTP {response.status_code} {response.reason}"
    if response.status_code in _MAY_PASS:
        raise _TransientError(status)
    if response.status_code == 416:  # the part is longer than the file, or the file has changed
        part.discard()
        raise _TransientError(status)
    if response.status_code in (401, 403):
        raise _SourceError(
            f"{status}: access is refused. Where a licence has to be accepted, do so on the "
            "publisher's page and fetch the file by hand with the link or token it gives"
        )
    if response.status_code not in (200, 206):
        raise _SourceError(status)
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise _SourceError("the server insists on compressing the file")


def _is_complete(response, part: _Part) -> bool:
    return response.headers.get("Content-Range") == f"bytes */{part.offset()}"


def _kept_bytes(response, part: _Part) -> int:
    """Where the body begins: after what we have, or at the start if the server ignored that."""
    if response.status_code == 200:
        return 0
    offset = part.offset()
    if not response.headers.get("Content-Range", "").startswith(f"bytes {offset}-"):
        part.discard()
        raise _TransientError("the server answered with another range than was asked for")
    return offset


def _total_bytes(response, part: _Part, offset: int) -> int | None:
    """The file's size by the server's word, `None` where it gives none but an end is visible."""
    length = response.headers.get("Content-Length")
    total = offset + int(length) if length and length.isdigit() else None
    source = part.source
    if total is not None and source.size not in (None, total):
        raise _MismatchError(f"the server offers {total} bytes, expected {source.size}")
    is_chunked = "chunked" in response.headers.get("Transfer-Encoding", "")
    if total is None and not (is_chunked or part.has_hash or source.size):
        raise _SourceError("the server states no length, so a broken transfer could not be noticed")
    return total


def _validator(response) -> str | None:
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):  # a weak one does not promise equal bytes
        return etag
    return response.headers.get("Last-Modified")


def _write(response, path: Path, offset: int, total: int | None) -> None:
    from tqdm import tqdm

    bar = tqdm(  # disable=None: no bar where the output is not a terminal
        total=total, initial=offset, unit="B", unit_scale=True, desc=path.name, disable=None
    )
    with bar, open(path, "r+b" if offset else "wb") as file:
        file.seek(offset)
        for chunk in response.iter_content(CHUNK):
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())


def _sync_folder(folder: Path) -> None:
    """Make a rename durable; only POSIX can open a folder for it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


# --- Words and rows ----------------------------------------------------------------------------


def _explain(
    name: str,
    failures: list[tuple[HubFile | Url, str]],
    licence: str | None,
    licence_url: str | None,
) -> str:
    lines = [f"Could not get the weights {name!r}.", "Tried:"]
    for source, reason in failures:
        lines += [f"  {_without_password(source.address)}", f"    {reason}"]
    copies = [line for source, _ in failures for line in _describe_copies(source)]
    lines += ["In the caches:", *(copies or ["  nothing"])]
    lines += ["To fetch the file by hand, download one of these and save it as shown:"]
    for source, _ in failures:
        pin = f" (sha256 {source.sha256})" if source.sha256 else ""
        lines += [f"  {_without_password(source.address)}{pin}", f"    -> {source.place}"]
    if licence:
        lines.append(f"Its licence is {licence!r}: {licence_url or 'see the publisher'}.")
    return "\n".join(lines)


def _describe_copies(source: HubFile | Url) -> Iterator[str]:
    for path in _local_copies(source):
        try:
            _inspect(path, source)
        except _MismatchError as mismatch:
            yield f"  {path}: not used, {mismatch}; delete it if a new download leaves it"
        else:
            yield f"  {path}: good"


def _entry(path: Path, record: dict | None, shared: bool = False) -> CacheEntry:
    record = record or {}
    return CacheEntry(
        path=path,
        size=path.stat().st_size,
        source=record.get("source"),
        sha256=record.get("sha256"),
        verified=record.get("verified"),
        used=record.get("used"),
        shared=shared,
        partial=path.name.endswith(".part"),
    )


def _remove_unlocked(path: Path) -> bool:
    """Delete a file unless a process holds its lock; True where it is gone."""
    from filelock import FileLock, Timeout

    target = path
    if path.name.endswith(".part"):
        target = path.with_name(path.name.rsplit(".", 2)[0])
    try:
        with FileLock(_lock_path(target), timeout=0):
            path.unlink(missing_ok=True)
    except Timeout:
        return False
    return True


def _forget(store: dict, removed: list[CacheEntry], hashes: bool, everything: bool) -> None:
    for entry in removed:
        store["files"].pop(str(entry.path), None)
        if hashes:
            store["sources"].pop(entry.source, None)
    if everything:
        store["sources"].clear()
