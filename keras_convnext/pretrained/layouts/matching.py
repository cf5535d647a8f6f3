"""Finds the layout of a file's names, below what training scripts wrapped around the network."""

import dataclasses
import functools
import re

from keras_convnext.pretrained.files.tensors import WeightsError
from keras_convnext.pretrained.layouts.convnext import Layout

# Modules that wrap any part of a network and add a word to the names: `torch.compile`, fully
# sharded training, activation checkpoints.
WRAPPERS = re.compile(
    r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\."
)
COUNTERS = ("n_averaged",)  # of `torch.optim.swa_utils.AveragedModel`
MAX_OUTER = 8  # words before the names of the network
MAX_PLACES = 50  # at which a network could begin


@dataclasses.dataclass(frozen=True)
class Match:
    """The names of a file, read in a layout.

    Attributes:
        layout: whose names they are.
        outer: what stands before all of them and belongs to no layout: `"module."`, `"model."`,
            `"net.backbone."`, or the name of the model in a Keras model of the user's own.
        prefix: of the layout, in this file.
        tensors: `{name in the layout: Tensor}`.
        others: names of the file's tensors that are not behind `outer`.
    """

    layout: Layout
    outer: str
    prefix: str
    tensors: dict
    others: tuple = ()

    @functools.cached_property
    def known(self):
        """The names of the tensors, with `outer`, that the layout has in some variant."""
        pattern = self.layout.pattern(self.prefix)
        return frozenset(self.outer + name for name in self.tensors if pattern.fullmatch(name))


def match(tensors, layouts):
    """Returns the `Match` that explains most of the tensors of a file.

    Args:
        tensors: `{name: Tensor}`.
        layouts: those that the file may have.

    Raises:
        WeightsError: if it has none of them, holds two networks, or if two names become one.
    """
    tensors = _without_wrappers(tensors)
    found = [_read(tensors, *place) for place in _places(tensors, layouts)]
    if not found:
        raise WeightsError(
            f"its tensors {list(tensors)[:5]} ... are named in no known ConvNeXt layout. "
            f"Known are {[layout.name for layout in layouts]}."
        )
    best = max(found, key=lambda match: len(match.known))
    _check_alone(best, found)
    _check_renamed(best, tensors)
    return best


def _without_wrappers(tensors):
    names = {name: WRAPPERS.sub("", name) for name in tensors if name not in COUNTERS}
    found = {new: tensors[name] for name, new in names.items()}
    if len(found) < len(names):
        twice = sorted(name for name, new in names.items() if name != new and new in names)
        raise WeightsError(f"duplicate after renaming: {twice[:5]}.")
    return found


def _places(tensors, layouts):
    """Returns the distinct `(layout, outer, prefix)` at which a layout's marker is found."""
    found = {}
    for name in tensors:
        for outer, rest in _splits(name):
            for number, layout in enumerate(layouts):
                prefix = layout.prefix((rest,))
                if prefix is not None:
                    found[len(outer), outer, number, prefix] = layout, outer, prefix
                    if len(found) > MAX_PLACES:
                        raise WeightsError(f"holds more than {MAX_PLACES} networks.")
    return [found[key] for key in sorted(found)]


def _splits(name):
    yield "", name
    for end in list(re.finditer(r"[./]", name))[:MAX_OUTER]:
        yield name[: end.end()], name[end.end() :]


def _read(tensors, layout, outer, prefix):
    inside = {name[len(outer) :]: t for name, t in tensors.items() if name.startswith(outer)}
    others = tuple(name for name in tensors if not name.startswith(outer))
    return Match(layout, outer, prefix, layout.prepare(inside), others)


def _check_alone(best, found):
    for other in found:
        if 2 * len(other.known - best.known) > len(best.known):
            both = [repr(match.outer + match.prefix) for match in (best, other)]
            raise WeightsError(
                f"holds two networks, below {' and '.join(both)}. Save the one that you mean to a "
                "file of its own."
            )


def _check_renamed(best, tensors):
    inside = [name[len(best.outer) :] for name in tensors if name.startswith(best.outer)]
    if len(best.tensors) < len(inside):
        raise WeightsError(
            f"duplicate after renaming: {sorted(set(inside) - set(best.tensors))[:5]}."
        )
