"""The output of the commands: results on stdout, notes on stderr."""

import contextlib
import json
import os
import re
import sys
import warnings


def say(text, end="\n"):
    """A line for people, on stderr."""
    print(printable(str(text)), end=end, file=sys.stderr, flush=True)


def printable(text):
    """Names of files may hold bytes that are no text."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def print_json(content):
    print(json.dumps(content, indent=1))


def report(as_json, facts):
    if as_json:
        print_json(facts)
        return
    rows = []
    for field, value in facts.items():
        nested = value.items() if isinstance(value, dict) else [("", value)]
        rows += [(f"{field} {key}".strip().replace("_", " "), str(v)) for key, v in nested]
    print_table(("field", "value"), rows)


def print_table(columns, rows):
    """A table for people; where nobody looks, lines with tabs between the columns."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console()
    if not console.is_terminal:
        for row in (columns, *rows):
            print(*(re.sub(r"\s+", " ", cell) for cell in row), sep="\t")
        return
    table = Table(*columns, header_style="bold", box=None, pad_edge=False)
    for row in rows:
        table.add_row(*map(Text, row))  # Text: brackets in a name are no markup
    console.print(table)


def exit_code(results, wanted):
    """Returns 1 if a command for images failed for some, which is said, else 0.

    Args:
        results: a dict for each image, with "error" where it failed.
        wanted: what an image could not be: "read".
    """
    failed = sum("error" in result for result in results)
    if failed:
        say(f"{failed} of {len(results)} images could not be {wanted}.")
    return 1 if failed else 0


def in_bytes(count):
    from rich.filesize import decimal

    return decimal(count)


def check_writable(path):
    """Raises an OSError if a file cannot be written at the `Path`, before any work is done."""
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {str(path.parent)!r} does not exist: make it first.")
    if path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder: name a file in it.")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"The folder {str(path.parent)!r} may not be written to.")


@contextlib.contextmanager
def warnings_as_notes(worded=str):
    """Shows warnings as notes on stderr, in the words that `worded` makes of them."""

    def show(message, category, filename, lineno, file=None, line=None):
        say(f"Note: {worded(message)}")

    with warnings.catch_warnings():
        warnings.showwarning = show
        yield
