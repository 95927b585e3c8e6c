"""Constraints of the command line, such as ``age: 17..90``."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.cli.options import RULES, names
from cfdg_diffusion.cli.values import value_of
from cfdg_diffusion.tabular.constraints import Constraint, FixedCombinations, Inequality, Range

_SIGNS = ("<=", ">=", "<", ">")


def parse(text: str, table: pd.DataFrame) -> Constraint:
    """Read a constraint of a training table: ``age: 17..90``, ``start <= end`` or ``fixed: city, region``.

    Raises:
        ValueError: if the text is none of these, or names what the table does not have.
    """
    columns = [str(name) for name in table.columns]
    named = max((name for name in columns if text.startswith(f"{name}:")), key=len, default=None)
    if named is not None and ".." in text[len(named) :]:
        return _range(text, named, text[len(named) + 1 :], table)
    if text.startswith("fixed:"):
        chosen = names([text.removeprefix("fixed:").strip()], columns, f"--constraint {text!r}")
        return FixedCombinations(tuple(chosen), table[chosen].drop_duplicates())
    for sign in _SIGNS:
        left, found, right = (part.strip() for part in text.partition(sign))
        if found:
            return _inequality(text, left, right, sign, columns)
    raise ValueError(f"--constraint is {text!r}, expected {RULES}, with columns of the table")


def _range(text: str, column: str, bounds: str, table: pd.DataFrame) -> Range:
    low, high = (part.strip() for part in bounds.split("..", 1))
    if not low and not high:
        raise ValueError(f"--constraint {text!r} has no bound, expected {column}: LOW..HIGH, {column}: LOW.. or ..HIGH")
    dtype = _wide(table[column].dtype)
    found: list[Any] = [_whole(value_of(bound, column, dtype)) if bound else None for bound in (low, high)]
    if low and high and found[0] > found[1]:
        raise ValueError(f"--constraint {text!r} has its bounds in the wrong order, expected LOW..HIGH")
    return Range(column, *found)


def _wide(dtype: Any) -> Any:  # noqa: ANN401 - numpy's or pandas' own dtypes
    """Return float64 for integers: a bound may lie between two of them."""
    return np.dtype("float64") if dtype.kind in "iu" else dtype


def _whole(value: object) -> object:
    """Return 17 for 17.0, as it was typed."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _inequality(text: str, left: str, right: str, sign: str, columns: Sequence[str]) -> Inequality:
    for name in (left, right):
        if name not in columns:
            raise ValueError(
                f"--constraint {text!r} compares {name!r}, which is no column; the bound of one is 'column: LOW..HIGH'"
            )
    low, high = (left, right) if sign[0] == "<" else (right, left)
    return Inequality(low, high, strict=len(sign) == 1)
