"""Files of any other web server, through `requests` into a cache of our own.

Nothing that a server states is believed before it agrees with what was asked for and with what it
stated before: see `answers`. `pooch` was considered: its downloader neither resumes, nor looks at
the status of a range request, nor locks, so all of that would have had to be written around it, and
`requests` is what it uses underneath.
"""

import hashlib
import os
from pathlib import Path
from urllib.parse import quote

from keras_convnext.errors import first_line
from keras_convnext.pretrained.download import answers, cache, locks, records, settings
from keras_convnext.pretrained.download.failures import (
    DISK_FULL,
    MismatchError,
    SourceError,
    TransientError,
    UnreadableError,
    retried,
    unreachable,
)
from keras_convnext.pretrained.download.sources import Url, most_bytes

HOPS = 10  # redirects from an address to the host that has the file


def download(source: Url, check: records.Check | None = None) -> Path:
    """Returns the verified file in our cache, from the mirror where there is one.

    Raises:
        SourceError: neither the mirror nor the original host can give it.
    """
    source.place.parent.mkdir(parents=True, exist_ok=True)
    with locks.lock(source.place):
        if (path := cache.accepted(source, check)) is not None:  # another process was quicker
            return path
        *mirror, original = _addresses(source)
        reasons = []
        for address in mirror:
            try:
                return _download_from(address, source, check)
            except (SourceError, MismatchError) as failure:
                reasons.append(f"mirror {settings.without_password(address)}: {failure}; ")
        try:
            return _download_from(original, source, check)
        except (SourceError, MismatchError) as failure:
            kind = type(failure) if isinstance(failure, SourceError) else SourceError
            raise kind(f"{''.join(reasons)}{failure}") from failure


def _addresses(source: Url) -> list[str]:
    mirror = settings.mirror()
    return [f"{mirror}/{quote(source.filename)}", source.url] if mirror else [source.url]


def _download_from(address: str, source: Url, check: records.Check | None) -> Path:
    """Downloads, verifies, moves into place; a wrong file is fetched once more from the start."""
    part = Part(address, source)
    with part:
        for is_last in (False, True):
            retried(lambda: _transfer(part))
            try:
                seen = records.inspect(part.path, source, meant_for=source.place, check=check)
                break
            except MismatchError as mismatch:
                part.discard()
                if is_last or isinstance(mismatch, UnreadableError):
                    raise
        os.replace(part.path, source.place)
    locks.sync_folder(source.place.parent)
    records.remember(source.place, source, seen)
    return source.place


class Part:
    """The beginning of a file, beside its final place.

    It may be resumed only where a splice of two different files would be noticed: a hash is known,
    or this process has seen the server's validator for exactly these bytes.

    Attributes:
        validator: the ETag or date of change that the server stated for these bytes, or `None`.
        total: the size of the whole file that it stated then, or `None`.
        has_answered: whether the server has answered a request for it.
    """

    def __init__(self, address: str, source: Url):
        digest = hashlib.sha256(address.encode()).hexdigest()[:8]
        self.address = address
        self.source = source
        self.path = source.place.with_name(f"{source.place.name}.{digest}.part")
        self.has_hash = bool(source.sha256 or source.sha256_prefix)
        self.validator: str | None = None
        self.total: int | None = None
        self.has_answered = False

    def __enter__(self) -> "Part":
        return self

    def __exit__(self, kind, error, traceback) -> None:
        # After a network failure the next run resumes here. A full disk gets its room back.
        is_resumable = self.has_hash and not (
            isinstance(error, OSError) and error.errno in DISK_FULL
        )
        if not is_resumable:
            self.discard()

    def discard(self) -> None:
        """Forgets the bytes and all that the server stated about them."""
        self.path.unlink(missing_ok=True)
        self.validator = self.total = None

    def offset(self) -> int:
        """Returns how many bytes may be kept."""
        if not (self.has_hash or self.validator) or not self.path.exists():
            return 0
        return self.path.stat().st_size

    def request_headers(self) -> dict[str, str]:
        """Returns the headers of the request for the rest of the file."""
        # Compressed transfers would make Content-Length and ranges speak of other bytes.
        headers = {"Accept-Encoding": "identity"}
        if offset := self.offset():
            headers["Range"] = f"bytes={offset}-"
            if self.validator:
                headers["If-Range"] = self.validator
        return headers


