"""Trains a ConvNeXt with `fit()`: `python -m training.train --config digits [--field=value ...]`.

data -> model -> compile -> fit -> record. `KERAS_BACKEND` chooses the backend.
"""

import dataclasses
import os
import sys

import keras

from training import (
    building,
    checkpoint,
    data,
    distribution,
    loop,
    pictures,
    plan,
    record,
    replicas,
    report,
)
from training import config as configuration
from training.data import stream
from training.logs import open_logs


def train(request):
    """Does what a `training.config.Request` asks for.

    Returns:
        the folder of the run's record and its result (a dict), both `None` for a dry run and in
        the processes of a distributed run that do not write.
    """
    config = request.config
    devices = distribution.start(config.distribute)
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.dtype)
    if request.dry_run:
        record.print_plan(*_dry_plan(config, devices))
        return None, None
    pictures.check()
    dataset = data.of_config(vars(config))
    schedule = plan.make(config, dataset.train.size, len(dataset.class_names), devices)
    model = building.build(schedule, dataset, devices)
    record.print_plan(schedule, model)
    run = record.open_run(config, request.resume, devices)
    pipeline = building.Pipeline(config, dataset, devices, schedule.steps_per_epoch)
    validation = pipeline.validation()
    building.prepare(model, validation, devices)
    progress = loop.Progress()
    saver = loop.Saver(run / "checkpoints", model, schedule.steps_per_epoch, devices)
    if found := checkpoint.newest(saver.folder):
        checkpoint.restore(found, model)
        replicas.count_once(model, devices)
        progress = loop.Progress.of(checkpoint.read_progress(found))
        print(f"Going on from {found}")
    splits = dataset.train, dataset.validation
    with open_logs(run, config, devices.is_chief) as log, stream.sentences(*splits):
        loop.run(model, schedule, pipeline.training, validation, saver, progress, log)
    result = report.finish(run, model, schedule, dataset, progress, devices)
    return (run, result) if devices.is_chief else (None, None)


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
    try:
        folder, result = train(configuration.from_command_line())
    except loop.Terminated:
        print("Stopped as asked; the state is saved. Go on with --resume=auto.", file=sys.stderr)
        return loop.EXIT_TERMINATED
    except (ValueError, OSError, checkpoint.CheckpointError, loop.DivergedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if folder:
        print(f"\nValidation accuracy {result['accuracy']:.2%}")
        for file in sorted(file for file in folder.iterdir() if file.is_file()):
            print(f"  {file}")
    return 0


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    sys.stderr.flush()
    if status == loop.EXIT_TERMINATED:
        os._exit(status)  # threads of a pipeline or of other processes must not delay the exit
    sys.exit(status)
