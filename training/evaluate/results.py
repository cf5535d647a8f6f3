"""A file of measurements, which a repeated command continues."""

import json
from pathlib import Path

from filelock import FileLock

from keras_convnext.atomic import write_text
from keras_convnext.untrusted import json_of

# What makes two measurements the same one, so that the second need not be made.
IDENTITY = ("weights", "sha256", "data", "version", "examples", "transform", "form")


def key_of(result):
    """Returns what two measurements of the same thing share, as text."""
    return json.dumps([result[field] for field in IDENTITY], sort_keys=True)


def load_results(path):
    """Returns the list of results in a file, empty if there is none.

    Raises:
        ValueError: if it is no file of results.
    """
    try:
        content = json_of(Path(path).read_text(encoding="utf-8"))
        return [result for result in content["results"] if key_of(result)]
    except FileNotFoundError:
        return []
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(
            f"{path} is no file of results ({error!r}). Move it away or name another."
        ) from error


def add_result(path, result):
    """Adds one result to a file, or replaces the earlier one of the same measurement."""
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{path}.lock"):
        others = [old for old in load_results(path) if key_of(old) != key_of(result)]
        content = {"results": [*others, result]}
        write_text(path, json.dumps(content, indent=1) + "\n")
