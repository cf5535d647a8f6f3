"""Whether hosts can be reached at all, found out within seconds.

Without a network each look-up of a name, and each connection that nobody answers, can take many
seconds, once per source and attempt. So the first host is tried with one bare connection before
the first request, and only if it cannot be reached all others are, at the same time.
"""

import socket
import threading
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from keras_convnext.errors import first_line
from keras_convnext.pretrained.download import settings
from keras_convnext.pretrained.download.sources import HubFile, Url


def unreachable(sources: Sequence[HubFile | Url]) -> dict[HubFile | Url, str]:
    """Returns the sources to whose hosts no connection can be made, each with the reason.

    The result is empty if the host of the first source can be reached. Sources that are reached
    through a proxy, or that a mirror may have, are never in it.
    """
    found = _refused(sources[:1])
    return found | _refused(sources[1:]) if found else found


def _refused(sources: Sequence[HubFile | Url]) -> dict[HubFile | Url, str]:
    addresses = {source: source.address for source in sources if _is_direct(source)}
    answers: dict[str, str | None] = {}
    threads = [
        threading.Thread(target=_connect, args=(address, answers), daemon=True)
        for address in set(addresses.values())
    ]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + settings.CONNECT_TIMEOUT
    for thread in threads:
        thread.join(max(0.0, deadline - time.monotonic()))
    late = f"no answer within {settings.CONNECT_TIMEOUT:g} seconds"
    reasons = {source: answers.get(address, late) for source, address in addresses.items()}
    return {
        source: f"no connection to {urlsplit(source.address).hostname} ({reason})"
        for source, reason in reasons.items()
        if reason is not None
    }


def _is_direct(source: HubFile | Url) -> bool:
    from requests.utils import get_environ_proxies

    on_hub = isinstance(source, HubFile)
    if settings.offline_reason(on_hub) or (not on_hub and settings.mirror()):
        return False
    return not get_environ_proxies(source.address)


def _connect(address: str, answers: dict[str, str | None]) -> None:
    """Writes the reason why no connection comes about, or `None`, into `answers`."""
    try:
        parts = urlsplit(address)
        port = parts.port or {"http": 80, "https": 443}[parts.scheme]
        socket.create_connection((parts.hostname, port), settings.CONNECT_TIMEOUT).close()
        answers[address] = None
    except (OSError, ValueError) as error:  # a name or a port that can be none
        answers[address] = first_line(error)
