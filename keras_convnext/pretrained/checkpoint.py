"""From a file of weights into a model: recognise the layout, compare everything, then assign.

Two assertions: every tensor of the file is used or named as ignorable, and every weight of the
model is filled. Shapes are compared before an array is read, and every number must be finite.
"""

import dataclasses
import functools
import re

import numpy as np

from keras_convnext.pretrained import files
from keras_convnext.pretrained.files.tensors import FLOATS, WeightsError
from keras_convnext.pretrained.layouts import LAYOUTS, Layout
from keras_convnext.variants import VARIANTS, Variant

HEAD_NORM = ("head_norm/gamma", "head_norm/beta")
HEAD_HIDDEN = ("head_hidden/kernel", "head_hidden/bias")
WITH_HEAD_NORM_FIRST = ("keras_convnext", "timm", "open_clip")


def open_checkpoint(path, variant, layouts=LAYOUTS):
    """-> the `Checkpoint` at `path`, to be loaded into a model of `variant`.

    `layouts` are those that it may have.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsError: if it cannot be read, or its names are of no known layout.
    """
    checkpoint = _opened(path, variant, layouts)
    if checkpoint.is_bare_encoder():
        bare = dataclasses.replace(variant, head_norm=False)
        return dataclasses.replace(checkpoint, variant=bare)
    return checkpoint


def identify(path):
    """-> names of the variants that the file at `path` may hold, in the order of `VARIANTS`.

    None for an architecture without a name. More than one where the file does not tell them apart,
    for example those that differ in mean and std alone.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsError: if it cannot be read, or its names are of no known layout.
    """
    similar = _opened(path, VARIANTS["convnext_tiny"]).similar()
    return [reading.variant.name for reading in similar if reading.has_parts()]


