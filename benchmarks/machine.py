"""On what a figure was measured."""

import contextlib
import importlib.metadata
import os
import platform
from pathlib import Path


def machine(*packages):
    """-> {"hardware", "versions"}; packages that are not installed are left out."""
    versions = {"python": platform.python_version()}
    for package in packages:
        for name in {"tensorflow": ("tensorflow", "tensorflow-cpu")}.get(package, (package,)):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions[name] = importlib.metadata.version(name)
    hardware = {"processor": processor(), "cores": os.cpu_count(), "memory_gb": memory_gb()}
    return {"versions": versions, "hardware": hardware}


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def memory_gb():
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
