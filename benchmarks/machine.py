"""On what a figure was measured."""

import functools
import os
import subprocess
from pathlib import Path

from keras_convnext.environment import processor, versions


def machine(*packages):
    """-> {"hardware", "versions"}; packages that are not installed are left out."""
    hardware = {"processor": processor(), "cores": os.cpu_count(), "memory_gb": memory_gb()}
    if pages := huge_pages():
        hardware["huge_pages"] = pages
    if gpus():
        hardware["gpus"] = gpus()
    return {"versions": versions(*packages), "hardware": hardware}


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


def huge_pages():
    """-> for which memory Linux takes pages of 2 MB, `"always"`, `"madvise"` (that which asks) or
    `"never"`; `None` where it does not say"""
    try:
        choices = Path("/sys/kernel/mm/transparent_hugepage/enabled").read_text()
    except OSError:
        return None
    return choices.partition("[")[2].partition("]")[0] or None


def memory_gb():
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 1e9, 1)
