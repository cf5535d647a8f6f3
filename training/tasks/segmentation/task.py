"""The row of segmentation."""

from training.tasks.segmentation import building, report, usage
from training.tasks.segmentation.config import SegmentConfig
from training.tasks.segmentation.plan import SegmentPlan
from training.tasks.task import Task

SEGMENTATION = Task(
    name="segmentation",
    config=SegmentConfig,
    plan=SegmentPlan,
    load=building.load,
    pipeline=building.Pipeline,
    network=building.network,
    optimizer=building.optimizer,
    objective=building.objective,
    finish=report.finish,
    headline=report.headline,
    usage=usage.usage,
)
