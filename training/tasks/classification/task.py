"""The row of classification."""

from training.tasks.classification import building, report, usage
from training.tasks.classification.config import Config
from training.tasks.classification.plan import ClassifierPlan
from training.tasks.task import Task

CLASSIFICATION = Task(
    name="classification",
    command="train",
    config=Config,
    plan=ClassifierPlan,
    building=building,
    report=report,
    usage=usage.usage,
)
