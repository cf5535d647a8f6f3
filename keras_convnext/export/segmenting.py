"""Segmentations by an exported file, whose numbers a `Segmenter` takes as those of a model."""

from keras_convnext.export.metadata import checked, damaged
from keras_convnext.labels import checked_names
from keras_convnext.segmentation.inference import Segmenter

MOST = 255  # classes, for which there are colours


class ExportedModel:
    """An opened file, called as Keras calls a model.

    Attributes:
        name: the path, for messages.
        input_shape: `(None, height, width, 3)`, with `None` for sizes that are free.
    """

    def __init__(self, runner, name):
        self._runner, self.name, self.input_shape = runner, name, runner.shape

    def predict_on_batch(self, images):
        """Returns the first output for an array of images `(n, height, width, 3)` in [0, 255]."""
        return next(iter(self._runner(images).values()))


class ExportedSegmenter(Segmenter):
    """A `Segmenter` whose model is an `ExportedModel`, of whose outputs only the numbers tell."""

    def check_model(self):
        pass

    def told_activation(self):
        return None


def segmenter_of(runner, description, **options):
    """Returns a `Segmenter` by a file, and the names of its classes.

    Args:
        runner: the opened file.
        description: what it says about itself.
        **options: of the `Segmenter`.

    Raises:
        DescriptionError: (a ValueError) if it does not say what it takes and returns.
    """
    name = str(runner.path)
    checked(description, "input", name, _is_input)
    classes = checked(description, "classes", name, lambda count: 2 <= count <= MOST)
    try:
        names = checked_names(description.get("names", [f"class {n}" for n in range(classes)]))
    except ValueError:
        raise damaged("names", name) from None
    if len(names) != classes:
        raise damaged("names", name)
    model = ExportedModel(runner, name)
    return ExportedSegmenter(model, **options), [name for _, name in names]


def _is_input(value):
    """Returns whether an entry "input" says that the file takes RGB images as they are."""
    keys = ("layout", "channels", "range")
    return [value.get(key) for key in keys] == ["NHWC", 3, [0, 255]]
