"""`fit`, one epoch at a time, so that a run can stop at any batch and resume to the bit.

Why not one `fit` over all epochs: Keras fixes the length of an epoch once, so an epoch that was
resumed in its middle would shorten all that follow.
"""

import contextlib
import dataclasses
import math
import os
import signal
import statistics
import sys
import time

import keras
import numpy as np

from keras_convnext.optimization import averaged_weights

from . import checkpoint, replicas
from .best import is_better

# Each ends the run with 128 + its number: schedulers read 143 as "start me again".
SIGNALS = (signal.SIGTERM, signal.SIGINT)


STOPPING = b"""
Stopping after this batch, to save the state; Ctrl-C once more stops at once and loses what no
checkpoint has.
"""


class Terminated(BaseException):
    """The run was asked to stop by a signal, and its state is saved."""

    def __init__(self, number):
        super().__init__(number)
        self.status = 128 + number


class DivergedError(RuntimeError):
    """The loss or the weights are no finite numbers any more."""


@dataclasses.dataclass
class Progress:
    """Where a run stands.

    Attributes:
        epoch: epochs that are finished, validation included.
        step: micro-steps that are finished of the current one.
        history: one dict per finished epoch.
        best: the row of `history` with the highest score (`Plan.score`), with its `step` since
            the start of the run.
        seconds: that the current epoch took before the run was stopped and resumed.
    """

    epoch: int = 0
    step: int = 0
    history: list = dataclasses.field(default_factory=list)
    best: dict | None = None
    seconds: float = 0.0

    def __post_init__(self):
        self.start_clock()

    def start_clock(self):
        self.started = time.perf_counter()

    def elapsed(self):
        """Returns the seconds of the current epoch, those before a stop included."""
        return self.seconds + time.perf_counter() - self.started

    def state(self, steps_per_epoch):
        """Returns what a checkpoint keeps."""
        total = self.epoch * steps_per_epoch + self.step
        return {"epoch": self.epoch, "in_epoch": self.step, "step": total} | {
            "history": self.history,
            "best": self.best,
            "seconds": self.elapsed() if self.step else 0.0,
        }

    @classmethod
    def of(cls, state):
        given = (state[name] for name in ("epoch", "in_epoch", "history", "best"))
        return cls(*given, state.get("seconds", 0.0))


class Guard(keras.callbacks.Callback):
    """After each batch: is the loss finite, is a checkpoint due, was the run asked to stop?"""

    def __init__(self, saver, progress, config):
        super().__init__()
        self.saver, self.progress = saver, progress
        self.every, self.accumulation = config.checkpoint_steps, config.gradient_accumulation
        self.metrics_so_far = None
        self.is_due = False

    def on_epoch_begin(self, epoch, logs=None):
        # fit has just reset the metrics; an epoch that is resumed needs its own back
        if self.metrics_so_far is not None:
            self.restore_metrics()

    def restore_metrics(self):
        values = zip(self.model.metrics_variables, self.metrics_so_far, strict=True)
        for variable, value in values:
            variable.assign(value)
        self.metrics_so_far = None

    def on_train_batch_end(self, batch, logs=None):
        self.progress.step += 1
        if not math.isfinite(logs["loss"]):
            raise DivergedError(self.saver.diverged(f"the loss is {logs['loss']}", self.progress))
        self.is_due |= bool(self.every and self.progress.step % self.every == 0)
        if self.progress.step % self.accumulation:
            return  # a batch ends with its last part: replicas keep sums of their own until then
        stop = self.saver.must_stop()
        if stop or self.is_due:
            self.saver.save(self.progress)
            self.is_due = False
        if stop:
            raise Terminated(self.saver.signal)


class Saver:
    """Writes the checkpoints of one run.

    Args:
        folder: of the checkpoints.
        model: compiled and built.
        steps_per_epoch: micro-steps.
        devices: a `Distribution`. Its first process writes; the others only take part in gathering
            the values.
    """

    def __init__(self, folder, model, steps_per_epoch, devices):
        self.folder, self.model, self.devices = folder, model, devices
        self.steps_per_epoch = steps_per_epoch
        self.stop_is_asked, self.signal = False, signal.SIGTERM

    def ask_to_stop(self, number, frame):
        """Handles a signal: the current batch is finished first; a second Ctrl-C does not wait."""
        self.stop_is_asked, self.signal = True, number
        if number == signal.SIGINT:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
            os.write(2, STOPPING)  # `print` may be interrupted in its middle

    def must_stop(self):
        """Returns whether any process of the run was asked to stop; all must call it together."""
        return self.devices.any(self.stop_is_asked)

    def save(self, progress):
        """Raises DivergedError if a weight is not finite, CheckpointError if the disk fails."""
        if keras.backend.backend() == "jax":
            self.model.jax_state_sync()  # within fit, the values live outside of the variables
        state = progress.state(self.steps_per_epoch)
        with replicas.summed_metrics(self.model):
            arrays = checkpoint.arrays(self.model)
        bad = next((name for name, array in arrays.items() if not _finite(array)), None)
        if bad:
            raise DivergedError(self.diverged(f"{bad} has values that are not finite", progress))
        if self.devices.is_chief:
            checkpoint.save(self.folder, arrays, state)

    def diverged(self, what, progress):
        last = checkpoint.newest(self.folder)
        kept = f"The last good checkpoint is {last}." if last else "No checkpoint was written yet."
        return (
            f"Training diverged in epoch {progress.epoch + 1}, step {progress.step}: {what}. "
            f"{kept} Lower --learning_rate, lengthen the warm-up, set --clip_norm=1, or leave "
            "mixed_float16."
        )


