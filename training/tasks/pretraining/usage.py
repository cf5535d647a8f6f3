"""The last lines of a training: how to use what a pre-training left."""

import shlex

from training.run import shell

PYTHON = """\
  from keras_convnext import ConvNeXt
  model = ConvNeXt({variant!r}, weights={weights!r}, classes=10{stride})"""


def usage(run, config, dataset):
    """Returns lines of text: a command that fine-tunes the encoder, and Python that loads it.

    Args:
        run: the folder of the record.
        config: a `PretrainConfig`.
        dataset: the `Dataset` of the run.
    """
    weights = str(run / "encoder.weights.h5")
    stride = "" if config.stem_stride is None else f", stem_stride={config.stem_stride}"
    command = f"  {shell.python()} -m training.train --config finetune"
    command += f" --variant {config.variant.name} --weights {shlex.quote(weights)}"
    command += f" --image_size {config.image_size}"
    command += f" --stem_stride {config.stem_stride}" if stride else ""
    python = PYTHON.format(variant=config.variant.name, weights=weights, stride=stride)
    return "\n".join(
        [
            "To fine-tune the encoder on images with labels:",
            f"{command} --dataset folder --data_dir PHOTOS",
            "and in Python:",
            python,
        ]
    )
