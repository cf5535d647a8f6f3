"""The last lines of a training: how to use what a pre-training left."""

import dataclasses
import shlex

from keras_convnext import VARIANTS

from ...run import shell

PYTHON = """\
  from keras_convnext import {names}
  variant = {variant}
  model = ConvNeXt(variant, weights={weights!r}, classes=10{stride})"""


def usage(run, config, dataset):
    """Returns lines of text: a command that fine-tunes the encoder, and Python that loads it.

    There is no command for a variant that is none of `VARIANTS`, which no flag can name.

    Args:
        run: the folder of the record.
        config: a `PretrainConfig`.
        dataset: the `Dataset` of the run.
    """
    weights, variant = str(run / "encoder.weights.h5"), config.variant
    stride = "" if config.stem_stride is None else f", stem_stride={config.stem_stride}"
    names = "ConvNeXt" if _is_row(variant) else "ConvNeXt, Variant"
    python = PYTHON.format(names=names, variant=_written(variant), weights=weights, stride=stride)
    if not _is_row(variant):
        return f"To fine-tune the encoder in Python:\n{python}"
    command = f"  {shell.command('train')} --config finetune"
    command += f" --variant {variant.name} --weights {shlex.quote(weights)}"
    command += f" --image_size {config.image_size}"
    command += f" --stem_stride {config.stem_stride}" if stride else ""
    return "\n".join(
        [
            "To fine-tune the encoder on images with labels:",
            f"{command} --dataset folder --data_dir PHOTOS",
            "and in Python:",
            python,
        ]
    )


def _is_row(variant):
    return VARIANTS.get(variant.name) == variant


def _written(variant):
    """Returns Python for a variant: the name of a row, else what makes it."""
    if _is_row(variant):
        return repr(variant.name)
    values = {field: getattr(variant, field.name) for field in dataclasses.fields(variant)}
    given = (f"{field.name}={v!r}" for field, v in values.items() if v != field.default)
    return f"Variant({', '.join(given)})"
