"""The trainer, which `train`, `evaluate` and `check` pass their arguments on to."""

import importlib
import importlib.util
import sys
from pathlib import Path

from keras_convnext.cli.flags import UsageError

COMMANDS = ("train", "evaluate", "check")
# The trainer is an application and lies beside this package: under the first name where a wheel is
# installed, under the second in a clone. It is found by that place and not by its name alone,
# because others have a package `training`, too; and not by an import, because the library and its
# command work without it.
HOMES = ("keras_convnext_training", "training")
MARK = "run/shell.py"


def add_parser(commands, name, run, help):
    """Adds a command without flags of its own."""
    parser = commands.add_parser(name, help=help, add_help=False)
    parser.set_defaults(run=run, parser=parser)


def answer(name, arguments):
    """Runs a command of the trainer, and returns its exit code.

    Args:
        name: of the module that is the command, as of `module`.
        arguments: of the command line, with what the module takes in `rest`.
    """
    main = module(name).main
    with module("run.shell").as_installed_command():
        return main(arguments.rest)


def module(name):
    """Returns a module of the trainer, such as `"train"` or `"run.shell"`.

    Raises:
        UsageError: if the trainer is not there.
    """
    beside = Path(__file__).parents[2]
    home = next((home for home in HOMES if (beside / home / MARK).is_file()), None)
    if home is None:
        raise UsageError(
            f"The trainer is not there: {beside} has no {HOMES[0]}. Install the whole package: "
            '`pip install "keras_convnext[tensorflow,train]"`.'
        )
    if home not in sys.modules:
        folder = beside / home
        places = {"submodule_search_locations": [str(folder)]}
        spec = importlib.util.spec_from_file_location(home, folder / "__init__.py", **places)
        package = sys.modules[home] = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(package)
    return importlib.import_module(f"{home}.{name}")
