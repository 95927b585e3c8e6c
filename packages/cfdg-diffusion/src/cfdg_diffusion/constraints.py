"""What generated rows have to fulfil: rows that do not are drawn again, and counted."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import pandas as pd


class Constraint(Protocol):
    """Any object with a name and a test of rows; the classes below, or your own."""

    @property
    def name(self) -> str:
        """For counts and messages."""
        ...

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """Which rows ``(N,)`` fulfil it."""
        ...


@dataclass(frozen=True)
class Range:
    """``low <= column <= high``; None is no bound, missing values are allowed."""

    column: Hashable
    low: object = None
    high: object = None

    @property
    def name(self) -> str:
        """Such as ``0 <= age <= 120``."""
        low = "" if self.low is None else f"{self.low} <= "
        return f"{low}{self.column}" + ("" if self.high is None else f" <= {self.high}")

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """Which rows lie in the range."""
        values = table[self.column]
        low = True if self.low is None else values >= self.low
        high = True if self.high is None else values <= self.high
        return np.asarray((low & high) | values.isna(), dtype=bool)


@dataclass(frozen=True)
class Inequality:
    """``low <= high`` between two columns (``<`` where strict); missing values are allowed."""

    low: Hashable
    high: Hashable
    strict: bool = False

    @property
    def name(self) -> str:
        """Such as ``start <= end``."""
        return f"{self.low} {'<' if self.strict else '<='} {self.high}"

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """Which rows are in order."""
        low, high = table[self.low], table[self.high]
        ordered = low < high if self.strict else low <= high
        return np.asarray(ordered.fillna(False) | low.isna() | high.isna(), dtype=bool)


@dataclass(frozen=True)
class FixedCombinations:
    """Only combinations of these columns that the given rows have, such as city and country."""

    columns: tuple[Hashable, ...]
    known: pd.DataFrame

    @property
    def name(self) -> str:
        """Such as ``known (city, country)``."""
        return f"known ({', '.join(map(str, self.columns))})"

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """Which rows have a known combination."""
        names = list(self.columns)
        known = pd.MultiIndex.from_frame(self.known[names].astype(object).drop_duplicates())
        return np.asarray(pd.MultiIndex.from_frame(table[names].astype(object)).isin(known))


@dataclass(frozen=True)
class Predicate:
    """Any function from a table to booleans, one per row."""

    name: str
    function: Callable[[pd.DataFrame], object]

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """What the function says.

        Raises:
            ValueError: if it does not give one boolean per row.
        """
        found = np.asarray(self.function(table))
        if found.shape != (len(table),) or found.dtype != bool:
            raise ValueError(
                f"constraint {self.name!r} gave {found.dtype} of shape {found.shape}, expected one boolean per row"
            )
        return found


def broken(table: pd.DataFrame, constraints: Sequence[Constraint]) -> tuple[np.ndarray, dict[str, int]]:
    """Which rows ``(N,)`` break some constraint, and how many break each."""
    bad, counts = np.zeros(len(table), dtype=bool), {}
    for constraint in constraints:
        holds = constraint.holds(table)
        counts[constraint.name] = int((~holds).sum())
        bad |= ~holds
    return bad, counts
