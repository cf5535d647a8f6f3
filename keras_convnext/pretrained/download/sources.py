"""Sources of a file: a repository of the Hugging Face hub, or any other web address."""

import re
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from keras_convnext.pretrained.download import settings

SHA256 = re.compile(r"[0-9a-f]{64}")
COMMIT = re.compile(r"[0-9a-f]{40}")
# Starts with no dot and holds no separator, colon or control character: such a part can neither
# climb out of the cache, nor name a drive, nor hide.
_SAFE_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.+=@() -]{0,199}")


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
        most: upper bound of the bytes where the size is not known; default: `settings.MOST`.

    Raises:
        ValueError: a field is malformed or would leave the cache.
    """

    repo: str
    filename: str
    revision: str | None
    sha256: str | None = None
    size: int | None = None
    most: int | None = None

    def __post_init__(self):
        _check_relative("repo", self.repo)
        _check_relative("filename", self.filename)
        if self.revision is not None:
            _check_relative("revision", self.revision)
        _check_pin(self.sha256, self.size, self.most)

    @property
    def is_pinned(self) -> bool:
        """Whether the revision is a commit, so that its content cannot change."""
        return bool(COMMIT.fullmatch(self.revision or ""))

    @property
    def page(self) -> str:
        """The repository's page, where licences are accepted."""
        return f"{settings.endpoint()}/{self.repo}"

    @property
    def address(self) -> str:
        """The address of the bytes."""
        return f"{self.page}/resolve/{quote(self.revision or 'main')}/{quote(self.filename)}"

    @property
    def place(self) -> Path:
        """Where a copy that was fetched by hand is looked for."""
        revision = (self.revision or "main").replace("/", "--")
        folder = settings.cache_dir() / "hub" / self.repo.replace("/", "--")
        return folder / revision / self.filename


@dataclass(frozen=True)
class Url:
    """A file on any other host.

    Args:
        url: `http` or `https` address.
        filename: its name in our cache and on a mirror; one name stands for one content.
        sha256: 64 lower-case hex digits, where known.
        sha256_prefix: the first 8 hex digits, as some publishers put them into the file's name.
        size: bytes, where known.
        most: upper bound of the bytes where the size is not known; default: `settings.MOST`.

    Raises:
        ValueError: a field is malformed or would leave the cache.
    """

    url: str
    filename: str
    sha256: str | None = None
    sha256_prefix: str | None = None
    size: int | None = None
    most: int | None = None

    def __post_init__(self):
        settings.checked_address("url", self.url)
        _check_relative("filename", self.filename)
        _check_pin(self.sha256, self.size, self.most)
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
        return settings.cache_dir() / "files" / self.filename


def most_bytes(source: HubFile | Url) -> int:
    """Returns how many bytes a server may send of this file."""
    return source.size or source.most or settings.MOST


def _check_relative(field: str, value: str) -> None:
    parts = value.split("/")
    if not all(_SAFE_PART.fullmatch(part) for part in parts) or value.endswith(".part"):
        raise ValueError(
            f"{field}={value!r} is not a plain relative name: letters, digits and _.+=@()- in "
            "parts separated by '/', no part beginning with a dot, not ending in '.part'."
        )


def _check_pin(sha256: str | None, *sizes: int | None) -> None:
    if sha256 is not None and not SHA256.fullmatch(sha256):
        raise ValueError(f"sha256={sha256!r} is not 64 lower-case hex digits.")
    for size in sizes:
        if size is not None and size <= 0:
            raise ValueError(f"size={size!r} is not a positive number of bytes.")
