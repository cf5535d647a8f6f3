"""The row of pre-training."""

from ..task import Task
from . import building, report, usage
from .config import PretrainConfig
from .plan import PretrainPlan

PRETRAINING = Task(
    name="pretraining",
    command="pretrain",
    photos="fcmae",
    config=PretrainConfig,
    plan=PretrainPlan,
    building=building,
    report=report,
    usage=usage.usage,
    each_epoch=report.each_epoch,
)
