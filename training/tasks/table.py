"""The table of all tasks; a new one adds a row here."""

from .classification.task import CLASSIFICATION
from .detection.task import DETECTION
from .pretraining.task import PRETRAINING
from .segmentation.task import SEGMENTATION

TASKS = {task.name: task for task in (CLASSIFICATION, SEGMENTATION, DETECTION, PRETRAINING)}


def task_of(config):
    """Returns the `Task` of a configuration."""
    return next(task for task in TASKS.values() if type(config) is task.config)
