"""The commands that a training prints, in the form in which the user's shell finds them."""

import shlex
import shutil
import sys
from pathlib import Path


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
