"""What generated rows have to fulfil."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

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
    low: Any = None
    high: Any = None

    @property
    def name(self) -> str:
        """Such as ``0 <= age <= 120``."""
        low = "" if self.low is None else f"{self.low} <= "
        return f"{low}{self.column}" + ("" if self.high is None else f" <= {self.high}")

    @property
    def columns(self) -> tuple[Hashable, ...]:
        """The columns it looks at."""
        return (self.column,)

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """Which rows lie in the range."""
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
    """``low <= high`` between two columns (``<`` where strict); missing values are allowed."""

    low: Hashable
    high: Hashable
    strict: bool = False

    @property
    def name(self) -> str:
        """Such as ``start <= end``."""
        return f"{self.low} {'<' if self.strict else '<='} {self.high}"

    @property
    def columns(self) -> tuple[Hashable, ...]:
        """The columns it looks at."""
        return (self.low, self.high)

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """Which rows are in order."""
        low, high = table[self.low], table[self.high]
        holds = (low.isna() | high.isna()).to_numpy(dtype=bool, copy=True)
        low, high = low[~holds], high[~holds]
        holds[~holds] = np.asarray(low < high if self.strict else low <= high, dtype=bool)
        return holds


@dataclass(frozen=True)
class FixedCombinations:
    """Only combinations of these columns that the given rows have, such as city and country.

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
        object.__setattr__(self, "known", distinct)  # a large table is not to live as long as its constraint

    @property
    def name(self) -> str:
        """Such as ``known (city, country)``."""
        return f"known ({', '.join(map(str, self.columns))})"

    def holds(self, table: pd.DataFrame) -> np.ndarray:
        """Which rows have a known combination."""
        known = pd.MultiIndex.from_frame(self.known)
        return np.asarray(pd.MultiIndex.from_frame(table[list(self.columns)].astype(object)).isin(known))


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


def columns_of(constraint: Constraint) -> tuple[Hashable, ...] | None:
    """The columns that a constraint looks at; None if it does not say."""
    return getattr(constraint, "columns", None)


def check_constraints(table: pd.DataFrame, constraints: Sequence[Constraint]) -> None:
    """Refuse constraints that cannot be tested on such a table.

    Raises:
        ValueError: if one names an unknown column, or cannot be compared; the message names the constraint.
    """
    for constraint in constraints:
        absent = [name for name in columns_of(constraint) or () if name not in table.columns]
        if absent:
            raise ValueError(f"constraint {constraint.name!r} names column {absent[0]!r}, which the table has not")
    broken(table, constraints)


def broken(
    table: pd.DataFrame, constraints: Sequence[Constraint], counted: Sequence[np.ndarray] | None = None
) -> tuple[np.ndarray, dict[str, int]]:
    """Which rows ``(N,)`` break some constraint, and how many break each.

    Args:
        table: N rows.
        constraints: to test.
        counted: for each constraint the rows ``(N,)`` for which it counts; None stands for all.

    Raises:
        ValueError: if a constraint cannot be tested; the message names it.
    """
    bad, counts = np.zeros(len(table), dtype=bool), {constraint.name: 0 for constraint in constraints}
    for index, constraint in enumerate(constraints):
        try:
            breaks = ~np.asarray(constraint.holds(table), dtype=bool)
        except (TypeError, KeyError) as error:
            raise ValueError(f"constraint {constraint.name!r} cannot be tested on this table: {error}") from error
        breaks &= True if counted is None else counted[index]
        counts[constraint.name] += int(breaks.sum())
        bad |= breaks
    return bad, counts


def constraint_state(constraint: Constraint) -> dict[str, Any]:
    """A constraint as JSON; of a predicate or a class of your own, which is code, only the name."""
    if isinstance(constraint, Range):
        bounds = {"low": _state(constraint.low), "high": _state(constraint.high)}
        return {"type": "range", "column": constraint.column, **bounds}
    if isinstance(constraint, Inequality):
        return {"type": "inequality", "low": constraint.low, "high": constraint.high, "strict": constraint.strict}
    if isinstance(constraint, FixedCombinations):
        rows = [[_state(cell) for cell in row] for row in constraint.known.itertuples(index=False, name=None)]
        return {"type": "combinations", "columns": list(constraint.columns), "rows": rows}
    return {"type": "code", "name": constraint.name}


def restore_constraint(state: Mapping[str, Any]) -> Constraint:
    """The inverse of :func:`constraint_state`.

    Raises:
        ValueError: if it was code, or of a type that this version does not know.
    """
    if state["type"] == "range":
        return Range(state["column"], _restore(state["low"]), _restore(state["high"]))
    if state["type"] == "inequality":
        return Inequality(state["low"], state["high"], state["strict"])
    if state["type"] == "combinations":
        rows = [[_restore(cell) for cell in row] for row in state["rows"]]
        return FixedCombinations(tuple(state["columns"]), pd.DataFrame(rows, columns=state["columns"], dtype=object))
    if state["type"] == "code":
        raise ValueError(f"constraint {state['name']!r} is code, which is never stored: give it again")
    raise ValueError(f"constraint has type {state['type']!r}, expected range, inequality, combinations or code")


def _state(value: Any) -> Any:  # noqa: ANN401 - a cell of any kind
    """A bound or a cell as JSON."""
    if isinstance(value, pd.Timestamp | pd.Timedelta | np.datetime64 | np.timedelta64) and not pd.isna(value):
        stamp = pd.Timestamp(value) if isinstance(value, pd.Timestamp | np.datetime64) else pd.Timedelta(value)
        return {type(stamp).__name__: stamp.isoformat(), "zone": str(getattr(stamp, "tz", None) or "")}
    if value is None or pd.isna(value):
        return None
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, str | int | float):
        return value
    raise ValueError(f"constraint holds {value!r} of type {type(value).__name__}, expected text, numbers or dates")


def _restore(state: Any) -> Any:  # noqa: ANN401 - a cell of any kind
    if not isinstance(state, Mapping):
        return state
    if "Timedelta" in state:
        return pd.Timedelta(state["Timedelta"])
    stamp = pd.Timestamp(state["Timestamp"])
    return stamp.tz_convert(state["zone"]) if state["zone"] else stamp
