"""Ranges of settings: what each number may be, and a refusal in one sentence."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

WIDEST = 1 << 16  # units of a layer; a larger one is a typing error that no memory holds
_PAST_64_BITS = 1 << 63


@dataclass(frozen=True)
class Range:
    """Values that a setting may have.

    Attributes:
        words: for messages, after "expected".
        holds: tells if a value is one of them.
    """

    words: str
    holds: Callable[[Any], bool]


def is_integer(value: object, least: int) -> bool:
    """Tell if a value is a whole number of at least ``least`` that 64 bits hold; a boolean is none."""
    return isinstance(value, Integral) and not isinstance(value, bool) and least <= int(value) < _PAST_64_BITS


def is_number(value: object) -> bool:
    """Tell if a value is a finite number; a boolean is none."""
    return isinstance(value, Real) and not isinstance(value, bool) and math.isfinite(value)


COUNT = Range("at least 1, a whole number below 2^63", lambda value: is_integer(value, 1))
PLURAL = Range("at least 2, a whole number below 2^63", lambda value: is_integer(value, 2))
NATURAL = Range("at least 0, a whole number below 2^63", lambda value: is_integer(value, 0))
OPTIONAL_COUNT = Range(
    "nothing, or at least 1, a whole number below 2^63", lambda value: value is None or is_integer(value, 1)
)
FINITE = Range("a finite number", is_number)
POSITIVE = Range("more than 0 and finite", lambda value: is_number(value) and value > 0)
NOT_NEGATIVE = Range("at least 0 and finite", lambda value: is_number(value) and value >= 0)
SHARE = Range("0 to 1", lambda value: is_number(value) and 0 <= value <= 1)
POSITIVE_SHARE = Range("more than 0 and at most 1", lambda value: is_number(value) and 0 < value <= 1)
BELOW_ONE = Range("at least 0 and below 1", lambda value: is_number(value) and 0 <= value < 1)
INSIDE = Range("above 0 and below 1", lambda value: is_number(value) and 0 < value < 1)
WIDTH = Range(f"1 to {WIDEST}, a whole number", lambda value: is_integer(value, 1) and value <= WIDEST)
SIZES = Range(f"one whole number or more, each 1 to {WIDEST}", lambda value: _all(value, WIDTH.holds))
SWITCH = Range("true or false", lambda value: isinstance(value, bool))
RISING = Range("two finite numbers, the lower one first", lambda value: _all(value, is_number) and _rises(value))


def check_ranges(settings: object, **ranges: Range) -> None:
    """Refuse a setting that is outside its range.

    Args:
        settings: of a frozen dataclass.
        **ranges: by the setting's name.

    Raises:
        ValueError: naming the setting, the value and the range.
    """
    for name, allowed in ranges.items():
        value = getattr(settings, name)
        if not allowed.holds(value):
            raise ValueError(f"{name} is {value!r}, expected {allowed.words}")


def _all(values: object, holds: Callable[[Any], bool]) -> bool:
    """Tell if something holds of all values of a sequence that is not empty."""
    return isinstance(values, Collection) and not isinstance(values, str) and bool(values) and all(map(holds, values))


def _rises(pair: Any) -> bool:  # noqa: ANN401 - numbers, as was checked
    return len(pair) == 2 and pair[0] < pair[1]
