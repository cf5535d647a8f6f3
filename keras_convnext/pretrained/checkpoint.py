"""From a file of weights into a model: recognise the layout, compare everything, then assign.

A file is opened without assuming an architecture, and then read as a variant. Two assertions: every
tensor of the file is used or named as ignorable, and every weight of the model is filled. Shapes
are compared before an array is read, and every number must be finite.
"""

import dataclasses
import re
import warnings

import numpy as np

from keras_convnext.names import block, local_path
from keras_convnext.pretrained import contents, files
from keras_convnext.pretrained.axes import conversion, packed
from keras_convnext.pretrained.files.tensors import FLOATS, WeightsError
from keras_convnext.pretrained.layouts import LAYOUTS, match
from keras_convnext.pretrained.layouts.convnext import TORCH_LEAVES
from keras_convnext.pretrained.layouts.matching import Match
from keras_convnext.variants import VARIANTS, Variant

HEAD_NORM = ("head_norm/gamma", "head_norm/beta")
HEAD_HIDDEN = ("head_hidden/kernel", "head_hidden/bias")
WITH_HEAD_NORM_FIRST = ("keras_convnext", "timm", "open_clip")


def open(path, layouts=LAYOUTS):
    """Opens the file of weights at `path`, of any architecture.

    Args:
        path: str or `os.PathLike`.
        layouts: those that the file may have: `LAYOUTS` for classifiers, `UPERNET_LAYOUTS`,
            `DETECTION_LAYOUTS`.

    Returns:
        An `OpenedFile`.

    Raises:
        FileNotFoundError: if there is no such file.
        WeightsError: if it cannot be read, its names are of no known layout, or it holds two
            networks.
    """
    tensors = files.read(path)
    try:
        return OpenedFile(str(path), match(tensors, layouts))
    except WeightsError as error:
        other = contents.of_another_head(tensors, {layout.head for layout in layouts})
        raise WeightsError(f"{path}: {error}{other}") from None


