"""A web page that classifies photos: `page/` with a model, and with what runs it in browsers."""

import json
import shutil
import warnings
from pathlib import Path

from keras_convnext.export import placing
from keras_convnext.export.exporting import export
from keras_convnext.export.metadata import parsed

FORMAT = "web page"
PAGE = Path(__file__).parent / "page"
PARTS = ("index.html", "page.css", "page.js", "preprocessing.js")
RUNTIME = ("ort.wasm.bundle.min.mjs", "ort-wasm-simd-threaded.wasm")  # of onnxruntime-web
FILES = {*PARTS, "model.onnx", "model.json", *(f"runtime/{name}" for name in RUNTIME)}
PLACES = ("", "dist", "onnxruntime-web/dist", "node_modules/onnxruntime-web/dist")
OWN = {"input_shape": None, "input_dtype": None, "preprocessing": True, "softmax": None}
STUB = """\
// In place of this file comes that of the npm package onnxruntime-web, with the .wasm beside it.
export const missing = true;
"""
ADVICE = (
    "The page does not have what runs the model: `npm install onnxruntime-web`, then export again "
    f"with its folder as `runtime`, or copy {' and '.join(RUNTIME)} from its `dist` into the "
    "folder `runtime` of the page."
)


def write(model, folder, *, runtime=None, **options):
    """Writes the page into an empty folder; returns an `Exported`. See `export_for`."""
    given = [f"`{name}`" for name, usual in OWN.items() if options.pop(name, usual) != usual]
    if given:
        raise ValueError(f"A web page has its own input and output: omit {', '.join(given)}.")
    source = runtime_in(runtime) if runtime is not None else installed_runtime()
    _check_classifier(model)
    made = export(model, folder / "model.onnx", softmax=True, **options)
    if placing.companion(made.path).exists():
        raise ValueError("A model of more than 2 GB is too large for a browser.")
    said = {"title": _title(model, made), "bytes": made.bytes, **parsed(made.metadata, made.path)}
    (folder / "model.json").write_text(json.dumps(said, indent=1), encoding="utf-8")
    for name in PARTS:
        shutil.copyfile(PAGE / name, folder / name)
    _add_runtime(folder / "runtime", source)
    return made


def _check_classifier(model):
    from keras_convnext.export.plan import plan_of  # Keras, once it is needed

    task = plan_of(model).metadata["task"]
    if task != "classification":
        raise ValueError(
            f"A web page is for classifiers, and this model is for {task}: pass a `Classifier`, or "
            "write an .onnx file."
        )


def _title(model, made):
    named = made.metadata.get("weights") or made.metadata.get("variant")
    return named or getattr(model, "model", model).name


def runtime_in(folder):
    """Returns the folder with the files of onnxruntime-web, at or below a folder.

    Raises:
        FileNotFoundError: if they are not there.
    """
    for place in PLACES:
        found = Path(folder) / place
        if all((found / name).is_file() for name in RUNTIME):
            return found
    raise FileNotFoundError(
        f"No onnxruntime-web in {str(folder)!r}: needed are {' and '.join(RUNTIME)}, which "
        "`npm install onnxruntime-web` puts into node_modules/onnxruntime-web/dist."
    )


def installed_runtime():
    """Returns that folder of the `node_modules` nearest to the working directory, or `None`."""
    here = Path.cwd()
    for folder in (here, *here.parents):
        try:
            return runtime_in(folder / "node_modules")
        except FileNotFoundError:
            continue
    return None


def _add_runtime(folder, source):
    folder.mkdir()
    if source is None:
        (folder / RUNTIME[0]).write_text(STUB, encoding="utf-8")
        warnings.warn(ADVICE, stacklevel=4)  # the caller of `export_for`
        return
    for name in RUNTIME:
        shutil.copyfile(source / name, folder / name)
