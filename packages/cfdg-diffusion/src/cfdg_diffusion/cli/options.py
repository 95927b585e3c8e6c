"""Values of options: counts, durations, intervals, kinds and column names from text.

The parser needs these functions for every command, also for its help: PyTorch and pandas are imported by the options
that need them.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

    from cfdg_diffusion.cli.formats import Choices
    from cfdg_diffusion.tabular.columns.column import Kind

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


KINDS = ("number", "integer", "category", "boolean", "datetime", "text")
"""Kinds of ``--kinds``; ``datetime`` may have a format."""
_ALSO_KNOWN = ("timedelta",)


def kinds(text: str) -> list[tuple[str, str]]:
    """Read columns and their kinds, such as ``zip=category,day=datetime:%d.%m.%Y``.

    A comma begins another pair where ``=`` comes after it, else it belongs to a format or to a name: ``%b %d, %Y``.

    Raises:
        argparse.ArgumentTypeError: if a pair is none.
    """
    parts: list[str] = []
    for part in text.split(","):
        if parts and ("=" not in part or "=" not in parts[-1]):
            parts[-1] += f",{part}"
        else:
            parts.append(part.strip())
    return [kind(part) for part in parts]


def kind(text: str) -> tuple[str, str]:
    """Read a column and its kind, such as ``zip=category`` or ``day=datetime:%d.%m.%Y``.

    Raises:
        argparse.ArgumentTypeError: if it is no such pair.
    """
    column, equals, name = text.rpartition("=")
    before, with_format, pattern = text.partition("=datetime:")
    if with_format and "%" in pattern:
        return before, f"datetime:{pattern}"
    if not equals or name not in (*KINDS, *_ALSO_KNOWN):
        known = ", ".join((*KINDS, "datetime:FORMAT"))
        raise argparse.ArgumentTypeError(f"{text!r} is not COLUMN=KIND with one of {known}; several: a=KIND,b=KIND")
    return column, name


def character(text: str) -> str:
    """Read one character; ``tab`` stands for a tab (as does a backslash with a t), ``space`` for a space.

    Raises:
        argparse.ArgumentTypeError: if there are several or none.
    """
    found = {"tab": "\t", "\\t": "\t", "space": " "}.get(text, text)
    if len(found) != 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not one character such as ';' or tab")
    return found


def is_table(text: str) -> bool:
    """Tell if a word is the name of a table's file."""
    return text.lower().endswith((".csv", ".tsv", ".parquet"))


def words(text: str) -> tuple[str, ...]:
    """Read words between commas."""
    return tuple(text.split(","))


def choices(arguments: argparse.Namespace) -> Choices:
    """Collect what was said about the files of a command."""
    from cfdg_diffusion.cli.formats import Choices

    kinds = dict(getattr(arguments, "kinds", ()))
    return Choices(kinds, arguments.separator, arguments.decimal, arguments.thousands, arguments.missing)


def kinds_to_learn(kinds: Mapping[str, str], columns: Iterable[Hashable]) -> dict[Hashable, Kind]:
    """Return the kinds that a model has to be told, by its names of columns: the others were read from the file."""
    learnt: dict[str, Kind] = {"number": "number", "integer": "integer", "category": "category"}
    learnt |= {"timedelta": "timedelta"}
    return {name: learnt[kinds[str(name)]] for name in columns if kinds.get(str(name)) in learnt}


def names(texts: Sequence[str], columns: Sequence[Hashable], option: str) -> list[Hashable]:
    """Find the columns of an option that was given several times or with commas between them, by their text.

    Raises:
        ValueError: if one is not among the columns, or is named twice.
    """
    by_text = {str(column): column for column in columns}
    found: list[str] = []
    for text in texts:
        found += [text] if text in by_text else [part.strip() for part in text.split(",")]
    unknown = [name for name in found if name not in by_text]
    if unknown:
        raise ValueError(f"{option} names column {unknown[0]!r}, expected one of {', '.join(map(repr, by_text))}")
    twice = [name for place, name in enumerate(found) if name in found[:place]]
    if twice:
        raise ValueError(f"{option} names column {twice[0]!r} twice, expected every column once")
    return [by_text[name] for name in found]


def left(table: Path, columns: Sequence[str], dropped: Sequence[str]) -> list[str]:
    """List the columns of a table that are not dropped.

    Raises:
        ValueError: if there is none.
    """
    found = [name for name in columns if name not in dropped]
    if not found:
        raise ValueError(f"--drop leaves no column of {table}, expected at least one")
    return found
