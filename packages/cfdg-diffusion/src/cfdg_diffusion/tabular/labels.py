"""Label columns of a table <-> the integer labels of a conditional model."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.checks import repeated, shown
from cfdg_diffusion.tabular.columns import Kind, TableCodec
from cfdg_diffusion.tabular.columns.plain import plain

_BINS = 10
"""Bins of a number of many values; the model is conditioned on its decile."""
_MOST_VALUES = 30
"""Distinct values; a number with more of them is binned."""


@dataclass(frozen=True)
class LabelCodec:
    """Label columns as integers: one label for each combination of values in the training rows.

    A numeric label of more than 30 values is binned at its deciles, unless it is said to be a category. It stays a
    generated column, and its label is the number of its bin, or a last label for missing values. In other label columns
    a missing value is a value like any other.

    Attributes:
        columns: names of the label columns.
        codec: of the columns whose combinations are the labels; None without label columns or with a binned one.
        keys: ``(L, W)`` encoded combinations in ascending order; empty for a binned label.
        edges: ``(B - 1,)`` inner edges of B bins, ascending; empty unless binned. There are B labels, or B + 1 if the
            training rows had missing values.
        counts: ``(L,)`` training rows of each label.
        span: smallest and largest training value of a binned label; None without one, and in older files.
    """

    columns: tuple[Hashable, ...]
    codec: TableCodec | None
    keys: np.ndarray
    edges: np.ndarray
    counts: np.ndarray
    span: tuple[float, float] | None = None

    @classmethod
    def learn(
        cls, table: pd.DataFrame, columns: Sequence[Hashable], kinds: Mapping[Hashable, Kind | str] | None = None
    ) -> LabelCodec:
        """Learn the labels of training rows.

        Args:
            table: training rows.
            columns: names of the label columns.
            kinds: kinds of some columns; a number that is a "category" is not binned. Others change no label.

        Raises:
            ValueError: if a column is absent, comes twice, holds dates or infinite numbers, or does not fit its kind.
        """
        absent = [name for name in columns if name not in table.columns]
        if absent:
            raise ValueError(f"label names column {absent[0]!r}, expected one of the table's columns")
        if repeated(columns):
            raise ValueError(f"label is {list(columns)}, expected every column once")
        dates = [name for name in columns if table[name].dtype.kind in "mM"]
        if dates:
            raise ValueError(f"label column {dates[0]!r} holds dates or durations, expected numbers or categories")
        no_edges = np.empty(0)
        no_keys = np.empty((0, 0), np.float32)
        if not columns:
            return cls((), None, no_keys, no_edges, np.array([len(table)]))
        own = [_plain(name, table[name]) for name in columns]
        kind_of = {name: kind for name, kind in (kinds or {}).items() if name in columns}
        if len(columns) == 1 and _is_many(own[0]) and kind_of.get(columns[0]) != "category":
            series = own[0]
            values = _numbers(columns[0], series[series.notna()])
            edges = _edges(values)
            counts = np.bincount(_bins(columns[0], series, edges), minlength=len(edges) + 1)
            span = (float(values.min()), float(values.max()))
            return cls(tuple(columns), None, no_keys, edges, counts, span=span)
        part = table[list(columns)]
        _check_kinds(part, kind_of)
        codec = TableCodec.learn(part, {series.name: "category" for series in own if series.dtype.kind in "iuf"})
        keys, inverse = _distinct(_encode(codec, part))
        return cls(tuple(columns), codec, keys, no_edges, np.bincount(inverse))

    @property
    def is_binned(self) -> bool:
        """True if the label is a binned number, whose column is generated too."""
        return len(self.edges) > 0

    @property
    def may_miss(self) -> tuple[Hashable, ...]:
        """Names of the label columns in which training rows had missing values."""
        if self.codec is None:
            return self.columns if len(self.counts) > len(self.edges) + 1 else ()
        return tuple(column.name for column in self.codec.columns if column.missing_share > 0)

    def __len__(self) -> int:
        """Count the labels, L; 1 without label columns."""
        return len(self.counts)

    def encode(self, table: pd.DataFrame) -> np.ndarray:
        """Encode the label columns of N rows as labels ``(N,)`` int64.

        Raises:
            ValueError: if a label column is absent, or a value or a combination was not in training.
        """
        if not self.columns:
            return np.zeros(len(table), dtype=np.int64)
        absent = [name for name in self.columns if name not in table.columns]
        if absent:
            raise ValueError(f"the table has no column {absent[0]!r}, expected it as in training")
        if self.codec is None:
            return self._bins(table[self.columns[0]])
        asked, inverse = _distinct(_encode(self.codec, table[list(self.columns)]))
        places = {key.tobytes(): place for place, key in enumerate(self.keys)}
        found = np.array([places.get(key.tobytes(), -1) for key in asked], dtype=np.int64)[inverse]
        if (found < 0).any():
            row = int(np.argmax(found < 0))
            text = ", ".join(f"{name} = {shown(table[name].iloc[row])}" for name in self.columns)
            raise ValueError(f"no training row has {text}, expected a combination of the training table")
        return found

    def renewed(self, table: pd.DataFrame) -> LabelCodec:
        """Count the labels of new rows, and widen the span by theirs.

        Raises:
            ValueError: if a label column is absent, or a value or a combination was not in training.
        """
        counts = np.bincount(self.encode(table), minlength=len(self))
        if self.span is None:
            return replace(self, counts=counts)
        series = _plain(self.columns[0], table[self.columns[0]])
        values = np.append(_numbers(self.columns[0], series[series.notna()]), self.span)
        return replace(self, counts=counts, span=(float(values.min()), float(values.max())))

    def _bins(self, series: pd.Series) -> np.ndarray:
        found = _bins(self.columns[0], series, self.edges)
        if (found >= len(self)).any():
            raise ValueError(f"label column {self.columns[0]!r} holds nan, expected finite numbers as in training")
        return found

    def find(self, value: object) -> np.ndarray:
        """Find the labels that agree with a value, or with a dictionary of values of some label columns.

        Returns:
            At least one label, ascending.

        Raises:
            ValueError: if there are no label columns, or no training row has the value.
        """
        wanted = self._wanted(value)
        if self.codec is None:
            asked = pd.DataFrame(wanted, index=pd.RangeIndex(1))
            self.check_span(asked)
            return self.encode(asked)
        all_labels = self.decode(np.arange(len(self)))
        fits = np.ones(len(self), dtype=bool)
        for name, one in wanted.items():
            fits &= np.array([_same(other, one) for other in all_labels[name]])
        if not fits.any():
            known = ", ".join(map(shown, all_labels[next(iter(wanted))].unique()[:10]))
            raise ValueError(f"no training row has label {shown(value)}, expected one of {known}")
        return np.flatnonzero(fits)

    def check_span(self, asked: pd.DataFrame) -> None:
        """Refuse a binned label below or above all training rows, of which the model knows nothing.

        Raises:
            ValueError: with the first such value.
        """
        if self.span is None:
            return
        series = _plain(self.columns[0], asked[self.columns[0]])
        values = _numbers(self.columns[0], series[series.notna()])
        outside = values[(values < self.span[0]) | (values > self.span[1])]
        if len(outside):
            low, high = self.span
            raise ValueError(
                f"label {self.columns[0]!r} is {outside[0]:.15g}, expected {low:.15g} to {high:.15g} as in training"
            )

    def _wanted(self, value: object) -> dict[Hashable, object]:
        if not self.columns:
            raise ValueError("the model was fitted without label, expected fit(table, label=...) before asking for one")
        if not isinstance(value, Mapping) and len(self.columns) > 1:
            raise ValueError(f"label is {shown(value)}, expected a dictionary of {', '.join(map(repr, self.columns))}")
        wanted = dict(value) if isinstance(value, Mapping) else {self.columns[0]: value}
        foreign = [name for name in wanted if name not in self.columns]
        if foreign or not wanted:
            name = shown((foreign or [None])[0])
            raise ValueError(f"{name} is no label column, expected {', '.join(map(repr, self.columns))}")
        several = [own for own in wanted.values() if not pd.api.types.is_scalar(own)]
        if several:
            raise ValueError(f"label is {shown(several[0])}, expected a single value; labels= takes one for each row")
        return wanted

    def only(self, value: object) -> object:
        """Return the value asked for of the only label column, out of a dictionary if need be."""
        return next(iter(self._wanted(value).values()))

    def decode(self, labels: np.ndarray) -> pd.DataFrame:
        """Decode labels ``(N,)`` to the label columns; a table without columns if binned."""
        if self.codec is None:
            return pd.DataFrame(index=pd.RangeIndex(len(labels)))
        return self.codec.decode(self.keys[labels])

    def state(self) -> dict[str, Any]:
        """Return a tree of arrays and JSON, as :meth:`restore` takes it."""
        codec = None if self.codec is None else self.codec.state()
        arrays = {"keys": self.keys, "edges": self.edges, "counts": self.counts}
        span = {} if self.span is None else {"span": list(self.span)}
        return {"columns": list(self.columns), "codec": codec, **arrays, **span}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> LabelCodec:
        """Rebuild what :meth:`state` was taken of."""
        codec = None if state["codec"] is None else TableCodec.restore(state["codec"])
        span = tuple(state["span"]) if "span" in state else None
        return cls(tuple(state["columns"]), codec, state["keys"], state["edges"], state["counts"], span=span)


def _check_kinds(table: pd.DataFrame, kinds: Mapping[Hashable, Kind | str]) -> None:
    """Refuse a kind that a label column cannot be read as, though its values are labels whatever their kind."""
    if kinds:
        TableCodec.learn(table[list(kinds)], kinds)


def _is_many(series: pd.Series) -> bool:
    return series.dtype.kind in "iuf" and series.nunique() > _MOST_VALUES


def _plain(name: Hashable, series: pd.Series) -> pd.Series:
    try:
        return pd.Series(plain(series), name=name)
    except ValueError as error:
        raise ValueError(f"label column {name!r} {error}") from error


def _numbers(name: Hashable, series: pd.Series) -> np.ndarray:
    """Convert a binned label column to finite float64 ``(N,)``."""
    try:
        values = pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    except OverflowError as error:  # a whole number of Python of more than 308 digits
        raise ValueError(f"label column {name!r} holds an integer that no float64 holds, expected less") from error
    if not np.isfinite(values).all():
        found = series[~np.isfinite(values)].iloc[0]
        raise ValueError(f"label column {name!r} holds {found}, expected finite numbers to condition on")
    return values


def _bins(name: Hashable, series: pd.Series, edges: np.ndarray) -> np.ndarray:
    """Find the bin ``(N,)`` of each number; ``len(edges) + 1`` where it is missing."""
    series = _plain(name, series)
    there = series.notna().to_numpy()
    found = np.full(len(series), len(edges) + 1, dtype=np.int64)
    found[there] = np.searchsorted(edges, _numbers(name, series[there]), "right")
    return found


def _edges(values: np.ndarray) -> np.ndarray:
    """Cut the values at their deciles, fewer where many are equal; every bin has rows."""
    edges = np.unique(np.quantile(values, np.arange(1, _BINS) / _BINS, method="inverted_cdf"))
    above = values[values > values.min()]
    edges = edges[edges > values.min()]
    return edges if len(edges) else np.array([above.min()])


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401 - scalars of any kind
    if pd.isna(one) or pd.isna(other):
        return bool(pd.isna(one) and pd.isna(other))
    return bool(one == other)


def _encode(codec: TableCodec, table: pd.DataFrame) -> np.ndarray:
    """Encode categories as codes ``(N, W)``, which takes no randomness."""
    return codec.encode(table, np.random.default_rng(0))


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the distinct rows ``(L, W)`` and the position ``(N,)`` of each row among them."""
    if rows.shape[1] == 0:
        return rows[:1], np.zeros(len(rows), dtype=np.int64)
    keys, inverse = np.unique(rows, axis=0, return_inverse=True)
    return keys, inverse.reshape(-1)
