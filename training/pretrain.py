"""Pre-trains without labels: `python -m training.pretrain --config fcmae [--field=value ...]`.

It is `python -m training.train --task pretraining`.
"""

import functools

from . import train
from .run import course

main = functools.partial(train.main, task="pretraining")


if __name__ == "__main__":
    course.leave(main())
