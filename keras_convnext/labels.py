"""The names of classes: those of ImageNet-1K, or names from a file."""

import functools
import importlib.resources
import os
import warnings

import numpy as np

from keras_convnext import untrusted
from keras_convnext.checks import integer

# The classes of a label set, one a line: WordNet's id, a tab, and the name that keras.applications
# gives too. `imagenet1k_licence.txt` has source and licence.
TABLES = {"imagenet1k": "imagenet1k.txt"}
NAMED = tuple(TABLES)  # the label sets that have names here


@functools.cache
def class_names(label_set):
    """Returns the classes of a label set, in the order of a classifier's outputs.

    Args:
        label_set: as `Row.label_set` of the registry. Only `"imagenet1k"` has names here.

    Returns:
        Tuple of (WordNet id, name), for example `("n01440764", "tench")`, or `None` for a label
        set without names.

    Example:
        from keras_convnext.labels import class_names
        class_names("imagenet1k")[281]  # ("n02123045", "tabby")
    """
    if label_set not in TABLES:
        return None
    file = importlib.resources.files(__package__) / TABLES[label_set]
    lines = file.read_text(encoding="utf-8").splitlines()
    return tuple(tuple(line.split("\t")) for line in lines)


def decode_predictions(preds=None, top=5, label_set="imagenet1k", *, probabilities=None):
    """Returns the best classes of each image, as `keras.applications` gives them.

    Args:
        preds: `(images, classes)` array or tensor of probabilities.
        top: how many classes per image.
        label_set: whose names; see `class_names`.
        probabilities: the former name of `preds`.

    Returns:
        For each image a list of `(WordNet id, name, probability)`, the best first.

    Raises:
        ValueError: if the label set has no names, or another number of classes; if `top` is no
            integer >= 1; if a probability is NaN.

    Example:
        import numpy as np
        from keras_convnext import decode_predictions
        outputs = np.eye(1, 1000, 281)  # what a model predicts for one image
        decode_predictions(outputs, top=1)  # [[("n02123045", "tabby", 1.0)]]
    """
    if probabilities is not None:
        warnings.warn(
            "`probabilities=` of `decode_predictions` is now called `preds=`; the old name goes "
            "with the next release.",
            DeprecationWarning,
            stacklevel=2,
        )
        preds = probabilities
    integer("top", top, 1)
    preds = np.asarray(preds.detach().cpu() if hasattr(preds, "detach") else preds)
    names = class_names(label_set)
    _check_predictions(preds, len(names or ()), label_set)
    return [[(*names[index], float(row[index])) for index in best_first(row, top)] for row in preds]


def _check_predictions(preds, classes, label_set):
    """Raises a ValueError if an array is not `(images, classes)` or has NaN."""
    if not classes or preds.ndim != 2 or preds.shape[1] != classes:
        raise ValueError(
            f"`preds` must be (images, {classes}) for the names of {label_set!r}, received shape "
            f"{preds.shape}. For classes of your own use `Classifier(model, labels=...)`."
        )
    if np.isnan(preds).any():
        raise ValueError("`preds` has NaN: the weights of the model or its images are damaged.")


def best_first(probabilities, top):
    """Returns the indices of the largest probabilities, the largest first.

    Args:
        probabilities: array `(classes,)`.
        top: how many, an int; all where there are fewer classes.

    Returns:
        list of `top` ints; of equal ones, the lower index comes first.

    Example:
        import numpy as np
        from keras_convnext.labels import best_first
        best_first(np.array([0.1, 0.6, 0.3]), 2)  # [1, 2]
    """
    return np.argsort(-probabilities, kind="stable")[:top].tolist()


def read_names(path):
    """Returns the names of classes in a file.

    The file has one name per line, or a JSON list, or a JSON object `{"0": name, ...}`. A value of
    the object may also be `[id, name]`, as in the class index of keras.applications.

    Args:
        path: of the file, in UTF-8.

    Returns:
        Tuple of (id or `None`, name).

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it holds anything else, or nothing.

    Example:
        from pathlib import Path
        from keras_convnext.labels import read_names
        Path("names.json").write_text('["cat", "dog"]')
        read_names("names.json")  # ((None, "cat"), (None, "dog"))
    """
    if not os.path.isfile(path):
        raise FileNotFoundError(f"No file of names of classes at {os.fspath(path)!r}.")
    try:
        text = untrusted.text_of(path).strip()
    except ValueError as error:
        raise ValueError(f"{path}: is no file of names of classes: {error}.") from None
    if not text:
        raise ValueError(f"{path}: is empty; expected are names of classes, one per line.")
    if text[0] not in "[{":
        return tuple((None, line.strip()) for line in text.splitlines())
    try:
        return checked_names(untrusted.json_of(text))
    except ValueError as error:
        raise ValueError(
            f"{path}: {error}. Allowed: one name per line, a JSON list of names, or a JSON object "
            'of "0", "1", ... to names or to [id, name].'
        ) from None


def checked_names(content):
    """Returns the (id or `None`, name) of classes.

    Args:
        content: list of names or of `[id, name]`, or a dict of those with the keys "0", "1", ...

    Returns:
        Tuple of (id or `None`, name).

    Raises:
        ValueError: if it is anything else.

    Example:
        from keras_convnext.labels import checked_names
        checked_names({"0": "cat", "1": ["d1", "dog"]})  # ((None, "cat"), ("d1", "dog"))
    """
    if isinstance(content, dict):
        keys = [str(index) for index in range(len(content))]
        if set(content) != set(keys):
            raise ValueError(f'the keys are not "0" to "{len(content) - 1}"')
        content = [content[key] for key in keys]
    return tuple(map(_entry, content))


def _entry(value):
    pair = value if isinstance(value, list) and len(value) == 2 else [None, value]
    if not isinstance(pair[1], str) or not isinstance(pair[0], (str, type(None))):
        raise ValueError(f"{value!r} is neither a name nor [id, name]")
    return tuple(pair)
