"""Files that are replaced as a whole or not at all."""

import contextlib
import os
import tempfile
from pathlib import Path

DRAFT = ".draft-"


@contextlib.contextmanager
def replacing(path):
    """Yields the path of a draft, which replaces `path` once the block has ended without an error.

    Raises:
        FileNotFoundError: if the folder of `path` does not exist.
    """
    with draft_folder(path) as folder:
        # a folder and not a name: Keras chooses the format by the whole name of the file
        draft = folder / Path(path).name
        yield draft
        os.replace(draft, path)


@contextlib.contextmanager
def draft_folder(path):
    """Yields a new folder beside `path`, for its drafts; it is deleted once the block has ended.

    Raises:
        FileNotFoundError: if the folder of `path` does not exist.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"The folder {str(path.parent)!r} does not exist: make it first.")
    try:
        with tempfile.TemporaryDirectory(prefix=DRAFT, dir=path.parent) as folder:
            yield Path(folder)
    except OSError as error:
        if error.filename is None or DRAFT not in os.fsdecode(error.filename):
            raise
        # whoever reads the message knows the file, and not its draft
        raise OSError(error.errno, error.strerror, str(path)) from error


def write_text(path, text):
    """Replaces the file at `path` by `text` in UTF-8; it is on the disk when this returns.

    Raises:
        FileNotFoundError: if the folder of `path` does not exist.
        OSError: if the file cannot be written.
    """
    with replacing(path) as draft:
        with open(draft, "w", encoding="utf-8", newline="") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
