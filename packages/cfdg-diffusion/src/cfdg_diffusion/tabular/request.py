"""What is asked of a table model: how many rows, of which labels, with which cells given."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.labels import LabelCodec
from cfdg_diffusion.tabular.schema import TableSchema, label_names


@dataclass(frozen=True)
class RowRequest:
    """n rows to generate.

    Attributes:
        labels: ``(n,)``.
        known: ``(n, D)`` whose finite numbers are kept, or None.
        cells: n rows of the columns that come back as they are, or None.
    """

    labels: np.ndarray
    known: np.ndarray | None = None
    cells: pd.DataFrame | None = None

    def at(self, places: np.ndarray) -> RowRequest:
        """The rows at some places, repeated or not."""
        known = None if self.known is None else self.known[places]
        return RowRequest(self.labels[places], known, None if self.cells is None else self.cells.iloc[places])


@dataclass
class Balance:
    """Labels take turns, over several requests if they share it: how often two came differs by one at most.

    Attributes:
        given: turns taken so far.
    """

    given: int = 0

    @classmethod
    def of(cls, asked: bool | Balance) -> Balance:
        """The same one, or a new one for a bool."""
        return asked if isinstance(asked, Balance) else cls()

    def take(self, allowed: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        """The next n turns of the allowed labels, shuffled."""
        turns = (self.given + np.arange(n)) % len(allowed)
        self.given += n
        return rng.permutation(allowed[turns])


@dataclass(frozen=True)
class Wanted:
    """The arguments of :meth:`TabularDiffusion.sample` that say which rows.

    Attributes:
        n: number of rows.
        label: value of the label column, or a dictionary of values of some label columns.
        labels: one label per row.
        balance: equally many rows of every label, together with all requests of the same :class:`Balance`.
        like: rows that give the cells of the columns in ``fix``.
        fix: these columns.
    """

    n: int | None
    label: object
    labels: pd.Series | pd.DataFrame | Sequence[object] | None
    balance: bool | Balance
    like: pd.DataFrame | None
    fix: Sequence[Hashable]

    def request(self, schema: TableSchema, rng: np.random.Generator) -> RowRequest:
        """The rows that are asked for.

        Raises:
            ValueError: if the arguments contradict each other, or ask for what training did not have.
        """
        given = self._given(schema)
        n = self._count(given)
        fixed = [name for name in schema.labels.columns if name in given.columns]
        labels = _compatible(schema.labels, given[fixed], rng) if fixed else self._labels(schema.labels, n, rng)
        if schema.labels.is_binned and self.label is not None:
            name = schema.labels.columns[0]
            value: Any = schema.labels.only(self.label)
            given = pd.DataFrame({name: [np.nan if pd.isna(value) else value] * n})
        cells = given[[name for name in given.columns if name in schema.features]]
        return RowRequest(labels, schema.known(cells, rng), given if given.shape[1] else None)

    def leaves_labels_open(self, schema: TableSchema) -> bool:
        """Whether cells are given, but not all that makes up a label."""
        asked = self.like is None or self.label is not None or self.labels is not None or bool(self.balance)
        return not asked and len(schema.labels) > 1 and not set(schema.labels.columns) <= set(label_names(self.fix))

    def _labels(self, labels: LabelCodec, n: int, rng: np.random.Generator) -> np.ndarray:
        """Labels ``(n,)`` where no row comes with one."""
        allowed = np.arange(len(labels)) if self.label is None else labels.find(self.label)
        if not self.balance:
            return draw(labels, allowed, n, rng)
        return Balance.of(self.balance).take(allowed, n, rng)

    def _given(self, schema: TableSchema) -> pd.DataFrame:
        """The cells that every row comes with; no columns if there are none."""
        fix = label_names(self.fix)
        if self.like is None and not fix:
            return self._given_labels(schema.labels)
        if self.like is None:
            raise ValueError(f"fix names column {fix[0]!r} but like is None, expected the rows to take it from")
        if not fix:
            raise ValueError("like is given without fix, expected the columns of like to keep, such as fix=['age']")
        if self.labels is not None:
            raise ValueError("both labels and like are given, expected one of them: fix may name the label columns")
        for names, whose in ((schema.order, "the model"), (self.like.columns, "like")):
            absent = [name for name in fix if name not in names]
            if absent:
                raise ValueError(f"fix names column {absent[0]!r}, expected a column of {whose}")
        asked = self.label is not None or self.balance
        if asked and set(fix) & set(schema.labels.columns):
            raise ValueError("fix names a label column, expected no label= and no balance= beside it")
        return self.like[fix].reset_index(drop=True)

    def _given_labels(self, labels: LabelCodec) -> pd.DataFrame:
        if self.labels is None:
            return pd.DataFrame()
        if self.label is not None or self.balance:
            raise ValueError("labels is given together with label or balance, expected one of them")
        if not labels.columns:
            raise ValueError("the model was fitted without label, expected fit(table, label=...) before labels=")
        if not isinstance(self.labels, pd.DataFrame):
            if len(labels.columns) > 1:
                raise ValueError(f"labels is one column, expected a table of {', '.join(map(repr, labels.columns))}")
            values = self.labels if isinstance(self.labels, pd.Series) else pd.DataFrame({0: list(self.labels)})[0]
            if values.dtype == object and values.hasnans:  # [1, None] are numbers
                values = values.convert_dtypes()
            return pd.DataFrame({labels.columns[0]: values.reset_index(drop=True)})
        absent = [name for name in labels.columns if name not in self.labels.columns]
        if absent:
            raise ValueError(f"labels has no column {absent[0]!r}, expected the label columns of training")
        return self.labels[list(labels.columns)].reset_index(drop=True)

    def _count(self, given: pd.DataFrame) -> int:
        whole = isinstance(self.n, int | np.integer) and not isinstance(self.n, bool)
        if self.n is not None and (not whole or self.n < 0):
            raise ValueError(f"n is {self.n!r}, expected a number of rows, 0 or more")
        rows = next((len(part) for part in (self.like, self.labels) if part is not None), None)
        if rows is None and self.n is None:
            raise ValueError("n is None, expected a number of rows unless labels or like has one for each")
        if rows is not None and self.n is not None and rows != self.n:
            raise ValueError(f"n is {self.n} but there are {rows} rows of labels or like, expected as many")
        return int(self.n if self.n is not None else rows or 0)


def draw(labels: LabelCodec, allowed: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Labels ``(n,)`` out of the allowed ones with their frequencies in training, as near as whole rows allow."""
    counts = labels.counts[allowed]
    if not counts.any():  # none of them was in the latest of several fits
        counts = np.ones_like(counts)
    points = (np.arange(n) + rng.random()) / max(n, 1)
    found = np.searchsorted(np.cumsum(counts) / counts.sum(), points, "right")
    return rng.permutation(allowed[np.minimum(found, np.flatnonzero(counts)[-1])])


