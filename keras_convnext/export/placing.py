"""Where an export is put: what belongs together is replaced together, or not at all."""

import contextlib
import os

from keras_convnext.atomic import draft_folder

COMPANIONS = {".xml": ".bin", ".onnx": ".onnx.data"}  # ends of the file of numbers beside a model


def companion(path):
    """Returns the path of the file of numbers that may belong to the model at `path`, or `None`."""
    end = COMPANIONS.get(path.suffix.lower())
    return None if end is None else path.with_suffix(end)


def size_of(path):
    """Returns the bytes of a file with its numbers beside it, or of a folder with all in it."""
    files = path.rglob("*") if path.is_dir() else filter(None, (path, companion(path)))
    return sum(file.stat().st_size for file in files if file.is_file())


def check(path):
    """Raises an OSError if a model may not be put at `path`, before any work is done.

    Raises:
        IsADirectoryError: if it is to be a file and is a folder.
        FileExistsError: if it is to be a folder and is a file, or has files that are no SavedModel;
            or if a file that belongs to no model is where the numbers go.
    """
    numbers = companion(path)
    if path.suffix and path.is_dir():
        raise IsADirectoryError(f"{str(path)!r} is a folder: name a file in it.")
    if not path.suffix and path.exists() and not path.is_dir():
        raise FileExistsError(
            f"{str(path)!r} is a file, and a SavedModel is a folder: choose another name, or "
            "delete the file."
        )
    if path.is_dir() and any(path.iterdir()) and not (path / "saved_model.pb").is_file():
        raise FileExistsError(f"The folder {str(path)!r} has files that are no SavedModel.")
    if numbers is not None and numbers.exists() and not path.exists():
        raise FileExistsError(
            f"{str(numbers)!r} is where the numbers of {path.name} go, and there is no {path.name} "
            "that it belongs to: choose another name, or move the file away."
        )


@contextlib.contextmanager
def drafts(path):
    """Yields the path of a draft alone in a folder; its files then replace those beside `path`.

    The folder above that one is for other drafts, and is deleted with all that is in it.

    Raises:
        FileNotFoundError: if the folder of `path` does not exist.
        OSError: if a file cannot be moved; then all is as it was.
    """
    with draft_folder(path) as folder:
        made, before = folder / "made", folder / "before"
        made.mkdir()
        before.mkdir()
        yield made / path.name
        _replace(made / path.name, path, before)


def _replace(draft, path, before):
    """Moves a draft and the files beside it to `path`, and what was there into the folder `before`.

    The old model leaves before its numbers and the new one comes after its own: whenever a reader
    or the end of the process comes between, no model is there with the numbers of another one.
    """
    numbers = [file for file in draft.parent.iterdir() if file != draft]
    places = [(file, path.with_name(file.name)) for file in (*numbers, draft)]
    moved = []

    def move(source, target):
        os.replace(source, target)
        moved.append((source, target))

    try:
        if numbers or draft.is_dir():  # one file replaces another at once, and these do not
            for _, place in reversed(places):
                if place.exists():
                    move(place, before / place.name)
        for source, place in places:
            move(source, place)
    except BaseException:
        for source, target in reversed(moved):
            os.replace(target, source)
        raise
