"""The command `keras-convnext`: published checkpoints listed, run, converted and verified.

Exit codes: 0 all is well, 1 something failed, 2 the command was used wrongly, 130 interrupted.
Results go to stdout, notes and errors to stderr. Keras is imported only by what needs a model.
"""

import argparse
import contextlib
import csv
import dataclasses
import io
import json
import os
import re
import sys
import warnings
from pathlib import Path

from keras_convnext import labels
from keras_convnext.pretrained import download, loading, registry, specification
from keras_convnext.variants import VARIANTS
from keras_convnext.version import __version__

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".jp2", ".avif"),
)
DESTINATIONS = (".keras", ".weights.h5", ".safetensors")
SORT_KEYS = ("name", "params", "size", "top1", "licence")
SHAPES = ("depths", "dims", "kernel_sizes", "stem", "activation", "norm", "layer_scale", "grn")


class UsageError(Exception):
    """The command line asks for something that cannot be meant."""


def main(argv=None):
    """Runs the command line `argv` (default: that of the process) and returns the exit code."""
    arguments = _parser().parse_args(argv)
    try:
        with _warnings_as_notes():
            code = arguments.run(arguments)
        sys.stdout.flush()
        return code
    except UsageError as error:
        _say(f"keras-convnext {arguments.command}: {error}")
        return 2
    except BrokenPipeError:  # the reader has seen enough; nor may the last flush complain
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except (ValueError, OSError) as error:
        _say(f"keras-convnext {arguments.command}: {error}")
        return 1
    except KeyboardInterrupt:
        _say("Interrupted.")
        return 130


# ---------------------------------------------------------------- list and info


def run_list(arguments):
    rows = registry.search(
        family=arguments.family,
        licence=arguments.licence,
        max_params=arguments.max_params,
        min_top1=arguments.min_top1,
        size=arguments.size,
        variant=arguments.variant,
        label_set=arguments.label_set,
    )
    rows = _sorted(rows, arguments.sort)
    if arguments.json:
        _print_json([_row_as_dict(row) for row in rows])
        return 0
    columns = ("name", "params", "size", "top-1", "licence", "where")
    _print_table(columns, [_row_as_cells(row) for row in rows])
    if not rows:
        _say("No checkpoint meets all of these conditions.")
    return 0


def _sorted(rows, key):
    """Ascending, but the best accuracy first; rows without a figure come last."""
    if key is None:
        return list(rows)
    if key == "top1":
        return sorted(rows, key=lambda row: -(row.top1 or 0))
    if key == "licence":
        return sorted(rows, key=lambda row: row.licence.name.lower())
    return sorted(rows, key=lambda row: getattr(row, key))


def _row_as_cells(row):
    top1 = "-" if row.top1 is None else f"{row.top1:.1f}"
    return row.name, _millions(row.params), str(row.size), top1, row.licence.name, _where(row)


def _where(row):
    first = row.sources[0]
    return f"hf://{first.repo}" if first.repo else first.url.split("/")[2]


def _row_as_dict(row):
    return {"name": row.name, **dataclasses.asdict(row), "top1": row.top1}


def run_info(arguments):
    row = _row(arguments.name, arguments.variant)
    if row is None:
        raise ValueError(
            f"{arguments.name!r} is a file; `info` is about published checkpoints, named as by "
            "`keras-convnext list`. For a file use `keras-convnext verify`."
        )
    cached = _cached(row)
    if arguments.json:
        architecture = dataclasses.asdict(row.architecture())
        _print_json({**_row_as_dict(row), "architecture": architecture, "cached": cached})
    else:
        _print_table(("field", "value"), _facts(row, cached))
    return 0


def _cached(row):
    """-> where the verified file of the row is, or `None`."""
    sources = (specification._source(source, row) for source in row.sources)
    found = filter(None, map(download.cached, sources))
    return next(map(str, found), None)


