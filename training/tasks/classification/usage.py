"""The last lines of a training: how to use what a classifier's run left."""

import dataclasses
import shlex

from ...run import shell
from ...run.compiling import channels_of
from .building import evaluation_transform

PYTHON = """\
  import json
  import keras
  import keras_convnext.models  # registers the layers: without it the file cannot be loaded
  model = keras.saving.load_model({model!r})
  names = json.load(open({names!r}))
"""
OF_A_PHOTO = """\
  from keras_convnext.preprocessing import EvalTransform
  transform = {transform}
  probabilities = model.predict(transform("photo.jpg")[None])[0]
  print(names[probabilities.argmax()])"""
OF_ARRAYS = """\
  # images: (n, {size}, {size}, {channels}) with values in [0, 255]; probabilities come out
  print([names[index] for index in model.predict(images).argmax(-1)])"""


def usage(run, config, dataset):
    """Returns lines of text: commands and Python to try the best model.

    Args:
        run: the folder of the record.
        config: a `Config`.
        dataset: the `Dataset` of the run.
    """
    transform, channels = evaluation_transform(config, dataset), channels_of(dataset)
    if transform is not None and getattr(dataset.train, "upright", False):
        transform = dataclasses.replace(transform, upright=True)
    size, model = config.image_size, str(run / "best.keras")
    how = OF_ARRAYS.format(size=size, channels=channels)
    commands = [f"  {shell.python()} -m training.evaluate {shlex.quote(str(run))}"]
    if transform is not None and channels == 3:
        how = OF_A_PHOTO.format(transform=transform)
        names = shlex.quote(str(run / "classes.json"))
        predict = f"{shell.program('keras-convnext')} predict --model {shlex.quote(model)}"
        commands.append(f"  {predict} --labels {names} photo.jpg")
    python = PYTHON.format(model=model, names=str(run / "classes.json")) + how
    return "\n".join(["To use the best model:", *commands, "and in Python:", python])
