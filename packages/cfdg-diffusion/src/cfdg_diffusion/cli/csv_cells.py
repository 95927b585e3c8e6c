"""Cells of text -> columns with dtypes, without a cell that wraps or is rounded to fit."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.cli.dates import DateFormat, require
from cfdg_diffusion.cli.formats import MISSING, PLAIN, ColumnFormat, CsvFormat

_TRUTHS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_PAIRS = (("yes", "no"), ("y", "n"), ("t", "f"), ("on", "off"), ("1", "0"), ("true", "false"))
_DURATION = re.compile(r"(-?[0-9]+) days?(?: ([+-]?)([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?)?")
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_ISO = DateFormat("D")
TEXT: Any = "str" if int(pd.__version__.split(".")[0]) >= 3 else object
"""Dtype of text that was in no training."""


@dataclass(frozen=True)
class ColumnReading:
    """Reading of the cells of one column.

    Attributes:
        dtype: of the column; numbers are read wider if a cell needs it, so that none of them changes.
        csv: characters of its numbers.
        form: of its cells.
        levels: the values of categories and objects by their text; None for other dtypes.
        missing: cells that stand for a missing value.
        takes_new_levels: a category may have other levels than those of the dtype, as text.
    """

    dtype: Any
    csv: CsvFormat = field(default_factory=CsvFormat)
    form: ColumnFormat = PLAIN
    levels: Mapping[str, object] | None = None
    missing: tuple[str, ...] = MISSING
    takes_new_levels: bool = False

    def without_missing(self, cells: pd.Series) -> pd.Series:
        """Replace the words for a missing value by None."""
        return cells.mask(cells.isin(self.missing), None)


def cast(cells: pd.Series, reading: ColumnReading) -> pd.Series:
    """Convert cells of text, None where they are missing, to a dtype that holds each of them.

    Raises:
        ValueError: if a cell cannot be converted; the message continues after the column's name and counts rows from 1.
    """
    dtype = reading.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _categories(cells, dtype, reading.levels, reading.takes_new_levels)
    if isinstance(dtype, pd.StringDtype):
        return cells.astype(dtype)
    if pd.api.types.is_object_dtype(dtype):
        levels = reading.levels or {}
        values = [levels.get(cell, cell) if isinstance(cell, str) else None for cell in cells]
        return pd.Series(values, index=cells.index, dtype=object)
    if dtype.kind == "b":
        known = dict(zip(reading.form.truths, (True, False), strict=True)) | _TRUTHS
        truths = _replaced(cells, known, " or ".join(reading.form.truths)).astype("boolean")
        return truths if truths.isna().any() else truths.astype(dtype)
    if dtype.kind == "M":
        return (reading.form.date or _ISO).parse_as(cells, dtype)
    if dtype.kind == "m":
        return _durations(cells, dtype)
    return _numbers(cells, dtype, reading.csv)


def level_text(level: object) -> str:
    """Return the text of a level of a category, as it is written and read."""
    return str(level)


def truth_words(cells: pd.Series) -> tuple[str, str]:
    """Find the words for True and False among two words such as yes and no.

    Raises:
        ValueError: if the cells have others; the message continues after the column's name.
    """
    found = set(cells.dropna().unique())
    for pair in _PAIRS:
        for change in (str.lower, str.upper, str.capitalize):
            words = (change(pair[0]), change(pair[1]))
            if found <= set(words):
                return words
    odd = sorted(found)[:3]
    raise ValueError(f"holds {', '.join(map(repr, odd))}, expected two words such as yes and no, or true and false")


def _categories(
    cells: pd.Series, dtype: pd.CategoricalDtype, levels: Mapping[str, object] | None, takes_new: bool
) -> pd.Series:
    known = levels or {level_text(level): level for level in dtype.categories.astype(object)}
    numbers: dict[Any, object] = {level: level for level in known.values() if isinstance(level, int | float)}
    spelt = {cell: known.get(cell, numbers.get(_float(cell))) for cell in cells.dropna().unique()}
    if takes_new:
        more = [cell for cell, level in spelt.items() if level is None]
        dtype = pd.CategoricalDtype([*dtype.categories, *more])
        spelt |= dict(zip(more, more, strict=True))
    found = _replaced(
        cells, {cell: level for cell, level in spelt.items() if level is not None}, "one of its categories"
    )
    return found.astype(dtype)


def _float(cell: str) -> float | None:
    try:
        return float(cell)
    except ValueError:
        return None


def _durations(cells: pd.Series, dtype: Any) -> pd.Series:  # noqa: ANN401 - numpy's or pandas' own dtypes
    unit = np.datetime_data(dtype)[0]
    counts = [_duration(cell, _PER_SECOND[unit]) if isinstance(cell, str) else None for cell in cells]
    good = pd.Series([count is not None for count in counts], index=cells.index) | cells.isna()
    require(cells, good, f"a duration such as 2 days 03:00:00, in {unit} at the finest")
    none = np.iinfo(np.int64).min
    values = np.array([none if count is None else count for count in counts], dtype=np.int64)
    return pd.Series(values.view(f"m8[{unit}]"), index=cells.index)


def _duration(cell: str, per_second: int) -> int | None:
    """Count the units of a duration; None if it is none, or has finer parts."""
    parts = _DURATION.fullmatch(cell.strip())
    if parts is None:
        found = pd.to_timedelta(cell, errors="coerce")
        nanoseconds = None if pd.isna(found) else int(found.value)
    else:
        days, sign, *clock, fraction = parts.groups(default="0")
        seconds = int(clock[0]) * 3600 + int(clock[1]) * 60 + int(clock[2])
        of_day = seconds * 10**9 + int(fraction.ljust(9, "0"))
        nanoseconds = int(days) * 86_400 * 10**9 + (-of_day if sign == "-" else of_day)
    whole, rest = divmod(nanoseconds or 0, 10**9 // per_second)
    return None if nanoseconds is None or rest or not -(2**63) < whole < 2**63 else whole


def _numbers(cells: pd.Series, dtype: Any, csv: CsvFormat) -> pd.Series:  # noqa: ANN401
    """Read numbers: int64 or float64 whatever the size of the dtype, nullable if cells are missing."""
    whole = dtype.kind in "iu"
    convert: Callable[[str], float | None] = _whole if whole else _float
    present = cells.dropna().astype(object)
    plain = plain_numbers(present, csv)
    values = {cell: convert(text) for cell, text in zip(present, plain, strict=True)}
    good = present.map(lambda cell: values[cell] is not None).astype(bool)
    require(present, good, f"a whole number{' below 2^63' if whole else ''}" if whole else "a number")
    gaps = len(present) < len(cells)
    is_plain = isinstance(dtype, np.dtype)
    own: Any = ("Int64" if gaps or not is_plain else "int64") if whole else "float64" if is_plain else "Float64"
    found = [values[cell] for cell in present]
    return pd.Series(found, index=present.index, dtype=own).reindex(cells.index)


def plain_numbers(cells: pd.Series, csv: CsvFormat) -> list[str]:
    """Write numbers with a point and without groups; what does so already becomes no number if it means another."""
    texts = [cell.strip() for cell in cells]
    if csv.thousands:
        mark = re.escape(csv.thousands)
        grouped = re.compile(rf"[+-]?[1-9][0-9]{{0,2}}(?:{mark}[0-9]{{3}})+(?![0-9])[^{mark}]*")
        texts = [
            text.replace(csv.thousands, "", -1) if csv.thousands not in text or grouped.fullmatch(text) else f"{text}?"
            for text in texts
        ]
    if csv.decimal != ".":
        texts = [f"{text}?" if "." in text else text.replace(csv.decimal, ".") for text in texts]
    return [f"{text}?" if "_" in text else text for text in texts]


def _whole(text: str) -> int | None:
    """Read a whole number of any spelling, such as 3.0 and 1E2; None if it is none below 2^63."""
    try:
        value = int(text)
    except ValueError:
        number = _float(text)
        if number is None or not number.is_integer():  # infinite ones are no integers
            return None
        value = int(number)
    return value if -(2**63) <= value < 2**63 else None


def _replaced(cells: pd.Series, known: Mapping[str, Any], expected: str) -> pd.Series:
    require(cells, cells.isna() | cells.isin(list(known)), expected)
    return cells.astype(object).map(known)
