"""The command line of the trainer: an experiment by its name, with fields changed by flags."""

import argparse
import dataclasses
import difflib
import importlib
import inspect
import pkgutil
import shlex
import sys

from . import choice
from .run import knobs, needs, shell
from .run.config import Run
from .tasks.table import TASKS

DESCRIPTION = """\
Trains a ConvNeXt and leaves a record of the run. PHOTOS is a directory with a
folder of images per class, or with annotations in COCO's format; it comes
first. Without --config the recipe is said: for folders of classes it is chosen
by photos and machine, for annotations it is detection's experiment `folder`."""
EPILOG = """\
Any field of the configuration can be set: --epochs=5 --variant=convnext_atto.
With --config the defaults shown are the experiment's. PHOTOS alone chooses some
values of its own: with --dry-run it says which.

examples:
  %(prog)s PHOTOS --dry-run
  %(prog)s PHOTOS --epochs=5
  %(prog)s --config=NAME --help"""


@dataclasses.dataclass(frozen=True)
class Request:
    """What the command line asks for.

    Attributes:
        config: the experiment.
        resume: `"none"`; `"auto"`: the newest unfinished run of the same configuration, if there
            is one; or the folder of a run.
        dry_run: whether only the plan is printed.
        notes: sentences about what was chosen, or changed to fit the flags.
        flags: the command line that makes the same request, for a later process; `None`: the
            process' own.
    """

    config: Run
    resume: str = "none"
    dry_run: bool = False
    notes: tuple = ()
    flags: tuple | None = None


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
    """Returns the Request that `[PHOTOS] [--config NAME] [--field=value ...]` makes; exits on wrong
    flags.

    Args:
        arguments: list of strings; `None`: those of the process. PHOTOS, a directory, comes first.
        task: name of the task; `None`: what `--task` says, or else the experiment or the photos.
    """
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    program = shell.entry(TASKS[task].command if task else "train")
    first, notes = _general(_Parser(program, add_help=False)), ()
    asked = first.parse_known_args(arguments)[0]
    if asked.list:
        _print_list(asked.task or task)
        raise SystemExit(0)
    if arguments and not arguments[0].startswith("-"):
        arguments, notes = _of_photos(arguments[0], arguments[1:], asked, task, first)
        asked = first.parse_known_args(arguments)[0]
    task = asked.task or task or _task_with(asked.config)
    is_there = asked.config in names(task)
    shown = load(asked.config, asked.smoke, task) if is_there else None
    parser = _general(_Parser(program))
    knobs.add_flags(parser, TASKS[task].config, shown)
    given = vars(parser.parse_args(arguments))
    if not is_there:
        there = f"there are {', '.join(names(task))}; all: `--list`"
        if asked.config:
            parser.error(f"--config: no experiment {asked.config!r}; {there}")
        parser.error(f"name a directory of photos, or an experiment by --config: {there}")
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
    notes += _notes(recipe, config)
    return Request(config, **general, notes=notes, flags=tuple(arguments))


def _of_photos(photos, arguments, asked, task, parser):
    """Returns the flags that PHOTOS and the other arguments stand for, and sentences about them."""
    flags, sentences = {"data_dir": photos}, ()
    try:
        if asked.config:
            task = asked.task or task or _task_with(asked.config)
            if task in ("classification", "pretraining"):  # those whose usual data are not a folder
                flags["dataset"] = "folder"
        else:
            found = asked.task or task or choice.task_of(photos)
            flags["config"] = TASKS[found].photos
            if found not in (task, asked.task) and found != _task_with(flags["config"]):
                flags["task"] = found
            if found == "classification" and not (asked.smoke or {"-h", "--help"} & {*arguments}):
                chosen, sentence = _chosen(photos, arguments, asked.dry_run, parser.prog)
                flags, sentences = flags | chosen, (sentence,)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    flags = [*(f"--{name}={value}" for name, value in flags.items()), *arguments]
    return flags, (*sentences, f"This is `{parser.prog} {shlex.join(flags)}`.")


def _chosen(photos, arguments, dry_run, program):
    parser = _general(_Parser(program))
    knobs.add_flags(parser, TASKS["classification"].config)
    may_download = not (dry_run or needs.missing())  # without them there will be no training
    return choice.of_photos(photos, vars(parser.parse_args(arguments)), may_download)


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
            description=DESCRIPTION,
            epilog=EPILOG,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            usage="%(prog)s [PHOTOS] [--config NAME] [--resume auto] [--dry-run] [--FIELD=VALUE]",
            allow_abbrev=False,
            argument_default=argparse.SUPPRESS,
            **kwargs,
        )

    def error(self, message):
        flags = [flag for flag in self._option_string_actions if flag.startswith("--")]
        if message.startswith("unrecognized arguments: ") and "--" not in message:
            message += " (PHOTOS comes first)"
        elif message.startswith("unrecognized arguments: --"):
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
            print(f"{each:15} {name:18} {lab_book(name, each).splitlines()[0]}")


def _task_with(experiment):
    return next((task for task in TASKS if experiment in names(task)), "classification")


def _package(task):
    return importlib.import_module(f".experiments.{task}", __package__)


def _module(name, task):
    if name not in names(task):
        raise ValueError(f"There is no experiment {name!r}; there are {', '.join(names(task))}.")
    return importlib.import_module(f".experiments.{task}.{name}", __package__)
