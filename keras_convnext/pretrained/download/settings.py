"""The environment variables and the time and size limits that downloads obey.

The variables are read at the time of the call, so that a program may set them after the import.
"""

import os
import re
from pathlib import Path
from urllib.parse import urlsplit

CONNECT_TIMEOUT = 5.0  # seconds until the server has accepted the connection
ANSWER_TIMEOUT = 10.0  # seconds without one byte, until a server has answered at all
READ_TIMEOUT = 30.0  # seconds without one new byte from a server that has answered
ATTEMPTS = 4  # requests per address when the fault may pass (5xx, reset, stall)
BACKOFF = 1.0  # seconds before the second attempt, doubled before each further one
LOCK_NOTICE = 5.0  # seconds of waiting for another process before saying so
CHUNK = 1 << 20  # bytes per write
MOST = 16 << 30  # bytes of a file whose size is not known: more than any ConvNeXt has
MOST_OF_AN_ERROR = 1 << 20  # bytes of what a server sends with an error or a redirect


def cache_dir() -> Path:
    """Returns our own cache (`KERAS_CONVNEXT_HOME`), absolute; it need not exist yet."""
    home = os.environ.get("KERAS_CONVNEXT_HOME") or "~/.cache/keras_convnext"
    return Path(os.path.expandvars(home)).expanduser().absolute()


def hub_cache_dir() -> str | None:
    """Returns the hub's shared cache as the environment says now; `None`: the library decides."""
    folder = os.environ.get("HF_HUB_CACHE") or os.environ.get("HUGGINGFACE_HUB_CACHE")
    if not folder and (home := os.environ.get("HF_HOME")):
        folder = os.path.join(home, "hub")
    return os.path.expandvars(os.path.expanduser(folder)) if folder else None


def endpoint() -> str:
    """Returns the address of the hub (`HF_ENDPOINT`), without a slash at its end.

    Raises:
        ValueError: the variable holds no web address.
    """
    address = os.environ.get("HF_ENDPOINT") or "https://huggingface.co"
    return checked_address("HF_ENDPOINT", address).rstrip("/")


def mirror() -> str | None:
    """Returns the address that is tried before the original host (`KERAS_CONVNEXT_MIRROR`).

    Raises:
        ValueError: the variable holds no web address.
    """
    address = os.environ.get("KERAS_CONVNEXT_MIRROR", "").strip().rstrip("/")
    return checked_address("KERAS_CONVNEXT_MIRROR", address) if address else None


def checked_address(field: str, value: str) -> str:
    """Returns `value` if it is an http or https address.

    Raises:
        ValueError: it is not; the message begins with `field`.
    """
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"{field}={value!r} is not an http:// or https:// address.")
    return value


def without_password(address: str) -> str:
    """Returns a web address without user and password, to be shown."""
    return re.sub(r"//[^/@]*@", "//", address)


def offline_reason(on_hub: bool) -> str | None:
    """Returns why no request may be made, or `None`. The hub's variables concern the hub alone."""
    variables = ["KERAS_CONVNEXT_OFFLINE"]
    if on_hub:
        variables += ["HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"]
    on = [variable for variable in variables if _is_on(variable)]
    return f"{on[0]} is set, so no request was made" if on else None


def _is_on(variable: str) -> bool:
    return os.environ.get(variable, "").strip().lower() in {"1", "true", "yes", "on"}
