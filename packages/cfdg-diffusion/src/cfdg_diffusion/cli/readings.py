"""Choices of how to read columns: by their cells, by what a user says, as a model or a training table has them."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.cli.csv_cells import TEXT, ColumnReading, cast, level_text, truth_words
from cfdg_diffusion.cli.dates import DateFormat, guess
from cfdg_diffusion.cli.evidence import Evidence
from cfdg_diffusion.cli.formats import MISSING, ColumnFormat, CsvFormat, TableFormat
from cfdg_diffusion.tabular.columns.categories import Levels
from cfdg_diffusion.tabular.model import TabularDiffusion

_PLAIN_DTYPES = {"boolean": "bool", "integer": "int64", "number": "float64", "empty": "float64"}
_ONLY_EMPTY = ("",)


def kind_words(kind: str | None, layout: CsvFormat) -> tuple[str, ...]:
    """Return the words for a missing value in a column of a kind: in text only the empty cell."""
    return _ONLY_EMPTY if kind == "text" else layout.missing


def reading_of(kind: str | None, evidence: Evidence) -> ColumnReading:
    """Choose how to read a column of text.

    Args:
        kind: what a user says, such as "category" or "datetime:%d.%m.%Y"; None decides by the cells.
        evidence: of all its cells.
    """
    layout = evidence.csv
    form = evidence.format
    holds = evidence.holds
    if kind in ("number", "integer"):
        form = ColumnFormat(decimals=form.decimals if kind == "number" else None, grouped=evidence.grouped)
        holds = kind
    elif kind == "text" or (kind == "category" and not evidence.keeps_its_text) or needs_all_cells(kind, holds):
        form = ColumnFormat(missing=_ONLY_EMPTY if kind == "text" else None)
        holds = "text"
    if holds == "date" and form.date is not None:
        dtype: Any = form.date.parse(pd.Series([], dtype=object)).dtype
    else:
        dtype = pd.api.types.pandas_dtype(_PLAIN_DTYPES.get(holds, TEXT))
    return ColumnReading(dtype, layout, form, missing=kind_words(kind, layout))


def needs_all_cells(kind: str | None, holds: str) -> bool:
    """Test whether a kind can only be read when all cells of a column of text are known."""
    if kind is None:
        return False
    return (kind == "boolean" and holds not in ("boolean", "empty")) or (
        kind.startswith("datetime") and (":" in kind or holds not in ("date", "empty"))
    )


def converted(cells: pd.Series, kind: str) -> tuple[pd.Series, ColumnFormat]:
    """Read all cells of a column of text as booleans or dates.

    Raises:
        ValueError: if a cell is none; the message continues after the column's name.
    """
    cells = cells.astype(object).mask(cells.isna(), None)
    if kind == "boolean":
        form = ColumnFormat(truths=truth_words(cells))
        return cast(cells, ColumnReading(np.dtype(bool), form=form)), form
    _, _, pattern = kind.partition(":")
    date = DateFormat.of_pattern(pattern) if pattern else guess(cells.dropna())
    return date.parse(cells), ColumnFormat(date=date)


def model_readings(model: TabularDiffusion, form: TableFormat, layout: CsvFormat) -> dict[Hashable, ColumnReading]:
    """Choose how to read the columns of a model in other files."""
    levels = _levels(model)
    own = {}
    for name, dtype in model.dtypes.items():
        column = form.column(name)
        words = layout.missing if column.missing is None else column.missing
        known = {level_text(level): level for level in sorted(levels.get(name, ()), key=lambda one: type(one) is str)}
        kept = tuple(word for word in words if word not in known)
        own[name] = ColumnReading(dtype, layout, column, known if name in levels else None, kept)
    return own


def with_levels(form: TableFormat, model: TabularDiffusion) -> TableFormat:
    """Set the words for missing values so that no level of a model is one."""
    usual = MISSING if form.csv is None else form.csv.missing
    columns = dict(form.columns)
    for name, levels in _levels(model).items():
        own = form.column(name)
        words = usual if own.missing is None else own.missing
        texts = set(map(level_text, levels))
        if texts & set(MISSING):
            kept = [word for word in (*words, *MISSING) if word not in texts]
            columns[str(name)] = replace(own, missing=tuple(dict.fromkeys(kept)))
    return replace(form, columns=columns)


def _levels(model: TabularDiffusion) -> dict[Hashable, list[object]]:
    """List the levels of each column of categories or objects."""
    codecs = [codec for codec in (model.schema.labels.codec, model.schema.codec) if codec is not None]
    families = [(column.name, column.family) for codec in codecs for column in codec.columns]
    return {name: list(family.levels.astype(object)) for name, family in families if isinstance(family, Levels)}


def table_readings(train: pd.DataFrame, form: TableFormat, layout: CsvFormat) -> dict[Hashable, ColumnReading]:
    """Choose how to read tables that are compared with a training table.

    Whole numbers may have a point there, and categories may have levels that training lacks.
    """
    own = {}
    for name, series in train.items():
        column = form.column(name)
        dtype = np.dtype("float64") if series.dtype.kind in "iu" else series.dtype
        words = layout.missing if column.missing is None else column.missing
        if isinstance(series.dtype, pd.CategoricalDtype | pd.StringDtype) or series.dtype == object:
            texts = set(map(level_text, series.dropna().unique()))
            words = tuple(word for word in words if word not in texts)
        own[name] = ColumnReading(dtype, layout, column, missing=words, takes_new_levels=True)
    return own
