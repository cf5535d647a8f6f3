"""Errors and notices of downloads, and which faults are retried."""

import errno
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path

from keras_convnext.errors import first_line
from keras_convnext.pretrained.download import settings
from keras_convnext.pretrained.download.sources import HubFile, Url

MAY_PASS = frozenset({408, 429, 500, 502, 503, 504})  # HTTP statuses
DISK_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EFBIG})


class DownloadError(OSError):
    """No source gave a verified file; the message says why for each, and how to do it by hand.

    Attributes:
        reasons: why each source did not give it, a tuple of str in the order of the sources; empty
            where none was asked.

    Example:
        from keras_convnext import ConvNeXtBase
        from keras_convnext.pretrained import DownloadError
        try:
            model = ConvNeXtBase()
        except DownloadError as error:
            print(error.reasons)
    """

    reasons: tuple[str, ...] = ()


class LicenceNotice(UserWarning):
    """The weights carry terms that the user should know. Said once per process and checkpoint."""


class FirstUseNotice(UserWarning):
    """Nobody published a hash of this file: the one seen now is recorded and compared later."""


class SourceError(Exception):
    """This source cannot give the file; the next one may."""


class UnreachableError(SourceError):
    """No connection to this host could be made at all, or it never answered."""


class TransientError(Exception):
    """This request failed in a way that may pass; another may succeed."""


class MismatchError(Exception):
    """The file is not what was promised."""


class UnreadableError(MismatchError):
    """A file whose hash nobody published arrived, and it cannot be read as a file of weights."""


def retried(request: Callable[[], Path | None]) -> Path | None:
    """Returns what `request` returns, repeated with growing pauses while its fault may pass.

    Raises:
        SourceError: the fault stayed, or may not pass.
    """
    for attempt in range(settings.ATTEMPTS):
        if attempt:
            time.sleep(settings.BACKOFF * 2 ** (attempt - 1))
        try:
            return request()
        except TransientError as broken:
            last = broken
    raise SourceError(f"{last} ({settings.ATTEMPTS} attempts)") from last


def disk_reason(error: OSError, source: HubFile | Url) -> str:
    """Returns what an error of the disk is called in a message."""
    if error.errno not in DISK_FULL:
        return f"{type(error).__name__}: {error}"
    folder, variable = str(settings.cache_dir()), "KERAS_CONVNEXT_HOME"
    if isinstance(source, HubFile):
        folder, variable = settings.hub_cache_dir() or "the hub's cache", "HF_HOME"
    free = f" ({shutil.disk_usage(folder).free:,} bytes free)" if os.path.isdir(folder) else ""
    return (
        f"no room for the file in {folder}{free}: {error.strerror or error}. Free some space or "
        f"let {variable} name a folder on another disk"
    )


def unreachable(
    address: str, error: BaseException, what: str = "no connection to"
) -> UnreachableError:
    """Returns the failure of a host to which no connection could be made, or that is silent."""
    host = settings.without_password(address).split("/")[2]
    return UnreachableError(f"{what} {host} ({first_line(error)})")


def chain(error: BaseException | None) -> Iterator[BaseException]:
    """Yields an error and what caused it."""
    while error is not None:
        yield error
        error = error.__cause__


def notice_licence(name: str, licence: str, licence_url: str | None) -> None:
    """Warns of the terms of weights, once per process."""
    if (name, licence) in _noticed:
        return
    _noticed.add((name, licence))
    where = f" Read it at {licence_url}." if licence_url else ""
    warnings.warn(
        f"The weights {name!r} come under the licence {licence!r}.{where}",
        LicenceNotice,
        stacklevel=4,
    )


_noticed: set[tuple[str, str]] = set()
