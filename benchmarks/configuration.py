"""A `Configuration` is what one table of the results measures; its rows are the contenders."""

import dataclasses

TASKS = ("inference", "training")
USER_TASKS = ("predict", "fit-head", "fit")  # whole passes over photos, see `contenders.users`
BATCHES = 4  # of such a pass
DTYPES = ("float32", "tf32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class Configuration:
    """The same work for every contender. Plain data, so that a child needs no Keras to read it.

    Attributes:
        variant: name of a row of `keras_convnext.VARIANTS`.
        architecture: that row, a dict by the names of its fields.
        batch: images per step.
        size: height and width of the images in pixels.
        dtype: one of `DTYPES`. `"tf32"` is float32 whose products have 10 bits; GPUs only.
        task: one of `TASKS` or `USER_TASKS`.
        side: rows and columns of the matrices whose product sets the limit.
        on_device: whether images stay on the device between steps, in place of coming from numpy.
        folder: path of the folder with the photos and ONNX files, or `None`.
    """

    variant: str
    architecture: dict
    batch: int
    size: int
    dtype: str
    task: str
    side: int = 4096
    on_device: bool = False
    folder: str | None = None

    @property
    def name(self):
        """What the results call it."""
        return f"{self.variant} {self.size}px batch {self.batch} {self.dtype} {self.task}"

    @property
    def images(self):
        """How many images a step takes."""
        return self.batch * (BATCHES if self.task in USER_TASKS else 1)

    def described(self):
        """Returns the fields that a reader of the results needs."""
        left_out = ("architecture", "folder")
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in left_out}


class Unsupported(Exception):
    """A contender cannot do what a configuration asks; the message says why."""