def _facts(row, cached):
    architecture = row.architecture()
    is_default = registry.IMAGENET.get(row.variant) == row.tag
    yield "name", row.name
    yield "also called", row.id + (', and `weights="imagenet"` of its variant' * is_default)
    yield "family", row.family
    yield from ((field, str(getattr(architecture, field))) for field in SHAPES)
    yield "parameters", f"{row.params:,}"
    yield "classes", f"{row.classes} ({row.label_set})" if row.classes else "none: features only"
    yield "evaluation", _in_words(_row_transform(row))
    if row.test_size:
        yield "better at", f"{row.test_size} pixels, crop {row.test_crop_pct}"
    yield "mean, std", f"{architecture.mean}, {architecture.std}"
    yield from (("accuracy", _accuracy_in_words(figure)) for figure in row.accuracy)
    yield "licence", f"{row.licence.name}, {row.licence.url}"
    yield from (("notice", text) for text in _notices(row))
    for source in row.sources:
        yield "source", _source_in_words(source)
    yield "cached", cached or "no"


def _notices(row):
    licence = row.licence
    words = (licence.notice, licence.remark, row.note)
    kinds = (
        "non-commercial use only" * licence.non_commercial,
        "gated: its authors ask for a login and the acceptance of the licence" * licence.gated,
    )
    return [text for text in (*kinds, *words) if text]


def _accuracy_in_words(figure):
    top5 = "" if figure.top5 is None else f", top-5 {figure.top5} %"
    size = "" if figure.size is None else f" at {figure.size}"
    zero_shot = " (zero-shot)" * figure.zero_shot
    return f"top-1 {figure.top1} %{top5}{size}{zero_shot}, {figure.source}"


def _source_in_words(source):
    place = source.url
    if source.repo:
        revision = f"@{source.revision}" if source.revision else ""
        place = f"hf://{source.repo}{revision}/{source.file}"
    pin = f", sha256 {source.sha256}" if source.sha256 else ", no sha256 published"
    return place + pin + ", without classifier" * (not source.top) + ", gated" * source.gated


# ---------------------------------------------------------------- what a name stands for


@dataclasses.dataclass(frozen=True)
class Weights:
    """What was named on the command line.

    Attributes:
        name: for messages.
        variant: the architecture.
        path: the local, verified file.
        row: of the registry, or `None` for any other file.
    """

    name: str
    variant: object
    path: Path
    row: object = None

    @property
    def classes(self):
        """Width of the classifier in the file, 0 without one."""
        return loading.open_checkpoint(self.path, self.variant).classes or 0

    def build(self, **arguments):
        """-> the model, filled; without a classifier where the file has none."""
        import keras

        from keras_convnext.models import ConvNeXt

        keras.config.set_image_data_format("channels_last")
        return ConvNeXt(self.variant, include_top=self.classes > 0, weights=self.path, **arguments)


def _weights(name, variant):
    """-> the `Weights` of a registry name, a path or a hub address; downloads if need be."""
    row = _row(name, variant)
    if row is not None:
        path = specification.fetch(row, include_top=row.classes > 0)
        return Weights(row.name, row.architecture(), path, row)
    path = name
    if name.startswith("hf://"):  # the architecture does not matter until the file is here
        path = specification.open_checkpoint(name, VARIANTS["convnext_tiny"]).path
    return Weights(name, VARIANTS[variant or _identified(name, path)], Path(path))


def _row(name, variant):
    """-> the registry's row of that name, `None` for a path or a hub address."""
    if name.startswith("hf://") or os.path.isfile(name):
        return None
    if variant is None and name in VARIANTS:
        name, variant = "imagenet", name
    try:
        return registry.find(name, variant)
    except ValueError:
        if os.sep in name or Path(name).suffix in specification.SUFFIXES:
            raise FileNotFoundError(f"No file {name!r}, and no checkpoint of that name.") from None
        raise


def _identified(name, path):
    found = loading.identify(path)
    if len(found) != 1:
        which = f"may be of {' or '.join(found)}" if found else "is of no known variant"
        raise UsageError(f"{name}, by its tensors, {which}: say which with --variant.")
    return found[0]


# ---------------------------------------------------------------- predict


@dataclasses.dataclass(frozen=True)
class Classifier:
    """A model and what belongs to it.

    Attributes:
        name: for messages.
        model: from uint8 images (N, size, size, 3) to (N, classes).
        transform: the `EvalTransform` of its images.
        label_set: whose classes these are, or `None`.
        is_softmaxed: whether probabilities come out, and not logits.
    """

    name: str
    model: object
    transform: object
    label_set: str | None = None
    is_softmaxed: bool = True

    def probabilities(self, images):
        import numpy as np

        outputs = np.asarray(self.model.predict_on_batch(images), "float64")
        if self.is_softmaxed:
            return outputs
        outputs = np.exp(outputs - outputs.max(-1, keepdims=True))
        return outputs / outputs.sum(-1, keepdims=True)