def run(
    model, plan, training_batches, validation_batches, saver, progress, after_epoch, scores=None
):
    """Trains until the last epoch, validating after each.

    Args:
        model: compiled and built, its variables restored if the run is resumed.
        plan: a `Plan`.
        training_batches: `(epoch, start_step)` -> what `fit` takes for the rest of that epoch.
        validation_batches: what `evaluate` takes.
        saver: a `Saver`.
        progress: a `Progress`; moved on in place.
        after_epoch: called with `progress` when an epoch is finished and saved.
        scores: `None`, or `(model, number of the epoch)` -> `{name: value}`, which the row of the
            epoch gets besides what `evaluate` returns.

    Raises:
        Terminated: after SIGTERM or Ctrl-C, when the state is saved.
        DivergedError: if the loss or the weights are not finite.
        checkpoint.CheckpointError: if a checkpoint cannot be written.
    """
    guard = Guard(saver, progress, plan.config)
    if progress.step:
        guard.metrics_so_far = [checkpoint.array(v) for v in model.metrics_variables]
    before = {number: signal.signal(number, saver.ask_to_stop) for number in SIGNALS}
    try:
        while progress.epoch < plan.config.epochs:
            progress.start_clock()
            _train(model, plan, training_batches, guard, progress)
            row = {"epoch": progress.epoch + 1, **_floats(model.get_metrics_result())}
            row |= _validate(model, plan.config, validation_batches, scores, row["epoch"])
            row["seconds"] = round(progress.elapsed(), 3)
            _close_epoch(row, plan, progress)
            saver.save(progress)
            after_epoch(progress)
            if saver.devices.is_chief:
                print(_validation_line(row, progress, plan), flush=True)
            if progress.epoch < plan.config.epochs and saver.must_stop():
                raise Terminated(saver.signal)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _validation_line(row, progress, plan):
    values = {name.removeprefix("val_"): row[name] for name in row if name.startswith("val_")}
    text = ", ".join(f"{name.replace('_', ' ')} {value:.4f}" for name, value in values.items())
    is_best = progress.best["epoch"] == row["epoch"]
    average = " of the averages" if plan.config.ema_momentum is not None else ""
    which = f"epoch {row['epoch']} of {plan.config.epochs}"
    text = f"Validation{average} after {which}: {text}" + (", the best so far" if is_best else "")
    left = plan.config.epochs - progress.epoch
    return f"{text}; {_time_left(progress.history, left)} left" if left else text


def _time_left(history, epochs):
    """Returns in words how long so many epochs will take, by the last three."""
    seconds = epochs * statistics.median(row["seconds"] for row in history[-3:])
    if seconds < 60:
        return "less than a minute"
    minutes = round(seconds / 60)
    return f"about {minutes} min" if minutes < 100 else f"about {minutes / 60:.0f} h"


def _train(model, plan, training_batches, guard, progress):
    """The rest of the epoch that `progress` is in; nothing if only its validation is missing."""
    rest = plan.steps_per_epoch - progress.step
    if not rest:
        guard.set_model(model)
        guard.restore_metrics()
        return
    callbacks = keras.callbacks.CallbackList(
        [guard],
        add_history=True,
        add_progbar=True,
        verbose=1 if sys.stdout.isatty() else 2,
        epochs=plan.config.epochs,
        steps=rest,
        model=model,
    )
    model.fit(
        training_batches(progress.epoch, progress.step),
        shuffle=False,  # the batches come in their order
        initial_epoch=progress.epoch,
        epochs=progress.epoch + 1,
        steps_per_epoch=rest,
        callbacks=callbacks,
    )


def averages(model, config):
    """Returns a context in which the model has its averages, where the configuration keeps any."""
    return contextlib.nullcontext() if config.ema_momentum is None else averaged_weights(model)


def _validate(model, config, batches, scores, epoch):
    """Returns {"val_loss": ..., and metrics} of the averages where there are any."""
    with averages(model, config):
        values = model.evaluate(batches, return_dict=True, verbose=0)
        values |= scores(model, epoch) if scores else {}
    return {f"val_{name}": value for name, value in _floats(values).items()}


def _close_epoch(row, plan, progress):
    progress.epoch, progress.step, progress.seconds = progress.epoch + 1, 0, 0.0
    progress.history.append(row)
    if is_better(row, progress.best, plan.score):
        progress.best = {**row, "step": progress.epoch * plan.steps_per_epoch}


def _floats(values):
    return {name: float(value) for name, value in values.items()}


def _finite(array):
    return array.dtype.kind != "f" or bool(np.isfinite(array).all())
