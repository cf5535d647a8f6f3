"""The memory of this process: now, and at its peak."""

import resource
import sys
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory():
    """Returns the sizes in `/proc/self/status`, in bytes, by name.

    Raises:
        OSError: where the system has no such file.
    """
    pairs = (line.split(":") for line in STATUS.read_text().splitlines())
    return {name: 1024 * int(value.split()[0]) for name, value in pairs if value.endswith("kB")}


def resident():
    """Returns the resident set in bytes, or its peak so far where the system gives no more."""
    return memory()["VmRSS"] if STATUS.exists() else peak()


def forget_peak():
    """The peak of the resident set so far is forgotten.

    Raises:
        OSError: where the system cannot.
    """
    CLEAR.write_text("5")


def peak():
    """Returns the peak of the resident set in bytes, since `forget_peak` where possible."""
    if STATUS.exists():
        return memory()["VmHWM"]
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
