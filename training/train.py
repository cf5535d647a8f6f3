"""Trains a ConvNeXt with `fit()`: `python -m training.train --config digits [--field=value ...]`.

data -> model -> compile -> fit -> record. `KERAS_BACKEND` chooses the backend.
"""

import dataclasses

from training import data
from training.run import config as configuration
from training.run import course, pictures, plan, record
from training.tasks.classification import building, report


def train(request):
    """Does what a `training.run.config.Request` asks for.

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
    dataset = data.of_config(vars(config))
    schedule = plan.make(config, dataset.train.size, len(dataset.class_names), devices)
    model = building.build(schedule, dataset, devices)
    pipeline = building.Pipeline(config, dataset, devices, schedule.steps_per_epoch)
    return course.follow(request, schedule, model, pipeline, devices, report.finish)


def _dry_plan(config, devices):
    """The plan and a model to count; without the data, for the size that their makers state."""
    try:
        dataset = data.of_config(vars(config))
        images, classes = dataset.train.size, len(dataset.class_names)
        channels = building.channels_of(dataset)
    except data.DataError:
        if config.published_images is None:
            raise
        images, classes, channels = config.published_images, config.published_classes, 3
    model = building.network(dataclasses.replace(config, weights=None), channels, classes)
    return plan.make(config, images, classes, devices), model


def main():
    return course.status(
        lambda: train(configuration.from_command_line()),
        lambda result: f"Validation accuracy {result['accuracy']:.2%}",
    )


if __name__ == "__main__":
    course.leave(main())
