"""The recipe for a folder of photos whose owner asks for none: task, model, size and start.

It is a list of flags, which are said. A resumed run is started with them, so that a choice which
depends on the machine or on a download is made once.
"""

import importlib.util
import math

from keras_convnext.errors import first_line
from keras_convnext.pretrained import DownloadError, resolve

from .data import DataError, coco_layout
from .data.folder import VALIDATION_FRACTION, kept_for_validation
from .data.layout import checked, recognise
from .data.listing import counted
from .run import distribution

ON_CPU, ON_GPU = "convnext_atto", "convnext_tiny"
# On a CPU the first stages keep the published weights: no gradient has to pass through them.
FROZEN = 3
BATCH, BATCH_FROM_SCRATCH = 32, 16  # of the experiment `folder`
UPDATES = 4  # per epoch at least: few photos have smaller batches


def task_of(photos):
    """Returns the name of the task that a directory is laid out for.

    Raises:
        DataError: if there is no such directory.
    """
    root = checked(photos)
    try:
        coco_layout.recognise(root)
    except DataError:
        return "classification"  # whose reader says what is wrong where it is not laid out for it
    return "detection"


def of_photos(photos, given, may_download=True):
    """Returns what a classifier of photos is trained with, and why.

    Args:
        photos: the directory.
        given: {field: value} of what the user has chosen of the configuration, which is kept.
        may_download: `False`: published weights are taken for granted.

    Returns:
        {field: text}, for flags of the experiment `folder`; and a sentence.

    Raises:
        DataError: if the directory is not laid out for classification.
    """
    layout = recognise(photos)
    images, on_cpu = _images(layout, given), distribution.is_on_cpu()
    fields, start = _start(given, on_cpu, may_download)
    is_pretrained = given.get("weights", fields.get("weights")) not in (None, "none")
    if is_pretrained and on_cpu:
        fields["freeze_stages"] = str(FROZEN)
    usual = BATCH if is_pretrained else BATCH_FROM_SCRATCH
    batch = 2 ** int(math.log2(max(1, images / UPDATES)))
    if batch < usual:
        fields["batch_size"] = str(batch)
    if importlib.util.find_spec("keras_cv") is None:
        fields["augmentation"] = "exact"
    fields = {name: value for name, value in fields.items() if name not in given}
    found = f"{counted(images, 'photo')} to learn {len(layout.class_names)} classes from"
    sentence = f"{found}, {'no GPU' if on_cpu else 'a GPU'}: {start}"
    is_unsure = "weights" in fields and is_pretrained and not may_download
    if "freeze_stages" in fields:
        sentence += ", of which the last stage learns (--freeze_stages=0: all)"
    if is_unsure:
        sentence += ". This is if the weights can be had; else training begins from scratch"
    return fields, f"{sentence}."


def _images(layout, given):
    """Returns the number of images to train on."""
    counts = [
        len(paths) for paths in layout.splits["train" if layout.has_splits else "all"].values()
    ]
    if "validation" in layout.splits:
        return sum(counts)
    fraction = given.get("validation_fraction") or VALIDATION_FRACTION
    return sum(count - kept_for_validation(count, fraction) for count in counts)


def _start(given, on_cpu, may_download):
    """Returns the fields of what the training begins with, and the same in words."""
    if "weights" in given:
        return {}, f"training begins with {given['weights'] or 'random weights'}, as asked"
    if given.get("step") or given.get("stem_stride"):
        return {"weights": "none"}, "training begins from scratch, as no weights fit what was asked"
    row = None
    variant = given["variant"].name if "variant" in given else ON_CPU if on_cpu else ON_GPU
    try:
        row = resolve.row_of("imagenet", variant)
        if may_download:
            resolve.fetch(row)
    except (ValueError, DownloadError) as error:
        return {"weights": "none"}, (
            "training begins from scratch and takes longer, as there are no published weights to "
            f"begin with ({_why(error, row)}; --weights=FILE takes a file)"
        )
    return {"variant": variant, "weights": "imagenet"}, f"training begins with {row.name}"


def _why(error, row):
    """Returns the error in one line: of a download of the row's file what the first source said."""
    reasons = getattr(error, "reasons", ())
    said = f"{row.name}: {reasons[0]}" if reasons else first_line(error)
    return said.rstrip(".")
