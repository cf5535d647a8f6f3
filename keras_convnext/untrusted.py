"""Small files that anybody may have written: read in bounded time and memory, or refused."""

import json
import os

LARGEST = 2**24  # bytes; a million names of classes


def text_of(path):
    """Returns the text of a file in UTF-8, without its byte order mark, if it has one.

    Raises:
        OSError: if the file cannot be read.
        ValueError: if it has more than 16 MB, or is no text in UTF-8.
    """
    with open(path, "rb") as file:
        content = file.read(LARGEST + 1)
    if len(content) > LARGEST:
        size = os.path.getsize(path)
        raise ValueError(f"it has {size} bytes, of which at most {LARGEST} are read")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise ValueError(f"it must be UTF-8 text ({error})") from None


def json_of(text):
    """Returns the value of a JSON text.

    Raises:
        ValueError: if it is no JSON, or is nested more deeply than Python can follow.
    """
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("its lists or objects are nested too deeply") from None
