"""The last lines of a training: how to use what a run of detection left."""

import shlex

from ...run import shell

PYTHON = """\
  from keras_convnext.detection import Detector
  detect = Detector({run!r}, size={size})
  found = detect("photo.jpg")  # boxes, scores and labels; in found.names their names
  found.draw("photo.jpg").save("seen.png")"""


def usage(run, config, dataset):
    """Returns lines of text: commands and Python to try the best model.

    Args:
        run: the folder of the record.
        config: a `DetectConfig`.
        dataset: the `Dataset` of the run.
    """
    short, long = sorted(map(int, config.size))
    command = f"  {shell.program('keras-convnext')} detect --model {shlex.quote(str(run))}"
    command += f" --size {short},{long}"
    measure = f"  {shell.command('evaluate')} {shlex.quote(str(run))}"
    measure += " --data instances.json --images FOLDER  # its scores on other photographs"
    python = PYTHON.format(run=str(run), size=(short, long))
    lines = ["To use the best model:", f"{command} photo.jpg", measure, "and in Python:", python]
    return "\n".join(lines)
