"""What an experiment is: a frozen dataclass, built by a file in `configs/`, changed by flags."""

import argparse
import dataclasses
import importlib
import inspect
import pkgutil
import types
import typing

from keras_convnext import VARIANTS, Variant
from keras_convnext.roadmap import STEPS, Regime
from keras_convnext.variants import STEM_STRIDES
from training.experiments import classification as configs

AUGMENTATIONS = ("none", "exact", "keras_cv")
DTYPES = ("float32", "mixed_bfloat16", "mixed_float16")
DISTRIBUTE = ("auto", "none", "mirrored", "multiworker", "tpu")
CHOICES = {
    "augmentation": AUGMENTATIONS,
    "dtype": DTYPES,
    "jit": ("auto", "on", "off"),
    "distribute": DISTRIBUTE,
    "stem_stride": (None, *STEM_STRIDES),
    "step": (None, *STEPS),
}
# (lowest, highest) of the numbers; `None` is no limit, the highest of a half-open range is left out
RANGES = {
    "image_size": (1, None),
    "epochs": (1, None),
    "batch_size": (1, None),
    "gradient_accumulation": (1, None),
    "learning_rate_batch": (1, None),
    "learning_rate": (0, None),
    "minimum_learning_rate": (0, None),
    "weight_decay": (0, None),
    "layer_decay": (1e-9, 1),
    "clip_norm": (1e-12, None),
    "ema_momentum": (0, 1),
    "drop_path_rate": (0, 1),
    "kernel_gain": (1e-12, None),
    "label_smoothing": (0, 1),
    "flip": (0, 1),
    "erase": (0, 1),
    "mixup": (0, None),
    "cutmix": (0, None),
    "padding": (0, None),
    "freeze_stages": (0, None),
    "validation_fraction": (0, 1),
    "checkpoint_steps": (1, None),
    "head_init_scale": (0, None),
    # of segmentation
    "warmup_updates": (0, None),
    "decay_depth": (3, None),
    "channels": (1, None),
    "auxiliary_channels": (1, None),
    "dropout": (0, 1),
    "crop": (32, None),
    "category_limit": (0, 1),
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Run:
    """What every training has, whatever it learns.

    Data:
        name: of the experiment, and of its record's folder.
        dataset: where the examples come from.
        data_dir: the directory that they are in.
        published_images: size of the training set as its makers state it, for the plan of a dry
            run where the data are not there.

    Model:
        variant: the architecture; on the command line the name of one.
        weights: to start from, as `ConvNeXt(weights=...)` takes them; `None` is from scratch.
        drop_path_rate: stochastic depth of the last block, in [0, 1).
        kernel_gain: initial kernels get a standard deviation of this / sqrt(inputs), which small
            networks learn sooner with (`initialization.scale_to_inputs`); `None`: the paper's 0.02.

    Optimization:
        epochs: passes over the training images.
        batch_size: images per optimizer step, over all devices and accumulated micro-batches.
        minimum_learning_rate: at the end of the schedule.
        weight_decay: of AdamW; none on tensors of rank below 2, GRN and layer scale.
        clip_norm: largest global norm of the gradient; `None` does not clip.
        ema_momentum: of the moving average of the weights; `None` keeps none. Where there is one,
            it is the average that is validated.
        gradient_accumulation: micro-batches per optimizer step.

    Machine:
        dtype: `"float32"`, `"mixed_bfloat16"` or `"mixed_float16"`.
        jit: `"auto"` (what Keras finds right), `"on"` or `"off"`.
        distribute: `"auto"`, `"none"`, `"mirrored"` (all devices of this machine),
            `"multiworker"` (several processes) or `"tpu"`.
        checkpoint_steps: micro-batches between checkpoints inside of an epoch, which wait for the
            end of a batch that is accumulated; `None`: only at the end of each epoch.
        tensorboard: whether to write event files.
        wandb: project at Weights & Biases that gets the log; `None`: nothing is sent.
        seed: of weights, order, augmentation and stochastic depth.
        output: directory that gets the record's folder.

    Raises:
        ValueError: if a field has a value that is not allowed.
    """

    name: str
    dataset: str
    data_dir: str | None = None
    published_images: int | None = None

    variant: Variant = VARIANTS["convnext_tiny"]
    weights: str | None = None
    drop_path_rate: float = 0.0
    kernel_gain: float | None = None

    epochs: int = 300
    batch_size: int = 4096
    minimum_learning_rate: float = 1e-6
    weight_decay: float = 0.05
    clip_norm: float | None = None
    ema_momentum: float | None = None
    gradient_accumulation: int = 1

    dtype: str = "float32"
    jit: str = "auto"
    distribute: str = "auto"
    checkpoint_steps: int | None = None
    tensorboard: bool = True
    wandb: str | None = None
    seed: int = 0
    output: str = "records"

    def __post_init__(self):
        for field, allowed in CHOICES.items():
            if getattr(self, field, allowed[0]) not in allowed:
                given = getattr(self, field)
                raise ValueError(f"`{field}` must be one of {allowed}, received {given!r}.")
        for field, limits in RANGES.items():
            _check_range(field, getattr(self, field, None), *limits)
        if self.minimum_learning_rate > self.peak_learning_rate:
            raise ValueError(
                f"`minimum_learning_rate` {self.minimum_learning_rate:g} is above the peak of "
                f"{self.peak_learning_rate:g} that `learning_rate` amounts to with a `batch_size` "
                f"of {self.batch_size}: lower the one or raise another."
            )
        if self.kernel_gain is not None and self.weights is not None:
            raise ValueError(
                f"`kernel_gain` {self.kernel_gain:g} is for new kernels, received `weights` "
                f"{self.weights!r}: give one of them as none."
            )
        if self.batch_size % self.gradient_accumulation:
            raise ValueError(
                f"`batch_size` {self.batch_size} is not divisible by `gradient_accumulation` "
                f"{self.gradient_accumulation}: choose a multiple."
            )

    @property
    def micro_batch(self):
        """Images per forward pass, over all devices."""
        return self.batch_size // self.gradient_accumulation

    @property
    def peak_learning_rate(self):
        """The highest, for this batch size."""
        return self.learning_rate


@dataclasses.dataclass(frozen=True, kw_only=True)
class Config(Run):
    """One training of a classifier, with the fields of `Run` and these.

    Defaults are those of Table 5 of arXiv 2201.03545, left column.

    Data:
        dataset: `"digits"`, `"folder"`, or the name of a TensorFlow Datasets classification set.
        data_dir: of the folder of images, or where TensorFlow Datasets keeps its sets.
        train_split, validation_split: as TensorFlow Datasets writes them (`"train[:90%]"`);
            `None`: its "train", and "validation" or else "test".
        validation_fraction: part of an image folder without `val/` that is kept for validation;
            `None`: a fifth.
        published_classes: number of classes, like `published_images`.
        image_size: height and width of the training images, in pixels.
        class_weights: whether rare classes weigh more: n / (classes * n of the class).

    Model:
        stem_stride: 1, 2 or 4, in pixels, for small images; `None` is the variant's own.
        step: a step of the roadmap, by its name in `roadmap.STEPS`, to train in place of `variant`;
            from scratch. `None`: the variant.
        road: the `roadmap.Regime` that `step` belongs to; `None`: the paper's, to ConvNeXt-T.
        head_init_scale: factor on the initial weights of the classifier.
        freeze_stages: how many stages, the stem with the first, are not trained.

    Optimization:
        learning_rate: peak, for a batch of `learning_rate_batch` images.
        learning_rate_batch: the rate scales with `batch_size` / this; `None`: it does not scale.
        warmup_epochs: of linear warm-up from 0.
        layer_decay: learning rate of a group of blocks relative to the group above, in (0, 1].

    Augmentation:
        augmentation: `"exact"` (the paper's operations), `"keras_cv"` (KerasCV's) or `"none"`.
        rand_augment: policy such as `"rand-m9-mstd0.5-inc1"`, or `None`.
        crop_scale: area of the random resized crop, relative to the image: two numbers in (0, 1].
        padding: pixels around small images before a random crop, in place of that crop.
        flip: probability of a horizontal flip.
        erase: probability of random erasing.
        mixup, cutmix: alpha of their Beta distributions; 0 is off.
        label_smoothing: in [0, 1), inside of the mixed target.

    Raises:
        ValueError: if a field has a value that is not allowed.
    """

    train_split: str | None = None
    validation_split: str | None = None
    validation_fraction: float | None = None
    published_classes: int | None = None
    image_size: int = 224
    class_weights: bool = False

    stem_stride: int | None = None
    step: str | None = None
    road: Regime | None = None
    head_init_scale: float = 1.0
    freeze_stages: int = 0

    learning_rate: float = 4e-3
    learning_rate_batch: int | None = None
    warmup_epochs: float = 20.0
    layer_decay: float = 1.0

    augmentation: str = "none"
    rand_augment: str | None = None
    crop_scale: tuple = (0.08, 1.0)
    padding: int = 0
    flip: float = 0.0
    erase: float = 0.0
    mixup: float = 0.0
    cutmix: float = 0.0
    label_smoothing: float = 0.1

    def __post_init__(self):
        super().__post_init__()
        _check_crop_scale(self.crop_scale)
        if self.step is not None and self.weights is not None:
            raise ValueError(
                f"`step` {self.step!r} of the roadmap is trained from scratch, received `weights` "
                f"{self.weights!r}: give --weights=none, or no step."
            )
        if self.step is not None and self.head_init_scale != 1:
            raise ValueError(
                f"`step` {self.step!r} of the roadmap has the paper's classifier, received "
                f"`head_init_scale` {self.head_init_scale:g}: leave it at 1, or give no step."
            )
        if not 0 <= self.warmup_epochs < self.epochs:
            raise ValueError(
                f"`warmup_epochs` must be from 0 to below the {self.epochs} epochs, received "
                f"{self.warmup_epochs}: with few epochs give --warmup_epochs, too."
            )

    @property
    def peak_learning_rate(self):
        """After the warm-up, for this batch size."""
        return self.learning_rate * self.batch_size / (self.learning_rate_batch or self.batch_size)


@dataclasses.dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        config: the experiment.
        resume: `"none"`; `"auto"`: the newest unfinished run of the same configuration, if there
            is one; or the folder of a run.
        dry_run: whether only the plan is printed.
    """

    config: Run
    resume: str = "none"
    dry_run: bool = False


def names(package=configs):
    """-> names of all experiments in a package of them."""
    return sorted(module.name for module in pkgutil.iter_modules(package.__path__))


def load(name, smoke=False, package=configs, **fields):
    """-> the Config of experiment `name`, with these fields changed.

    The experiment's own function takes the fields it depends on (a variant's stochastic depth is
    read from the paper's table), so what is left to its default is right for what is given.

    Args:
        name: of a file in `package`.
        smoke: whether to shrink it to a size that trains two steps in seconds.
        package: `training.configs`, or another package of experiments.
        **fields: of `Config`.
    """
    module = importlib.import_module(f"{package.__name__}.{name}")
    parameters = inspect.signature(module.config).parameters
    asked = {key: fields[key] for key in parameters if key in fields}
    config = module.config(**asked)
    if smoke:
        config = dataclasses.replace(config, **module.SMOKE)
    return dataclasses.replace(config, **fields)


def lab_book(name, package=configs):
    """-> the docstring of an experiment's file."""
    return inspect.getdoc(importlib.import_module(f"{package.__name__}.{name}"))


def from_command_line(arguments=None, kind=Config, package=configs, program="training.train"):
    """-> the Request that `--config NAME [--field=value ...]` makes; exits on wrong flags.

    Args:
        arguments: list of strings; `None`: those of the process.
        kind: the class of the configurations.
        package: of the experiments.
        program: the module that is run.
    """
    parser = _parser(kind, package, program)
    given = vars(parser.parse_args(arguments))
    if given.pop("list"):
        for name in names(package):
            print(f"{name:14} {lab_book(name, package).splitlines()[0]}")
        raise SystemExit(0)
    name, smoke = given.pop("config"), given.pop("smoke")
    request = {key: given.pop(key) for key in ("resume", "dry_run")}
    if name is None:
        parser.error(f"--config is missing: one of {', '.join(names(package))}")
    try:
        return Request(load(name, smoke, package, **given), **request)
    except ValueError as error:
        parser.error(str(error))


def _parser(kind, package, program):
    parser = argparse.ArgumentParser(
        prog=f"python -m {program}",
        description="Trains a ConvNeXt and leaves a record of the run.",
        epilog="Any field of the configuration can be set: --epochs=5 --variant=convnext_atto.",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
    )
    parser.add_argument("--list", action="store_true", default=False, help="show all experiments")
    parser.add_argument("--config", choices=names(package), default=None, metavar="NAME")
    parser.add_argument("--dry-run", action="store_true", default=False, help="print the plan only")
    parser.add_argument("--smoke", action="store_true", default=False, help="a few steps, tiny")
    parser.add_argument("--resume", default="none", help="none, auto, or the folder of a run")
    fields = parser.add_argument_group("fields of the configuration")
    for field in dataclasses.fields(kind):
        if field.name == "road":
            continue  # a description that no flag can hold
        fields.add_argument(f"--{field.name}", type=_reader(field), metavar=_kind(field))
    return parser


def _kind(field):
    return "NAME" if field.type is Variant else getattr(field.type, "__name__", str(field.type))


def _reader(field):
    """-> what reads a flag's text, as argparse wants it; its name stands in the error message."""
    if isinstance(field.type, types.UnionType):
        return _optional(_reader_of(typing.get_args(field.type)[0]))
    return _reader_of(field.type)


def _reader_of(kind):
    return {Variant: _variant, bool: _boolean, tuple: _two_numbers}.get(kind, kind)


def _optional(kind):
    def read(text):
        return None if text.lower() == "none" else kind(text)

    read.__name__ = f"{kind.__name__} (or none)"
    return read


def _boolean(text):
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _two_numbers(text):
    try:
        low, high = (float(part) for part in text.strip("()").split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers such as 0.08,1") from None
    return low, high


def _variant(name):
    if name not in VARIANTS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(VARIANTS)}")
    return VARIANTS[name]


def _check_range(field, value, low, high):
    if value is None:
        return
    half_open = field in ("drop_path_rate", "dropout", "label_smoothing", "ema_momentum")
    if value < low or (high is not None and (value >= high if half_open else value > high)):
        allowed = f"at least {low}" if high is None else f"between {low} and {high}"
        raise ValueError(f"`{field}` must be {allowed}, received {value}.")


def _check_crop_scale(scale):
    if len(scale) != 2 or not 0 < scale[0] <= scale[1] <= 1:
        raise ValueError(
            f"`crop_scale` must be two numbers with 0 < low <= high <= 1, received {scale}."
        )
