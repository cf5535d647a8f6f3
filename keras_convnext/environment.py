"""The versions of packages and the processor, for records and measurements."""

import contextlib
import importlib.metadata
import platform
from pathlib import Path

ALSO = {"tensorflow": ("tensorflow-cpu",)}  # other packages that bring the same


def versions(*packages):
    """Returns {"python": its version, package: its version, ...}, without what is missing."""
    found = {"python": platform.python_version()}
    for package in packages:
        for name in (package, *ALSO.get(package, ())):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(name)
    return found


def processor():
    """Returns the name of the processor as the system gives it."""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
