"""Checks a web server's answer before one byte of it is written.

`response` is of `requests`, `part` is the beginning of the file that is here already.
"""

import re
from urllib.parse import urljoin

from keras_convnext.pretrained.download.failures import (
    MAY_PASS,
    MismatchError,
    SourceError,
    TransientError,
)
from keras_convnext.pretrained.download.sources import most_bytes

WEB_PAGES = ("text/html", "application/xhtml+xml")
_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+|\*)")


def redirected(response) -> str:
    """Returns where a redirect leads.

    Raises:
        SourceError: it leads to no web address, or away from https.
    """
    return safe_target(response.url, response.headers["Location"])


def safe_target(here: str, location: str) -> str:
    """Returns the address that a redirect from the address `here` leads to.

    Raises:
        SourceError: it leads to no web address, or away from https.
    """
    target = urljoin(here, location)
    allowed = ("https://",) if here.startswith("https://") else ("https://", "http://")
    if not target.lower().startswith(allowed):
        raise SourceError(f"redirected from {here} to {target}, which is refused")
    return target


def check_status(response, part) -> None:
    """Lets only a whole file or a part of it pass.

    Raises:
        TransientError: another request may succeed.
        SourceError: it will not.
    """
    status = f"HTTP {response.status_code} {response.reason}"
    if response.status_code in MAY_PASS:
        raise TransientError(status)
    if response.status_code == 416:  # the part is longer than the file, or the file has changed
        part.discard()
        raise TransientError(status)
    if response.status_code in (401, 403):
        raise SourceError(
            f"{status}: access is refused. Where a licence has to be accepted, do so on the "
            "publisher's page and fetch the file by hand with the link or token it gives"
        )
    if response.status_code not in (200, 206):
        raise SourceError(status)


def check_kind(response) -> None:
    """Refuses what cannot be the bytes of a file of weights.

    Raises:
        SourceError: it is compressed, or a web page.
    """
    if response.headers.get("Content-Encoding", "identity") != "identity":
        raise SourceError("the server insists on compressing the file")
    kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
    if kind in WEB_PAGES:
        raise SourceError(
            f"the server sent a web page ({kind}) in place of the file: either this network asks "
            "for a login first, or the file has moved"
        )


def is_complete(response, part) -> bool:
    """Whether a refused range means that the part is the whole file."""
    offset = part.offset()
    stated = response.headers.get("Content-Range") == f"bytes */{offset}"
    return bool(offset) and stated and part.total in (None, offset)


def span(response, part) -> tuple[int, int | None]:
    """Returns where the body begins, and the size of the whole file by the server's word.

    The size is `None` where the server states none but the end of the body is visible.

    Raises:
        MismatchError: the file has another size than the one that was published.
        TransientError: a part that was not asked for, or of another file; the next request begins
            anew.
        SourceError: neither size nor end are visible, or the file is too large.
    """
    if response.status_code == 206:
        start, total = _resumed(response, part)
    else:
        start, total = 0, _length(response)
    size, most = part.source.size, most_bytes(part.source)
    if total is not None and size not in (None, total):
        raise MismatchError(f"the server offers {total} bytes, expected {size}")
    if total is not None and total > most:
        raise SourceError(f"the server offers {total} bytes, more than the file can have")
    is_chunked = "chunked" in response.headers.get("Transfer-Encoding", "")
    if total is None and not (is_chunked or part.has_hash or size):
        raise SourceError("the server states no length, so a broken transfer could not be noticed")
    return start, total


def _resumed(response, part) -> tuple[int, int]:
    fault = _fault_of_range(response, part)
    if fault:
        part.discard()
        raise TransientError(f"the server answered with {fault}")
    start, _, total = _RANGE.fullmatch(response.headers["Content-Range"]).groups()
    return int(start), int(total)


def _fault_of_range(response, part) -> str | None:
    """Returns what is wrong with a part of a file: only the rest of the very same one is right."""
    offset = part.offset()
    if not offset:
        return "a part of the file, which was not asked for"
    match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    if match is None or match[3] == "*":
        return "a part that does not say which, of how many bytes"
    start, end, total = map(int, match.groups())
    if start != offset:
        return "another range than was asked for"
    if end != total - 1 or _length(response) not in (None, total - start):
        return f"a part that ends before the file does, at {end + 1} of {total} bytes"
    if part.total not in (None, total):
        return f"a part of a file of {total} bytes, which had {part.total} before"
    if not _is_same_file(response, part):
        return "a part of another file"
    return None


def _is_same_file(response, part) -> bool:
    """Whether the answer has the validator of the bytes that are here, if that is known."""
    if part.validator is None:
        return True
    stated = validator(response)
    # A server may leave the date out of an answer to If-Range, an ETag it may not.
    if stated is None:
        return part.has_hash or '"' not in part.validator
    return stated == part.validator


def _length(response) -> int | None:
    length = response.headers.get("Content-Length", "")
    return int(length) if length.isdecimal() and length.isascii() else None


def validator(response) -> str | None:
    """Returns what names exactly these bytes on this server: a strong ETag, or the date."""
    etag = response.headers.get("ETag")
    if etag and not etag.startswith("W/"):  # a weak one does not promise equal bytes
        return etag
    return response.headers.get("Last-Modified")
