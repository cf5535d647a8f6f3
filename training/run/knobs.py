"""A knob: one field of a configuration, with its meaning and its limits on the field's own line.

The same line is what checks a value, what reads it from the command line, and what `--help` says.
"""

import argparse
import dataclasses
import types
import typing

from keras_convnext import VARIANTS, Variant, checks

SIGNS = {"least": ">=", "above": ">", "most": "<=", "below": "<"}


def knob(group, meaning, default=dataclasses.MISSING, **limits):
    """Returns a dataclass field with a meaning and limits.

    Args:
        group: heading in the help, such as `"optimization"`.
        meaning: what the value does, for a reader of the help.
        default: value of the field; without one it must be given.
        **limits: `choices`, a tuple of the values allowed; or `least`, `above`, `most` and `below`
            of a number; or `check`, a function of the field's name and value that raises a
            ValueError. `absent` is the value that a record has which was written before the field
            existed (default: `default`).
    """
    absent = limits.pop("absent", default)
    metadata = {"group": group, "meaning": meaning, "limits": limits, "absent": absent}
    return dataclasses.field(default=default, metadata=metadata)


def verify(config):
    """Raises a ValueError for the first field of `config` with a value that is not allowed."""
    for field in dataclasses.fields(config):
        value = getattr(config, field.name)
        kind, is_optional = kind_of(field)
        if value is not None or not is_optional:
            _verify(field.name, value, kind, field.metadata["limits"])


def kind_of(field):
    """Returns the type of a field, and whether it may be `None`."""
    if isinstance(field.type, types.UnionType):
        return typing.get_args(field.type)[0], True
    return field.type, False


def _verify(name, value, kind, limits):
    if "choices" in limits:
        checks.one_of(name, value, limits["choices"])
    elif "check" in limits:
        limits["check"](name, value)
    elif kind is int and limits:
        checks.integer(name, value, limits["least"], limits.get("most"))
    elif kind is float:
        checks.number(name, value, **limits)
    elif not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
        checks.fail(name, value, f"of type {kind.__name__}")


def limits_of(field):
    """Returns the limits of a field in words; empty where its type says everything."""
    kind, is_optional = kind_of(field)
    limits = field.metadata["limits"]
    if "choices" in limits:
        return f"one of {', '.join(map(_text, limits['choices']))}"
    if kind is bool:
        return "true, false or none" if is_optional else "true or false"
    ends = [f"{SIGNS[end]} {limits[end]:g}" for end in SIGNS if end in limits]
    alternatives = [" and ".join(ends)] * bool(ends) + ["none"] * is_optional
    return " or ".join(alternatives)


def add_flags(parser, kind, defaults=None):
    """Adds a flag for each field of a configuration to an argparse parser.

    Args:
        parser: an `ArgumentParser`.
        kind: class of the configuration.
        defaults: a configuration whose values the help shows; `None`: it shows none.
    """
    groups = {}
    for field in dataclasses.fields(kind):
        group = field.metadata["group"]
        if group is None:
            continue  # a description that no flag can hold
        if group not in groups:
            groups[group] = parser.add_argument_group(group)
        default = dataclasses.MISSING if defaults is None else getattr(defaults, field.name)
        groups[group].add_argument(
            f"--{field.name}",
            type=_reader(field),
            metavar="VALUE" if kind_of(field)[0] is not Variant else "NAME",
            help=_help(field, default).replace("%", "%%"),
        )


def _help(field, default):
    shown = "" if default is dataclasses.MISSING else f"default: {_text(default)}"
    details = "; ".join(filter(None, (limits_of(field), shown)))
    return field.metadata["meaning"] + (f" ({details})" if details else "")


def _text(value):
    if isinstance(value, tuple):
        return ",".join(map(_text, value))
    if isinstance(value, Variant):
        return value.name
    if isinstance(value, float):
        return f"{value:g}"
    return "none" if value is None else str(value).lower() if value in (True, False) else str(value)


def _reader(field):
    """Returns what reads a flag's text; its name stands in the error message of argparse."""
    kind, is_optional = kind_of(field)
    read = {Variant: _variant, bool: _boolean, tuple: _two_numbers}.get(kind, kind)
    return _optional(read) if is_optional else read


def _optional(kind):
    def read(text):
        return None if text.lower() == "none" else kind(text)

    read.__name__ = f"{kind.__name__} (or none)"
    return read


def _boolean(text):
    if text.lower() not in ("true", "false"):
        raise argparse.ArgumentTypeError(f"{text!r} is neither true nor false")
    return text.lower() == "true"


def _two_numbers(text):
    try:
        low, high = (float(part) for part in text.strip("()").split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not two numbers such as 0.08,1") from None
    return low, high


def _variant(name):
    if name not in VARIANTS:
        raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(VARIANTS)}")
    return VARIANTS[name]
