"""Constraints: conditions that every generated row has to meet."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.checks import shown


class Constraint(Protocol):
    """A condition on rows: one of the classes below, or any object with a name and a test.

    A class of your own may have an attribute ``columns``, the names of the columns that it reads. It is then enforced
    only where one of them is generated.
    """

    @property
    def name(self) -> str:
        """Name of the constraint in counts and messages."""
        ...

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """Test a table of N rows; bool ``(N,)``, True where the condition is met."""
        ...


@dataclass(frozen=True)
class Range:
    """``low <= column <= high``, for numbers, dates or text; missing values are allowed.

    Text and whole numbers are compared as dates where ``fit(kinds=)`` says that they are; other text is ordered as in a
    dictionary.

    Attributes:
        column: name of the column.
        low: smallest allowed value, a date as a timestamp or as the column writes it; None sets no bound.
        high: largest allowed value; None sets no bound.

    Raises:
        ValueError: if a bound is not one value.
    """

    column: Hashable
    low: Any = None
    high: Any = None

    def __post_init__(self) -> None:
        for bound in (self.low, self.high):
            if not pd.api.types.is_scalar(bound):
                raise ValueError(f"Range has the bound {shown(bound)}, expected a number, a date, text or None")

    @property
    def name(self) -> str:
        """The condition as text, for example ``0 <= age <= 120``."""
        low = "" if self.low is None else f"{self.low} <= "
        return f"{low}{self.column}" + ("" if self.high is None else f" <= {self.high}")

    @property
    def columns(self) -> tuple[Hashable, ...]:
        """Names of the columns that the constraint reads."""
        return (self.column,)

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """Test which rows ``(N,)`` lie in the range or miss the value."""
        values = table[self.column]
        holds = values.isna().to_numpy(dtype=bool, copy=True)
        there = values[~holds]
        inside = np.ones(len(there), dtype=bool)
        for bound, compare in ((self.low, "ge"), (self.high, "le")):
            if bound is not None:
                inside &= getattr(there, compare)(bound).to_numpy(dtype=bool)
        holds[~holds] = inside
        return holds


@dataclass(frozen=True)
class Inequality:
    """``low <= high`` between two columns; missing values are allowed.

    Text and whole numbers are compared as dates where ``fit(kinds=)`` says that they are; other text is ordered as in a
    dictionary.

    Attributes:
        low: name of the column with the smaller values.
        high: name of the column with the larger values.
        strict: forbids equal values.
    """

    low: Hashable
    high: Hashable
    strict: bool = False

    @property
    def name(self) -> str:
        """The condition as text, for example ``start <= end``."""
        return f"{self.low} {'<' if self.strict else '<='} {self.high}"

    @property
    def columns(self) -> tuple[Hashable, ...]:
        """Names of the columns that the constraint reads."""
        return (self.low, self.high)

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """Test which rows ``(N,)`` are in order or miss a value."""
        low = table[self.low]
        high = table[self.high]
        holds = (low.isna() | high.isna()).to_numpy(dtype=bool, copy=True)
        low = low[~holds]
        high = high[~holds]
        holds[~holds] = np.asarray(low < high if self.strict else low <= high, dtype=bool)
        return holds


@dataclass(frozen=True)
class FixedCombinations:
    """Only those combinations of some columns that known rows have, for example of city and country.

    Attributes:
        columns: names of the columns, at least one.
        known: rows with these columns; only their distinct combinations are kept.

    Raises:
        ValueError: if the rows lack one of the columns.
    """

    columns: tuple[Hashable, ...]
    known: pd.DataFrame

    def __post_init__(self) -> None:
        names = list(self.columns)
        absent = [name for name in names if name not in self.known.columns]
        if absent or not names:
            raise ValueError(f"the known rows have no column {(absent or [None])[0]!r}, expected one of theirs")
        distinct = self.known[names].astype(object).drop_duplicates(ignore_index=True)
        object.__setattr__(self, "columns", tuple(names))
        object.__setattr__(self, "known", distinct)  # the distinct rows alone, so that a large table can be freed

    @property
    def name(self) -> str:
        """The condition as text, for example ``known (city, country)``."""
        return f"known ({', '.join(map(str, self.columns))})"

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """Test which rows ``(N,)`` have a known combination."""
        known = pd.MultiIndex.from_frame(self.known)
        return np.asarray(pd.MultiIndex.from_frame(table[list(self.columns)].astype(object)).isin(known))


@dataclass(frozen=True)
class Predicate:
    """A condition given by a function.

    Attributes:
        name: for counts and messages.
        function: takes a table of N rows and returns bool ``(N,)``. It is code and is never stored with a model.
    """

    name: str
    function: Callable[[pd.DataFrame], object]

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """Call the function on a table of N rows; bool ``(N,)``.

        Raises:
            ValueError: if the function does not return one boolean per row.
        """
        found = np.asarray(self.function(table))
        if found.shape != (len(table),) or found.dtype != bool:
            raise ValueError(
                f"constraint {self.name!r} gave {found.dtype} of shape {found.shape}, expected one boolean per row"
            )
        return found


def columns_of(constraint: Constraint) -> tuple[Hashable, ...] | None:
    """Return the names of the columns that a constraint reads; None if it does not name them."""
    return getattr(constraint, "columns", None)


def check_constraints(table: pd.DataFrame, constraints: Sequence[Constraint]) -> None:
    """Refuse constraints that cannot be tested on a table.

    Raises:
        ValueError: if a constraint names an unknown column or compares unlike values; the message names it.
    """
    for constraint in constraints:
        if not isinstance(getattr(constraint, "name", None), str) or not callable(getattr(constraint, "holds", None)):
            raise ValueError(
                f"constraint is {shown(constraint)}, expected a name and a test: Range, Inequality or the like"
            )
        absent = [name for name in columns_of(constraint) or () if name not in table.columns]
        if absent:
            raise ValueError(
                f"constraint {constraint.name!r} names column {absent[0]!r}, which is not in the table, "
                "expected one of its columns"
            )
    broken(table, constraints)


def broken(
    table: pd.DataFrame, constraints: Sequence[Constraint], enforced: Sequence[np.ndarray] | None = None
) -> tuple[np.ndarray, dict[str, int]]:
    """Find the rows that break a constraint.

    Args:
        table: N rows.
        constraints: to test.
        enforced: for each constraint bool ``(N,)``, the rows where it is enforced; None stands for all rows.

    Returns:
        Bool ``(N,)``, True where some constraint is broken, and by constraint name the number of rows that break it.

    Raises:
        ValueError: if a constraint cannot be tested; the message names it.
    """
    bad = np.zeros(len(table), dtype=bool)
    counts = {constraint.name: 0 for constraint in constraints}
    for index, constraint in enumerate(constraints):
        try:
            breaks = ~np.asarray(constraint.holds(table), dtype=bool)
        except (TypeError, KeyError, NotImplementedError) as error:  # the last one is Arrow's for unlike values
            raise ValueError(f"constraint {constraint.name!r} cannot be tested on this table: {error}") from error
        breaks &= True if enforced is None else enforced[index]
        counts[constraint.name] += int(breaks.sum())
        bad |= breaks
    return bad, counts


def enforced_on_generated(constraints: Sequence[Constraint], kept: Iterable[Hashable], count: int) -> list[np.ndarray]:
    """Enforce in every row the constraints that read a generated column; no draw can change a kept one.

    Args:
        constraints: to enforce.
        kept: names of the columns whose cells are given.
        count: number of rows n.

    Returns:
        For each constraint bool ``(n,)``.
    """
    given = set(kept)
    read = [columns_of(constraint) for constraint in constraints]
    return [np.full(count, names is None or not set(names) <= given) for names in read]


def enforced_in_holes(
    constraints: Sequence[Constraint], columns: Sequence[Hashable], holes: np.ndarray
) -> list[np.ndarray]:
    """Enforce each constraint in the rows where a cell that it reads is generated.

    Args:
        constraints: to enforce.
        columns: names of the C columns that are filled.
        holes: ``(n, C)`` bool, True where a cell is generated.

    Returns:
        For each constraint bool ``(n,)``.
    """
    read = [columns_of(constraint) for constraint in constraints]
    looked = [np.array([names is None or name in names for name in columns], dtype=bool) for names in read]
    return [np.asarray(holes[:, own].any(axis=1)) for own in looked]
