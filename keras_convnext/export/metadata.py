"""What an exported file says about itself: its task, its images, its classes, its licence.

This is a flat dict of str: the `metadata_props` of an ONNX file, and one JSON text in the `rt_info`
of an OpenVINO model. Values that are not text are JSON themselves.

    keras_convnext  "1", the version of this description
    task            "classification", "segmentation", "detection", "features" or "unknown"
    input           {"layout": "NHWC" or "NCHW", "dtype": ..., "channels": 3, "range": [0, 255]}; in
                    place of the range "mean" and "std" of images in [0, 255] that the file takes
                    normalised
    transform       the arguments of `EvalTransform`
    activation      what turns the outputs into probabilities: "none", "softmax" or "sigmoid"
    classes         their number; two may be told by one output
    window          side of the windows that a segmentation was measured with, in pixels
    detector        what a detector does with a photo: {"size": limits of the short and of the long
                    side in pixels, "canvas": "smallest" or "fixed", "padding": the colour of what
                    the photo is padded with, in [0, 255], "threshold": objects with lower scores
                    are left out, "upright": whether the photo is turned as its EXIF says}
    options         {input: what holds where it may be left out, and is}
    categories      ids of the classes in files of COCO's format
    names, ids      lists of the classes' names, and of their WordNet ids
    variant         the architecture
    weights         the published weights that the model began with
    licence         {"name", "url", "non_commercial", "notice"} of those weights
"""

import dataclasses
import json

import numpy as np

VERSION = "1"
LARGEST_SIDE, LARGEST_TEXT = 8192, 2**24  # pixels; characters: the most that a file may have


class DescriptionError(ValueError):
    """A file that does not say what is needed, or says it wrongly."""


def described(classifier, model, row, **fields):
    """Returns the description of a model, `{key: str}`.

    Args:
        classifier: a `Classifier`, or `None` for a model of another kind.
        model: the `keras.Model`.
        row: of the registry, of the weights that it began with, or `None`.
        **fields: more entries; `None` for one that is left out.
    """
    found = {"keras_convnext": VERSION, **fields}
    variant = getattr(model, "variant", None)
    found["variant"] = variant.name if variant else row.variant if row else None
    if classifier is not None:
        found["transform"] = dataclasses.asdict(classifier.transform)
        found["classes"] = classifier.classes
        if classifier.has_names:
            ids, names = zip(*classifier.names, strict=True)
            found["names"] = list(names)
            found["ids"] = list(ids) if any(ids) else None
    if row is not None:
        licence = dataclasses.asdict(row.licence)
        fields = ("name", "url", "non_commercial", "notice")
        found |= {"weights": row.name, "licence": {field: licence[field] for field in fields}}
    return {key: _text(value) for key, value in found.items() if value is not None}


def of_detector(detector):
    """Returns the entries that a `Detector` has of its own, `{key: value}`."""
    padding = (np.float32(detector.model.variant.mean) * 255).tolist()
    fields = ("size", "canvas", "threshold", "upright")
    how = {field: getattr(detector, field) for field in fields} | {"padding": padding}
    known = detector.labels is not None
    return {
        "detector": how,
        "categories": list(detector.categories) if known else None,
        "names": list(detector.names) if known else None,
    }


def _text(value):
    return value if isinstance(value, str) else json.dumps(value)


def parsed(texts, path):
    """Returns the description in a file, with its values as they were.

    Args:
        texts: `{key: str}`, from a file of unknown origin.
        path: of the file, for messages.

    Raises:
        DescriptionError: (a ValueError) if it is not ours, or a value is of another type.
    """
    if texts.get("keras_convnext") != VERSION:
        raise DescriptionError(
            f"{path} does not say what it takes and returns, as a file of `keras-convnext export` "
            "does. Export the model again."
        )
    if sum(map(len, texts.values())) > LARGEST_TEXT:
        raise DescriptionError(f"{path}: its description has more than {LARGEST_TEXT} characters.")
    kinds = {"input": dict, "transform": dict, "classes": int, "names": list, "ids": list}
    kinds |= {"licence": dict, "window": int, "detector": dict, "categories": list, "options": dict}
    found = {}
    for key, text in texts.items():
        found[key] = _value(key, text, kinds[key], path) if key in kinds else text
    return found


def of_task(texts, path, task, kind):
    """Returns the description in a file that must be for one task.

    Args:
        texts, path: as of `parsed`.
        task: what the description must say.
        kind: what such a file is, for messages: "classifier".

    Raises:
        DescriptionError: (a ValueError) as of `parsed`, or if it is for another task.
    """
    description = parsed(texts, path)
    if (told := description.get("task")) != task:
        raise DescriptionError(f"{path} is for {told}, and no {kind}.")
    return description


def checked(description, key, path, holds):
    """Returns the value under a key of a description.

    Args:
        description, path: as of `parsed`.
        key: of the value.
        holds: function of it that returns whether it is allowed.

    Raises:
        DescriptionError: (a ValueError) if there is none, or it is not allowed.
    """
    value = description.get(key)
    if value is None or not holds(value):
        raise damaged(key, path)
    return value


def normalised(pixels, said):
    """Returns images in [0, 255] as a file takes them.

    Args:
        pixels: float32 array `(n, height, width, channels)`.
        said: the entry "input" of its description.
    """
    if "mean" not in said:
        return pixels
    mean, std = (np.float32(said[key]) for key in ("mean", "std"))
    return (pixels - mean) / std


def _value(key, text, kind, path):
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        value = None
    if type(value) is not kind:
        raise damaged(key, path)
    return value


def damaged(key, path):
    """Returns the error of a file whose description has a wrong value under a key."""
    return DescriptionError(f"{path}: the entry {key!r} of its description is damaged.")
