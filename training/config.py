"""What an experiment is: a frozen dataclass, built by a file in `configs/`, changed by flags."""

import argparse
import dataclasses
import importlib
import pkgutil

from keras_convnext import VARIANTS, Variant
from training import configs


@dataclasses.dataclass(frozen=True)
class Config:
    """One run of training.

    Attributes:
        name: of the experiment.
        dataset: name of a function in `training/data.py`.
        variant: the architecture; on the command line the name of one.
        epochs, batch_size: of the training.
        learning_rate: peak, after the warm-up; cosine to 0 afterwards.
        warmup_epochs: epochs of linear warm-up from 0.
        weight_decay: of AdamW; none on tensors of rank below 2 (paper, Table 5).
        label_smoothing: in [0, 1).
        drop_path_rate: stochastic depth of the last block, in [0, 1).
        seed: of weights, order and stochastic depth.
        output: directory that gets the record's folder.
    """

    name: str
    dataset: str
    variant: Variant
    epochs: int
    batch_size: int
    learning_rate: float
    warmup_epochs: float
    weight_decay: float = 0.05
    label_smoothing: float = 0.1
    drop_path_rate: float = 0.0
    seed: int = 0
    output: str = "records"

    def __post_init__(self):
        for field in ("epochs", "batch_size"):
            if getattr(self, field) < 1:
                raise ValueError(f"`{field}` must be at least 1, received {getattr(self, field)}.")
        if not 0 <= self.warmup_epochs <= self.epochs:
            raise ValueError(
                f"`warmup_epochs` must be between 0 and the {self.epochs} epochs, "
                f"received {self.warmup_epochs}."
            )


def names():
    """-> names of all experiments."""
    return sorted(module.name for module in pkgutil.iter_modules(configs.__path__))


def from_command_line(arguments=None):
    """-> the Config that `--config NAME [--field=value ...]` describes; exits on wrong flags."""
    parser = argparse.ArgumentParser(
        prog="python -m training.train",
        description="Trains a ConvNeXt and leaves a record of the run.",
        epilog="Any field of the configuration can be set: --epochs=5 --variant=convnext_atto.",
        allow_abbrev=False,
    )
    parser.add_argument("--config", choices=names(), required=True)
    for field in dataclasses.fields(Config):
        read = _variant if field.type is Variant else field.type
        parser.add_argument(f"--{field.name}", type=read, default=argparse.SUPPRESS)
    given = vars(parser.parse_args(arguments))
    config = importlib.import_module(f"training.configs.{given.pop('config')}").config()
    try:
        return dataclasses.replace(config, **given)
    except ValueError as error:
        parser.error(str(error))


def _variant(name):
    if name not in VARIANTS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(VARIANTS)}")
    return VARIANTS[name]
