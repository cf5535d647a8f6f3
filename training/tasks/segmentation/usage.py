"""The last lines of a training: how to use what a run of segmentation left."""

import shlex

from ...run import record, shell

PYTHON = """\
  import json
  import keras
  from keras_convnext.segmentation import Segmenter  # registers the layers of the file, too
  model = keras.saving.load_model({model!r})
  names = json.load(open({names!r}))
  segment = Segmenter(model, window={window}, size={size})
  labels = segment("photo.jpg")  # (height, width), the index of a name for every pixel"""


def usage(run, config, dataset):
    """Returns lines of text: a command and Python to try the best model.

    Args:
        run: the folder of the record.
        config: a `SegmentConfig`.
        dataset: the `Dataset` of the run.
    """
    model, names = str(run / record.BEST), str(run / record.CLASSES)
    size = None if config.size is None else tuple(map(int, config.size))
    command = f"  {shell.program('keras-convnext')} segment --model {shlex.quote(model)}"
    command += f" --labels {shlex.quote(names)}"
    command += f" --window {config.crop}" + (f" --size {min(size)}" if size else "")
    python = PYTHON.format(model=model, names=names, window=config.crop, size=size)
    return "\n".join(["To use the best model:", f"{command} photo.jpg", "and in Python:", python])
