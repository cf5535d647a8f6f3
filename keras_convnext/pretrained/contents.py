"""What a file of weights holds, whichever reader it was given to: which head is on the ConvNeXt."""

import contextlib

from keras_convnext.pretrained import files
from keras_convnext.pretrained.files.tensors import WeightsError
from keras_convnext.pretrained.heads import READERS, with_article
from keras_convnext.pretrained.layouts import (
    DETECTION_LAYOUTS,
    LAYOUTS,
    UPERNET_LAYOUTS,
    match,
)

LAYOUTS_OF = {
    None: LAYOUTS,
    "upernet": UPERNET_LAYOUTS,
    **{
        head: tuple(layout for layout in DETECTION_LAYOUTS if layout.head == head)
        for head in ("mask_rcnn", "cascade_mask_rcnn")
    },
}


def head_of(path):
    """Returns what the file at `path` has on its ConvNeXt, a key of `heads.NAMES`.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsError: if it cannot be read, or its names are of no known layout.
    """
    try:
        return _head(files.read(path))
    except WeightsError as error:
        text = str(error)
        raise WeightsError(text if text.startswith(str(path)) else f"{path}: {text}") from None


def of_another_head(tensors, expected):
    """Returns a sentence with a space before it if tensors are of another head than expected.

    Args:
        tensors: `{name: Tensor}` of a file.
        expected: the keys of `heads.NAMES` that it was opened for.

    Returns:
        What the file holds and what reads that; empty where it is as expected, or nobody knows.
    """
    with contextlib.suppress(WeightsError):
        head = _head(tensors)
        if head not in expected:
            backbone = ", or `backbone_weights=` of other models" if head is None else ""
            return f" It holds {with_article(head)}: `{READERS[head]}` reads it{backbone}."
    return ""


def _head(tensors):
    return match(tensors, sum(LAYOUTS_OF.values(), ())).layout.head