def run_predict(arguments):
    images = _images(arguments.images)
    form = _form(arguments)
    classifier = _classifier(arguments)
    names = _names(arguments.labels, classifier)
    results = list(_predicted(images, classifier, names, arguments))
    text = _formatted(results, form, classifier.name)
    if arguments.output:
        from keras_convnext.pretrained.saving import replacing

        with replacing(arguments.output) as draft:
            draft.write_text(text, encoding="utf-8", newline="")
    elif form == "table":
        _print_table(COLUMNS, _cells(results))
    else:
        sys.stdout.write(text)
    failed = sum("error" in result for result in results)
    if failed:
        _say(f"{failed} of {len(results)} images could not be read.")
    return 1 if failed else 0


def _form(arguments):
    if arguments.json or not arguments.output:
        return "json" if arguments.json else arguments.format or "table"
    return arguments.format or {".json": "json", ".csv": "csv"}.get(
        Path(arguments.output).suffix.lower(), "table"
    )


def _images(arguments):
    """-> [(name, path or bytes)] of files, of all images below folders, and of stdin for `-`."""
    if arguments.count("-") > 1:
        raise UsageError("`-` (one image from stdin) can be given once only.")
    images = [image for argument in arguments for image in _images_of(argument)]
    if not images:
        raise ValueError(
            f"No images in {', '.join(arguments)}: looked for {' '.join(IMAGE_SUFFIXES)}, also in "
            "the folders within. A file of another name can be given itself."
        )
    return images


def _images_of(argument):
    if argument == "-":
        return [("-", sys.stdin.buffer.read())]
    if not os.path.isdir(argument):
        return [(argument, argument)]  # also one that is missing: it will be named
    paths = sorted(p for p in Path(argument).rglob("*") if p.suffix.lower() in IMAGE_SUFFIXES)
    visible = (path for path in paths if not path.name.startswith(".") and path.is_file())
    return [(str(path), str(path)) for path in visible]


def _classifier(arguments):
    if arguments.model.endswith(".keras") and os.path.isfile(arguments.model):
        return _whole_model(arguments)
    row = _row(arguments.model, arguments.variant)
    if row is not None and (not row.classes or row.label_set == "clip"):
        kind = "a CLIP embedding" if row.classes else "features"
        raise ValueError(
            f"{row.name} gives {kind}, not classes. `keras-convnext list --label-set imagenet1k` "
            "shows classifiers."
        )
    transform = _transform(arguments, row)
    weights = _weights(arguments.model, arguments.variant)
    if not weights.classes:
        raise ValueError(f"{weights.name} has no classifier, so it cannot predict.")
    model = weights.build(input_shape=(transform.size, transform.size, 3))
    return Classifier(weights.name, model, transform, row.label_set if row else None)


def _whole_model(arguments):
    """A `.keras` file with its own architecture, loaded in Keras' safe mode."""
    import keras

    import keras_convnext.models  # noqa: F401  registers the layers

    if arguments.variant:
        raise UsageError("A .keras file says its architecture itself: leave --variant away.")
    path = arguments.model
    try:
        model = keras.saving.load_model(path, compile=False)
    except Exception as error:  # of a damaged file, or of an unknown layer, it may be any
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(
            f"{path}: Keras cannot load this model: {reason[0]} Only layers of Keras and of "
            "keras_convnext are known here, and none that hold code."
        ) from error
    size = _side(path, model, arguments.size)
    transform = _transform(argparse.Namespace(**{**vars(arguments), "size": size}), None)
    activation = getattr(model.layers[-1], "activation", None)
    probable = (keras.activations.softmax, keras.activations.sigmoid)
    return Classifier(path, model, transform, is_softmaxed=activation in probable)


def _side(path, model, size):
    """-> side of the images of a model of unknown origin."""
    shapes = model.input_shape, model.output_shape
    if not all(isinstance(shape, tuple) for shape in shapes) or list(map(len, shapes)) != [4, 2]:
        raise ValueError(
            f"{path}: goes from {shapes[0]} to {shapes[1]}; needed is a classifier, from "
            "(batch, height, width, 3) to (batch, classes)."
        )
    _, height, width, channels = shapes[0]
    if channels != 3 or height != width:
        raise ValueError(f"{path}: takes images of {shapes[0][1:]}, needed are square RGB images.")
    if size and height and size != height:
        raise UsageError(f"{path} takes images of {height} pixels, --size says {size}.")
    return height or size


