"""The row of classification."""

from training.tasks.classification import building, report, usage
from training.tasks.classification.config import Config
from training.tasks.classification.plan import ClassifierPlan
from training.tasks.task import Task

CLASSIFICATION = Task(
    name="classification",
    config=Config,
    plan=ClassifierPlan,
    load=building.load,
    pipeline=building.Pipeline,
    network=building.network,
    optimizer=building.optimizer,
    objective=building.objective,
    finish=report.finish,
    headline=report.headline,
    usage=usage.usage,
)
