"""Trains with `fit()`: `python -m training.train PHOTOS`, or `--config digits [--field=value ...]`.

data -> model -> compile -> fit -> record, for every task. `KERAS_BACKEND` chooses the backend.
"""

import dataclasses

from keras_convnext.cli.console import warnings_as_notes

from . import command
from .data import DataError
from .run import compiling, course, distribution, needs, plan, record, resuming
from .tasks.table import task_of


def train(request):
    """Does what a `training.command.Request` asks for.

    Returns:
        the folder of the run's record and its result (a dict), both `None` for a dry run and in
        the processes of a distributed run that do not write.
    """
    config, task = request.config, task_of(request.config)
    needs.check()
    devices = course.begin(request)
    compiling.check_weights(config)
    if request.dry_run:
        record.print_plan(*_dry_plan(task, config, devices))
        return None, None
    dataset = task.building.load(config)
    found = resuming.find(config, request.resume, dataset)
    config = resuming.adopted(config, found) if found else config
    images, classes = dataset.train.size, len(dataset.class_names)
    schedule = plan.make(task.plan, config, images, classes, devices, dataset.summary)
    model = compiling.compiled(schedule, task, dataset, devices)
    pipeline = task.building.Pipeline(config, dataset, devices, schedule.steps_per_epoch)
    record.print_plan(schedule, model)
    return course.follow(found, task, schedule, model, pipeline, devices)


def _dry_plan(task, config, devices):
    """The plan and a model to count; without the data, for the size that their makers state."""
    try:
        dataset = task.building.load(config)
        images, classes = dataset.train.size, len(dataset.class_names)
        channels, found = compiling.channels_of(dataset), dataset.summary
    except DataError as error:
        if config.published_images is None:
            raise
        course.note(f"The plan is for the published size of the data, which are not here: {error}")
        images, classes, channels = config.published_images, config.published_classes, 3
        found = ""
    model = task.building.network(dataclasses.replace(config, weights=None), classes, channels)
    return plan.make(task.plan, config, images, classes, devices, found), model


def main(arguments=None, task=None):
    """Runs a command line, by default the process' own, and returns the exit code."""
    distribution.keep_memory()
    with warnings_as_notes():
        request = command.from_command_line(arguments, task)
        return course.status(lambda: train(request), request.flags)


if __name__ == "__main__":
    course.leave(main())