def _row_transform(row):
    from keras_convnext.preprocessing import EvalTransform

    fixed = row.resize_size is not None or row.resize_mode == "squash"
    return EvalTransform(
        row.size,
        None if fixed else row.crop_pct,
        row.resize_mode,
        row.interpolation,
        row.resize_size,
    )


def _transform(arguments, row):
    """-> the row's evaluation, or the authors' where there is no row, changed as asked for."""
    from keras_convnext.preprocessing import EvalTransform

    given = {"size": arguments.size, "crop_pct": arguments.crop_pct, "resize": arguments.resize}
    given = {field: value for field, value in given.items() if value is not None}
    if row is not None and not given:
        transform = _row_transform(row)
    else:
        size = given.get("size") or (row.size if row else 224)
        mode = row.resize_mode if row else "squash" if size >= 384 else "shortest"
        mode = given.get("resize") or ("shortest" if "crop_pct" in given else mode)
        crop = given.get("crop_pct") or (_usual_crop(size, row) if mode == "shortest" else None)
        interpolation = row.interpolation if row else "bicubic"
        transform = EvalTransform(size, crop, mode, interpolation)
    if arguments.interpolation:
        transform = dataclasses.replace(transform, interpolation=arguments.interpolation)
    return transform


def _usual_crop(size, row):
    if row is None:
        return 0.875
    return row.test_crop_pct if size == row.test_size else row.crop_pct


def _in_words(transform):
    how = f"resized to {transform.size} x {transform.size}"
    if transform.resize == "shortest":
        how = f"short side {transform.short_side}, centre crop of {transform.size}"
    return f"{how}, {transform.interpolation}"


def _names(given, classifier):
    """-> [(id or None, name)] of the classes."""
    classes = classifier.model.output_shape[-1]
    unnamed = [(None, f"class {index}") for index in range(classes)]
    is_file = given is not None and given not in registry.LABEL_SETS
    try:
        label_set = given or classifier.label_set
        names = labels.read_names(given) if is_file else labels.class_names(label_set)
    except download.DownloadError as error:
        reason = str(error).splitlines()
        _say(
            f"Note: {reason[0]} {' '.join(reason[2:4]).strip()}. The classes are shown by their "
            "number; `--labels FILE` gives names."
        )
        return unnamed
    if names is None:
        return unnamed
    if len(names) != classes:
        raise ValueError(
            f"{given or label_set} names {len(names)} classes, {classifier.name} has {classes}."
        )
    return names


def _predicted(images, classifier, names, arguments):
    """-> per image `{"image", "predictions"}` or `{"image", "error"}`, in order."""
    size = arguments.batch_size
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    for batch in _with_progress(batches):
        yield from _predicted_batch(batch, classifier, names, arguments.k)


def _with_progress(batches):
    from rich.console import Console
    from rich.progress import track

    console = Console(stderr=True)
    hidden = not console.is_terminal or len(batches) < 2
    return track(batches, "Predicting", console=console, transient=True, disable=hidden)


def _predicted_batch(batch, classifier, names, k):
    import numpy as np

    pixels, results = [], []
    for name, source in batch:
        try:
            pixels.append(classifier.transform(source))
            results.append({"image": _printable(name)})
        except ValueError as error:
            _say(f"{_printable(name)}: {error}")
            results.append({"image": _printable(name), "error": str(error)})
    if pixels:
        probabilities = iter(classifier.probabilities(np.stack(pixels)))
    for result in results:
        if "error" not in result:
            result["predictions"] = _best(next(probabilities), names, k)
    return results


def _best(probabilities, names, k):
    order = (-probabilities).argsort(kind="stable")[:k].tolist()
    return [
        {
            "rank": rank,
            "class": index,
            "wnid": names[index][0],
            "name": names[index][1],
            "probability": float(probabilities[index]),
        }
        for rank, index in enumerate(order, 1)
    ]


COLUMNS = ("image", "rank", "class", "wnid", "name", "probability")


