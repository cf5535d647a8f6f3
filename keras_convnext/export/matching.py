"""The proof of a detector's export: what the file finds is what the model finds.

Detections are discrete: of two boxes whose scores are equal but for rounding, either may suppress
the other. So they are paired, and all but a few must have an equal partner. To have enough of them,
both look with a threshold of 0.
"""

import contextlib
import dataclasses

import keras
import numpy as np

from keras_convnext.detection.boxes import iou
from keras_convnext.detection.settings import SHAPE
from keras_convnext.export import proof
from keras_convnext.export.graph.detectors import THRESHOLD

CONFIDENT = 0.3  # from this score on a detection without a partner is no question of rounding
ALIKE, NEAR = 0.5, 0.05  # IoU and difference of the scores of a partner that need not be equal
MOST_UNEQUAL = 0.05  # share of detections whose partner is not equal
SIDES = (256, 384)  # of images to compare with, where the model takes any
CELL = 16  # pixels of what is on them


def scenes(plan, count=2):
    """Returns images with random rectangles, as the model takes them, and the sizes of what is on
    them; the second one is padded.

    Args:
        plan: the `Plan`.
        count: how many.

    Returns:
        float32 `(count, height, width, 3)` and `(count, 2)`.
    """
    random = np.random.default_rng(0)
    free = zip(plan.sides[:2], SIDES, strict=True)
    height, width = (side or usual for side, usual in free)
    cells = [-(-side // CELL) for side in (height, width)]
    images = random.integers(0, 256, (count, *cells, 3)).astype("float32")
    images = images.repeat(CELL, 1).repeat(CELL, 2)[:, :height, :width]
    images += random.integers(-20, 21, images.shape)
    shapes = np.float32([[height, width]] * count)
    for image, shape in zip(images[1::2], shapes[1::2], strict=True):
        shape -= (height // 8, width // 16)
        image[int(shape[0]) :] = image[:, int(shape[1]) :] = 128
    images = np.clip(images, 0, 255)
    takes_pixels = plan.normalization is not None or "range" in plan.metadata["input"]
    return images if takes_pixels else (images - 128) / 64, shapes


def outputs_of_model(plan, images, shapes):
    """Returns what the model computes with a threshold of 0, `{name: array}`."""
    tensors = map(keras.ops.convert_to_tensor, (images, shapes))
    inputs = dict(zip(("images", SHAPE), tensors, strict=True))
    with proof.without_gradients(), _threshold_of_0(plan.model):
        made = _called(plan.model, inputs)
    return {name: keras.ops.convert_to_numpy(made[name]) for name in plan.outputs}


def _called(model, inputs):
    """Returns what a model returns; on JAX compiled, where each operation alone takes longer."""
    if keras.backend.backend() != "jax":
        return model(inputs, training=False)
    import jax

    weights = [
        [weight.value for weight in weights]
        for weights in (model.trainable_variables, model.non_trainable_variables)
    ]
    return jax.jit(model.stateless_call)(*weights, inputs)[0]


@contextlib.contextmanager
def _threshold_of_0(model):
    before = model.settings
    model.settings = dataclasses.replace(before, score_threshold=0.0)
    try:
        yield
    finally:
        model.settings = before


def proven(plan, runner, images=None):
    """Returns the largest relative difference between what a file and its model find.

    Args:
        plan: the `Plan`.
        runner: the opened file.
        images: real ones, to compare with beside random ones: a list of pairs as of `scenes`.

    Raises:
        ProofError: (a ValueError) if the file finds something else, or nothing is found at all.
    """
    total, unequal, largest = 0, 0, 0.0
    for pixels, shapes in (scenes(plan), *(images or ())):
        expected = outputs_of_model(plan, pixels, shapes)
        options = {SHAPE: shapes, THRESHOLD: [0.0]}
        found = runner(plan.normalised(pixels), **options)
        _check_forms(found, expected)
        for n in range(len(pixels)):
            pair = ({name: part[n] for name, part in made.items()} for made in (found, expected))
            differences, is_far = compared(*pair, proof.BOUND)
            equal = differences <= proof.BOUND
            total, unequal = total + equal.size, unequal + int((~equal).sum())
            largest = max(largest, *differences[equal], 0.0)
            if is_far or unequal > MOST_UNEQUAL * max(total, 1 / MOST_UNEQUAL):
                raise proof.ProofError(
                    f"The exported file finds other objects than {plan.model.name}, in {unequal} "
                    f"of {total}: nothing was written. Please report this model; `check=False` "
                    "writes it all the same."
                )
    if not total:
        raise proof.ProofError(
            f"{plan.model.name} finds nothing on random images, even with a threshold of 0: are "
            "its weights finite? Give `images` with objects on them, or `check=False`."
        )
    return largest


def _check_forms(found, expected):
    if list(found) != list(expected):
        raise proof.ProofError(f"The file returns {list(found)}, the model {list(expected)}.")
    for name, part in expected.items():
        if found[name].shape != part.shape:
            raise proof.ProofError(
                f"{name}: the file returns {found[name].shape}, the model {part.shape}."
            )


def compared(found, expected, bound):
    """Compares the detections in one image.

    Args:
        found, expected: of the file and of the model, dicts of arrays `(n, ...)`.
        bound: up to which detections are equal.

    Returns:
        for each detection of the model and then for each of the file that has no partner the
        difference to its partner, relative to the largest coordinate, score and probability,
        infinite where there is none; and whether a confident one has not even a partner that is
        alike. The last ones of a full list need no partner: their successors are not known.
    """
    apart = _differences(found, expected)
    least = _last_score(found, expected) + bound
    partners, differences, is_far = set(), [], False
    for row in np.flatnonzero(expected["labels"] >= 0):
        free = [column for column in range(apart.shape[1]) if column not in partners]
        best = min(free, key=lambda column: apart[row, column], default=None)
        if best is not None and apart[row, best] <= bound:
            partners.add(best)
            differences.append(apart[row, best])
        elif expected["scores"][row] > least:
            differences.append(np.inf)
            is_far |= not _has_one_alike(expected, row, found)
    for column in np.flatnonzero(found["labels"] >= 0):
        if column not in partners and found["scores"][column] > least:
            differences.append(np.inf)
            is_far |= not _has_one_alike(found, column, expected)
    return np.array(differences), is_far


def _last_score(*lists):
    """Returns the score from which on detections may miss, because a list is full."""
    return max(made["scores"].min() if (made["labels"] >= 0).all() else 0 for made in lists)


def _differences(found, expected):
    """Returns the difference of each of the model's detections to each of the file's."""
    total = np.where(expected["labels"][:, None] == found["labels"], 0.0, np.inf)
    for name in ("boxes", "scores", "masks"):
        if name in expected:
            one, other = (made[name].reshape(len(made[name]), -1) for made in (expected, found))
            scale = max(float(np.abs(one).max()), np.finfo("float32").tiny)
            apart = [np.abs(other - row).max(1) / scale for row in one]
            total = np.maximum(total, apart)
    return np.where(np.isnan(total), np.inf, total)


def _has_one_alike(made, row, others):
    """Returns whether a detection is not confident, or among others there is one like it."""
    if made["scores"][row] < CONFIDENT:
        return True
    alike = (others["labels"] == made["labels"][row]) & (
        np.abs(others["scores"] - made["scores"][row]) <= NEAR
    )
    overlaps = iou(made["boxes"][row : row + 1], others["boxes"][alike])
    return bool((keras.ops.convert_to_numpy(overlaps) >= ALIKE).any())
