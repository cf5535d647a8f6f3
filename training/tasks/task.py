"""A task that can be trained, as a row of what differs from the others."""

import dataclasses
from collections.abc import Callable
from types import ModuleType


@dataclasses.dataclass(frozen=True)
class Task:
    """What the trainer asks of a task.

    Attributes:
        name: of the task, and of the folder of its experiments.
        command: the module of `training` that starts it.
        photos: the experiment for a directory of one's own.
        config: class of its configurations.
        plan: class of its plans.
        building: the module that builds what `fit` needs, with
            `load`: the configuration -> a `Dataset`; raises `DataError`;
            `Pipeline`: `(config, dataset, devices, steps_per_epoch)` -> its batches, see
            `training.run.batches`;
            `network`: `(config, classes, channels)` -> the model, not compiled;
            `served`: the same -> the model that a run leaves;
            `optimizer`: `(plan, model, devices)` -> the optimizer;
            `objective`: the plan -> the loss and the metrics, as arguments of `compile`;
            `scores`: `(plan, validation batches, devices)` -> a function of the model and the
            number of the epoch, from 1, that measures what `evaluate` does not, `{name: value}`;
            or `None`.
        report: the module of the end of a run, with
            `finish`: `(run, model, plan, dataset, progress)` -> the task's part of the result, a
            dict; called by the process that writes, with the served model of the best epoch;
            `headline`: the result -> what is said first of it.
        usage: `(run, config, dataset)` -> lines about how to use what the run left.
        each_epoch: `(run, model, plan, dataset, progress)`, called by the process that writes when
            an epoch is finished and logged; `None`: nothing more is done.
    """

    name: str
    command: str
    photos: str
    config: type
    plan: type
    building: ModuleType
    report: ModuleType
    usage: Callable
    each_epoch: Callable | None = None
