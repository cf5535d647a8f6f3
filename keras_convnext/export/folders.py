"""`export_for()`: a model becomes the folder that a web page or a model server runs as it is."""

import dataclasses
import os
from pathlib import Path

from keras_convnext import checks
from keras_convnext.export import placing, servers, web

TARGETS = {"web": web, "triton": servers.Triton, "ovms": servers.OpenVinoModelServer}


def export_for(target, model, folder, *, replace=False, runtime=None, **options):
    """Writes a model into a new folder that is complete for what runs it.

    "web": a page that classifies photos in the browser, which neither uploads them nor loads
    anything from elsewhere. Any web server serves it: `python -m http.server --directory page`.
    What runs the model there, onnxruntime-web, is copied into the page where it is found, in
    `runtime` or in the `node_modules` of the working directory or one above; else the page says
    where to get it. The model sees the pixels that its `EvalTransform` gives, to 1/255; photos are
    always turned as their EXIF says.

    "triton": a model of NVIDIA Triton's model repository, which is the folder above:
    `config.pbtxt`, `1/model.onnx` and, where the classes have names, `labels.txt`. "ovms": a model
    of the OpenVINO Model Server, `1/model.xml` with its numbers. The folder's name is the model's.

    Args:
        target: `"web"`, `"triton"` or `"ovms"`.
        model: as of `export`; for the web a classifier.
        folder: path of the new folder, which is there once it is complete.
        replace: whether a folder that an earlier call has written there is replaced.
        runtime: for the web, a folder with the npm package onnxruntime-web: its `dist`, itself, or
            the `node_modules` that it is in.
        **options: the other arguments of `export`. The web page has its own input and output: for
            it they are `dtype`, `quantize`, `calibration`, `images` and `check`.

    Returns:
        An `Exported`, whose path is the folder.

    Warns:
        UserWarning: if the page does not have what runs the model.

    Raises:
        ValueError: if an argument has a value that is not allowed, or a page is to be made of a
            model that is no classifier.
        FileExistsError: (an OSError) if the folder exists and `replace` is not given, or has files
            that are not of such an export.
        FileNotFoundError: (an OSError) if `runtime` has no onnxruntime-web.
        OSError, ExportError, ProofError, MissingPackageError, TypeError: as of `export`.

    Example:
        # pip install "keras-convnext[onnx]"
        from keras_convnext import Classifier
        from keras_convnext.export import export_for
        export_for("triton", Classifier("convnext_tiny.fb_in1k"), "tiny")
    """
    checks.one_of("target", target, tuple(TARGETS))
    checks.one_of("replace", replace, (True, False))
    if runtime is not None and target != "web":
        raise ValueError(f"`runtime` is for 'web', received it with target={target!r}.")
    check_folder(target, folder, replace)
    writer = TARGETS[target]
    more = {} if runtime is None else {"runtime": runtime}
    with placing.drafts(Path(os.path.abspath(folder))) as draft:
        draft.mkdir()
        made = writer.write(model, draft, **more, **options)
        size = placing.size_of(draft)
    path = Path(os.fspath(folder))
    return dataclasses.replace(made, path=path, format=writer.FORMAT, bytes=size)


def check_folder(target, folder, replace):
    """Raises a FileExistsError if a folder is not to be written at `folder`; see `export_for`."""
    folder = Path(os.fspath(folder))
    if not folder.exists():
        return
    if not folder.is_dir():
        raise FileExistsError(f"{str(folder)!r} is a file: name a new folder.")
    if not replace:
        raise FileExistsError(f"The folder {str(folder)!r} exists; `replace=True` replaces it.")
    for path in folder.rglob("*"):
        name = path.relative_to(folder).as_posix()
        if not path.is_dir() and name not in TARGETS[target].FILES:
            raise FileExistsError(
                f"The folder {str(folder)!r} has files that are not of such an export, for "
                f"example {name!r}: name a new folder."
            )