def _compatible(labels: LabelCodec, given: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """For each row a label that agrees with its given label columns, which may be some of them only."""
    if len(given.columns) == len(labels.columns):
        return labels.encode(given)
    found = np.zeros(len(given), dtype=np.int64)
    for mine, allowed in label_groups(labels, given):
        found[mine] = draw(labels, allowed, len(mine), rng)
    return found


def label_groups(labels: LabelCodec, given: pd.DataFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    """Places of rows with the same given label columns, and the labels that agree with these; all if none is given."""
    if not len(given.columns) or not len(given):
        return [(np.arange(len(given)), np.arange(len(labels)))]
    groups = given.groupby(list(given.columns), dropna=False, sort=False, observed=True).ngroup().to_numpy()
    places = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    return [(mine, labels.find(dict(given.iloc[mine[0]]))) for mine in places]


def weights_of(
    weight: float | Mapping[object, float] | None, labels: LabelCodec, usual: float
) -> np.ndarray | float | None:
    """One guidance weight, or one for each label ``(L,)``.

    Raises:
        ValueError: if a weight is not finite, or its label was not in training.
    """
    if weight is None:
        return None
    each = weight if isinstance(weight, Mapping) else {None: weight}
    for value, own in each.items():
        if not isinstance(own, int | float | np.number) or not np.isfinite(own):
            told = "" if value is None else f" of label {value!r}"
            raise ValueError(f"guidance_weight{told} is {own!r}, expected a finite number")
    if not isinstance(weight, Mapping):
        return float(weight)
    weights = np.full(len(labels), usual, dtype=np.float32)
    for value, own in weight.items():
        weights[labels.find(value)] = own
    return weights
