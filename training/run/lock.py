"""One writer for the folder of a run."""

import contextlib
import datetime
import os
import socket

from filelock import FileLock, Timeout

LOCK = ".writer.lock"


class RunInUseError(ValueError):
    """Another process writes into the folder of the run; says which."""


@contextlib.contextmanager
def only_writer(run, is_writer=True):
    """Holds the lock of the folder `run` inside of a `with` block.

    The operating system gives it back when the process ends, however it ends.

    Args:
        run: the folder of a run.
        is_writer: whether this process writes; the others of a distributed run need no lock.

    Raises:
        RunInUseError: (a ValueError) before the block, if another process holds it.
    """
    if not is_writer:
        yield
        return
    path = run / LOCK
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        raise RunInUseError(
            f"{run} is being written by {_holder(path)}. Wait until that run ends and resume then, "
            "or start another one with --resume=none."
        ) from None
    try:
        now = datetime.datetime.now().isoformat(timespec="seconds")
        path.write_text(f"process {os.getpid()} on {socket.gethostname()} since {now}\n")
        yield
        path.unlink(missing_ok=True)  # while it is held; after a kill an empty claim stays
    finally:
        lock.release()


def _holder(path):
    with contextlib.suppress(OSError):
        return path.read_text().strip() or "another process"
    return "another process"
