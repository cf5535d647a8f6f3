"""The validation of arguments: what is allowed comes back, all else is a sentence."""

import re

import numpy as np
import pytest

from keras_convnext import checks
from tests.backends import on_one_backend

pytestmark = on_one_backend


@pytest.mark.parametrize(
    ("check", "values"),
    [
        (lambda v: checks.one_of("x", v, (None, "avg", 2)), [None, "avg", 2]),
        (lambda v: checks.one_of("x", v, {"a": 1}), ["a"]),
        (lambda v: checks.integer("x", v, 1), [1, 10**9]),
        (lambda v: checks.integer("x", v, 0, 3, optional=True), [0, 3, None]),
        (lambda v: checks.number("x", v, least=0, below=1), [0, 0.5, 0.999]),
        (lambda v: checks.number("x", v, above=0, optional=True), [None, 1e-9, 7]),
        (lambda v: checks.interval("x", v, 1), [(0.1, 0.1), [0.5, 1]]),
        (lambda v: checks.moments("x", v, 0), [(0.0, 1), [0.5]]),
        (lambda v: checks.integers("x", v, 1, 4), [(1, 2, 3, 4)]),
    ],
)
def test_what_is_allowed_is_returned(check, values):
    for value in values:
        assert check(value) is value


def test_numbers_of_numpy_become_numbers_of_python():
    assert type(checks.integer("x", np.int64(3), 1)) is int
    assert type(checks.number("x", np.float32(0.5), least=0)) is float


@pytest.mark.parametrize(
    ("check", "message"),
    [
        (
            lambda: checks.one_of("pooling", "mean", (None, "avg")),
            "`pooling` must be one of [None, 'avg'], received 'mean'.",
        ),
        (lambda: checks.one_of("x", "avgg", (None, "avg")), "received 'avgg'. Nearest: 'avg'."),
        (lambda: checks.one_of("x", ["a"], {"a": 1}), "one of ['a'], received ['a']."),
        (lambda: checks.one_of("x", True, (1, 2)), "one of [1, 2], received True."),
        (lambda: checks.integer("x", 0, 1), "`x` must be an integer >= 1, received 0."),
        (lambda: checks.integer("x", True, 1), "an integer >= 1, received True."),
        (lambda: checks.integer("x", 2.0, 1), "an integer >= 1, received 2.0."),
        (
            lambda: checks.integer("x", 5, 1, 4, optional=True, note="Take 4."),
            "`x` must be None or an integer from 1 to 4, received 5. Take 4.",
        ),
        (lambda: checks.number("x", 1, least=0, below=1), "a number in [0, 1), received 1."),
        (lambda: checks.number("x", 0, above=0, most=1), "a number in (0, 1], received 0."),
        (lambda: checks.number("x", -1, least=0), "a number >= 0, received -1."),
        (lambda: checks.number("x", 0, above=0), "a number > 0, received 0."),
        (lambda: checks.number("x", 2, below=2), "a number < 2, received 2."),
        (lambda: checks.number("x", "1"), "a number, received '1'."),
        (lambda: checks.number("x", float("nan"), least=0), "a number >= 0, received nan."),
        (lambda: checks.number("x", float("inf"), least=0), "a number >= 0, received inf."),
        (lambda: checks.number("x", True, least=0), "a number >= 0, received True."),
        (
            lambda: checks.interval("x", (2, 1)),
            "two numbers (a, b) with 0 < a <= b, received (2, 1).",
        ),
        (lambda: checks.interval("x", (0.5, 2), 1), "0 < a <= b <= 1, received (0.5, 2)."),
        (lambda: checks.moments("x", (), 0), "`x` must hold one number per channel, received ()"),
        (lambda: checks.moments("x", (124.0,), 0), "Divide values of range [0, 255] by 255."),
        (lambda: checks.integers("x", (1, 0), 1), "a tuple of integers >= 1, received (1, 0)."),
        (lambda: checks.integers("x", (1, 2), 1, 4), "a tuple of 4 integers >= 1, received"),
    ],
)
def test_what_is_not_allowed_is_named(check, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check()
