"""The hardware and the versions behind a measurement."""

import functools
import os
import subprocess
from pathlib import Path

from keras_convnext.environment import processor, versions


def machine(*packages):
    """Returns `{"hardware", "versions"}`, without packages that are not installed."""
    hardware = {"processor": processor(), "cores": os.cpu_count(), "memory_gb": memory_gb()}
    if pages := huge_pages():
        hardware["huge_pages"] = pages
    if gpus():
        hardware["gpus"] = gpus()
    return {"versions": versions(*packages), "hardware": hardware}


@functools.cache
def gpus():
    """Returns the names of the NVIDIA GPUs, as the driver gives them."""
    try:
        command = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split(
            "\n"
        )[:-1]
    except (OSError, subprocess.CalledProcessError):
        return []


def huge_pages():
    """Returns when Linux uses pages of 2 MB: `"always"`, `"madvise"` (on request), `"never"`, or
    `None` where the system does not say."""
    try:
        choices = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return None
    return choices.partition("[")[2].partition("]")[0] or None


def memory_gb():
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
