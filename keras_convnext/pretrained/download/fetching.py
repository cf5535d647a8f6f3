"""The way from the sources of a file to a verified local copy: caches, then one source by one."""

from collections.abc import Iterator, Sequence
from pathlib import Path

from keras_convnext.pretrained.download import cache, http, hub, network, settings
from keras_convnext.pretrained.download.failures import (
    DownloadError,
    MismatchError,
    SourceError,
    UnreachableError,
    disk_reason,
    notice_licence,
)
from keras_convnext.pretrained.download.records import Check
from keras_convnext.pretrained.download.sources import HubFile, Url

Failures = list[tuple[HubFile | Url, SourceError]]


def fetch(
    sources: Sequence[HubFile | Url],
    *,
    name: str,
    licence: str | None = None,
    licence_url: str | None = None,
    latest: bool = True,
    check: Check | None = None,
) -> Path:
    """Returns a verified local file, downloading it if no cache holds one.

    The sources are tried in order. A copy of any of them that is already here, and whose content
    cannot have moved on, is taken before a request is made.

    Args:
        sources: the primary source, then fallbacks; all hold the same weights.
        name: what the user asked for, for messages.
        licence: name of terms worth a notice (non-commercial, gated); `None` says nothing.
        licence_url: where these terms are.
        latest: whether a hub file without a pinned revision is asked for anew, as its repository
            may have moved on; if not, any verified copy will do, without a request.
        check: called with the path of a file whose hash nobody published, before its hash is
            recorded; whatever it raises refuses the file. Pass a function that reads the file.

    Returns:
        The path of the file: read it, never write to it.

    Raises:
        DownloadError: no source gave the file.
        ValueError: no source was given, or an environment variable is malformed.
    """
    if not sources:
        raise ValueError(f"No source is given for {name!r}: pass at least one HubFile or Url.")
    if licence is not None:
        notice_licence(name, licence, licence_url)
    for source in sources:
        settled = not latest or _is_settled(source)
        if settled and (path := cache.accepted(source, check)) is not None:
            return path
    failures, unreachable = [], network.unreachable(sources)
    for source in sources:
        try:
            if source in unreachable:
                raise UnreachableError(unreachable[source])
            return _download(source, check)
        except SourceError as failure:
            failures.append((source, failure))
    lines = [f"Could not get the weights {name!r}{_what_to_do(failures)}"]
    lines += _explained(failures, check)
    if licence:
        lines.append(f"Its licence is {licence!r}: {licence_url or 'see the publisher'}.")
    error = DownloadError("\n".join(lines))
    error.reasons = tuple(str(reason) for _, reason in failures)
    raise error


def _is_settled(source: HubFile | Url) -> bool:
    """Whether a local copy may be used without asking the server for a newer one."""
    return (
        isinstance(source, Url)
        or source.is_pinned
        or source.place.is_file()
        or settings.offline_reason(on_hub=True) is not None
    )


def _download(source: HubFile | Url, check: Check | None) -> Path:
    on_hub = isinstance(source, HubFile)
    if reason := settings.offline_reason(on_hub):
        raise SourceError(reason)
    try:
        return (hub if on_hub else http).download(source, check)
    except MismatchError as mismatch:
        raise SourceError(f"the file that came is not the right one: {mismatch}") from mismatch
    except DownloadError:
        raise
    except OSError as error:
        raise SourceError(disk_reason(error, source)) from error


def _explained(failures: Failures, check: Check | None) -> Iterator[str]:
    """Yields the lines of the message that say why there is no file, and how to get it by hand."""
    yield "Tried:"
    for source, reason in failures:
        yield f"  {settings.without_password(source.address)}"
        yield f"    {reason}"
    copies = [line for source, _ in failures for line in cache.described_copies(source, check)]
    yield "In the caches:"
    yield from (f"  {line}" for line in copies or ["nothing"])
    yield "To fetch the file by hand, download one of these and save it as shown:"
    for source, _ in failures:
        pin = f" (sha256 {source.sha256})" if source.sha256 else ""
        yield f"  {settings.without_password(source.address)}{pin}"
        yield f"    -> {source.place}"


def _what_to_do(failures: Failures) -> str:
    """Returns how the first sentence of the message goes on."""
    instead = "pass the path of a file in place of the name, or save one where it is looked for"
    if all(isinstance(reason, UnreachableError) for _, reason in failures):
        return (
            f": no host could be reached. Without a network, {instead} (below); with "
            "HF_HUB_OFFLINE=1, or KERAS_CONVNEXT_OFFLINE=1 for every host, only what is in the "
            "caches is used, at once."
        )
    return f". You can also {instead}."
