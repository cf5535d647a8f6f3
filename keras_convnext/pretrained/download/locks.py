"""Locks between processes, and files that appear as a whole or not at all."""

import contextlib
import hashlib
import os
import warnings
from collections.abc import Iterator
from pathlib import Path

from keras_convnext.pretrained.download import settings


@contextlib.contextmanager
def lock(target: Path) -> Iterator[None]:
    """Keeps other processes from writing `target`; freed by the system if this one is killed."""
    from filelock import FileLock, Timeout

    path = _lock_path(target)
    path.parent.mkdir(parents=True, exist_ok=True)
    held = FileLock(path)
    try:
        held.acquire(timeout=settings.LOCK_NOTICE)
    except Timeout:
        warnings.warn(f"Waiting for another process that writes {target}.", stacklevel=4)
        held.acquire()
    try:
        yield
    finally:
        held.release()


def remove_unlocked(path: Path) -> bool:
    """Deletes a file unless a process holds its lock; returns whether it is gone."""
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


def _lock_path(target: Path) -> Path:
    # A digest, not the name itself: a long name with a suffix could be too long for the disk.
    name = str(target.relative_to(settings.cache_dir()))
    digest = hashlib.sha256(name.encode()).hexdigest()
    return settings.cache_dir() / "locks" / f"{digest[:16]}.lock"


def write_atomically(path: Path, text: str) -> None:
    """Replaces a file as a whole. The caller holds its lock, so there is one writer at a time."""
    draft = path.with_name(f"{path.name}.tmp")
    try:
        with open(draft, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(draft, path)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def sync_folder(folder: Path) -> None:
    """Makes a rename durable; only POSIX can open a folder for it."""
    if os.name == "posix":
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
