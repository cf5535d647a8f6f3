"""The command line of the trainer: an experiment by its name, with fields changed by flags."""

import argparse
import dataclasses
import difflib
import importlib
import inspect
import pkgutil

from .run import knobs
from .run.config import Run
from .tasks.table import TASKS


@dataclasses.dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        config: the experiment.
        resume: `"none"`; `"auto"`: the newest unfinished run of the same configuration, if there
            is one; or the folder of a run.
        dry_run: whether only the plan is printed.
        notes: sentences about what was changed to fit the flags.
    """

    config: Run
    resume: str = "none"
    dry_run: bool = False
    notes: tuple = ()


def names(task="classification"):
    """Returns the names of all experiments of a task."""
    return sorted(module.name for module in pkgutil.iter_modules(_package(task).__path__))


def lab_book(name, task="classification"):
    """Returns the docstring of an experiment's file."""
    return inspect.getdoc(_module(name, task))


def load(experiment, smoke=False, task=None, **fields):
    """Returns the configuration of an experiment, with these fields changed.

    The experiment's own function takes the fields it depends on (a variant's stochastic depth is
    read from the paper's table), so what is left to its default is right for what is given. A run
    that is shorter than the recipe's warm-up gets a warm-up of the same part of it.

    Args:
        experiment: name of a file of `training.experiments`.
        smoke: whether to shrink it to a size that trains two steps in seconds.
        task: name of the task; `None`: the first one that has such an experiment.
        **fields: of the configuration.

    Raises:
        ValueError: if there is no such experiment, or a field has a value that is not allowed.
        DownloadError: (an OSError) if the experiment depends on a file that could not be fetched.
    """
    module = _module(experiment, task or _task_with(experiment))
    parameters = inspect.signature(module.config).parameters
    config = module.config(**{key: fields[key] for key in parameters if key in fields})
    if smoke:
        config = dataclasses.replace(config, **module.SMOKE)
    return dataclasses.replace(config, **_with_warmup(config, fields))


def _with_warmup(recipe, fields):
    """Returns the fields with a warm-up that fits into the epochs, where it is not given."""
    warmup, epochs = getattr(recipe, "warmup_epochs", 0), fields.get("epochs")
    if epochs is None or "warmup_epochs" in fields or warmup < epochs:
        return fields
    return fields | {"warmup_epochs": warmup * epochs / recipe.epochs}


def from_command_line(arguments=None, task=None):
    """Returns the Request that `--config NAME [--field=value ...]` makes; exits on wrong flags.

    Args:
        arguments: list of strings; `None`: those of the process.
        task: name of the task; `None`: what `--task` says, or else the experiment.
    """
    program = f"python -m training.{TASKS[task].command if task else 'train'}"
    first = _general(_Parser(program, add_help=False))
    asked = first.parse_known_args(arguments)[0]
    if asked.list:
        _print_list(asked.task or task)
        raise SystemExit(0)
    task = asked.task or task or _task_with(asked.config)
    is_there = asked.config in names(task)
    shown = load(asked.config, asked.smoke, task) if is_there else None
    parser = _general(_Parser(program))
    knobs.add_flags(parser, TASKS[task].config, shown)
    given = vars(parser.parse_args(arguments))
    if not is_there:
        what = f"no experiment {asked.config!r}" if asked.config else "it is missing"
        parser.error(f"--config: {what}; there are {', '.join(names(task))}")
    for name in ("task", "config", "list"):
        given.pop(name)
    general = {name: given.pop(name) for name in ("smoke", "resume", "dry_run")}
    try:
        config = load(asked.config, general.pop("smoke"), task, **given)
        others = {name: value for name, value in given.items() if name != "epochs"}
        is_asked = "warmup_epochs" in given
        recipe = config if is_asked else load(asked.config, asked.smoke, task, **others)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    return Request(config, **general, notes=_notes(recipe, config))


def _notes(recipe, config):
    warmup = getattr(config, "warmup_epochs", None)
    if warmup == getattr(recipe, "warmup_epochs", None):
        return ()
    return (
        f"The warm-up takes {warmup:.3g} epochs in place of the recipe's {recipe.warmup_epochs:g}, "
        f"as the run has {config.epochs} in place of {recipe.epochs}: --warmup_epochs sets it.",
    )


class _Parser(argparse.ArgumentParser):
    """A parser whose errors are the sentence alone, without all the flags above it."""

    def __init__(self, program, **kwargs):
        super().__init__(
            prog=program,
            description="Trains a ConvNeXt and leaves a record of the run.",
            epilog="Any field of the configuration can be set: --epochs=5 "
            "--variant=convnext_atto. With --config the defaults shown are the experiment's.",
            usage="%(prog)s --config NAME [--resume auto] [--dry-run] [--FIELD=VALUE ...]",
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
            **kwargs,
        )

    def error(self, message):
        flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
        if message.startswith("unrecognized arguments: --"):
            near = difflib.get_close_matches(message.split()[2].partition("=")[0], flags, 3)
            message += f" (did you mean {' or '.join(near)}?)" if near else ""
        self.exit(2, f"error: {message}\n`{self.prog} --help` shows all flags.\n")


def _general(parser):
    add = parser.add_argument
    add("--list", action="store_true", default=False, help="show all experiments")
    add("--task", choices=tuple(TASKS), default=None, help="default: the experiment's")
    add("--config", default=None, metavar="NAME", help="the experiment")
    add("--dry-run", action="store_true", default=False, help="print the plan only")
    add("--smoke", action="store_true", default=False, help="a few steps, tiny")
    add(
        "--resume",
        default="none",
        metavar="RUN",
        help="none, auto (the newest unfinished run of this configuration, if there is one), or "
        "the folder of a run (default: none)",
    )
    return parser


def _print_list(task):
    for each in TASKS if task is None else (task,):
        for name in names(each):
            print(f"{each:15} {name:16} {lab_book(name, each).splitlines()[0]}")


def _task_with(experiment):
    return next((task for task in TASKS if experiment in names(task)), "classification")


def _package(task):
    return importlib.import_module(f"training.experiments.{task}")


def _module(name, task):
    if name not in names(task):
        raise ValueError(f"There is no experiment {name!r}; there are {', '.join(names(task))}.")
    return importlib.import_module(f"training.experiments.{task}.{name}")
