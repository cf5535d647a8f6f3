"""How much memory this process holds, and held at most."""

import resource
import sys
from pathlib import Path

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


def memory():
    """-> bytes by the names of `/proc/self/status`

    Raises:
        OSError: where the system has no such file.
    """
    pairs = (line.split(":") for line in STATUS.read_text().splitlines())
    return {name: 1024 * int(value.split()[0]) for name, value in pairs if value.endswith("kB")}


def resident():
    """-> bytes of the resident set; where the system does not tell, its peak so far"""
    return memory()["VmRSS"] if STATUS.exists() else peak()


def forget_peak():
    """The peak of the resident set so far is forgotten.

    Raises:
        OSError: where the system cannot.
    """
    CLEAR.write_text("5")


def peak():
    """-> bytes of the resident set at most, since `forget_peak`, or ever where that cannot be"""
    if STATUS.exists():
        return memory()["VmHWM"]
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
