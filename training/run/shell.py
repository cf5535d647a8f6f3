"""The commands that a training prints, in the form in which the user's shell finds them."""

import contextlib
import shlex
import shutil
import sys
from pathlib import Path

# `training` in a clone; in a wheel the same code has another name, which is no other project's.
PACKAGE = __name__.partition(".")[0]
# What `keras-convnext` has for the modules of this package that are commands in a clone.
COMMANDS = {
    "train": "train",
    "segment": "train --task segmentation",
    "detect": "train --task detection",
    "pretrain": "train --task pretraining",
    "evaluate": "evaluate",
    "verify_data": "check",
}
_is_installed_command = False


@contextlib.contextmanager
def as_installed_command():
    """Within it the commands are those of `keras-convnext`, by which the user has come here."""
    global _is_installed_command
    before, _is_installed_command = _is_installed_command, True
    try:
        yield
    finally:
        _is_installed_command = before


def entry(module):
    """Returns the command of a module of this package for a sentence, for example
    `python -m training.evaluate` or `keras-convnext evaluate`."""
    if _is_installed_command and module in COMMANDS:
        return f"keras-convnext {COMMANDS[module]}"
    return f"python -m {PACKAGE}.{module}"


def command(module):
    """Returns the same as `entry`, to be pasted into a shell."""
    name, arguments = entry(module).split(" ", 1)
    return f"{python() if name == 'python' else program(name)} {arguments}"


def started():
    """Returns the module of this package that is the process' own, `"train"` where none is."""
    spec = getattr(sys.modules["__main__"], "__spec__", None)
    package, _, module = (spec.name if spec else "").partition(".")
    return module if package == PACKAGE and module in COMMANDS else "train"


def python():
    """Returns the command that starts this Python, for example `python` or `.venv/bin/python`."""
    own = Path(sys.executable)
    return program("python" if own.with_name("python").exists() else own.name)


def program(name):
    """Returns the command that starts a program which is installed beside this Python.

    Returns:
        The name alone where the shell finds that program by it; else the path, which is relative
        for an environment below the current directory. Quoted for a shell.
    """
    own, found = Path(sys.executable).with_name(name), shutil.which(name)
    if found and Path(found).absolute() == own:
        return name
    inside = own.is_relative_to(Path.cwd())
    return shlex.quote(str(own.relative_to(Path.cwd()) if inside else own))
