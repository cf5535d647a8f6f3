"""The row of pre-training."""

from training.tasks.pretraining import building, report, usage
from training.tasks.pretraining.config import PretrainConfig
from training.tasks.pretraining.plan import PretrainPlan
from training.tasks.task import Task

PRETRAINING = Task(
    name="pretraining",
    command="pretrain",
    config=PretrainConfig,
    plan=PretrainPlan,
    building=building,
    report=report,
    usage=usage.usage,
    each_epoch=report.each_epoch,
)
