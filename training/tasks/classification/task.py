"""The row of classification."""

from ..task import Task
from . import building, report, usage
from .config import Config
from .plan import ClassifierPlan

CLASSIFICATION = Task(
    name="classification",
    command="train",
    photos="folder",
    config=Config,
    plan=ClassifierPlan,
    building=building,
    report=report,
    usage=usage.usage,
)
