"""What an option of an augmentation may be; every refusal is a sentence."""

import math
import numbers


def integer(name, value, low):
    """Raises a ValueError unless `value` is an int of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, numbers.Integral) or value < low:
        raise ValueError(f"`{name}` must be an integer >= {low}, received {value!r}.")


def number(name, value, low, high, note=""):
    """Raises a ValueError unless `value` is a number in [low, high]."""
    if not _is_number(value) or not low <= value <= high:
        allowed = f"in [{low:g}, {high:g}]" if math.isfinite(high) else f">= {low:g}"
        raise ValueError(f"`{name}` must be a number {allowed}, received {value!r}.{note}")


def interval(name, value, high):
    """Raises a ValueError unless `value` is `(a, b)` with 0 < a <= b <= high."""
    pair = isinstance(value, (tuple, list)) and len(value) == 2 and all(map(_is_number, value))
    if not pair or not 0 < value[0] <= value[1] <= high:
        limit = f" <= {high:g}" if math.isfinite(high) else ""
        raise ValueError(
            f"`{name}` must be two numbers (a, b) with 0 < a <= b{limit}, received {value!r}."
        )


def moments(name, value, low, high):
    """Raises a ValueError unless `value` is a sequence of numbers in [low, high], not empty."""
    if not isinstance(value, (tuple, list)) or not value or not all(map(_is_number, value)):
        raise ValueError(f"`{name}` must hold one number per channel, received {value!r}.")
    if not all(low <= v <= high for v in value):
        raise ValueError(
            f"`{name}` must be in [{low:g}, {high:g}] for pixels of range [0, 1], "
            f"received {value!r}. Divide values of range [0, 255] by 255."
        )


def _is_number(value):
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and math.isfinite(value)
