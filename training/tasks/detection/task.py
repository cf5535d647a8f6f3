"""The row of detection."""

from training.tasks.detection import building, report, usage
from training.tasks.detection.config import DetectConfig
from training.tasks.detection.plan import DetectPlan
from training.tasks.task import Task

DETECTION = Task(
    name="detection",
    command="detect",
    config=DetectConfig,
    plan=DetectPlan,
    building=building,
    report=report,
    usage=usage.usage,
)
