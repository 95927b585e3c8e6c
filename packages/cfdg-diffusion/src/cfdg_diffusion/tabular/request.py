"""Requests for rows: the arguments of `sample`, or a table to impute, as one label and the known cells of every row."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence, Set
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.checks import check_frame, check_unique, shown
from cfdg_diffusion.tabular.labels import LabelCodec
from cfdg_diffusion.tabular.schema import TableSchema, label_names


@dataclass(frozen=True)
class RowRequest:
    """n rows to generate.

    Attributes:
        labels: ``(n,)`` int64.
        known: ``(n, D)`` whose finite numbers are kept; None if nothing is known.
        cells: n rows of the columns that are returned unchanged; None if there are none.
    """

    labels: np.ndarray
    known: np.ndarray | None = None
    cells: pd.DataFrame | None = None

    def at(self, places: np.ndarray) -> RowRequest:
        """Select rows by position; a position may come several times."""
        known = None if self.known is None else self.known[places]
        return RowRequest(self.labels[places], known, None if self.cells is None else self.cells.iloc[places])


@dataclass
class Balance:
    """Equal counts of every label, over all calls of ``sample`` that share the object.

    Labels take turns: the counts of two labels differ by at most one, also at the end of each call.

    Attributes:
        given: turns taken so far.
    """

    given: int = 0

    @classmethod
    def of(cls, asked: bool | Balance) -> Balance:
        """Return the same object, or a new one for a bool."""
        return asked if isinstance(asked, Balance) else cls()

    def take(self, allowed: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
        """Take the next n turns of the allowed labels ``(A,)``; returns ``(n,)`` labels, shuffled."""
        turns = (self.given + np.arange(n)) % len(allowed)
        self.given += n
        return rng.permutation(allowed[turns])


@dataclass(frozen=True)
class SampleArguments:
    """The arguments of :meth:`TabularDiffusion.sample` that choose the rows.

    Attributes:
        n: number of rows.
        label: value of the label column, or a dictionary of values of some label columns.
        labels: one label per row.
        balance: equal counts of every label; a :class:`Balance` is shared with other calls.
        like: rows with the cells of the columns in ``fix``.
        fix: names of the columns that are kept.
    """

    n: int | None = None
    label: object = None
    labels: pd.Series | pd.DataFrame | Sequence[object] | None = None
    balance: bool | Balance = False
    like: pd.DataFrame | None = None
    fix: Sequence[Hashable] = ()

    def request(self, schema: TableSchema, rng: np.random.Generator) -> RowRequest:
        """Resolve the arguments to one label and the known cells of every row.

        Raises:
            ValueError: if the arguments contradict each other, or name a value that was not in training.
        """
        if self.like is not None:
            check_frame("like", self.like)
            check_unique(self.like.columns)
        given = self._given(schema)
        n = self._count(given)
        fixed = [name for name in schema.labels.columns if name in given.columns]
        if self.labels is not None and schema.labels.is_binned:
            schema.labels.check_span(given)
        labels = _compatible(schema.labels, given[fixed], rng) if fixed else self._labels(schema.labels, n, rng)
        if schema.labels.is_binned and self.label is not None:
            name = schema.labels.columns[0]
            value: Any = schema.labels.only(self.label)
            given = pd.DataFrame({name: [np.nan if pd.isna(value) else value] * n})
        cells = given[[name for name in given.columns if name in schema.features]]
        return RowRequest(labels, schema.known(cells, rng), given if given.shape[1] else None)

    def leaves_labels_open(self, schema: TableSchema) -> bool:
        """Test for kept cells without all label columns, whose labels are then drawn to go with the cells."""
        asked = self.like is None or self.label is not None or self.labels is not None or bool(self.balance)
        return not asked and len(schema.labels) > 1 and not set(schema.labels.columns) <= set(label_names(self.fix))

    def _labels(self, labels: LabelCodec, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw labels ``(n,)`` for rows without any."""
        allowed = np.arange(len(labels)) if self.label is None else labels.find(self.label)
        if not self.balance:
            return draw_by_frequency(labels, allowed, n, rng)
        return Balance.of(self.balance).take(allowed, n, rng)

    def _given(self, schema: TableSchema) -> pd.DataFrame:
        """Collect the cells that the arguments give for every row; a table without columns if none."""
        fix = label_names(self.fix, "fix")
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
            values = self.labels if isinstance(self.labels, pd.Series) else _as_series(self.labels)
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
            raise ValueError(f"n is {shown(self.n)}, expected a number of rows, 0 or more")
        rows = next((len(part) for part in (self.like, self.labels) if part is not None), None)
        if rows is None and self.n is None:
            raise ValueError("n is None, expected a number of rows unless labels or like has one for each")
        if rows is not None and self.n is not None and rows != self.n:
            raise ValueError(f"n is {self.n} but there are {rows} rows of labels or like, expected as many")
        return int(self.n if self.n is not None else rows or 0)


