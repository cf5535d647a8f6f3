"""The row of segmentation."""

from ..task import Task
from . import building, report, usage
from .config import SegmentConfig
from .plan import SegmentPlan

SEGMENTATION = Task(
    name="segmentation",
    command="segment",
    photos="folder",
    config=SegmentConfig,
    plan=SegmentPlan,
    building=building,
    report=report,
    usage=usage.usage,
)
