"""Trains an UperNet with `fit()`: `python -m training.segment --config camvid [--field=value ...]`.

data -> model -> compile -> fit -> record, with the parts of `training.train`.
"""

import dataclasses

from training import data
from training.data import pairs
from training.experiments import segmentation as configs
from training.run import config as configuration
from training.run import course, pictures, plan, record
from training.tasks.segmentation import building, report
from training.tasks.segmentation.config import SegmentConfig
from training.tasks.segmentation.plan import SegmentPlan


def train(request):
    """Does what a `training.run.config.Request` with a `SegmentConfig` asks for.

    Returns:
        the folder of the run's record and its result (a dict), both `None` for a dry run and in
        the processes of a distributed run that do not write.
    """
    config = request.config
    devices = course.begin(config)
    if request.dry_run:
        record.print_plan(*_dry_plan(config, devices))
        return None, None
    pictures.check()
    dataset = building.load(config)
    if test := building.test_split(config):  # what is wrong with it shows now, not in the end
        pairs.verify(test, building.reader(config))
    schedule = plan.make(config, dataset.train.size, len(config.names), devices, SegmentPlan)
    model = building.build(schedule, devices)
    pipeline = building.Pipeline(config, dataset, devices, schedule.steps_per_epoch)
    return course.follow(request, schedule, model, pipeline, devices, report.finish)


def _dry_plan(config, devices):
    """The plan and a model to count; without the data, for the size that their makers state."""
    try:
        images = building.load(config).train.size
    except data.DataError:
        if config.published_images is None:
            raise
        images = config.published_images
    classes = len(config.names)
    model = building.network(dataclasses.replace(config, weights=None), classes)
    return plan.make(config, images, classes, devices, SegmentPlan), model


def _headline(result):
    splits = [name for name in ("validation", "test") if name in result]
    return ", ".join(f"{name} mean IoU {result[name]['mean_iou']:.2%}" for name in splits)


def from_command_line(arguments=None):
    """-> the Request of a command line; exits on wrong flags."""
    return configuration.from_command_line(arguments, SegmentConfig, configs, "training.segment")


def main():
    return course.status(lambda: train(from_command_line()), _headline)


if __name__ == "__main__":
    course.leave(main())
