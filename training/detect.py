"""Trains a detector: `python -m training.detect --config folder [--field=value ...]`.

It is `python -m training.train --task detection`.
"""

import functools

from . import train
from .run import course

main = functools.partial(train.main, task="detection")


if __name__ == "__main__":
    course.leave(main())
