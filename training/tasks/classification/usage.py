"""The last lines of a training: how to use what a classifier's run left."""

import shlex

from ...run import shell
from ...run.compiling import channels_of
from .building import evaluation_transform

OF_A_PHOTO = """\
  from keras_convnext import Classifier
  classify = Classifier({run!r})
  print(classify("photo.jpg", top=1)[0].name)"""
OF_ARRAYS = """\
  from keras_convnext import Classifier
  classify = Classifier({run!r})
  # images: (n, {size}, {size}, {channels}) with values in [0, 255]
  print([classify.labels[index] for index in classify.of_pixels(images).argmax(-1)])"""


def usage(run, config, dataset):
    """Returns lines of text: commands and Python to try the best model.

    Args:
        run: the folder of the record.
        config: a `Config`.
        dataset: the `Dataset` of the run.
    """
    transform, channels = evaluation_transform(config, dataset), channels_of(dataset)
    folder = shlex.quote(str(run))
    commands = [f"  {shell.command('evaluate')} {folder}"]
    python = OF_ARRAYS.format(run=str(run), size=config.image_size, channels=channels)
    if transform is not None and channels == 3:
        commands.append(f"  {shell.program('keras-convnext')} predict --model {folder} photo.jpg")
        python = OF_A_PHOTO.format(run=str(run))
    return "\n".join(["To use the best model:", *commands, "and in Python:", python])