def _opened(path, variant, layouts=LAYOUTS):
    tensors = files.read(path)
    for layout in layouts:
        prefix = layout.prefix(tensors)
        if prefix is not None:
            break
    else:
        raise WeightsError(
            f"{path}: its tensors {list(tensors)[:5]} ... are named in no known ConvNeXt layout. "
            f"Known are {[layout.name for layout in layouts]}."
        )
    prepared = layout.prepare(tensors)
    if len(prepared) < len(tensors):
        raise WeightsError(f"{path}: double after renaming: {sorted(tensors.keys() - prepared)}.")
    return Checkpoint(str(path), variant, layout, prepared, prefix)


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An opened file of weights and the architecture it shall fill.

    Attributes:
        path: of the file.
        variant: the architecture.
        layout: whose names the file has.
        tensors: `{name: Tensor}`.
        prefix: of the names in this file.
        size: side of the images that the weights were trained for, in pixels.
        published: name of the registry's row, or `None` for any other file.
    """

    path: str
    variant: Variant
    layout: Layout
    tensors: dict
    prefix: str
    size: int = 224
    published: str | None = None

    def found(self, weight):
        """-> the names in the file that stand for our `weight`."""
        names = self.layout.names(self.variant, weight, self.prefix)
        return [name for name in names if name in self.tensors]

    def is_bare_encoder(self):
        """ConvNeXt V2's masked pre-training leaves neither a classifier nor the norm before it."""
        return self.variant.grn and not any(map(self.found, self._heads() + HEAD_NORM))

    @property
    def classes(self):
        """Classes of the file's classifier, `None` without one."""
        kernels = self.found(self._heads()[0])
        if not kernels:
            return None
        shape = self.tensors[kernels[0]].shape
        return shape[-1] if self.layout.keras else shape[0]

    def classes_for(self, include_top, classes):
        """-> what the model is built with, given what its user asked for."""
        if not include_top or classes is not None:
            return classes
        if self.classes is None:
            raise WeightsError(
                f"{self.path} has no classifier. Pass `include_top=False` for features, "
                "or `classes=` for a new, untrained one."
            )
        return self.classes

    def load_into(self, model):
        """Fills every weight of `model`.

        A classifier with another number of classes is left as it is. So is the norm before it
        where the file is a bare encoder.

        Raises:
            WeightsError: if anything is missing, left over, double, of another shape or not
                finite. All of it is listed.
        """
        weights = {weight.path: weight for weight in model.weights}
        kept = set(HEAD_NORM) if self.is_bare_encoder() else set()
        head = weights.get(self._heads()[0])
        if head is not None and self.classes != head.shape[-1]:
            kept |= set(self._heads())
        if self.classes is None and not any(map(self.found, HEAD_HIDDEN)):
            kept |= set(HEAD_HIDDEN)
        plan, faults = self._plan({p: w for p, w in weights.items() if p not in kept})
        if not faults:
            faults = list(filter(None, (self._assign(*step) for step in plan)))
        if faults:
            raise WeightsError(self._report(faults))

    def _plan(self, weights):
        """-> [(weight, name, conversion)], [what is wrong]"""
        plan, faults, used = [], [], set()
        for path, weight in weights.items():
            names = self.found(path)
            used.update(names)
            if len(names) > 1:
                faults.append(f"double: {' and '.join(names)}")
            elif names:
                shape, dtype = self.tensors[names[0]].shape, self.tensors[names[0]].dtype
                if dtype not in FLOATS:
                    faults.append(f"dtype: {names[0]} holds {dtype}, weights are floats")
                convert = _conversion(path, shape, tuple(weight.shape), self.layout.keras)
                if convert is None:
                    faults.append(f"shape: {names[0]} is {shape}, {path} is {tuple(weight.shape)}")
                plan.append((weight, names[0], convert))
            elif path not in self.layout.optional:
                names = self.layout.names(self.variant, path, self.prefix)
                faults.append(f"missing: {names[0] if names else 'a name'} for {path}")
        return plan, faults + [f"unused: {name}" for name in self._unused(used, weights)]

    def _unused(self, used, weights):
        """The classifier of the file may stay unused; for the rest there must be a reason."""
        top = {
            name for weight in self._top() if weight not in weights for name in self.found(weight)
        }
        ignorable = re.compile("|".join(self.layout.ignorable) or "$^")
        left = set(self.tensors) - used - top
        return sorted(name for name in left if not ignorable.fullmatch(name))

    def _heads(self):
        """-> the weights whose width is the number of classes, the kernel of the first in front"""
        return tuple(
            f"{classifier}/{leaf}"
            for classifier in self.layout.classifiers
            for leaf in ("kernel", "bias")
        )

    def _top(self):
        return self._heads() + (() if self.variant.head_hidden is None else HEAD_HIDDEN)

    def _assign(self, weight, name, convert):
        array = self.tensors[name].numpy()
        if not np.isfinite(array).all():
            return f"not finite: {name}"
        weight.assign(_packed(convert(array)))
        return None

    def _report(self, faults, most=12):
        lines = [f"{self.path} ({self.layout.name}) does not fit {self.variant.name}:"]
        lines += [f"  {fault}" for fault in faults[:most]]
        if len(faults) > most:
            lines.append(f"  ... and {len(faults) - most} more")
        similar = [reading.variant.name for reading in self.similar()]
        if similar and self.variant.name not in similar:
            lines.append(f"Its blocks are those of {' or '.join(similar)}.")
            return "\n".join(lines)
        if self.variant.layer_scale is not None and not self.found("stage0_block0/gamma/gamma"):
            lines.append(
                "It has no layer scale: if that is meant, build "
                "`ConvNeXt(dataclasses.replace(variant, layer_scale=None), weights=...)`."
            )
        side, patch = self.variant.patch_size, self._shape("stem/conv/kernel")
        if patch is not None and patch.count(side) < 2:
            lines.append(
                f"Its stem is not of stride {side}: build the model with the `stem_stride` of the "
                "file (published weights have their variant's own, `None`) and resize the images."
            )
        return "\n".join(lines)

    def similar(self):
        """-> the file read as each variant whose blocks it has, in number, width and kind."""
        readings = (dataclasses.replace(self, variant=variant) for variant in VARIANTS.values())
        return [reading for reading in readings if reading._has_blocks()]

    def _has_blocks(self):
        variant = self.variant
        for stage, (depth, dim) in enumerate(zip(variant.depths, variant.dims, strict=True)):
            last = self._shape(f"stage{stage}_block{depth - 1}/dwconv/bias")
            if last is None or int(np.prod(last)) != dim:
                return False
            if self._shape(f"stage{stage}_block{depth}/dwconv/bias") is not None:
                return False
        return (self._shape("stage0_block0/grn/gamma") is not None) == variant.grn

    def has_parts(self):
        """Whether it has what tells its variant from those with equal blocks, and only that."""
        variant = self.variant
        if variant.head_norm_first and self.layout.name not in WITH_HEAD_NORM_FIRST:
            return False
        stem, side = ("conv", variant.patch_size) if variant.stem == "patch" else ("conv1", 3)
        sides = {f"stem/{stem}/kernel": side}
        sides |= {f"stage{s}_block0/dwconv/kernel": k for s, k in enumerate(variant.kernel_sizes)}
        if any((self._shape(kernel) or ()).count(side) < 2 for kernel, side in sides.items()):
            return False
        expected = {
            "stem/norm/gamma": variant.stem_norm,
            "stage0_block0/norm/beta": variant.norm == "layernorm",
            "stage0_block0/gamma/gamma": variant.layer_scale is not None,
            "head_norm/gamma": not self.is_bare_encoder(),
            "head_hidden/kernel": variant.head_hidden is not None and self.classes is not None,
        }
        return all((self._shape(weight) is not None) == has for weight, has in expected.items())

    def _shape(self, weight):
        names = self.found(weight)
        return self.tensors[names[0]].shape if names else None


