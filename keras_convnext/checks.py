"""The validation of arguments: each function returns the value that it was given, or raises.

The error is a ValueError that names the argument, says what is allowed and shows the value. NaN and
infinities are never numbers here, and neither are `True` and `False`.
"""

import difflib
import functools
import inspect
import math
import numbers

# What other libraries call the arguments of our functions.
OTHER_NAMES = {
    "num_classes": "classes",
    "n_classes": "classes",
    "pretrained": "weights",
    "in_chans": "input_shape",
    "img_size": "input_shape",
    "image_size": "input_shape",
    "global_pool": "pooling",
    "activation": "classifier_activation",
    "drop_path": "drop_path_rate",
    "stochastic_depth_prob": "drop_path_rate",
}


def fail(argument, value, allowed, note=""):
    """Raises the ValueError that all the checks raise; `note` is a sentence of advice."""
    note = f" {note}" if note else ""
    raise ValueError(f"`{argument}` must be {allowed}, received {value!r}.{note}")


def knowing_other_names(function):
    """Returns the function with a TypeError that advises, for keywords that it does not have."""
    allowed = inspect.signature(function).parameters

    @functools.wraps(function)
    def checked(*args, **kwargs):
        keywords(function.__name__, kwargs, allowed)
        return function(*args, **kwargs)

    return checked


def keywords(name, given, allowed):
    """Raises a TypeError that names the right argument, if a function has no such keyword.

    Args:
        name: of the function.
        given: the keywords of a call.
        allowed: the names of its arguments.
    """
    for keyword in given:
        if keyword in allowed:
            continue
        near = difflib.get_close_matches(keyword, list(allowed), n=1)
        meant = [ours for ours in (OTHER_NAMES.get(keyword), *near) if ours in allowed]
        advice = f"here it is `{meant[0]}`" if meant else f"it has {', '.join(allowed)}"
        raise TypeError(f"{name}() has no argument `{keyword}`: {advice}.")


def one_of(argument, value, allowed):
    """Returns `value`, which must be one of the values (or keys) `allowed`."""
    plain = isinstance(value, (str, numbers.Real, tuple, type(None)))
    is_bool = isinstance(value, bool)  # True == 1, and is not meant
    if plain and any(value == other and is_bool == isinstance(other, bool) for other in allowed):
        return value
    words = [other for other in allowed if isinstance(other, str)]
    near = difflib.get_close_matches(value, words, n=1) if isinstance(value, str) else ()
    fail(argument, value, f"one of {list(allowed)}", "".join(f"Nearest: {n!r}." for n in near))


def integer(argument, value, least, most=None, *, optional=False, note=""):
    """Returns `value` as an int from `least` to `most`; integers of numpy are integers too.

    Args:
        argument: name of the argument.
        value: what was given.
        least, most: the smallest and the largest value allowed; `most=None`: any from `least` on.
        optional: whether `None` is allowed too.
        note: a sentence that follows the message.
    """
    if optional and value is None:
        return None
    if is_integer(value, least, most):
        return int(value)
    limits = f">= {least}" if most is None else f"from {least} to {most}"
    fail(argument, value, f"{_none(optional)}an integer {limits}", note)


def number(
    argument, value, *, least=None, above=None, most=None, below=None, optional=False, note=""
):
    """Returns `value`, a finite number of the range.

    Args:
        argument: name of the argument.
        value: what was given; a number of numpy is returned as one of Python.
        least, above: the lower end, which is allowed (`least`) or not (`above`).
        most, below: the upper end, which is allowed (`most`) or not (`below`).
        optional: whether `None` is allowed too.
        note: a sentence that follows the message.
    """
    if optional and value is None:
        return None
    inside = is_number(value) and all(
        (
            least is None or value >= least,
            above is None or value > above,
            most is None or value <= most,
            below is None or value < below,
        )
    )
    if inside:
        return value.item() if hasattr(value, "item") else value
    fail(argument, value, f"{_none(optional)}a number{_range(least, above, most, below)}", note)


def interval(argument, value, most=math.inf):
    """Returns `value`, which must be `(a, b)` with 0 < a <= b <= `most`."""
    pair = isinstance(value, (tuple, list)) and len(value) == 2 and all(map(is_number, value))
    if pair and 0 < value[0] <= value[1] <= most:
        return value
    limit = f" <= {most:g}" if math.isfinite(most) else ""
    fail(argument, value, f"two numbers (a, b) with 0 < a <= b{limit}")


def integers(argument, values, least, count=None):
    """Returns `values`, a tuple or list of integers >= `least`, and of length `count` if given."""
    length = f"{count} " if count is not None else ""
    is_sequence = isinstance(values, (tuple, list)) and len(values) > 0
    if is_sequence and count in (None, len(values)):
        if all(is_integer(value, least) for value in values):
            return values
    fail(argument, values, f"a tuple of {length}integers >= {least}")


def moments(argument, values, least):
    """Returns `values`, means or deviations of pixels: one number in [`least`, 1] per channel."""
    is_sequence = isinstance(values, (tuple, list)) and len(values) > 0
    if not is_sequence or not all(map(is_number, values)):
        raise ValueError(f"`{argument}` must hold one number per channel, received {values!r}.")
    if not all(least <= value <= 1 for value in values):
        allowed = f"in [{least:g}, 1] for pixels of range [0, 1]"
        fail(argument, values, allowed, "Divide values of range [0, 255] by 255.")
    return values


def is_number(value):
    """Returns whether `value` is a finite real number."""
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and math.isfinite(value)


def is_integer(value, least, most=None):
    """Returns whether `value` is an integer from `least` to `most` (`None`: without an end)."""
    whole = isinstance(value, numbers.Integral) and not isinstance(value, bool)
    return whole and least <= value and (most is None or value <= most)


def _none(optional):
    return "None or " if optional else ""


def _range(least, above, most, below):
    low, high = (least if above is None else above), (most if below is None else below)
    if low is None and high is None:
        return ""
    if high is None:
        return f" {'>' if least is None else '>='} {low:g}"
    if low is None:
        return f" {'<' if most is None else '<='} {high:g}"
    return f" in {'(' if least is None else '['}{low:g}, {high:g}{')' if most is None else ']'}"
