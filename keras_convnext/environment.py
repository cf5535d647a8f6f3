"""On what a figure was made: the versions of packages, and the processor."""

import contextlib
import importlib.metadata
import platform
from pathlib import Path


def versions(*packages):
    """-> {"python": its version, package: its version, ...}, without what is not installed.

    For `"tensorflow"`, which has several packages, the one that is installed.
    """
    found = {"python": platform.python_version()}
    for package in packages:
        for name in (package, f"{package}-cpu") if package == "tensorflow" else (package,):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                found[name] = importlib.metadata.version(name)
    return found


def processor():
    """-> the name of the processor as the system gives it"""
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
