"""The packages that a training needs besides those of the library."""

import importlib.util

EXTRAS = {"tensorflow": "tensorflow", "matplotlib": "train", "sklearn": "train"}
WHY = {
    "tensorflow": "The trainer reads its data with the package tensorflow, on every backend",
    "matplotlib": "The pictures of a run need the package matplotlib",
    "sklearn": "The digits come with the package scikit-learn",
}
ALWAYS = ("tensorflow", "matplotlib")


def missing(modules=ALWAYS):
    """Returns those of the modules that are not installed."""
    return [module for module in modules if importlib.util.find_spec(module) is None]


def check(modules=ALWAYS):
    """Raises a ValueError that says how to install what is missing of these modules: better before
    a training than after it."""
    if absent := missing(modules):
        # one command for all that a training needs, so that nobody comes here twice
        extras = sorted({EXTRAS[module] for module in absent} | {"train"})
        raise ValueError(
            f"{'; '.join(WHY[module] for module in absent)}: install it with "
            f'`pip install "keras_convnext[{",".join(extras)}]"`.'
        )
