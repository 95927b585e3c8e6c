"""Label columns of a table <-> the integer labels of a conditional model."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.columns import TableCodec

_BINS = 10
"""A number of many values is told to the model as its tenth."""
_MOST_VALUES = 30
"""A number of more distinct values is binned."""


@dataclass(frozen=True)
class LabelCodec:
    """Label columns as integers: one for each combination of values that training rows have.

    A numeric label of many values is binned at its quantiles; it then stays a column that the model generates, and its
    label says in which tenth it lies, or that it is missing. Other missing values are values like any other.

    Attributes:
        columns: names of the label columns.
        codec: of the columns whose combinations are the labels; None if there are none or one that is binned.
        keys: ``(L, W)`` encoded combinations in ascending order; empty for a binned label.
        edges: inner edges of the bins, which are one more, before a last label for what is missing if training rows
            had that; empty unless binned.
        counts: ``(L,)`` training rows of each label.
    """

    columns: tuple[Hashable, ...]
    codec: TableCodec | None
    keys: np.ndarray
    edges: np.ndarray
    counts: np.ndarray

    @classmethod
    def learn(cls, table: pd.DataFrame, columns: Sequence[Hashable]) -> LabelCodec:
        """Learn the labels of training rows.

        Raises:
            ValueError: if a column is missing or comes twice, or holds dates, or infinite numbers.
        """
        absent = [name for name in columns if name not in table.columns]
        if absent:
            raise ValueError(f"label names column {absent[0]!r}, expected one of the table's columns")
        if len(set(columns)) < len(columns):
            raise ValueError(f"label is {list(columns)}, expected every column once")
        dates = [name for name in columns if table[name].dtype.kind in "mM"]
        if dates:
            raise ValueError(f"label column {dates[0]!r} holds dates or durations, expected numbers or categories")
        empty, none = np.empty(0), np.empty((0, 0), np.float32)
        if not columns:
            return cls((), None, none, empty, np.array([len(table)]))
        if len(columns) == 1 and _is_many(table[columns[0]]):
            series = table[columns[0]]
            edges = _edges(_numbers(columns[0], series[series.notna()]))
            counts = np.bincount(_bins(columns[0], series, edges), minlength=len(edges) + 1)
            return cls(tuple(columns), None, none, edges, counts)
        part = table[list(columns)]
        codec = TableCodec.learn(part, {name: "category" for name in columns if part[name].dtype.kind in "iuf"})
        keys, inverse = _distinct(_encode(codec, part))
        return cls(tuple(columns), codec, keys, empty, np.bincount(inverse))

    @property
    def is_binned(self) -> bool:
        """Whether the label column is generated too."""
        return len(self.edges) > 0

    @property
    def may_miss(self) -> tuple[Hashable, ...]:
        """Label columns whose missing value is a value like any other, as training rows had it."""
        if self.codec is None:
            return self.columns if len(self.counts) > len(self.edges) + 1 else ()
        return tuple(column.name for column in self.codec.columns if column.missing_share > 0)

    def __len__(self) -> int:
        """L, number of labels; 1 without label columns."""
        return len(self.counts)

    def encode(self, table: pd.DataFrame) -> np.ndarray:
        """Labels ``(N,)`` of rows that have the label columns.

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
            text = ", ".join(f"{name} = {table[name].iloc[row]!r}" for name in self.columns)
            raise ValueError(f"no training row has {text}, expected a combination of the training table")
        return found

    def _bins(self, series: pd.Series) -> np.ndarray:
        found = _bins(self.columns[0], series, self.edges)
        if (found >= len(self)).any():
            raise ValueError(f"label column {self.columns[0]!r} holds nan, expected finite numbers as in training")
        return found

    def find(self, value: object) -> np.ndarray:
        """Labels that go with a value, or with a dictionary of values of some label columns.

        Raises:
            ValueError: if there are no label columns, or no training row has the value.
        """
        wanted = self._wanted(value)
        if self.codec is None:
            return self.encode(pd.DataFrame(wanted, index=pd.RangeIndex(1)))
        all_labels = self.decode(np.arange(len(self)))
        fits = np.ones(len(self), dtype=bool)
        for name, one in wanted.items():
            fits &= np.array([_same(other, one) for other in all_labels[name]])
        if not fits.any():
            known = ", ".join(map(repr, all_labels[next(iter(wanted))].unique()[:10]))
            raise ValueError(f"no training row has label {value!r}, expected one of {known}")
        return np.flatnonzero(fits)

    def _wanted(self, value: object) -> dict[Hashable, object]:
        if not self.columns:
            raise ValueError("the model was fitted without label, expected fit(table, label=...) before asking for one")
        if not isinstance(value, Mapping):
            if len(self.columns) > 1:
                raise ValueError(f"label is {value!r}, expected a dictionary of {', '.join(map(repr, self.columns))}")
            return {self.columns[0]: value}
        foreign = [name for name in value if name not in self.columns]
        if foreign:
            raise ValueError(f"{foreign[0]!r} is no label column, expected {', '.join(map(repr, self.columns))}")
        return dict(value)

    def only(self, value: object) -> object:
        """The value of the only label column."""
        return next(iter(self._wanted(value).values()))

    def decode(self, labels: np.ndarray) -> pd.DataFrame:
        """The label columns of labels ``(N,)``; none if binned."""
        if self.codec is None:
            return pd.DataFrame(index=pd.RangeIndex(len(labels)))
        return self.codec.decode(self.keys[labels])

    def state(self) -> dict[str, Any]:
        """Return a tree of arrays and JSON, as :meth:`restore` takes it."""
        codec = None if self.codec is None else self.codec.state()
        arrays = {"keys": self.keys, "edges": self.edges, "counts": self.counts}
        return {"columns": list(self.columns), "codec": codec, **arrays}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> LabelCodec:
        """Rebuild what :meth:`state` was taken of."""
        codec = None if state["codec"] is None else TableCodec.restore(state["codec"])
        return cls(tuple(state["columns"]), codec, state["keys"], state["edges"], state["counts"])


