"""Files of the Hugging Face hub, through `huggingface_hub` into its shared cache.

The cache is used as it is: timm and transformers find the same files there, and nothing in it is
deleted here. The library compares only sizes on plain HTTP, so the sha256 is computed again here.
And it names files in its cache by what the server states (ETag, commit), so a `_Watch` looks at
every answer before the library does.
"""

import contextlib
import os
import re
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

from keras_convnext.errors import first_line
from keras_convnext.pretrained.download import records, settings
from keras_convnext.pretrained.download.answers import WEB_PAGES, safe_target
from keras_convnext.pretrained.download.failures import (
    DISK_FULL,
    MAY_PASS,
    MismatchError,
    SourceError,
    TransientError,
    UnreachableError,
    UnreadableError,
    chain,
    retried,
)
from keras_convnext.pretrained.download.sources import COMMIT, HubFile, most_bytes

# An ETag becomes the name of a file, so it may hold no separator and may not begin with a dot.
_SAFE_ETAG = re.compile(r'(W/)?"?[0-9A-Za-z][0-9A-Za-z._=+-]{0,127}"?')


def download(source: HubFile, check: records.Check | None = None) -> Path:
    """Returns the verified file in the hub's cache; a wrong one is fetched once more.

    Raises:
        SourceError: the hub cannot give it.
        MismatchError: what came is another file.
    """
    path = retried(lambda: _ask(source, force=False))
    try:
        records.accept(path, source, check)
    except UnreadableError:
        raise
    except MismatchError:
        path = retried(lambda: _ask(source, force=True))
        records.accept(path, source, check)
    return path


def _ask(source: HubFile, force: bool) -> Path:
    from huggingface_hub import hf_hub_download

    try:
        with _watched(source):
            path = hf_hub_download(
                source.repo,
                source.filename,
                revision=source.revision,
                cache_dir=settings.hub_cache_dir(),
                endpoint=settings.endpoint() if os.environ.get("HF_ENDPOINT") else None,
                force_download=force,
                etag_timeout=settings.ANSWER_TIMEOUT,  # HF_HUB_ETAG_TIMEOUT goes before it
            )
    except (SourceError, TransientError, MismatchError):
        raise
    except Exception as error:  # its HTTP library, hence the type, changes between versions
        raise _failure(error, source) from error
    return Path(path)


@contextlib.contextmanager
def _watched(source: HubFile) -> Iterator[None]:
    """Lets a `_Watch` see what the hub library sends and receives in this thread."""
    from huggingface_hub.utils import get_session

    watch, hooks = _Watch(source), get_session().event_hooks
    hooks["request"].append(watch.on_request)
    hooks["response"].append(watch.on_response)
    try:
        yield
    finally:
        hooks["request"].remove(watch.on_request)
        hooks["response"].remove(watch.on_response)


class _Watch:
    """Refuses answers that the hub library would believe.

    The library repeats a failed look-up for up to a minute, and it makes a new session after a
    failed connection, which nobody would watch: a second look-up is therefore stopped here, and
    the repetitions are ours.
    """

    def __init__(self, source: HubFile):
        self.source = source
        self.thread = threading.get_ident()
        self.is_waiting = False
        self.failed_status: int | None = None
        self.most = most_bytes(source)

    def on_request(self, request) -> None:
        """Stops a look-up that repeats a failed one."""
        if threading.get_ident() != self.thread or request.method != "HEAD":
            return
        if self.is_waiting:
            raise UnreachableError(f"no answer from {request.url.netloc.decode()}")
        if self.failed_status is not None:
            raise TransientError(f"HTTP {self.failed_status}")
        self.is_waiting = True

    def on_response(self, response) -> None:
        """Refuses an answer that is unsafe, or plainly not that file."""
        if threading.get_ident() != self.thread:
            return
        _check_redirect(response)
        _check_commit(response, self.source)
        if response.request.method == "HEAD":
            self.is_waiting = False
            self.failed_status = response.status_code if response.status_code in MAY_PASS else None
            _check_etag(response)
            self.most = _stated_size(response, self.source) or self.most
        elif response.status_code in (200, 206):
            _check_kind(response)
            _limit(response, self.most)
        else:  # the library reads what comes with an error or a redirect
            _limit(response, settings.MOST_OF_AN_ERROR)