def _formatted(results, form, model):
    if form == "json":
        return json.dumps({"model": model, "results": results}, indent=1) + "\n"
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n", delimiter="," if form == "csv" else "\t")
    writer.writerow(COLUMNS)
    writer.writerows(_cells(results))
    return text.getvalue()


def _cells(results):
    for result in results:
        for best in result.get("predictions", ()):
            rank, index = str(best["rank"]), str(best["class"])
            numbers = (rank, index, best["wnid"] or "", best["name"])
            yield result["image"], *numbers, f"{best['probability']:.6f}"


# ---------------------------------------------------------------- convert


def run_convert(arguments):
    destination = Path(arguments.destination)
    layout = _check_destination(destination, arguments)
    from keras_convnext.pretrained.saving import save_keras, save_weights

    weights = _weights(arguments.source, arguments.variant)
    size = arguments.size or (weights.row.size if weights.row else None)
    with_size = {"input_shape": (size, size, 3)} if size and weights.classes else {}
    model = weights.build(**with_size)
    if layout:
        save_weights(model, weights.variant, destination, layout)
    else:
        save_keras(model, destination)
    _report(
        arguments.json,
        {
            "source": weights.name,
            "destination": str(destination),
            "variant": weights.variant.name,
            "layout": layout or "keras_convnext",
            "classes": weights.classes,
            "parameters": model.count_params(),
            "bytes": destination.stat().st_size,
            "sha256": download.sha256_of(destination),
        },
    )
    return 0


def _check_destination(path, arguments):
    """-> the layout to write, `None` for Keras' own formats. All faults before any download."""
    if not path.name.endswith(DESTINATIONS):
        raise UsageError(f"{path}: the name must end in one of {', '.join(DESTINATIONS)}.")
    is_torch = path.suffix == ".safetensors"
    if arguments.layout and not is_torch:
        raise UsageError(f"--layout is for .safetensors files, {path} has Keras' own layout.")
    if arguments.size and path.suffix != ".keras":
        raise UsageError(f"--size is for .keras files: {path} holds weights, which have no size.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {str(path.parent)!r} does not exist: make it first.")
    if path.exists() and not arguments.force:
        raise FileExistsError(f"{path} exists already; --force replaces it.")
    return (arguments.layout or "timm") if is_torch else None


# ---------------------------------------------------------------- verify


def run_verify(arguments):
    if arguments.image and not os.path.isfile(arguments.image):
        raise FileNotFoundError(f"No image {arguments.image!r}.")
    weights = _weights_of_known_hash(arguments)
    digest = download.sha256_of(weights.path)
    expected, origin = _expected_hash(weights)
    report = {
        "name": weights.name,
        "path": str(weights.path),
        "sha256": digest,
        "expected": expected,
        "expected_from": origin,
    }
    faults = []
    if expected not in (None, digest):
        faults.append("the sha256 is another than expected, so the file was not loaded")
    else:
        shape = (None, None, 3)
        pooling = None if weights.classes else "avg"
        model = weights.build(input_shape=shape, pooling=pooling, classifier_activation=None)
        report |= {
            "variant": weights.variant.name,
            "classes": weights.classes,
            "parameters": model.count_params(),
            "loaded": "strictly: nothing missing, nothing left over, all finite",
        }
        if weights.row is not None and model.count_params() != weights.row.params:
            faults.append(f"expected are {weights.row.params} parameters")
        faults += _check_logits(model, weights.row, arguments.image, report)
    report["result"] = "; ".join(faults) or "good"
    _report(arguments.json, report)
    return 1 if faults else 0


def _weights_of_known_hash(arguments):
    """A file that is byte for byte a published one is verified as that."""
    name, variant = arguments.name, arguments.variant
    if os.path.isfile(name):
        digest = download.sha256_of(name)
        same = [r for r in registry.rows() if digest in [s.sha256 for s in r.sources]]
        if same and variant in (None, same[0].variant):
            return Weights(same[0].name, same[0].architecture(), Path(name), same[0])
    return _weights(name, variant)