def _is_many(series: pd.Series) -> bool:
    return series.dtype.kind in "iuf" and series.nunique() > _MOST_VALUES


def _numbers(name: Hashable, series: pd.Series) -> np.ndarray:
    """Finite float64 values of a binned label column."""
    values = pd.to_numeric(series, errors="coerce").to_numpy(dtype=np.float64, na_value=np.nan)
    if not np.isfinite(values).all():
        found = series[~np.isfinite(values)].iloc[0]
        raise ValueError(f"label column {name!r} holds {found}, expected finite numbers to condition on")
    return values


def _bins(name: Hashable, series: pd.Series, edges: np.ndarray) -> np.ndarray:
    """The bin of each number ``(N,)``, ``len(edges) + 1`` where it is missing."""
    there = series.notna().to_numpy()
    found = np.full(len(series), len(edges) + 1, dtype=np.int64)
    found[there] = np.searchsorted(edges, _numbers(name, series[there]), "right")
    return found


def _edges(values: np.ndarray) -> np.ndarray:
    """Edges that cut the values into tenths, fewer where many are equal; every bin has rows."""
    edges = np.unique(np.quantile(values, np.arange(1, _BINS) / _BINS, method="inverted_cdf"))
    above = values[values > values.min()]
    edges = edges[edges > values.min()]
    return edges if len(edges) else np.array([above.min()])


def _same(one: Any, other: Any) -> bool:  # noqa: ANN401 - scalars of any kind
    if pd.isna(one) or pd.isna(other):
        return bool(pd.isna(one) and pd.isna(other))
    return bool(one == other)


def _encode(codec: TableCodec, table: pd.DataFrame) -> np.ndarray:
    """Codes ``(N, W)``; categories take no randomness."""
    return codec.encode(table, np.random.default_rng(0))


def _distinct(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distinct rows ``(L, W)``, and which of them each row is."""
    if rows.shape[1] == 0:
        return rows[:1], np.zeros(len(rows), dtype=np.int64)
    keys, inverse = np.unique(rows, axis=0, return_inverse=True)
    return keys, inverse.reshape(-1)
