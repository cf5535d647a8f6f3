"""The row of detection."""

from ..task import Task
from . import building, report, usage
from .config import DetectConfig
from .plan import DetectPlan

DETECTION = Task(
    name="detection",
    command="detect",
    photos="folder",
    config=DetectConfig,
    plan=DetectPlan,
    building=building,
    report=report,
    usage=usage.usage,
)
