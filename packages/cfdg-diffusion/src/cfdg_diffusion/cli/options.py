"""Values of options: counts, durations, intervals, kinds and column names from text.

The parser needs these functions for every command, also for its help: PyTorch and pandas are imported by the options
that need them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from typing import get_args

RULES = "'age: 17..90', 'start <= end' or 'fixed: city, region'"
"""Forms of a constraint, see :func:`cfdg_diffusion.cli.rules.parse`."""


def count(text: str) -> int:
    """Read a whole number from 1 on such as ``1_000_000``.

    Raises:
        argparse.ArgumentTypeError: if it is none.
    """
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on, such as 1_000_000")
    return number


def duration(text: str) -> float:
    """Read seconds: a plain number such as ``90``, or what pandas.Timedelta reads, such as ``90s`` or ``1h30m``.

    Raises:
        argparse.ArgumentTypeError: if it is neither, or not positive and finite.
    """
    try:
        seconds = float(text)
    except ValueError:
        seconds = _seconds(text)
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 90s, 5m or 1h30m")
    return seconds


def _seconds(text: str) -> float:
    """Return the seconds of a text with units, NaN if it is none."""
    import pandas as pd

    try:
        return pd.Timedelta(text).total_seconds()
    except ValueError:
        return math.nan


def interval(text: str) -> tuple[float, float]:
    """Read two noise levels such as ``0.2,5``; either may be left out.

    Raises:
        argparse.ArgumentTypeError: if they are none, or not in ascending order.
    """
    low, comma, high = text.partition(",")
    try:
        bounds = (float(low or 0), float(high or math.inf))
    except ValueError:
        bounds = (0.0, 0.0)
    if not comma or not 0 <= bounds[0] < bounds[1]:
        raise argparse.ArgumentTypeError(f"{text!r} are no two noise levels LOW,HIGH such as 0.2,5")
    return bounds


def kind(text: str) -> tuple[str, str]:
    """Read a column and its kind, such as ``zip=category``: a kind of a table model, or ``text``.

    Raises:
        argparse.ArgumentTypeError: if it is no such pair.
    """
    from cfdg_diffusion.tabular.columns.column import Kind

    known = (*get_args(Kind), "text")
    column, equals, name = text.rpartition("=")
    if not equals or name not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is not COLUMN=KIND with one of {', '.join(known)}")
    return column, name


def names(texts: Sequence[str], columns: Sequence[str], option: str) -> list[str]:
    """Read the columns of an option that was given several times or with commas between them.

    Raises:
        ValueError: if one is not among the columns.
    """
    found: list[str] = []
    for text in texts:
        found += [text] if text in columns else [part.strip() for part in text.split(",")]
    unknown = [name for name in found if name not in columns]
    if unknown:
        raise ValueError(f"{option} names column {unknown[0]!r}, expected one of {', '.join(map(repr, columns))}")
    return list(dict.fromkeys(found))
