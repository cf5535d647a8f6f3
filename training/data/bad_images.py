"""The rule for unusable images: training continues up to a limit, evaluation ends."""

import sys

from ..run import shell
from .dataset import DataError
from .images import problem

SHARE, AT_LEAST = 1e-3, 10


def _hint():
    return f"`{shell.entry('verify_data')}` lists all such images."


def reason(image):
    """Returns why the transform failed on an image, the content of a file or an array."""
    found = problem(image) if isinstance(image, bytes) else None
    return found or "it can be decoded, but the transform fails on it"


def refuse(name, image):
    """Raises the error of an evaluation, in which every image counts."""
    raise DataError(
        f"The image {name} cannot be used ({reason(image)}): replace or remove it. {_hint()}"
    )


class BadImages:
    """Counts the bad images of a split by name, reports each once, and ends the run above a limit.

    Args:
        split: the `Split`.
        cap: how many different bad images are tolerated; default 0.1 % of the split, but at least
            10.
        report: called with a sentence about each; default prints it to stderr.

    Attributes:
        names: {name: reason} of the bad images so far.
        hint: a sentence that is added when there are too many.

    An object that is used for all epochs counts an image once, not once per epoch.
    """

    hint = _hint()

    def __init__(self, split, cap=None, report=None):
        self.split = split
        self.cap = max(AT_LEAST, int(SHARE * split.size)) if cap is None else cap
        self.report = report or (lambda line: print(line, file=sys.stderr, flush=True))
        self.names = {}

    def __call__(self, name, image):
        if name in self.names:
            return
        self.names[name] = self.reason(image)
        if len(self.names) > self.cap:
            raise DataError(
                f"{len(self.names)} images of the split {self.split.name!r} cannot be used, more "
                f"than the {self.cap} that are tolerated; the last is {name} "
                f"({self.names[name]}). {self.hint}"
            )
        self.report(f"Omitted: the image {name} cannot be used ({self.names[name]}).")

    def reason(self, image):
        """Returns what is wrong with the image, in words."""
        return reason(image)
