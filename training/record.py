"""What a run leaves: a folder with config, versions, log, model, curves, predictions, result."""

import contextlib
import dataclasses
import datetime
import importlib.metadata
import json
import os
import platform
import subprocess
from pathlib import Path

import keras
import numpy as np

from keras_convnext.pretrained.saving import replacing

PACKAGES = ("keras", "tensorflow", "tensorflow-cpu", "jax", "torch", "numpy", "scikit-learn")


def new_folder(output, name):
    """-> a new folder `<output>/<date>_<name>`, numbered if the name is taken."""
    stem = f"{datetime.date.today().isoformat()}_{name}"
    for number in range(1, 10_000):
        folder = Path(output) / (stem if number == 1 else f"{stem}-{number}")
        with contextlib.suppress(FileExistsError):
            folder.mkdir(parents=True)
            return folder
    raise FileExistsError(f"{Path(output) / stem} and 9999 more exist: clear {output}.")


def write_json(path, content):
    """Writes atomically: the file is the old one or the new one, never half of it."""
    with replacing(path) as draft:
        draft.write_text(json.dumps(content, indent=2, default=str) + "\n")


def circumstances(config):
    """-> what a reader needs to repeat the run."""
    return {
        "config": dataclasses.asdict(config),
        "backend": keras.backend.backend(),
        "python": platform.python_version(),
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "versions": {name: version for name in PACKAGES if (version := _version(name))},
        "commit": _commit(),
    }


def _version(package):
    with contextlib.suppress(importlib.metadata.PackageNotFoundError):
        return importlib.metadata.version(package)


def _commit():
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    with contextlib.suppress(OSError, subprocess.CalledProcessError):
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    return "unknown"


def _pyplot():
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    return pyplot


def plot_curves(history, path):
    """Loss and accuracy over the epochs, training and test."""
    plt = _pyplot()
    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    epochs = np.arange(1, len(history["loss"]) + 1)
    for axis, key in zip(axes, ("loss", "accuracy"), strict=True):
        axis.plot(epochs, history[key], label="training")
        axis.plot(epochs, history[f"val_{key}"], label="test")
        axis.set(xlabel="epoch", ylabel=key, title=key.capitalize())
        axis.grid(alpha=0.3)
        axis.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def plot_predictions(images, labels, probabilities, class_names, path, rows=6, columns=10):
    """A grid of test images, each with its prediction; mistakes come first, in red."""
    plt = _pyplot()
    predicted = probabilities.argmax(-1)
    order = np.argsort(predicted == labels, kind="stable")[: rows * columns]
    figure, axes = plt.subplots(
        rows, columns, figsize=(1.25 * columns, 1.55 * rows), layout="constrained"
    )
    for axis in axes.flat:
        axis.axis("off")
    for axis, index in zip(axes.flat, order, strict=False):
        right = predicted[index] == labels[index]
        title = f"{class_names[predicted[index]]}  {probabilities[index].max():.0%}"
        if not right:
            title += f"\nis {class_names[labels[index]]}"
        axis.imshow(images[index].squeeze() / 255, cmap="gray_r" if images.shape[-1] == 1 else None)
        axis.set_title(title, fontsize=9, color="black" if right else "tab:red")
    wrong = int((predicted != labels).sum())
    figure.suptitle(f"Test images with prediction and confidence: {wrong} of {len(labels)} wrong")
    figure.savefig(path, dpi=120)
    plt.close(figure)
