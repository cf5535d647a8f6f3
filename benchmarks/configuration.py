"""A `Configuration` is what one table of the results measures; its rows are the contenders."""

import dataclasses

TASKS = ("inference", "training")
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
        task: one of `TASKS`.
        side: rows and columns of the matrices whose product sets the limit.
        on_device: whether images stay on the device between steps, in place of coming from numpy.
        export: path of the folder with the ONNX files, or `None`.
    """

    variant: str
    architecture: dict
    batch: int
    size: int
    dtype: str
    task: str
    side: int = 4096
    on_device: bool = False
    export: str | None = None

    @property
    def name(self):
        """What the results call it."""
        return f"{self.variant} {self.size}px batch {self.batch} {self.dtype} {self.task}"

    def described(self):
        """Returns the fields that a reader of the results needs."""
        left_out = ("architecture", "export")
        return {k: v for k, v in dataclasses.asdict(self).items() if k not in left_out}


class Unsupported(Exception):
    """A contender cannot do what a configuration asks; the message says why."""