def _expected_hash(weights):
    """-> the hash that the file must have, or `None`, and where it is known from."""
    row = weights.row
    if row is None:
        return None, "this file is none of the published ones with a known sha256"
    pinned = {source.sha256 for source in row.sources if source.sha256}
    for source in row.sources:
        place = specification._source(source, row)
        if source.sha256 and download.cached(place) == weights.path:
            return source.sha256, "published"
    recorded = [e.sha256 for e in download.cache_entries() if e.path == weights.path]
    if recorded:
        return recorded[0], "recorded at first use, none is published"
    return (min(pinned), "published") if len(pinned) == 1 else (None, "published, see `info`")


def _check_logits(model, row, image, report):
    """-> what is wrong with the first outputs on the photograph of the published ones."""
    if row is None or row.first_logits is None:
        report["logits"] = "none published"
        return []
    if image is None:
        report["logits"] = f"not compared; give --image with {registry.FIRST_LOGITS_IMAGE}"
        return []
    differences = logit_differences(model, row, image)
    best = min(differences, key=differences.get)
    matched = differences[best] <= registry.FIRST_LOGITS_TOLERANCE
    report["logits"] = {
        "expected": row.first_logits,
        "source": registry.FIRST_LOGITS_SOURCE,
        "tolerance": registry.FIRST_LOGITS_TOLERANCE,
        "matched": best if matched else None,
        "differences": differences,
    }
    return [] if matched else [f"no resize gives the published logits ({best} comes nearest)"]


def logit_differences(model, row, image):
    """-> {resize: largest difference from the row's published logits}.

    How the photograph was resized for them is not published, so all that it can have been is tried.

    Args:
        model: of the row, from (1, height, width, 3) in [0, 255] to logits (features, for an
            encoder without classifier), of any height and width.
        row: with `first_logits`.
        image: the photograph; anything that `load_image` takes.
    """
    import numpy as np

    expected = np.array(row.first_logits)
    differences = {}
    for name, pixels in _resized(row, image).items():
        outputs = np.asarray(model.predict_on_batch(pixels[None]))[0, : len(expected)]
        differences[name] = float(np.abs(outputs - expected).max())
    return differences


def _resized(row, image):
    import numpy as np

    from keras_convnext.preprocessing import FILTERS, EvalTransform, load_image

    image, size = load_image(image), row.size
    sides = [size * side // min(image.size) for side in image.size]
    evaluation = _row_transform(row)
    ways = {f"its evaluation: {_in_words(evaluation)}": evaluation(image)}
    for kind, resample in FILTERS.items():
        for mode in ("squash", "shortest"):
            transform = EvalTransform(size, None, mode, kind)
            ways[_in_words(transform)] = transform(image)
        ways[f"short side {size}, uncropped, {kind}"] = np.array(image.resize(sides, resample))
    return ways


# ---------------------------------------------------------------- cache


def run_cache(arguments):
    if arguments.action == "clear":
        return _clear_cache(arguments)
    if arguments.yes or arguments.forget_hashes:
        raise UsageError("--yes and --forget-hashes belong to `cache clear`.")
    entries = download.cache_entries()
    if arguments.json:
        found = [_entry_as_dict(entry) for entry in entries]
        _print_json({"location": str(download.cache_dir()), "entries": found})
        return 0
    columns = ("file", "size", "verified", "source", "remark")
    _print_table(columns, map(_entry_as_cells, entries))
    total = sum(entry.size for entry in entries)
    _say(f"{len(entries)} files, {_bytes(total)}, in {download.cache_dir()}")
    return 0


def _entry_as_dict(entry):
    return {**dataclasses.asdict(entry), "path": str(entry.path)}


def _entry_as_cells(entry):
    remark = "shared with other programs" * entry.shared + "unfinished" * entry.partial
    verified = (entry.verified or "never")[:10]
    return str(entry.path), _bytes(entry.size), verified, entry.source or "unknown", remark or "-"


def _clear_cache(arguments):
    own = [entry for entry in download.cache_entries() if not entry.shared]
    if own and not arguments.yes and not _confirmed(own):
        _say("Nothing was deleted.")
        return 1
    removed = download.clear_cache(forget_hashes=arguments.forget_hashes)
    if arguments.json:
        _print_json({"removed": [_entry_as_dict(entry) for entry in removed]})
    else:
        print(f"Deleted {len(removed)} files, {_bytes(sum(e.size for e in removed))}.")
    kept = len(own) - len(removed)
    if kept:
        _say(f"{kept} files are being written by another process and were left.")
    return 1 if kept else 0


def _confirmed(entries):
    if not sys.stdin.isatty():
        raise UsageError("stdin is no terminal, so nobody can be asked: add --yes to delete.")
    total = _bytes(sum(entry.size for entry in entries))
    _say(f"Delete {len(entries)} files, {total}, of {download.cache_dir()}? [y/N] ", end="")
    return sys.stdin.readline().strip().lower() in ("y", "yes")


# ---------------------------------------------------------------- output


def _say(text, end="\n"):
    """A line for people, on stderr."""
    print(_printable(str(text)), end=end, file=sys.stderr, flush=True)


def _printable(text):
    """Names of files may hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def _print_json(content):
    print(json.dumps(content, indent=1))


def _report(as_json, facts):
    if as_json:
        _print_json(facts)
        return
    rows = []
    for field, value in facts.items():
        nested = value.items() if isinstance(value, dict) else [("", value)]
        rows += [(f"{field} {key}".strip().replace("_", " "), str(v)) for key, v in nested]
    _print_table(("field", "value"), rows)


def _print_table(columns, rows):
    """A table for people; where nobody looks, lines with tabs between the columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        for row in (columns, *rows):
            print(*(re.sub(r"\s+", " ", cell) for cell in row), sep="\t")
        return
    table = Table(*columns, header_style="bold", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))  # Text: brackets in a name are no markup
    console.print(table)


