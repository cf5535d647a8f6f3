"""Maps the values or colours of a mask to classes, as a configuration says."""

import os
import re
from pathlib import Path

from keras_convnext.segmentation.losses import IGNORED
from keras_convnext.segmentation.masks import LabelMap


def label_map(names, first=0, ignored=None, values=None, colours=None):
    """Returns the `LabelMap` of a configuration.

    Args:
        names: of the classes, in order.
        first: the value of the first class.
        ignored: a value that does not count, or `None`.
        values: text with the value of each class, such as `"0,255"`; `None`: from `first` on.
        colours: text with a line for each colour, see `colours_of`; `None`: masks have values.

    Raises:
        ValueError: if values or colours cannot be read or contradict the names.
    """
    values = None if values is None else _numbers(values)
    pairs = None if colours is None else colours_of(colours, names)
    return LabelMap(len(names), first, ignored, values, pairs)


def colour_text(given):
    """Returns the content of a file of colours if `given` is one, else what is given.

    Raises:
        ValueError: if it looks like the name of a file that does not exist.
    """
    path = Path(given).expanduser()
    if "\n" not in given and os.path.isfile(path):
        return path.read_text(encoding="utf-8")
    if not any(character.isspace() or character == "," for character in given):
        raise ValueError(
            f"`label_colours` {given!r} is no file: give an existing one with a line such as "
            "'128 64 128 road' for each colour."
        )
    return given


def colours_of(text, names):
    """Returns pairs `((red, green, blue), class)` for `LabelMap`.

    Args:
        text: lines or parts between semicolons: three numbers in [0, 255] and a name, or a name
            and three numbers, with spaces, tabs or commas between them, such as `"128 64 128
            road"` or `"road,128,64,128"`. A first line without numbers is a heading.
        names: of the classes. A colour with another name does not count.

    Raises:
        ValueError: if a line cannot be read, or a class has no colour.
    """
    lines = [line.strip() for line in re.split(r"[\n;]", text) if line.strip()]
    if lines and not re.search("[0-9]", lines[0]):
        lines = lines[1:]
    labels = {name.casefold(): label for label, name in enumerate(names)}
    pairs = []
    for line in lines:
        colour, name = _colour_and_name(line)
        pairs.append((colour, labels.get(name.casefold(), IGNORED)))
    found = {label for _, label in pairs}
    missing = [name for label, name in enumerate(names) if label not in found]
    if missing:
        raise ValueError(
            f"`label_colours` has no colour for the classes {missing[:5]}: the names there must be "
            f"those of `class_names`."
        )
    return tuple(pairs)


def _colour_and_name(line):
    number = r"(\d{1,3})[\s,]+"
    first = re.fullmatch(rf"{number}{number}(\d{{1,3}})[\s,]+(\S.*)", line)
    last = re.fullmatch(r"(\S.*?)[\s,]+(\d{1,3})[\s,]+(\d{1,3})[\s,]+(\d{1,3})", line)
    if first:
        *colour, name = first.groups()
    elif last:
        name, *colour = last.groups()
    else:
        raise ValueError(
            f"`label_colours` has the line {line!r}: it must be three numbers and a name, such as "
            "'128 64 128 road'."
        )
    return tuple(map(int, colour)), name.strip().strip('"')


def _numbers(text):
    try:
        return tuple(int(part) for part in str(text).strip("()").split(","))
    except ValueError:
        raise ValueError(
            f"`label_values` must be whole numbers with commas between them, such as 0,255; "
            f"received {text!r}."
        ) from None
