"""What an exported file says about itself: its task, its images, its classes, its licence.

This is a flat dict of str: the `metadata_props` of an ONNX file, and one JSON text in the `rt_info`
of an OpenVINO model. Values that are not text are JSON themselves.

    keras_convnext  "1", the version of this description
    task            "classification", "segmentation", "features" or "unknown"
    input           {"layout": "NHWC" or "NCHW", "dtype": ..., "channels": 3, "range": [0, 255]}; in
                    place of the range "mean" and "std" of images in [0, 255] that the file takes
                    normalised
    transform       the arguments of `EvalTransform`
    activation      what turns the outputs into probabilities: "none", "softmax" or "sigmoid"
    classes         their number; two may be told by one output
    window          side of the windows that a segmentation was measured with, in pixels
    names, ids      lists of the classes' names, and of their WordNet ids
    variant         the architecture
    weights         the published weights that the model began with
    licence         {"name", "url", "non_commercial", "notice"} of those weights
"""

import dataclasses
import json

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
    kinds |= {"licence": dict, "window": int}
    found = {}
    for key, text in texts.items():
        found[key] = _value(key, text, kinds[key], path) if key in kinds else text
    return found


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
