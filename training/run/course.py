"""What every training does once its data and its model are there: prepare, resume, fit, report."""

import os
import sys

import keras

from training.data import stream
from training.run import checkpoint, compiling, distribution, loop, record, replicas
from training.run.logs import open_logs


def note(sentence):
    """Says something to who started the run."""
    print(f"Note: {sentence}", file=sys.stderr)


def begin(request):
    """Sets devices, seed and dtype for a `training.command.Request`; returns the `Distribution`."""
    config = request.config
    devices = distribution.start(config.distribute)
    for sentence in request.notes if devices.is_chief else ():
        note(sentence)
    keras.utils.set_random_seed(config.seed)
    keras.config.set_dtype_policy(config.dtype)
    return devices


def follow(request, schedule, model, pipeline, devices, finish):
    """Trains to the end, from where an earlier run was stopped, and reports.

    Args:
        request: a `training.command.Request`.
        schedule: a `Plan`.
        model: compiled.
        pipeline: has `dataset`, `training(epoch, start_step)` and `validation()`.
        devices: a `Distribution`.
        finish: `(run, model, schedule, dataset, progress, devices)` -> the result, a dict.

    Returns:
        the folder of the run's record and its result, both `None` in the processes of a
        distributed run that do not write.
    """
    record.print_plan(schedule, model)
    dataset, validation = pipeline.dataset, pipeline.validation()
    splits = dataset.train, dataset.validation
    with stream.sentences(*splits):
        compiling.prepare(model, validation, devices)
    run = record.open_run(schedule.config, request.resume, devices)
    progress = loop.Progress()
    saver = loop.Saver(run / "checkpoints", model, schedule.steps_per_epoch, devices)
    if found := checkpoint.newest(saver.folder):
        checkpoint.restore(found, model)
        replicas.count_once(model, devices)
        progress = loop.Progress.of(checkpoint.read_progress(found))
        print(f"Going on from {found}")
    with open_logs(run, schedule.config, devices.is_chief) as log, stream.sentences(*splits):
        loop.run(model, schedule, pipeline.training, validation, saver, progress, log)
    result = finish(run, model, schedule, dataset, progress, devices)
    return (run, result) if devices.is_chief else (None, None)


def status(train, headline):
    """Runs `train()` for the command line; returns the exit code.

    Args:
        train: returns the folder of the record and the result, or twice `None`.
        headline: the result -> what is said of it.
    """
    try:
        folder, result = train()
    except loop.Terminated:
        print("Stopped as asked; the state is saved. Go on with --resume=auto.", file=sys.stderr)
        return loop.EXIT_TERMINATED
    except (ValueError, OSError, checkpoint.CheckpointError, loop.DivergedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if folder:
        print(f"\n{headline(result)}")
        for file in sorted(file for file in folder.iterdir() if file.is_file()):
            print(f"  {file}")
    return 0


def leave(status):
    """Ends the process with this exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    if status == loop.EXIT_TERMINATED:
        os._exit(status)  # threads of a pipeline or of other processes must not delay the exit
    sys.exit(status)
