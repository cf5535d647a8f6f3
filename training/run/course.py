"""The course of every training once data and model exist: prepare, resume, fit, report."""

import dataclasses
import os
import shlex
import sys

import keras

from ..data import stream
from . import (
    best,
    card,
    checkpoint,
    compiling,
    distribution,
    lock,
    loop,
    models,
    pictures,
    record,
    replicas,
    resuming,
    shell,
)
from .logs import open_logs

INTERRUPTED = 130  # 128 + SIGINT


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


def follow(found, task, schedule, model, pipeline, devices):
    """Trains to the end, from where an earlier run was stopped, and reports.

    Args:
        found: the folder of the run to resume, or `None` for a new one.
        task: a `training.tasks.task.Task`.
        schedule: a `Plan`.
        model: compiled.
        pipeline: has `dataset`, `training(epoch, start_step)` and `validation()`.
        devices: a `Distribution`.

    Returns:
        the folder of the run's record and its result, both `None` in the processes of a
        distributed run that do not write.
    """
    dataset, validation = pipeline.dataset, pipeline.validation()
    splits = dataset.train, dataset.validation
    with stream.sentences(*splits):
        compiling.prepare(model, validation, devices)
    run = found or _new_run(schedule.config, dataset, devices)
    with lock.only_writer(run, devices.is_chief):
        saver = loop.Saver(run / "checkpoints", model, schedule.steps_per_epoch, devices)
        progress = _restored(saver, schedule, model, devices)
        with open_logs(run, schedule.config, devices.is_chief) as log, stream.sentences(*splits):
            make = task.building.scores
            scores = make(schedule, validation, devices) if make else None

            def after_epoch(progress):
                log(progress)
                if task.each_epoch and devices.is_chief:
                    task.each_epoch(run, model, schedule, dataset, progress)

            # a kill may have come after the checkpoint of an epoch; later the model has moved on
            if progress.history:
                (log if progress.step else after_epoch)(progress)
            batches = pipeline.training, validation
            loop.run(model, schedule, *batches, saver, progress, after_epoch, scores)
        result = _finish(run, task, model, schedule, dataset, progress, devices)
    if not devices.is_chief:
        return None, None
    print(f"\n{task.report.headline(result)}")
    for file in sorted(file for file in run.iterdir() if file.is_file()):
        print(f"  {file}")
    print(task.usage(run, schedule.config, dataset))
    return run, result


def _new_run(config, dataset, devices):
    """Returns the folder that the first process makes, in all processes."""
    run = record.begin(config, dataset) if devices.is_chief else None
    devices.wait_for_all()
    return run or resuming.newest(config)


def _restored(saver, schedule, model, devices):
    """Returns where the run stands, with its variables in the model.

    A best epoch whose checkpoint is lost does not compete with those to come.
    """
    if devices.is_chief:
        checkpoint.set_damaged_aside(saver.folder)
    devices.wait_for_all()
    found = checkpoint.newest(saver.folder)
    if found is None:
        return loop.Progress()
    checkpoint.restore(found, model)
    replicas.count_once(model, devices)
    print(f"Resuming from {found}")
    progress = loop.Progress.of(checkpoint.read_progress(found))
    best.checkpoint_of_best(saver.folder, progress, schedule)
    return progress


def _finish(run, task, model, schedule, dataset, progress, devices):
    """Writes the models, the curves, the report of the task and, last, `result.json`, which says
    that a run is finished.

    Returns:
        the content of `result.json`; `None` in the processes that do not write.
    """
    models.use_one_device()
    config = dataclasses.replace(schedule.config, weights=None)  # the trained ones are put in later
    channels = compiling.channels_of(dataset)
    served = task.building.served(config, schedule.classes, channels)
    models.write_models(run, served, model, schedule, progress, devices)
    if not devices.is_chief:
        return None
    score = None if schedule.score == "val_loss" else schedule.score.removeprefix("val_")
    average = config.ema_momentum is not None
    pictures.curves(progress.history, run / "curves.png", average, score)
    result = {
        **task.report.finish(run, served, schedule, dataset, progress),
        "best_epoch": progress.best["epoch"],
        "training_seconds": round(sum(row["seconds"] for row in progress.history), 1),
    }
    card.write(run, task, schedule, dataset, result)
    record.write_json(run / record.RESULT, result)
    return result


def status(train, arguments):
    """Runs `train()` for a command line with these arguments; returns the exit code."""
    try:
        train()
    except loop.Terminated as stopped:
        say_how_to_resume("Stopped as asked; the state is saved.", arguments)
        return stopped.status
    except KeyboardInterrupt:
        say_how_to_resume("Interrupted; what checkpoints hold is kept.", arguments)
        return INTERRUPTED
    except (ValueError, OSError, checkpoint.CheckpointError, loop.DivergedError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def say_how_to_resume(sentence, arguments):
    """Says, after a sentence, the command that resumes the run which these flags started."""
    given = shlex.join(_without_resume(arguments))
    command = f"{shell.command(shell.started())} {given} --resume=auto"
    print(f"{sentence} To resume: {command}", file=sys.stderr)


def _without_resume(arguments):
    """Yields the arguments of a command line but `--resume`, which has one of two forms."""
    arguments = iter(arguments)
    for argument in arguments:
        if argument == "--resume":
            next(arguments, None)  # its value
        elif not argument.startswith("--resume="):
            yield argument


def leave(status):
    """Ends the process with this exit code."""
    sys.stdout.flush()
    sys.stderr.flush()
    if status > 128:
        os._exit(status)  # threads of a pipeline or of other processes must not delay the exit
    sys.exit(status)