@dataclasses.dataclass(frozen=True)
class OpenedFile:
    """A file of weights whose layout is known, and whose architecture is not yet.

    Attributes:
        path: of the file.
        match: its names, read in the layout.
    """

    path: str
    match: Match

    def read_as(self, variant):
        """Returns the `Checkpoint` that fills models of a `Variant`.

        A file without a classifier and without the norm before it, as masked pre-training leaves
        it, is read as the variant without that norm.
        """
        checkpoint = Checkpoint(self, variant)
        if checkpoint.is_bare_encoder():
            bare = dataclasses.replace(variant, head_norm=False)
            return dataclasses.replace(checkpoint, variant=bare)
        return checkpoint

    def similar(self):
        """Returns the file read as each variant whose blocks it has, in number, width and kind."""
        readings = (Checkpoint(self, variant) for variant in VARIANTS.values())
        return [reading for reading in readings if reading.has_blocks()]

    def identify(self):
        """Returns the names of the variants that the file may hold, in the order of `VARIANTS`.

        None for an architecture without a name. More than one where the file does not tell them
        apart, for example those that differ in mean and std alone.
        """
        return [reading.variant.name for reading in self.similar() if reading.has_parts()]


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """An opened file of weights, read as the architecture that it shall fill.

    Attributes:
        file: the `OpenedFile`.
        variant: the architecture.
        size: side of the images that the weights were trained for, in pixels.
        published: name of the registry's row, or `None` for any other file.
    """

    file: OpenedFile
    variant: Variant
    size: int = 224
    published: str | None = None

    @property
    def path(self):
        """Path of the file."""
        return self.file.path

    @property
    def layout(self):
        """The `Layout` of its names."""
        return self.file.match.layout

    @property
    def tensors(self):
        """`{name in the layout: Tensor}`."""
        return self.file.match.tensors

    def found(self, weight):
        """Returns the names in the file that stand for our `weight`."""
        names = self.layout.names(self.variant, weight, self.file.match.prefix)
        return [name for name in names if name in self.tensors]

    def is_bare_encoder(self):
        """Returns whether it is of masked pre-training: no classifier, and no norm before it.

        V1 models are only known from our own pre-training, which writes the layers up to the last
        block, and perhaps its decoder.
        """
        if any(map(self.found, self._heads() + HEAD_NORM)):
            return False
        return self.variant.grn or (self.layout.name == "keras_convnext" and self._is_body_alone())

    def _is_body_alone(self):
        match, ignorable = self.file.match, re.compile("|".join(self.layout.ignorable))
        begin = self.layout.body(match.prefix)
        rest = [name for name in self.tensors if not name.startswith(begin)]
        return all(map(ignorable.fullmatch, (*match.others, *rest)))

    @property
    def classes(self):
        """Classes of the file's classifier, without a background; `None` without a classifier."""
        outputs = self.outputs(self._heads()[0])
        return None if outputs is None else outputs - self.layout.background

    def outputs(self, kernel):
        """Returns how many outputs a layer has in the file; `None` without it.

        Args:
            kernel: our path of its kernel, which is no depthwise or transposed one.
        """
        shape = self._shape(kernel)
        return shape and (shape[-1] if self.layout.keras else shape[0])

    def classes_for(self, include_top, classes):
        """Returns the number of classes that the model is built with.

        Args:
            include_top, classes: what the user asked for, as of `ConvNeXt`.

        Raises:
            WeightsError: if neither the user nor the file says a number.
        """
        if not include_top or classes is not None:
            return classes
        if self.classes is None:
            _, foreign = self._unused(set(), {})
            other = f" of ours, but {_listed(foreign)}" if foreign else ""
            raise WeightsError(
                f"{self.path} has no classifier{other}. Pass `include_top=False` for features, "
                f"or `classes=` for a new, untrained one.{self._of_another_head()}"
            )
        return self.classes

    def load_into(self, model):
        """Fills every weight of `model`.

        A classifier with another number of classes is left as it is. So is the norm before it
        where the file is a bare encoder. A model without a classifier takes what it needs from a
        file of a larger model; a warning lists the layers that are left out.

        Raises:
            WeightsError: if anything is missing, left over, there twice, of another shape, no
                float or not finite. All of it is listed.
        """
        weights = {local_path(weight.path): weight for weight in model.weights}
        kept = set(HEAD_NORM) if self.is_bare_encoder() else set()
        head = weights.get(self._heads()[0])
        if head is not None and self._is_of_other_classes(head.shape[-1]):
            kept |= set(self._heads())
        if self.classes is None and not any(map(self.found, HEAD_HIDDEN)):
            kept |= set(HEAD_HIDDEN)
        plan, faults, foreign = self._plan({p: w for p, w in weights.items() if p not in kept})
        if head is not None:
            faults += [f"foreign: {name}" for name in foreign]
        if not faults:
            faults = list(filter(None, (self._assign(*step) for step in plan)))
        if faults:
            raise WeightsError(self._report(faults))
        if foreign:
            warnings.warn(
                f"{self.path}: left out, as no part of {self.variant.name}: {_listed(foreign)}.",
                stacklevel=2,
            )

    def _is_of_other_classes(self, outputs):
        """Returns whether a model's classifier, with so many outputs, is not the file's.

        A ConvNeXt's file may be without one. To a dense predictor's it belongs.
        """
        if self.classes is None:
            return self.layout.head is None
        return self.classes != outputs - self.layout.background

    def _plan(self, weights):
        """Returns `[(weight, name, conversion)]`, what is wrong, and what is foreign."""
        plan, faults, used = [], [], set()
        for path, weight in weights.items():
            names = self.found(path)
            used.update(names)
            if len(names) > 1:
                faults.append(f"duplicate: {' and '.join(names)}")
            elif names:
                shape, dtype = self.tensors[names[0]].shape, self.tensors[names[0]].dtype
                if dtype not in FLOATS:
                    faults.append(f"dtype: {names[0]} holds {dtype}, weights are floats")
                convert = conversion(path, shape, tuple(weight.shape), self.layout.keras)
                if convert is None:
                    faults.append(f"shape: {names[0]} is {shape}, {path} is {tuple(weight.shape)}")
                plan.append((weight, names[0], convert))
            elif path not in self.layout.optional:
                names = self.layout.names(self.variant, path, self.file.match.prefix)
                faults.append(f"missing: {names[0] if names else 'a name'} for {path}")
        unused, foreign = self._unused(used, weights)
        return plan, faults + [f"unused: {name}" for name in unused], foreign

    def _unused(self, used, weights):
        """Returns the names of the tensors that nothing uses, without a reason, in two lists.

        The second has those of layers around the network, which are no part of any ConvNeXt, such
        as a head of the user's own. The classifier of the file is in neither.
        """
        match = self.file.match
        top = self._top() + self._omitted(weights)
        top = {name for weight in top if weight not in weights for name in self.found(weight)}
        ignorable = re.compile("|".join(self.layout.ignorable) or "$^")
        pattern, body = self.layout.pattern(match.prefix), self.layout.body(match.prefix)
        unused, foreign = [], [name for name in match.others if not ignorable.fullmatch(name)]
        for name in self.tensors.keys() - used - top:
            if not ignorable.fullmatch(name):
                is_ours = name.startswith(body) or pattern.fullmatch(name)
                (unused if is_ours else foreign).append(name)
        return sorted(unused), sorted(foreign)

    def _heads(self):
        """Returns the weights as wide as there are classes, the first one's kernel in front."""
        return tuple(
            f"{classifier}/{leaf}"
            for classifier in self.layout.classifiers
            for leaf in ("kernel", "bias")
        )

    def _top(self):
        return self._heads() + (() if self.variant.head_hidden is None else HEAD_HIDDEN)

    def _omitted(self, weights):
        """Returns the weights of the parts that a model may lack, where it has nothing of them."""
        begin = self.layout.omissible
        if begin is None or any(weight.startswith(begin) for weight in weights):
            return ()
        modules = [m for m in self.layout.modules(self.variant) if m.startswith(begin)]
        return tuple(f"{module}/{leaf}" for module in modules for leaf in TORCH_LEAVES)

    def _assign(self, weight, name, convert):
        array = self.tensors[name].numpy()
        if not np.isfinite(array).all():
            return f"not finite: {name}"
        weight.assign(packed(convert(array)))
        return None

    def _report(self, faults, most=12):
        lines = [f"{self.path} ({self.layout.name}) does not fit {self.variant.name}:"]
        lines += [f"  {fault}" for fault in faults[:most]]
        if len(faults) > most:
            lines.append(f"  ... and {len(faults) - most} more")
        lines += filter(None, [self._of_another_head().strip()])
        if any(fault.startswith("foreign: ") for fault in faults):
            lines.append(
                "What is foreign belongs to no ConvNeXt, for example a head of your own: pass "
                "`include_top=False` to take the rest."
            )
        similar = [reading.variant.name for reading in self.file.similar()]
        if similar and self.variant.name not in similar:
            lines.append(f"Its blocks are those of {' or '.join(similar)}.")
            return "\n".join(lines)
        part = self.layout.omissible
        if (
            self.layout.head
            and part
            and any(f.startswith("missing") and f" for {part}" in f for f in faults)
        ):
            lines.append("For a file without heads for masks, build the model with `masks=False`.")
        if self.variant.layer_scale is not None and not self.found("stage0_block0/gamma/gamma"):
            lines.append(
                "It has no layer scale: if that is meant, build "
                "`ConvNeXt(dataclasses.replace(variant, layer_scale=None), weights=...)`."
            )
        side, patch = self.variant.stem_stride, self._shape("stem/conv/kernel")
        if patch is not None and patch.count(side) < 2:
            lines.append(
                f"Its stem is not of stride {side}: build the model with the `stem_stride` of the "
                "file (published weights have their variant's own, `None`) and resize the images."
            )
        return "\n".join(lines)

    def _of_another_head(self):
        return contents.of_another_head(files.read(self.path), {self.layout.head})

    def has_blocks(self):
        """Returns whether its blocks are those of the variant, in number, width and kind."""
        variant = self.variant
        for stage, (depth, dim) in enumerate(zip(variant.depths, variant.dims, strict=True)):
            last = self._shape(f"{block(stage, depth - 1)}/dwconv/bias")
            if last is None or int(np.prod(last)) != dim:
                return False
            if self._shape(f"{block(stage, depth)}/dwconv/bias") is not None:
                return False
        return (self._shape("stage0_block0/grn/gamma") is not None) == variant.grn

    def has_parts(self):
        """Whether it has what tells its variant from those with equal blocks, and only that."""
        variant = self.variant
        if variant.head_norm_first and self.layout.name not in WITH_HEAD_NORM_FIRST:
            return False
        stem, side = ("conv", variant.stem_stride) if variant.stem == "patch" else ("conv1", 3)
        sides = {f"stem/{stem}/kernel": side}
        sides |= {f"{block(s, 0)}/dwconv/kernel": k for s, k in enumerate(variant.kernel_sizes)}
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


def _listed(names, most=6):
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
