"""A table without its weights: which columns are generated, which are labels, and how cells become rows."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.edm.outputs import Category
from cfdg_diffusion.tabular.columns import CodecSettings, TableCodec
from cfdg_diffusion.tabular.columns.column import Kind
from cfdg_diffusion.tabular.columns.dtypes import dtype_state, restore_dtype
from cfdg_diffusion.tabular.labels import LabelCodec


@dataclass(frozen=True)
class TableSchema:
    """Learnt columns and labels of a table: N rows of a DataFrame <-> ``(N, D)`` float32 and ``(N,)`` labels.

    Attributes:
        order: names of all columns, as in training.
        labels: of the rows.
        codec: of the columns that are generated; None if all are label columns.
    """

    order: pd.Index
    labels: LabelCodec
    codec: TableCodec | None

    @classmethod
    def learn(
        cls,
        table: pd.DataFrame,
        label: Hashable | Sequence[Hashable] | None,
        kinds: Mapping[Hashable, Kind] | None,
        settings: CodecSettings,
    ) -> TableSchema:
        """Learn from training rows.

        Raises:
            ValueError: if the table or a column cannot be learnt; the message names the column.
        """
        check_table(table)
        names = label_names(label)
        labels = LabelCodec.learn(table, names)
        hidden = [] if labels.is_binned else names
        features = table.drop(columns=hidden)
        own = {name: kind for name, kind in (kinds or {}).items() if name not in hidden}
        codec = TableCodec.learn(features, own, settings) if features.shape[1] else None
        return cls(table.columns, labels, codec)

    def renewed(self, table: pd.DataFrame, label: Hashable | Sequence[Hashable] | None) -> TableSchema:
        """The schema for more rows of the same kind: the same codes, the label frequencies of the new rows.

        Raises:
            ValueError: if the rows have other columns or label columns, or a label that training had not.
        """
        check_table(table)
        if label is not None and tuple(label_names(label)) != self.labels.columns:
            raise ValueError(f"label is {label!r}, expected {list(self.labels.columns)} as in the first fit")
        other = set(table.columns) ^ set(self.order)
        if other:
            found, name = ("new" if len(set(other) - set(self.order)) else "missing"), next(iter(other))
            raise ValueError(f"column {name!r} is {found}, expected the columns of the first fit")
        counts = np.bincount(self.labels.encode(table), minlength=len(self.labels))
        return replace(self, labels=replace(self.labels, counts=counts))

    @property
    def features(self) -> list[Hashable]:
        """Names of the columns that are generated."""
        return self.codec.names if self.codec else []

    @property
    def width(self) -> int:
        """D, dimensions of a row; 0 if there is nothing to generate but constants."""
        return self.codec.width if self.codec else 0

    @property
    def categories(self) -> list[Category]:
        """What a model learns by cross-entropy: all blocks but the numbers."""
        blocks = self.codec.blocks if self.codec else ()
        return [Category(block.start, block.words) for block in blocks if block.words is not None]

    def encode(self, table: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        """Rows ``(N, D)`` of a table with all columns; ``rng`` spreads integers over their cells."""
        return self.codec.encode(table, rng) if self.codec else np.empty((len(table), 0), dtype=np.float32)

    def decode(self, labels: np.ndarray, rows: np.ndarray) -> pd.DataFrame:
        """Labels ``(N,)`` and rows ``(N, D)`` as a table with the columns, order and dtypes of training."""
        told = self.labels.decode(labels)
        features = self.codec.decode(rows) if self.codec else pd.DataFrame(index=told.index)
        return pd.concat([told, features], axis=1)[list(self.order)].set_axis(self.order, axis=1)

    def known(self, cells: pd.DataFrame, rng: np.random.Generator) -> np.ndarray | None:
        """Rows ``(N, D)`` with the dimensions of some columns and NaN elsewhere; None if none is generated."""
        names = [name for name in self.features if name in cells.columns]
        if not names or self.codec is None or not self.width:
            return None
        known = np.full((len(cells), self.width), np.nan, dtype=np.float32)
        known[:, self.codec.dimensions(names)] = self.codec.encode(cells[names], rng, columns=names)
        return known

    def present(self, table: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        """Rows ``(N, D)`` whose dimensions of missing cells are NaN, but that tell that there is a value.

        Missing labels are known to be missing if training had such labels.

        Raises:
            ValueError: if a column is missing altogether, or holds what training did not.
        """
        absent = [name for name in self.features if name not in table.columns]
        if absent:
            raise ValueError(f"the table has no column {absent[0]!r}, expected it as in training")
        parts = [self._present(table[[name]], name, rng) for name in self.features]
        return np.concatenate([np.empty((len(table), 0), np.float32), *parts], axis=1)

    def _present(self, column: pd.DataFrame, name: Hashable, rng: np.random.Generator) -> np.ndarray:
        codec = self.codec
        assert codec is not None
        there = column[name].notna().to_numpy() | (name in self.labels.may_miss)
        rows = np.full((len(column), len(codec.dimensions([name]))), np.nan, dtype=np.float32)
        if there.any():
            rows[there] = codec.encode(column[there], rng, columns=[name])
        first = next((block for block in codec.blocks if block.column == name), None)
        if first is not None and first.role == "missing" and first.words is not None:
            rows[~there, : first.stop - first.start] = first.words[0]
        return rows

    def state(self) -> dict[str, Any]:
        """Return a tree of arrays and JSON, as :meth:`restore` takes it."""
        title = self.order.name if isinstance(self.order.name, str | int | float) else None
        names = {"order": self.order.tolist(), "names_dtype": dtype_state(self.order.dtype), "names_title": title}
        codec = None if self.codec is None else self.codec.state()
        return {**names, "labels": self.labels.state(), "codec": codec}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> TableSchema:
        """Rebuild what :meth:`state` was taken of."""
        codec = None if state["codec"] is None else TableCodec.restore(state["codec"])
        dtype = restore_dtype(state["names_dtype"])
        order = pd.Index(state["order"], dtype=dtype, name=state["names_title"])
        return cls(order, LabelCodec.restore(state["labels"]), codec)


def check_table(table: pd.DataFrame) -> None:
    """Refuse what is no table with rows and unique names.

    Raises:
        ValueError: with one sentence.
    """
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"the table is a {type(table).__name__}, expected a pandas DataFrame")
    check_unique(table)
    if table.shape[1] == 0:
        raise ValueError("the table has no columns, expected at least one")
    if len(table) == 0:
        raise ValueError("the table has no rows, expected at least one")


def check_unique(table: pd.DataFrame) -> None:
    """Refuse column names that come twice.

    Raises:
        ValueError: with the name.
    """
    twice = table.columns[table.columns.duplicated()]
    if len(twice):
        raise ValueError(f"column {twice[0]!r} comes twice, expected every name once")


def label_names(label: Hashable | Sequence[Hashable] | None) -> list[Hashable]:
    """One name, several or none as a list."""
    if label is None:
        return []
    several = isinstance(label, Sequence | pd.Index | np.ndarray) and not isinstance(label, str)
    return list(label) if several else [label]  # pyrefly: ignore[bad-argument-type]