def _check_redirect(response) -> None:
    location = response.headers.get("Location")
    if location and 300 <= response.status_code < 400:
        safe_target(str(response.request.url), location)


def _check_commit(response, source: HubFile) -> None:
    commit = response.headers.get("X-Repo-Commit")
    if commit is None:
        return
    if not COMMIT.fullmatch(commit):
        raise SourceError(f"the hub states the commit {commit!r}, which is not a commit")
    if source.is_pinned and commit != source.revision:
        raise SourceError(f"the hub answers for commit {commit}, asked for was {source.revision}")


def _check_etag(response) -> None:
    # the library takes the second where there is no first
    etag = response.headers.get("X-Linked-Etag") or response.headers.get("ETag")
    if etag is not None and not _SAFE_ETAG.fullmatch(etag):
        raise SourceError(f"the hub states the ETag {etag!r}, which cannot name a file")


def _stated_size(response, source: HubFile) -> int | None:
    size = response.headers.get("X-Linked-Size", "")
    if not (size.isdecimal() and size.isascii()):
        return None
    if source.size not in (None, int(size)):
        raise MismatchError(f"the hub offers {int(size)} bytes, expected {source.size}")
    if int(size) > most_bytes(source):
        raise SourceError(f"the hub offers {int(size)} bytes, more than the file can have")
    return int(size)


def _check_kind(response) -> None:
    kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
    if kind in WEB_PAGES:
        raise SourceError(f"the server sent a web page ({kind}) in place of the file")


def _limit(response, most: int) -> None:
    # `iter_bytes` reads through `iter_raw`: the first counts what is written, the second what is
    # transferred, which differs where a server compresses.
    response.iter_raw = _bounded(response.iter_raw, most)
    response.iter_bytes = _bounded(response.iter_bytes, most)


def _bounded(read: Callable, most: int) -> Callable:
    def bounded(chunk_size=None):
        total = 0
        for chunk in read(chunk_size):
            total += len(chunk)
            if total > most:
                raise MismatchError(f"the server sends more than {most} bytes")
            yield chunk

    return bounded


def _failure(error: Exception, source: HubFile) -> Exception:
    """Sorts what the hub library raised: may pass, the disk's fault, or final for this source.

    By itself the library resumes after a stall or an early end. It gives up at once after a 5xx
    answer to GET and a connection reset (`ReadError`, known by name: it belongs to the HTTP
    library, which changes between versions).
    """
    from huggingface_hub.errors import LocalEntryNotFoundError

    links = list(chain(error))
    for link in links:
        if getattr(link, "errno", None) in DISK_FULL:
            return OSError(link.errno, os.strerror(link.errno))
    responses = (getattr(link, "response", None) for link in links)
    status = next((r.status_code for r in responses if r is not None), None)
    if status in (401, 403):
        return SourceError(
            f"HTTP {status}: the repository is gated, private or does not exist. Accept its "
            f"licence on {source.page}, then set HF_TOKEN to a token of yours "
            "(or run `hf auth login`)"
        )
    reason = " <- ".join(dict.fromkeys(f"{type(e).__name__}: {first_line(e)}" for e in links))
    if status is not None:
        reason = f"HTTP {status}: {reason}"
    # The look-up is not repeated here: without an answer the hub is out of reach.
    if isinstance(error, LocalEntryNotFoundError):
        return SourceError(reason)
    may_pass = status in MAY_PASS or any(type(link).__name__ == "ReadError" for link in links)
    return TransientError(reason) if may_pass else SourceError(reason)
