"""Lists folders and image files in a fixed order, without the files of operating systems.

Hidden files and what operating systems and archivers leave behind are ignored without a word;
whatever else is not used is counted, so that a reader can be told.
"""

import dataclasses
import os
import re
from pathlib import Path

import numpy as np

from keras_convnext.images import SUFFIXES

from .dataset import DataError

SYSTEM_FILES = {
    *("__macosx", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r", "__pycache__"),
    *("@eadir", "$recycle.bin", "system volume information", "lost+found"),
}
NAMED = 3  # so many names stand in a message


def spread(count, most):
    """Returns up to so many of the numbers 0, ..., count - 1, evenly spread, an int array."""
    return np.unique(np.linspace(0, count - 1, most).astype(int))[:count]


def visible(directory):
    """Returns the entries of a directory (`os.DirEntry`) sorted by name, without hidden ones and
    those of `SYSTEM_FILES`.

    Raises:
        DataError: if the directory cannot be read.
    """
    try:
        with os.scandir(directory) as entries:
            found = [entry for entry in entries if not _is_ignored(entry.name)]
    except OSError as error:
        raise unreadable(directory, error) from error
    return sorted(found, key=lambda entry: entry.name)


def _is_ignored(name):
    return name.startswith(".") or name.casefold() in SYSTEM_FILES


def unreadable(path, error):
    """Returns the DataError about a path for which the system raised an OSError."""
    return DataError(f"{str(path)!r} cannot be read: {error.strerror or error}.")


def folders(directory):
    """Returns the visible folders in a directory, links to folders included, as paths in natural
    order of their names."""
    paths = (Path(entry.path) for entry in visible(directory) if entry.is_dir())
    return sorted(paths, key=lambda path: natural(path.name))


def natural(name):
    """Returns a sort key with which numbers inside names count as numbers: 2 before 10."""
    parts = re.split("([0-9]+)", name)
    return [int(part) if place % 2 else part for place, part in enumerate(parts)], name


def is_image(name):
    """Returns whether the name of a file has one of `SUFFIXES`, in upper or lower case."""
    return name.lower().endswith(SUFFIXES)


def loose_images(directory):
    """Returns the paths of the images that lie in a directory itself, not in folders below."""
    return [e.path for e in visible(directory) if is_image(e.name) and e.is_file()]


@dataclasses.dataclass
class Files:
    """The files below a directory.

    Attributes:
        images: paths of the files with one of `SUFFIXES`, in a fixed order.
        others: paths of all other files.
        linked: paths of links to folders, which are not followed because they may lead back.
        broken: paths of links to what does not exist.
    """

    images: list = dataclasses.field(default_factory=list)
    others: list = dataclasses.field(default_factory=list)
    linked: list = dataclasses.field(default_factory=list)
    broken: list = dataclasses.field(default_factory=list)

    def add(self, other):
        """Appends what another `Files` has."""
        for field in dataclasses.fields(self):
            getattr(self, field.name).extend(getattr(other, field.name))

    def notes(self, directory):
        """Returns a sentence about each kind of file below `directory` that is not used."""
        suffixes = ", ".join(SUFFIXES)
        place = repr(readable(str(directory)))
        kinds = (
            (
                "Not used",
                "file",
                f"under {place} without one of the suffixes {suffixes}",
                self.others,
            ),
            ("Not followed", "link", f"to folders under {place}", self.linked),
            ("Broken", "link", f"under {place}", self.broken),
        )
        return tuple(
            f"{what}: {counted(len(paths), noun)} {where}: {some(paths)}"
            for what, noun, where, paths in kinds
            if paths
        )


def some(names):
    """Returns the first few of the names as text that ends a sentence."""
    return ", ".join(map(readable, names[:NAMED])) + (", ..." if len(names) > NAMED else ".")


def counted(number, noun):
    """Returns a number with its noun, such as "1 image" and "1,200 images"."""
    return f"{number:,} {noun}{'' if number == 1 else 'es' if noun.endswith('s') else 's'}"


def readable(name):
    """Returns the name of a file as text that can be printed: it need not be valid UTF-8."""
    return name.encode("utf-8", "backslashreplace").decode("utf-8")


def files_below(directory):
    """Returns the `Files` of a directory and of all folders below it."""
    found = Files()
    for entry in visible(directory):
        # Links to files are followed; links to folders are not, because they may lead back.
        if entry.is_dir(follow_symlinks=False):
            found.add(files_below(entry.path))
        elif entry.is_file():
            (found.images if is_image(entry.name) else found.others).append(entry.path)
        elif entry.is_symlink():
            (found.linked if entry.is_dir() else found.broken).append(entry.path)
    return found
