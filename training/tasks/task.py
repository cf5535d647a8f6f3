"""A task that can be trained, as a row of what differs from the others."""

import dataclasses
from collections.abc import Callable


@dataclasses.dataclass(frozen=True)
class Task:
    """What the trainer asks of a task.

    Attributes:
        name: of the task, and of the folder of its experiments.
        config: class of its configurations.
        plan: class of its plans.
        load: the configuration -> a `Dataset`; raises `DataError`.
        pipeline: `(config, dataset, devices, steps_per_epoch)` -> its batches, see
            `training.run.batches`.
        network: `(config, classes, channels)` -> the model, not compiled.
        optimizer: `(plan, model, devices)` -> the optimizer.
        objective: the plan -> the loss and the metrics, as arguments of `compile`.
        finish: `(run, model, plan, dataset, progress, devices)` -> the result, a dict.
        headline: the result -> what is said first of it.
        usage: `(run, config, dataset)` -> lines about how to use what the run left.
    """

    name: str
    config: type
    plan: type
    load: Callable
    pipeline: Callable
    network: Callable
    optimizer: Callable
    objective: Callable
    finish: Callable
    headline: Callable
    usage: Callable