def _conversion(path, theirs, ours, keras_axes):
    """-> function from their array to ours, or `None` if the shapes do not fit."""
    if len(ours) == 1:
        fits = max(theirs, default=1) == ours[0] == int(np.prod(theirs, dtype=object))
        return functools.partial(np.reshape, shape=ours) if fits else None
    axes = _axes(path, theirs, ours, keras_axes)
    if axes is None:
        return None
    shape = tuple(theirs[axis] for axis in axes)
    if shape == ours:
        return lambda array: array.transpose(axes)
    if len(ours) == 2 and shape[-2:] == ours and set(shape[:-2]) == {1}:  # a 1x1 convolution
        return lambda array: array.transpose(axes).reshape(ours)
    stem = path in ("stem/conv/kernel", "stem/conv1/kernel")
    if stem and shape[2] == 3 and (*shape[:2], shape[3]) == (*ours[:2], ours[3]):
        return lambda array: _adapt_stem(array.transpose(axes), ours[2])
    return None


def _packed(array, step=64):
    """`np.ascontiguousarray` in strips that the processor's cache holds: large transposed matrices
    take a third of the time."""
    if array.flags.c_contiguous:
        return array
    packed = np.empty(array.shape, array.dtype)
    for start in range(0, array.shape[-1], step):
        packed[..., start : start + step] = array[..., start : start + step]
    return packed


def _axes(path, theirs, ours, keras_axes):
    """Which axis of theirs becomes each of ours; (height, width, in, out) at the end."""
    if keras_axes:
        # keras.applications has its depthwise kernels as (k, k, 1, channels)
        grouped = "dwconv" in path and len(theirs) == 4 and theirs[2] == 1 != theirs[3]
        if len(theirs) != len(ours):
            return None
        return (0, 1, 3, 2) if grouped else tuple(range(len(theirs)))
    if len(theirs) == 4:  # (out, in, height, width); depthwise (channels, 1, height, width)
        return (2, 3, 0, 1) if "dwconv" in path else (2, 3, 1, 0)
    return (1, 0) if len(theirs) == len(ours) == 2 else None


def _adapt_stem(kernel, channels):
    """An RGB kernel (h, w, 3, out) for another number of channels, the response kept in scale."""
    if channels == 1:
        return kernel.sum(axis=2, keepdims=True)
    return np.take(kernel, np.arange(channels) % 3, axis=2) * (3 / channels)
