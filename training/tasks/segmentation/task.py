"""The row of segmentation."""

from training.tasks.segmentation import building, report, usage
from training.tasks.segmentation.config import SegmentConfig
from training.tasks.segmentation.plan import SegmentPlan
from training.tasks.task import Task

SEGMENTATION = Task(
    name="segmentation",
    command="segment",
    config=SegmentConfig,
    plan=SegmentPlan,
    building=building,
    report=report,
    usage=usage.usage,
)
