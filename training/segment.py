"""Trains an UperNet: `python -m training.segment --config camvid [--field=value ...]`.

It is `python -m training.train --task segmentation`.
"""

import functools

from . import train
from .run import course

main = functools.partial(train.main, task="segmentation")


if __name__ == "__main__":
    course.leave(main())
