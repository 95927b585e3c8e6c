"""Constraints on columns of texts or whole numbers that are dates: they compare the dates, not what is written."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.columns.column import Column
from cfdg_diffusion.tabular.constraints import Constraint, Inequality, Range


@dataclass(frozen=True)
class OnDates:
    """An order of dates, tested on a table in which some of them are texts or whole numbers.

    Attributes:
        rule: compares datetime64 with datetime64, or with bounds that are timestamps.
        name: of the constraint as the user gave it, for counts and messages.
        written: codecs of the columns whose dates are texts or whole numbers, by their names.
    """

    rule: Range | Inequality
    name: str
    written: Mapping[Hashable, Column]

    @property
    def columns(self) -> tuple[Hashable, ...]:
        """Names of the columns that the constraint reads."""
        return self.rule.columns

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """Test which rows ``(N,)`` are in order or miss a value.

        Raises:
            ValueError: if a cell is not written as in training.
        """
        return self.rule.holds(pd.DataFrame({name: self._compared(table[name]) for name in self.columns}))

    def _compared(self, series: pd.Series) -> pd.Series:
        column = self.written.get(series.name)
        return series if column is None else _dates(self.name, column, series)


def on_dates(constraints: Iterable[Constraint], columns: Sequence[Column]) -> list[Constraint]:
    """Let each range and each inequality see the dates of learnt columns whose dates are texts or whole numbers.

    Combinations and code of the user's own see what is written, as they know it.

    Args:
        constraints: as the user gave them; bounds are written as the dates of the column, or are timestamps.
        columns: learnt columns.

    Raises:
        ValueError: if a bound is not written as the dates of its column; the message names the constraint.
    """
    written = {column.name: column for column in columns if column.writes_dates}
    return [_on_dates(constraint, written) for constraint in constraints]


def _on_dates(constraint: Constraint, written: Mapping[Hashable, Column]) -> Constraint:
    if not isinstance(constraint, Range | Inequality):
        return constraint
    own = {name: written[name] for name in constraint.columns if name in written}
    if not own:
        return constraint
    if isinstance(constraint, Inequality):
        return OnDates(constraint, constraint.name, own)
    low, high = (_bound(constraint, bound, own[constraint.column]) for bound in (constraint.low, constraint.high))
    return OnDates(replace(constraint, low=low, high=high), constraint.name, own)


def _bound(constraint: Range, bound: Any, column: Column) -> Any:  # noqa: ANN401 - a date of any type
    if bound is None or isinstance(bound, datetime | np.datetime64):
        return bound
    return _dates(constraint.name, column, pd.Series([bound])).iloc[0]


def _dates(name: str, column: Column, series: pd.Series) -> pd.Series:
    try:
        return column.converted(series)
    except ValueError as error:
        raise ValueError(f"constraint {name!r} {error}") from error
