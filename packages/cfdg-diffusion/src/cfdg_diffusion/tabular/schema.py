"""Schema of a table: its label columns, its generated columns, and the codecs of both."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.edm.outputs import Category
from cfdg_diffusion.tabular.checks import check_table, shown
from cfdg_diffusion.tabular.columns import CodecSettings, Kind, TableCodec
from cfdg_diffusion.tabular.columns.dtypes import dtype_state, restore_dtype
from cfdg_diffusion.tabular.constraints import Constraint
from cfdg_diffusion.tabular.date_rules import on_dates
from cfdg_diffusion.tabular.labels import LabelCodec


@dataclass(frozen=True)
class TableSchema:
    """Learnt columns and labels: N rows of a DataFrame <-> ``(N, D)`` float32 rows and ``(N,)`` int64 labels.

    Attributes:
        order: names of all columns, in the order of training.
        labels: codec of the label columns.
        codec: codec of the generated columns; None if all are label columns.
    """

    order: pd.Index
    labels: LabelCodec
    codec: TableCodec | None

    @classmethod
    def learn(
        cls,
        table: pd.DataFrame,
        label: Hashable | Sequence[Hashable] | None,
        kinds: Mapping[Hashable, Kind | str] | None,
        settings: CodecSettings,
    ) -> TableSchema:
        """Learn from training rows.

        Args:
            table: at least one row and one column.
            label: column or columns to condition on; None for no label.
            kinds: kinds of some columns, see :meth:`TableCodec.learn` and :meth:`LabelCodec.learn`.
            settings: of the codec.

        Raises:
            ValueError: if the table or a column cannot be learnt; the message names the column.
        """
        check_table(table)
        _check_keep_range(table, settings)
        if kinds is not None and not isinstance(kinds, Mapping):
            raise ValueError(f"kinds is {shown(kinds)}, expected a dictionary of kinds by column")
        unknown = [name for name in kinds or () if name not in table.columns]
        if unknown:
            raise ValueError(f"kinds names column {unknown[0]!r}, expected one of the table's columns")
        names = label_names(label)
        labels = LabelCodec.learn(table, names, kinds)
        hidden = [] if labels.is_binned else names
        features = table.drop(columns=hidden)
        own = {name: kind for name, kind in (kinds or {}).items() if name not in hidden}
        codec = TableCodec.learn(features, own, settings) if features.shape[1] else None
        return cls(table.columns, labels, codec)

    def renewed(self, table: pd.DataFrame, label: Hashable | Sequence[Hashable] | None) -> TableSchema:
        """Keep the codecs for more rows of the same columns, and count the labels of the new rows.

        Raises:
            ValueError: if the rows have other columns, other label columns or a label that was not in training.
        """
        check_table(table)
        if label is not None and tuple(label_names(label)) != self.labels.columns:
            raise ValueError(f"label is {shown(label)}, expected {list(self.labels.columns)} as in the first fit")
        other = set(table.columns) ^ set(self.order)
        if other:
            found = "new" if other - set(self.order) else "missing"
            name = next(iter(other))
            raise ValueError(f"column {name!r} is {found}, expected the columns of the first fit")
        return replace(self, labels=self.labels.renewed(table))

    @property
    def features(self) -> list[Hashable]:
        """Names of the generated columns."""
        return self.codec.names if self.codec else []

    @property
    def width(self) -> int:
        """D, the dimensions of a row; 0 if every generated column is constant."""
        return self.codec.width if self.codec else 0

    @property
    def categories(self) -> list[Category]:
        """Blocks that a model learns by cross-entropy: all but the numbers."""
        blocks = self.codec.blocks if self.codec else ()
        return [Category(block.start, block.words) for block in blocks if block.words is not None]

    @property
    def dtypes(self) -> pd.Series:
        """Dtype of each column by its name, in the order of training."""
        codecs = [codec for codec in (self.labels.codec, self.codec) if codec is not None]
        own = {column.name: column.dtype for codec in codecs for column in codec.columns}
        return pd.Series([own[name] for name in self.order], index=self.order, dtype=object)

    def comparing(self, constraints: Sequence[Constraint]) -> list[Constraint]:
        """Let the constraints compare dates where the columns hold texts or whole numbers that are dates.

        Raises:
            ValueError: if a bound is not written as the dates of its column; the message names the constraint.
        """
        return on_dates(constraints, self.codec.columns if self.codec else ())

    @property
    def rows(self) -> int:
        """Number of training rows in the latest fit."""
        return int(self.labels.counts.sum())

    @property
    def title(self) -> str:
        """Numbers of training rows and of labels, for example ``600 rows, 2 labels of class``."""
        names = ", ".join(map(str, self.labels.columns))
        return f"{self.rows:,} rows, " + (f"{len(self.labels)} labels of {names}" if names else "no label")

    def encode(self, table: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        """Encode a table with all columns as float32 rows ``(N, D)``; ``rng`` spreads integers over their cells."""
        return self.codec.encode(table, rng) if self.codec else np.empty((len(table), 0), dtype=np.float32)

    def decode(self, labels: np.ndarray, rows: np.ndarray) -> pd.DataFrame:
        """Decode labels ``(N,)`` and rows ``(N, D)`` to a table with the columns, order and dtypes of training."""
        label_columns = self.labels.decode(labels)
        features = self.codec.decode(rows) if self.codec else pd.DataFrame(index=label_columns.index)
        return pd.concat([label_columns, features], axis=1)[list(self.order)].set_axis(self.order, axis=1)

    def known(self, cells: pd.DataFrame, rng: np.random.Generator) -> np.ndarray | None:
        """Encode some columns as rows ``(N, D)``, NaN in all other dimensions; None if none of them is generated."""
        names = [name for name in self.features if name in cells.columns]
        if not names or self.codec is None or not self.width:
            return None
        known = np.full((len(cells), self.width), np.nan, dtype=np.float32)
        known[:, self.codec.dimensions(names)] = self.codec.encode(cells[names], rng, columns=names)
        return known

    def present(self, table: pd.DataFrame, rng: np.random.Generator) -> np.ndarray:
        """Encode a table with missing cells as float32 rows ``(N, D)``, NaN in the dimensions of missing cells.

        The dimension that says "missing or present" is set to present, so that a value is generated. A missing label
        stays missing if training had missing labels.

        Raises:
            ValueError: if a column is absent, or a cell holds a value that was not in training.
        """
        absent = [name for name in self.features if name not in table.columns]
        if absent:
            raise ValueError(f"the table has no column {absent[0]!r}, expected it as in training")
        parts = [self._present(table[[name]], name, rng) for name in self.features]
        return np.concatenate([np.empty((len(table), 0), np.float32), *parts], axis=1)

    def check_dtypes(self, table: pd.DataFrame) -> None:
        """Refuse generated columns of a table that hold another type of values than in training.

        Raises:
            ValueError: with the first such column.
        """
        for column in self.codec.columns if self.codec else ():
            if column.name in table.columns:
                column.check_dtype(table[column.name])

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

    def describe(self) -> str:
        """Describe each generated column in a line of its own, each after a line break."""
        return f"\n{self.codec.describe()}" if self.codec else ""

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


def _check_keep_range(table: pd.DataFrame, settings: CodecSettings) -> None:
    names = settings.keep_range if isinstance(settings.keep_range, tuple) else ()
    unknown = [name for name in names if name not in table.columns]
    if unknown:
        raise ValueError(f"keep_range names column {unknown[0]!r}, expected one of the table's columns")


def label_names(label: Hashable | Sequence[Hashable] | None, argument: str = "label") -> list[Hashable]:
    """List one name, several or none.

    Raises:
        ValueError: if one cannot be the name of a column; the message names the argument.
    """
    if label is None:
        return []
    several = isinstance(label, Sequence | pd.Index | np.ndarray) and not isinstance(label, str)
    found = list(label) if several else [label]  # pyrefly: ignore[bad-argument-type]
    names = [name.item() if isinstance(name, np.generic) else name for name in found]
    foreign = [name for name in names if not isinstance(name, Hashable)]
    if foreign:
        raise ValueError(f"{argument} names {shown(foreign[0])}, expected names of columns")
    return names
