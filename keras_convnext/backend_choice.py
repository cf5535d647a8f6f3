"""Chooses a backend for Keras where nobody chose one: one that is installed.

Keras takes `KERAS_BACKEND`, else what keras.json says, else TensorFlow, and ends in a traceback if
that is not installed. It writes keras.json itself, with TensorFlow in it, when it is first
imported: so "tensorflow" in that file does not say that anybody chose it.
"""

import importlib.util
import json
import os
import sys
from pathlib import Path

BACKENDS = ("tensorflow", "jax", "torch")  # in the order of preference


class BackendError(ImportError):
    """Keras cannot be imported, because no backend or not the chosen one is installed."""


def choose():
    """Sets `KERAS_BACKEND` where nothing says which backend to take and TensorFlow is missing.

    Raises:
        BackendError: if the backend that was chosen, or every one, is not installed.
    """
    variable, file = os.environ.get("KERAS_BACKEND"), _keras_json()
    named = variable or _in_file(file)
    if named not in (None, "tensorflow") or variable:
        return _check(named, "KERAS_BACKEND" if variable else file)
    installed = [backend for backend in BACKENDS if _is_installed(backend)]
    if not installed:
        raise BackendError(
            "Keras needs a backend and none is installed. Install one: `pip install jax`, `pip "
            "install torch` or `pip install tensorflow`."
        )
    if installed[0] == "tensorflow":
        return
    os.environ["KERAS_BACKEND"] = installed[0]
    if len(installed) > 1:
        print(
            f"keras_convnext: Keras runs on {installed[0]}, because TensorFlow is not installed; "
            f"set KERAS_BACKEND={installed[1]} to take the other one.",
            file=sys.stderr,
        )


def _check(backend, source):
    if backend in BACKENDS and not _is_installed(backend):
        others = [other for other in BACKENDS if _is_installed(other)]
        advice = f" or set KERAS_BACKEND={others[0]}, which is" if others else ""
        raise BackendError(
            f"The Keras backend is {backend!r} by {source}, and it is not installed: `pip install "
            f"{backend}`{advice}."
        )


def _keras_json():
    """Returns the path of Keras' own file of settings."""
    home = os.environ.get("KERAS_HOME")
    if home is None:
        base = os.path.expanduser("~")
        home = os.path.join(base if os.access(base, os.W_OK) else "/tmp", ".keras")
    return Path(os.path.expanduser(home)) / "keras.json"


def _in_file(path):
    """Returns the backend that keras.json names, or `None`."""
    try:
        return json.loads(path.read_text()).get("backend")
    except (OSError, ValueError, AttributeError, RecursionError):
        return None


def _is_installed(package):
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False
