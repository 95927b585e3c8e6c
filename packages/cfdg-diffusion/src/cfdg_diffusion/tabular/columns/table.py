"""TableCodec: the codec of a DataFrame <-> float32 rows for a continuous generator."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.checks import check_unique
from cfdg_diffusion.tabular.columns.column import Column, Role, learn_column
from cfdg_diffusion.tabular.columns.components import CodecSettings
from cfdg_diffusion.tabular.columns.dtypes import dtype_state, restore_dtype
from cfdg_diffusion.tabular.columns.families import Kind

_VERSION = 1
_DEFAULT = CodecSettings()


@dataclass(frozen=True)
class Block:
    """Neighbouring dimensions that belong together.

    Attributes:
        column: name of the column.
        role: "missing", "category" and "spike" hold one of ``words``; the last word of a spike means that the "number"
            after it counts. A number is one dimension on a standard normal scale.
        part: "day", "second" or "fraction" of a date, else empty.
        start: first dimension.
        stop: the dimension after the last.
        words: ``(L, stop - start)`` float32 code words; None for a number.
    """

    column: Hashable
    role: Role
    part: str
    start: int
    stop: int
    words: np.ndarray | None

    @property
    def dimensions(self) -> slice:
        """Slice of the last axis of rows ``(..., D)``."""
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class TableCodec:
    """Learnt codec of a table: N rows of a DataFrame <-> ``(N, D)`` float32 of mean about 0 and variance about 1.

    - Categories and booleans become code words.
    - Numbers go through their quantiles to a standard normal scale, integers and decimals after uniform dequantisation.
    - Dates become a day, a second and its fraction.
    - A single value with many rows becomes a code word beside its number.
    - Missing values take one dimension, constants none.

    Attributes:
        columns: codecs of the columns, in their order.
        names_dtype: dtype of the index of column names.
    """

    columns: tuple[Column, ...]
    names_dtype: Any

    @classmethod
    def learn(
        cls,
        table: pd.DataFrame,
        kinds: Mapping[Hashable, Kind | str] | None = None,
        settings: CodecSettings = _DEFAULT,
    ) -> TableCodec:
        """Learn from training rows.

        Args:
            table: at least one row and one column.
            kinds: kinds of some columns that dtype and content do not decide, for example ``{"zip": "category"}``;
                "number" and "integer" keep a number of few values a number. Texts and whole numbers that are dates are
                "datetime", or "datetime:FORMAT" with directives of strptime such as ``%d.%m.%Y``.
            settings: see :class:`CodecSettings`.

        Raises:
            ValueError: if the table is empty, a name comes twice, or a column cannot be learnt; the message names it.
        """
        kinds = dict(kinds or {})
        names = _names(table)
        if len(table) == 0:
            raise ValueError("the table has no rows, expected at least one")
        unknown = [name for name in kinds if name not in names]
        if unknown:
            raise ValueError(f"kinds names column {unknown[0]!r}, expected one of the table's columns")
        columns = [
            learn_column(name, table.iloc[:, index], kinds.get(name), settings) for index, name in enumerate(names)
        ]
        return cls(tuple(columns), table.columns.dtype)

    @property
    def names(self) -> list[Hashable]:
        """Column names in their order."""
        return [column.name for column in self.columns]

    @property
    def width(self) -> int:
        """D, dimensions of a row; 0 if all columns are constant."""
        return sum(column.width for column in self.columns)

    @cached_property
    def blocks(self) -> tuple[Block, ...]:
        """All dimensions from 0 to D, in their order."""
        blocks = []
        start = 0
        for column in self.columns:
            for role, part, width, words in column.parts():
                stop = start + width
                blocks.append(Block(column=column.name, role=role, part=part, start=start, stop=stop, words=words))
                start = stop
        return tuple(blocks)

    def dimensions(self, columns: Sequence[Hashable]) -> np.ndarray:
        """Find the dimensions of some columns, in the order of ``encode(..., columns=columns)``.

        Raises:
            ValueError: if there is no such column.
        """
        starts = np.cumsum([0, *(column.width for column in self.columns)])
        places = {column.name: np.arange(a, b) for column, a, b in zip(self.columns, starts, starts[1:], strict=False)}
        return np.concatenate([np.empty(0, dtype=np.int64), *(places[column.name] for column in self._chosen(columns))])

    def encode(
        self, table: pd.DataFrame, rng: np.random.Generator, columns: Sequence[Hashable] | None = None
    ) -> np.ndarray:
        """Encode a table of N rows; columns that the codec does not know are left out.

        Args:
            table: any number of rows; other dtypes are converted if no value changes.
            rng: spreads integers and decimals over their cells.
            columns: names of the columns to encode, in this order; None takes all.

        Returns:
            ``(N, D)`` float32, or as wide as ``dimensions(columns)``.

        Raises:
            ValueError: if a column is absent, comes twice or holds a value that was not in training.
        """
        names = _names(table)
        chosen = self._chosen(columns)
        absent = [column.name for column in chosen if column.name not in names]
        if absent:
            raise ValueError(f"the table has no column {absent[0]!r}, expected it as in training")
        width = sum(column.width for column in chosen)
        rows = np.empty((len(table), width), dtype=np.float32, order="F")  # written by columns
        start = 0
        for column in chosen:
            series = table.iloc[:, names.index(column.name)]
            rows[:, start : start + column.width] = column.encode(series, rng)
            start += column.width
        return _stored(rows, "C")

    def decode(self, rows: np.ndarray, columns: Sequence[Hashable] | None = None) -> pd.DataFrame:
        """Decode rows to a table with the names, the order and the dtypes of training.

        Args:
            rows: ``(N, D)``, or as wide as ``dimensions(columns)``; any numbers, finite or not.
            columns: names of the columns in ``rows``; None stands for all.

        Raises:
            ValueError: if the rows have another width.
        """
        chosen = self._chosen(columns)
        width = sum(column.width for column in chosen)
        rows = np.asarray(rows, dtype=np.float32)
        if rows.ndim != 2 or rows.shape[1] != width:
            raise ValueError(f"rows have shape {rows.shape}, expected (N, {width})")
        finite = _stored(rows, "F")
        series = {}
        start = 0
        for index, column in enumerate(chosen):
            series[index] = column.decode(finite[:, start : start + column.width])
            start += column.width
        table = pd.DataFrame(series, index=pd.RangeIndex(len(rows)))
        table.columns = pd.Index([column.name for column in chosen], dtype=self.names_dtype)
        return table

    def _chosen(self, columns: Sequence[Hashable] | None) -> list[Column]:
        if columns is None:
            return list(self.columns)
        by_name = {column.name: column for column in self.columns}
        unknown = [name for name in columns if name not in by_name]
        if unknown:
            raise ValueError(f"there is no column {unknown[0]!r}, expected one of {', '.join(map(repr, by_name))}")
        return [by_name[name] for name in columns]

    def describe(self) -> str:
        """Describe each column in a line: name, kind, dtype, levels or range, share of missing values, dimensions."""
        lines = [
            (
                _shown(column.name),
                column.kind,
                str(column.dtype),
                column.summary,
                f"{column.missing_share:.1%} missing" if column.missing_share else "",
                f"{column.width} dimension" + ("" if column.width == 1 else "s"),
            )
            for column in self.columns
        ]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        return "\n".join(
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
        )

    def state(self) -> dict[str, Any]:
        """Return a tree of JSON and float32, float64 and int64 arrays, as :meth:`restore` takes it."""
        columns = [column.state() for column in self.columns]
        return {"version": _VERSION, "names_dtype": dtype_state(self.names_dtype), "columns": columns}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> TableCodec:
        """Rebuild what :meth:`state` was taken of.

        Raises:
            ValueError: if it is of another version, or something is missing.
        """
        if state.get("version") != _VERSION:
            raise ValueError(f"the codec has version {state.get('version')!r}, expected {_VERSION}")
        try:
            columns = tuple(Column.restore(own) for own in state["columns"])
            return cls(columns, restore_dtype(state["names_dtype"]))
        except (KeyError, TypeError) as error:
            raise ValueError(f"the state of the codec cannot be read: {error!r}") from error


def _stored(rows: np.ndarray, order: Literal["C", "F"]) -> np.ndarray:
    """Copy rows ``(N, D)`` as finite numbers, with contiguous rows (C) or columns (F), piece by piece for the cache."""
    copy = np.empty(rows.shape, dtype=np.float32, order=order)
    for start in range(0, len(rows), 1024):
        part = rows[start : start + 1024]
        copy[start : start + 1024] = part if np.isfinite(part).all() else np.nan_to_num(part)
    return copy


def _shown(name: Hashable) -> str:
    """Return a name as text, in quotes if it is empty or would not stay in its line."""
    text = str(name)
    return text if text.strip() and text.isprintable() else repr(text)


def _names(table: pd.DataFrame) -> list[Hashable]:
    """List the column names as Python values that JSON keeps."""
    names = [name.item() if isinstance(name, np.generic) else name for name in table.columns]
    foreign = [name for name in names if not isinstance(name, str | int | float)]
    if foreign:
        raise ValueError(f"column {foreign[0]!r} has a name of type {type(foreign[0]).__name__}, expected text")
    check_unique(names)
    if not names:
        raise ValueError("the table has no columns, expected at least one")
    return names
