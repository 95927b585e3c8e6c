"""Columns with dtypes -> cells of text that :mod:`cfdg_diffusion.cli.csv_cells` reads as the same values."""

from __future__ import annotations

from datetime import timedelta, timezone
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.cli.csv_cells import level_text
from cfdg_diffusion.cli.dates import DateFormat, Unit
from cfdg_diffusion.cli.formats import ColumnFormat, CsvFormat

_UNITS: tuple[Unit, ...] = ("D", "s", "ms", "us")


def texts_of(series: pd.Series, form: ColumnFormat, csv: CsvFormat) -> list[str | None]:
    """Write the cells of a column as text, None where they are missing."""
    dtype: Any = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        words = [*(level_text(level) for level in dtype.categories.astype(object)), None]
        return [words[code] for code in series.cat.codes]
    if isinstance(dtype, pd.StringDtype) or pd.api.types.is_object_dtype(dtype):
        return [None if pd.isna(value) else level_text(value) for value in series.astype(object)]
    missing = series.isna().to_numpy()
    if dtype.kind == "b":
        yes, no = form.truths
        return [None if gone else yes if value else no for value, gone in zip(series, missing, strict=True)]
    if dtype.kind == "M":
        return _dates(series, form.date)
    if dtype.kind == "m":
        return [None if gone else str(value) for value, gone in zip(series, missing, strict=True)]
    return [None if gone else text for text, gone in zip(_numbers(series, form, csv), missing, strict=True)]


def _dates(series: pd.Series, form: DateFormat | None) -> list[str | None]:
    """Write dates in their format, else as ISO dates in the coarsest unit that all of them have."""
    zone = getattr(series.dtype, "tz", None)
    if form is None and zone is not None:
        return [None if pd.isna(value) else _moment(value) for value in series]
    if form is None:
        values = series.dropna().to_numpy()
        finest: Unit = "ns"
        unit = next((unit for unit in _UNITS if (values.astype(f"M8[{unit}]") == values).all()), finest)
        form = DateFormat(unit, " ")
    return form.write(series).tolist()


def _moment(value: pd.Timestamp) -> str:
    """Write a moment with an offset of whole minutes: few readers take the seconds of local mean times."""
    ahead: Any = value.utcoffset()
    minutes = ahead // timedelta(minutes=1)
    return value.tz_convert(timezone(timedelta(minutes=minutes))).isoformat(sep=" ")


def _numbers(series: pd.Series, form: ColumnFormat, csv: CsvFormat) -> list[str]:
    """Write numbers with as many digits as it takes to read the same ones."""
    precision: Any = getattr(series.dtype, "numpy_dtype", series.dtype)
    if precision.kind == "f":
        values = series.to_numpy(dtype=precision, na_value=np.nan)
        if form.decimals is None:
            texts = [_grouped(text, form) for text in _shortest(values)]
        else:
            texts = [f"{value:{',' if form.grouped else ''}.{form.decimals}f}" for value in values.tolist()]
    else:
        values = series.to_numpy(dtype=precision, na_value=0)
        texts = [f"{value:,}" if form.grouped else str(value) for value in values.tolist()]
    if csv.decimal == "." and not form.grouped:
        return texts
    return [text.translate(str.maketrans({".": csv.decimal, ",": csv.thousands})) for text in texts]


def _shortest(values: np.ndarray) -> list[str]:
    return [repr(value) for value in values.tolist()] if values.dtype == np.float64 else values.astype(str).tolist()


def _grouped(text: str, form: ColumnFormat) -> str:
    """Group the digits before the point, unless there is an exponent."""
    whole, point, rest = text.partition(".")
    return f"{int(whole):,}{point}{rest}" if form.grouped and whole.lstrip("-").isdigit() else text