def _millions(count):
    return f"{count / 1e6:.1f}M"


def _bytes(count):
    from rich.filesize import decimal

    return decimal(count)


@contextlib.contextmanager
def _warnings_as_notes():
    def show(message, category, filename, lineno, file=None, line=None):
        _say(f"Note: {message}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield


# ---------------------------------------------------------------- the command line


def _positive(text):
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 1")
    return int(text)


def _count(text):
    match = re.fullmatch(r"(\d+(?:\.\d+)?)([kKmMbBgG]?)", text)
    if not match:
        raise argparse.ArgumentTypeError(f"{text!r} is not a count such as 30M, 1.2B or 28000000")
    return int(float(match[1]) * {"": 1, "k": 1e3, "m": 1e6, "b": 1e9, "g": 1e9}[match[2].lower()])


def _variant(text):
    try:
        registry.tags(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None
    return text


def _parser():
    parser = argparse.ArgumentParser(
        prog="keras-convnext",
        description="ConvNeXt for Keras: published checkpoints by name, listed, run, converted "
        "and verified.",
        epilog="`keras-convnext COMMAND --help` has examples of each. Exit codes: 0 all is well, "
        "1 something failed, 2 wrong usage.",
    )
    parser.add_argument("--version", action="version", version=f"keras_convnext {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for add in (_add_list, _add_info, _add_predict, _add_convert, _add_verify, _add_cache):
        add(commands)
    return parser


def _command(commands, name, run, help, examples):
    lines = "\n".join(f"  keras-convnext {name} {example}" for example in examples)
    parser = commands.add_parser(
        name,
        help=help,
        description=f"{help[0].upper()}{help[1:]}.",
        epilog=f"examples:\n{lines}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--json", action="store_true", help="print JSON, for programs")
    parser.set_defaults(run=run)
    return parser


def _add_variant(parser, help="the architecture, where the name alone does not tell it"):
    parser.add_argument("--variant", type=_variant, metavar="VARIANT", help=help)


def _add_list(commands):
    examples = (
        "--label-set imagenet1k --max-params 30M --min-top1 84 --sort top1",
        "--variant convnext_tiny",
        "--licence mit --json",
    )
    parser = _command(commands, "list", run_list, "list the published checkpoints", examples)
    _add_variant(parser, "only this architecture")
    parser.add_argument("--family", help="only this publication: v1, v2, timm, clip, dinov3, ...")
    parser.add_argument("--licence", help="only this licence, for example MIT or apache-2.0")
    parser.add_argument("--label-set", help="only these classes: " + ", ".join(registry.LABEL_SETS))
    parser.add_argument("--size", type=_positive, help="only this size of images, in pixels")
    parser.add_argument("--max-params", type=_count, help="at most so many parameters, as 30M")
    parser.add_argument("--min-top1", type=float, help="at least this published top-1, in percent")
    parser.add_argument("--sort", choices=SORT_KEYS, help="default: by variant")


def _add_info(commands):
    examples = (
        "convnext_tiny",
        "convnext_base.fb_in22k_ft_in1k_384",
        "fb_in1k --variant convnext_small",
    )
    parser = _command(commands, "info", run_info, "show all about one checkpoint", examples)
    parser.add_argument("name", metavar="NAME", help="VARIANT.TAG, or VARIANT for its usual one")
    _add_variant(parser)


def _add_predict(commands):
    examples = (
        "cat.jpg",
        "-k 1 --output labels.csv photos/",
        "--model convnextv2_tiny.fcmae_ft_in22k_in1k_384 --json cat.jpg dog.jpg",
        "--model mine.safetensors --variant convnext_tiny --labels names.txt photos/",
        "--model mine.keras --labels names.txt - < cat.jpg",
    )
    parser = _command(commands, "predict", run_predict, "classify images", examples)
    add = parser.add_argument
    add("images", nargs="+", metavar="IMAGE", help="files, folders, or - for stdin")
    add(
        "--model",
        default="convnext_tiny",
        help="a checkpoint's name, hf://owner/repo, or a file; a .keras file is loaded as a whole "
        "model, which works if all its layers are of Keras or of this package, and must take "
        "images in [0, 255] (default: %(default)s)",
    )
    _add_variant(parser)
    add("-k", type=_positive, default=5, help="how many classes per image (default: %(default)s)")
    add("--labels", metavar="FILE", help="names of the classes, or imagenet1k for that list")
    add("--batch-size", type=_positive, default=32, help="default: %(default)s")
    add("--format", choices=("table", "csv", "json"), help="default: by --output's name, or table")
    add("--output", metavar="FILE", help="write there and not to stdout")
    group = parser.add_argument_group(
        "images",
        "A published checkpoint has its own evaluation transform, which these change. Files have "
        "the authors': below 384 pixels bicubic, short side size / 0.875, centre crop; else squash.",
    )
    group.add_argument("--size", type=_positive, help="in pixels (default for files: 224)")
    group.add_argument("--crop-pct", type=float, help="crop / short side, in (0, 1]")
    group.add_argument("--resize", choices=("shortest", "squash"))
    group.add_argument("--interpolation", choices=("bicubic", "bilinear"))


def _add_convert(commands):
    examples = (
        "convnext_tiny.fb_in1k tiny.keras",
        "convnextv2_atto.fcmae_ft_in1k atto.weights.h5",
        "mine.keras mine.safetensors --variant convnext_tiny --layout official",
        "hf://timm/convnext_nano.in12k_ft_in1k nano.keras --size 288",
    )
    parser = _command(commands, "convert", run_convert, "write weights in another format", examples)
    add = parser.add_argument
    add("source", metavar="SOURCE", help="a checkpoint's name, hf://owner/repo, or a file")
    add("destination", metavar="DEST", help="a name that ends in " + ", ".join(DESTINATIONS))
    _add_variant(parser)
    add("--layout", choices=("timm", "official"), help="of .safetensors (default: timm)")
    add(
        "--size", type=_positive, help="of the images of a .keras model (default: the checkpoint's)"
    )
    add("--force", action="store_true", help="replace DEST if it exists")


def _add_verify(commands):
    examples = (
        "convnext_tiny.fb_in1k",
        "convnext_tiny.fb_in1k --image 000000039769.jpg",
        "mine.safetensors --variant convnext_tiny",
    )
    help = "hash a checkpoint again, load it strictly, compare published logits"
    parser = _command(commands, "verify", run_verify, help, examples)
    parser.add_argument("name", metavar="NAME", help="a checkpoint's name, hf://..., or a file")
    _add_variant(parser)
    parser.add_argument(
        "--image", metavar="FILE", help=f"the photograph {registry.FIRST_LOGITS_IMAGE}"
    )


def _add_cache(commands):
    examples = ("", "show --json", "clear --yes")
    parser = _command(commands, "cache", run_cache, "show or clear the downloaded files", examples)
    parser.add_argument("action", nargs="?", choices=("show", "clear"), default="show")
    parser.add_argument("--yes", action="store_true", help="clear without asking")
    parser.add_argument(
        "--forget-hashes", action="store_true", help="also forget the hashes of first use"
    )


if __name__ == "__main__":
    sys.exit(main())