def _transfer(part: Part) -> None:
    """Completes the part with one request.

    Raises:
        TransientError, SourceError, MismatchError: whatever a server or its network does wrong.
        OSError: the disk fails.
    """
    import requests

    try:
        with _open(part) as response:
            part.has_answered = True
            _receive(response, part)
    except (requests.exceptions.SSLError, requests.exceptions.ProxyError) as error:
        raise SourceError(f"{type(error).__name__}: {first_line(error)}") from error
    except (requests.ConnectionError, requests.Timeout) as error:
        if _is_unreachable(error):
            raise unreachable(part.address, error) from error
        if isinstance(error, requests.Timeout) and not part.has_answered:  # another would be silent
            raise unreachable(part.address, error, "no answer from") from error
        raise TransientError(f"{type(error).__name__}: {first_line(error)}") from error
    except requests.exceptions.ChunkedEncodingError as error:
        size = part.path.stat().st_size if part.path.exists() else 0
        raise TransientError(f"the transfer broke off at {size} bytes") from error
    except requests.RequestException as error:  # a redirect to file:// ends here, too
        raise SourceError(f"{type(error).__name__}: {first_line(error)}") from error
    except (TransientError, SourceError, MismatchError, OSError):
        raise
    except Exception as error:  # a malformed answer makes the libraries fail in any way
        raise SourceError(
            f"malformed answer, {type(error).__name__}: {first_line(error)}"
        ) from error


def _is_unreachable(error: Exception) -> bool:
    """Whether no connection came about, which does not change within seconds."""
    import requests
    from urllib3.exceptions import NewConnectionError

    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(reason, NewConnectionError)


def _open(part: Part):
    """Returns the answer at the end of the redirects; the bodies of these are not read."""
    import requests

    address, headers = part.address, part.request_headers()
    silence = settings.READ_TIMEOUT if part.has_answered else settings.ANSWER_TIMEOUT
    timeout = (settings.CONNECT_TIMEOUT, silence)
    with requests.Session() as session:
        session.get_redirect_target = lambda response: None  # it would read the bodies of redirects
        for _ in range(HOPS):
            response = session.get(
                address, headers=headers, stream=True, timeout=timeout, allow_redirects=False
            )
            if not response.is_redirect:
                return response
            response.close()
            address = answers.redirected(response)
    raise SourceError(f"redirected more than {HOPS} times")


def _receive(response, part: Part) -> None:
    if response.status_code == 416 and answers.is_complete(response, part):
        return
    answers.check_status(response, part)
    answers.check_kind(response)
    offset, total = answers.span(response, part)
    part.validator = answers.validator(response) or (part.validator if offset else None)
    part.total = total
    try:
        _write(response, part, offset, total)
    except MismatchError:
        part.discard()
        raise
    size = part.path.stat().st_size
    if total is not None and size != total:
        raise TransientError(f"the transfer broke off at {size} of {total} bytes")
    if size == 0:
        raise SourceError("the server sent an empty file")


def _write(response, part: Part, offset: int, total: int | None) -> None:
    from tqdm import tqdm

    most = total if total is not None else most_bytes(part.source)
    bar = tqdm(  # disable=None: no bar where the output is not a terminal
        total=total, initial=offset, unit="B", unit_scale=True, desc=part.path.name, disable=None
    )
    with bar, open(part.path, "r+b" if offset else "wb") as file:
        written = file.seek(offset)
        for chunk in response.iter_content(settings.CHUNK):
            written += len(chunk)
            if written > most:
                raise MismatchError(f"the server sends more than the {most} bytes of the file")
            file.write(chunk)
            bar.update(len(chunk))
        file.flush()
        os.fsync(file.fileno())
