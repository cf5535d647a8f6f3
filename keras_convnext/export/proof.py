"""The proof of an export: the file computes what the model does."""

import contextlib

import keras
import numpy as np

from keras_convnext.inside import without_activation
from keras_convnext.predictions import probabilities

BOUND = 1e-4  # of the largest output, in float32: another order of summation, as between backends
ROUGH_BOUND = 5e-2  # for a model that computes in half precision, which the file does not
FLOAT16_BOUND = 1e-2  # for a file in float16
HALF = ("float16", "bfloat16")  # dtypes of half precision
REAL = 8  # images of those that are given, which are enough
FREE_SIZE = 64  # pixels, where the model has no size of its own


class ProofError(ValueError):
    """An exported file that computes something else than its model."""


def images_for(plan, images=None, count=2):
    """Returns images to compare with, as the model takes them.

    Args:
        plan: the `Plan`.
        images: array of real ones, of which the first few are taken, or `None`.
        count: how many random ones.

    Returns:
        float32 array `(n, ...)`: whole numbers in [0, 255] where the model takes pixels, else
        normally distributed ones. Where nothing says the size, height and width differ.
    """
    random = np.random.default_rng(0)
    shape = tuple(_side(plan, axis) for axis in range(len(plan.shape)))
    if images is not None:
        images = np.asarray(images[:REAL], "float32")
        shape = images.shape[1:]
    if plan.dtype == "uint8" or plan.normalization is not None:
        made = random.integers(0, 256, (count, *shape)).astype("float32")
    else:
        made = random.standard_normal((count, *shape)).astype("float32")
    return made if images is None else np.concatenate([made, images])


def _side(plan, axis):
    side, free = plan.sides[axis], FREE_SIZE
    if side is not None:
        return side
    variant = getattr(plan.model, "variant", None)
    free = max(free, 2 * variant.stride) if variant else free
    return free + (free // 2 if axis == 1 else 0)


def outputs_of_model(plan, images):
    """Returns what the model computes of images, as the file should: `{name: float32 array}`."""
    with without_gradients(), without_activation(plan.linear):
        made = plan.model(keras.ops.convert_to_tensor(images), training=False)
    if not isinstance(made, dict):
        made = made if isinstance(made, (list, tuple)) else [made]
        made = dict(zip(plan.outputs, made, strict=True))
    found = {
        name: keras.ops.convert_to_numpy(keras.ops.cast(value, "float32"))
        for name, value in made.items()
    }
    if plan.added:
        found = {name: probabilities(value, plan.added) for name, value in found.items()}
    return found


def without_gradients():
    """Returns a context in which PyTorch keeps nothing for gradients."""
    if keras.backend.backend() != "torch":
        return contextlib.nullcontext()
    import torch

    return torch.no_grad()


def largest_difference(found, expected):
    """Returns the largest difference of outputs, relative to the largest value of each.

    Args:
        found, expected: `{name: array}`.

    Raises:
        ProofError: (a ValueError) if names or shapes differ, or a number is not finite.
    """
    if list(found) != list(expected):
        raise ProofError(f"The file returns {list(found)}, the model {list(expected)}.")
    return max(_difference(found[name], expected[name], name) for name in expected)


def _difference(found, expected, name):
    if found.shape != expected.shape:
        raise ProofError(f"{name}: the file returns {found.shape}, the model {expected.shape}.")
    if not np.isfinite(expected).all():
        raise ProofError(
            f"{name}: the model itself returns NaN or infinite numbers for images: its weights are "
            "damaged."
        )
    scale = max(float(np.abs(expected).max()), np.finfo("float32").tiny)
    difference = float(np.abs(found.astype("float32") - expected).max()) / scale
    return difference if np.isfinite(difference) else float("inf")


def bound_for(plan):
    """Returns the largest difference that is allowed between a file in float32 and its model."""
    return ROUGH_BOUND if is_rough(plan.model) else BOUND


def is_rough(model):
    """Returns whether a model computes in half precision."""
    return any(layer.compute_dtype in HALF for layer in model._flatten_layers())


def proven(plan, runner, images=None, bound=None):
    """Returns the largest relative difference between a file and its model.

    Args:
        plan: the `Plan`.
        runner: the opened file, a function of an array of images.
        images: real ones, to compare with beside random ones, or `None`.
        bound: the largest difference allowed; `None`: `bound_for(plan)`.

    Raises:
        ProofError: (a ValueError) if it is larger.
    """
    images = images_for(plan, images)
    found = runner(plan.normalised(images))
    return within(plan, found, outputs_of_model(plan, images), bound)


def within(plan, found, expected, bound=None):
    """Returns the largest relative difference of outputs; arguments and errors as of `proven`.

    Args:
        plan: the `Plan`.
        found, expected: of the file and of the model, `{name: array}`.
        bound: as above.
    """
    bound = bound_for(plan) if bound is None else bound
    difference = largest_difference(found, expected)
    if not difference <= bound:
        raise ProofError(
            f"The exported file differs from {plan.model.name} by {difference:.1e} of the largest "
            f"output, allowed is {bound:.0e}: nothing was written. Please report this model; "
            "`check=False` writes it all the same."
        )
    return difference