@dataclass(frozen=True)
class ImputeRequest:
    """The n incomplete rows of a table and the cells to generate in them.

    Attributes:
        table: the incomplete rows.
        places: ``(n,)`` ascending positions of these rows in the user's table.
        columns: names of the C columns that are filled.
        holes: ``(n, C)`` bool, True where a cell is missing.
        labels: ``(n,)`` int64; 0 where unlabelled.
        unlabelled: ``(n,)`` bool, True where a label column is missing, so that the label has to be drawn first.
        known: ``(n, D)`` float32 dimensions of the known cells, NaN elsewhere.
    """

    table: pd.DataFrame
    places: np.ndarray
    columns: list[Hashable]
    holes: np.ndarray
    labels: np.ndarray
    unlabelled: np.ndarray
    known: np.ndarray

    @classmethod
    def of(cls, table: pd.DataFrame, schema: TableSchema, rng: np.random.Generator) -> ImputeRequest:
        """Find the missing cells of a table of N rows.

        Raises:
            ValueError: if a column is absent, or a cell holds a value that was not in training.
        """
        schema.check_dtypes(table)
        codec = schema.labels
        open_labels = [name for name in codec.columns if name in table.columns and name not in codec.may_miss]
        unlabelled = np.asarray(table[open_labels].isna().any(axis=1))
        labels = np.zeros(len(table), dtype=np.int64)
        labels[~unlabelled] = codec.encode(table[~unlabelled])
        features = [name for name in schema.features if name in table.columns and name not in codec.columns]
        columns = features + open_labels
        holes = table[columns].isna().to_numpy()
        places = np.flatnonzero(holes.any(axis=1))
        rows = table.iloc[places]
        return cls(
            table=rows,
            places=places,
            columns=columns,
            holes=holes[places],
            labels=labels[places],
            unlabelled=unlabelled[places],
            known=schema.present(rows, rng),
        )

    def with_labels(self, drawn: np.ndarray) -> ImputeRequest:
        """Take labels for the unlabelled rows, in their order."""
        labels = self.labels.copy()
        labels[self.unlabelled] = drawn
        return replace(self, labels=labels)

    @property
    def rows(self) -> RowRequest:
        """The request for the n rows."""
        return RowRequest(self.labels, self.known)


def draw_by_frequency(labels: LabelCodec, allowed: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw labels ``(n,)`` from the allowed ones ``(A,)`` with their training frequencies, to within one row each."""
    counts = labels.counts[allowed]
    if not counts.any():  # none of them was in the latest of several fits
        counts = np.ones_like(counts)
    points = (np.arange(n) + rng.random()) / max(n, 1)
    found = np.searchsorted(np.cumsum(counts) / counts.sum(), points, "right")
    return rng.permutation(allowed[np.minimum(found, np.flatnonzero(counts)[-1])])


def _as_series(labels: Any) -> pd.Series:  # noqa: ANN401 - whatever the user gave
    if isinstance(labels, str) or not pd.api.types.is_list_like(labels) or isinstance(labels, Mapping | Set):
        raise ValueError(f"labels is {shown(labels)}, expected one label for each row: a list, a series or a table")
    return pd.DataFrame({0: list(labels)})[0]


def _compatible(labels: LabelCodec, given: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
    """Draw for each row a label that agrees with its given label columns, which may be some of them only."""
    if len(given.columns) == len(labels.columns):
        return labels.encode(given)
    found = np.zeros(len(given), dtype=np.int64)
    for mine, allowed in label_groups(labels, given):
        found[mine] = draw_by_frequency(labels, allowed, len(mine), rng)
    return found


def label_groups(labels: LabelCodec, given: pd.DataFrame) -> list[tuple[np.ndarray, np.ndarray]]:
    """Group rows by their given label columns.

    Args:
        labels: of the model.
        given: N rows of some label columns, perhaps none.

    Returns:
        The positions of each group's rows and the labels that agree with them; all labels if no column is given.
    """
    if not len(given.columns) or not len(given):
        return [(np.arange(len(given)), np.arange(len(labels)))]
    groups = given.groupby(list(given.columns), dropna=False, sort=False, observed=True).ngroup().to_numpy()
    places = [np.flatnonzero(groups == group) for group in np.unique(groups)]
    return [(mine, labels.find(dict(given.iloc[mine[0]]))) for mine in places]


def guidance_weights(
    weight: float | Mapping[object, float] | None, labels: LabelCodec, default: float
) -> np.ndarray | float | None:
    """Resolve one guidance weight, or a dictionary of them, to the labels of a model.

    Args:
        weight: w for all labels, or w of some label values; None leaves the choice to the model's settings.
        labels: of the model.
        default: w of labels that the dictionary does not name.

    Returns:
        None, one w, or float32 w of each label ``(L,)``.

    Raises:
        ValueError: if a weight is not finite, or its label was not in training.
    """
    if weight is None:
        return None
    by_label = weight if isinstance(weight, Mapping) else {None: weight}
    for value, own in by_label.items():
        if not isinstance(own, int | float | np.number) or not np.isfinite(own):
            whose = "" if value is None else f" of label {shown(value)}"
            raise ValueError(f"guidance_weight{whose} is {shown(own)}, expected a finite number")
    if not isinstance(weight, Mapping):
        return float(weight)
    weights = np.full(len(labels), default, dtype=np.float32)
    for value, own in weight.items():
        weights[labels.find(value)] = own
    return weights
