"""On what a figure was measured."""

import contextlib
import functools
import importlib.metadata
import os
import platform
import subprocess
from pathlib import Path


def machine(*packages):
    """-> {"hardware", "versions"}; packages that are not installed are left out."""
    versions = {"python": platform.python_version()}
    for package in packages:
        for name in {"tensorflow": ("tensorflow", "tensorflow-cpu")}.get(package, (package,)):
            with contextlib.suppress(importlib.metadata.PackageNotFoundError):
                versions[name] = importlib.metadata.version(name)
    hardware = {"processor": processor(), "cores": os.cpu_count(), "memory_gb": memory_gb()}
    if gpus():
        hardware["gpus"] = gpus()
    return {"versions": versions, "hardware": hardware}


@functools.cache
def gpus():
    """-> names of NVIDIA's GPUs as their driver gives them, `[]` where there is none"""
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(
            "\n"
        )[:-1]
    except (OSError, subprocess.CalledProcessError):
        return []


def processor():
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def memory_gb():
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
