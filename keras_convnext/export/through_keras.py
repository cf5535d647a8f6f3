"""SavedModel, LiteRT and PyTorch's `.pt2`, by Keras' own exporters, each on its backend.

Keras writes a SavedModel and LiteRT on TensorFlow, `.pt2` on PyTorch. Where Keras runs on another
backend, the model goes through a `.keras` file to a process of its own that has the right one:
`python -m keras_convnext.export.through_keras` is that process.
"""

import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import keras
import numpy as np

from keras_convnext.errors import first_line
from keras_convnext.export.graph.rules import ExportError
from keras_convnext.export.packages import MissingPackageError
from keras_convnext.whole_models import load_model

BACKENDS = {"": "tensorflow", ".tflite": "tensorflow", ".pt2": "torch"}  # by the end of the name
KERAS_FORMATS = {"": "tf_saved_model", ".tflite": "litert", ".pt2": "torch"}
SECONDS = 1800  # that the other process may take


def save(model, path, shape, images=None):
    """Writes a model in the format of `path`, and returns the file's outputs for images.

    Args:
        model: the `keras.Model`.
        path: of the file, or of the folder of a SavedModel.
        shape: of one input, without the batch, which is free.
        images: float32 array of images to run the file on, or `None`.

    Returns:
        List of arrays, the outputs of the file in their order (by name, where they have names);
        `None` without images.

    Raises:
        ExportError: (a ValueError) if Keras cannot write the model.
        MissingPackageError: (an ImportError) if the backend is not installed.
    """
    backend = BACKENDS[path.suffix.lower()]
    if keras.backend.backend() != backend:
        return _in_other_process(model, path, shape, images, backend)
    try:
        _write(model, path, shape)
    except Exception as error:  # of the exporters, it may be any
        reason = first_line(error)
        raise ExportError(f"Keras cannot write {model.name} as {path.name}: {reason}") from error
    return None if images is None else _run(path, images)


def _write(model, path, shape):
    kind = path.suffix.lower()
    spec = keras.InputSpec(shape=(None, *shape), dtype="float32")
    more = {}
    if kind == ".pt2":
        import torch

        more = {"dynamic_shapes": {0: torch.export.Dim("batch")}}
    model.export(
        os.fspath(path), KERAS_FORMATS[kind], verbose=False, input_signature=[spec], **more
    )


def _run(path, images):
    kind = path.suffix.lower()
    made = {"": _run_saved_model, ".tflite": _run_litert, ".pt2": _run_torch}[kind](path, images)
    return [np.asarray(part, "float32") for part in made]


def _run_saved_model(path, images):
    import tensorflow as tf

    loaded = tf.saved_model.load(os.fspath(path))  # it holds the variables
    made = loaded.serve(tf.constant(images))
    return [part.numpy() for part in tf.nest.flatten(made)]


def _run_litert(path, images):
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(os.fspath(path))
    (source,) = interpreter.get_input_details()
    interpreter.resize_tensor_input(source["index"], images.shape)
    interpreter.allocate_tensors()
    interpreter.set_tensor(source["index"], images)
    interpreter.invoke()
    details = sorted(interpreter.get_output_details(), key=lambda detail: detail["name"])
    return [interpreter.get_tensor(detail["index"]) for detail in details]


def _run_torch(path, images):
    import torch

    made = torch.export.load(os.fspath(path)).module()(torch.from_numpy(images))
    flat = torch.utils._pytree.tree_leaves(made)
    return [part.detach().numpy() for part in flat]


# ---------------------------------------------------------------- the other process


def _in_other_process(model, path, shape, images, backend):
    if importlib.util.find_spec(backend) is None:
        raise MissingPackageError(
            f"{path.name} is written by Keras on {backend}, which is not installed: "
            f"`pip install {backend}`."
        )
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        model.save(folder / "model.keras")
        if images is not None:
            np.save(folder / "images.npy", images)
        (folder / "task.json").write_text(json.dumps({"path": os.fspath(path), "shape": shape}))
        paths = os.pathsep.join(filter(None, sys.path))
        environment = {**os.environ, "KERAS_BACKEND": backend, "PYTHONPATH": paths}
        command = [sys.executable, "-m", "keras_convnext.export.through_keras", str(folder)]
        try:
            done = subprocess.run(
                command, env=environment, capture_output=True, text=True, timeout=SECONDS
            )
        except subprocess.TimeoutExpired:
            raise ExportError(
                f"{path.name} is written by Keras on {backend}, in another process, which was "
                f"ended after {SECONDS} seconds, its limit. Start Python with "
                f"KERAS_BACKEND={backend} and export the model there, where there is none."
            ) from None
        if done.returncode:
            line = (done.stderr.strip().splitlines() or ["it ended without a word"])[-1]
            raise ExportError(
                f"{path.name} is written by Keras on {backend}, in another process, which failed: "
                f"{line} A model with layers of your own is exported where they are known: start "
                f"Python with KERAS_BACKEND={backend} and export it there."
            )
        if images is None:
            return None
        with np.load(folder / "outputs.npz") as found:
            return [found[name] for name in found.files]


def _work_on(folder):
    task = json.loads((folder / "task.json").read_text())
    model, path = load_model(folder / "model.keras"), Path(task["path"])
    images = folder / "images.npy"
    made = save(model, path, task["shape"], np.load(images) if images.exists() else None)
    if made is not None:
        np.savez(folder / "outputs.npz", *made)


if __name__ == "__main__":
    _work_on(Path(sys.argv[1]))
