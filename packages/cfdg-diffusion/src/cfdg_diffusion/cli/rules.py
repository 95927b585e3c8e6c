"""Constraints of the command line, such as ``age: 17..90``."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.cli.csv_cells import ColumnReading
from cfdg_diffusion.cli.formats import CsvFormat, TableFormat
from cfdg_diffusion.cli.options import RULES, names
from cfdg_diffusion.cli.values import value_of
from cfdg_diffusion.tabular.constraints import Constraint, FixedCombinations, Inequality, Range

_PLAIN = TableFormat()
_SIGNS = ("<=", ">=", "<", ">")


def parse(text: str, table: pd.DataFrame, form: TableFormat = _PLAIN) -> Constraint:
    """Read a constraint of a training table: ``age: 17..90``, ``start <= end`` or ``fixed: city, region``.

    Bounds are written as the cells of the table's file, or with a point and as ISO dates where these are none.

    Args:
        text: the constraint.
        table: the training table.
        form: of its file.

    Raises:
        ValueError: if the text is none of these, or names what the table does not have.
    """
    by_text: dict[str, Hashable] = {str(name): name for name in table.columns}
    named = max((name for name in by_text if text.startswith(f"{name}:")), key=len, default=None)
    if named is not None and ".." in text[len(named) :]:
        column = by_text[named]
        return _range(text, column, text[len(named) + 1 :], _bound_readings(table[column].dtype, form, column))
    if text.startswith("fixed:"):
        chosen = names([text.removeprefix("fixed:").strip()], list(table.columns), f"--constraint {text!r}")
        return FixedCombinations(tuple(chosen), table[chosen].drop_duplicates())
    for sign in _SIGNS:
        left, found, right = (part.strip() for part in text.partition(sign))
        if found:
            return _inequality(text, left, right, sign, by_text)
    raise ValueError(f"--constraint is {text!r}, expected {RULES}, with columns of the table")


def training_ranges(texts: Sequence[str], table: pd.DataFrame) -> list[Constraint]:
    """Return the range of training of columns of numbers, dates and durations.

    Args:
        texts: names of columns, perhaps with commas between them; empty text stands for all such columns.
        table: the training table.

    Raises:
        ValueError: if a column is none of the table, or has no order.
    """
    ordered = [name for name, dtype in table.dtypes.items() if dtype.kind in "iufmM" and table[name].notna().any()]
    named = names([text for text in texts if text], list(table.columns), "--keep-range")
    odd = [name for name in named if name not in ordered]
    if odd:
        raise ValueError(
            f"--keep-range names column {str(odd[0])!r}, which holds {table[odd[0]].dtype} without a range"
        )
    chosen = ordered if "" in texts else named
    return [Range(name, table[name].min(), table[name].max()) for name in chosen]


def _bound_readings(dtype: Any, form: TableFormat, column: Hashable) -> list[ColumnReading]:  # noqa: ANN401
    """Choose how to read a bound: as the cells of the file, else plainly."""
    layout = CsvFormat() if form.csv is None else form.csv
    return [ColumnReading(_wide(dtype), layout, form.column(column)), ColumnReading(_wide(dtype))]


def _range(text: str, column: Hashable, bounds: str, readings: Sequence[ColumnReading]) -> Range:
    low, high = (part.strip() for part in bounds.split("..", 1))
    if not low and not high:
        raise ValueError(f"--constraint {text!r} has no bound, expected {column}: LOW..HIGH, {column}: LOW.. or ..HIGH")
    found: list[Any] = [_bound(bound, column, readings) if bound else None for bound in (low, high)]
    if low and high and found[0] > found[1]:
        raise ValueError(f"--constraint {text!r} has its bounds in the wrong order, expected LOW..HIGH")
    return Range(column, *found)


def _bound(text: str, column: Hashable, readings: Sequence[ColumnReading]) -> object:
    """Read a bound in the first way that can."""
    *first, last = readings
    for reading in first:
        with suppress(ValueError):
            return _whole(value_of(text, column, reading))
    return _whole(value_of(text, column, last))


def _wide(dtype: Any) -> Any:  # noqa: ANN401 - numpy's or pandas' own dtypes
    """Return float64 for integers: a bound may lie between two of them."""
    return np.dtype("float64") if dtype.kind in "iu" else dtype


def _whole(value: object) -> object:
    """Return 17 for 17.0, as it was typed."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _inequality(text: str, left: str, right: str, sign: str, by_text: Mapping[str, Hashable]) -> Inequality:
    for name in (left, right):
        if name not in by_text:
            raise ValueError(
                f"--constraint {text!r} compares {name!r}, which is no column; the bound of one is 'column: LOW..HIGH'"
            )
    low, high = (left, right) if sign[0] == "<" else (right, left)
    return Inequality(by_text[low], by_text[high], strict=len(sign) == 1)
