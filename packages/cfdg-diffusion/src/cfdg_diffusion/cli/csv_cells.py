"""Text cells of a CSV file <-> columns with dtypes: detection of the dtype, and conversion in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import pandas as pd

MISSING = (
    "", "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A", "NA",
    "NULL", "NaN", "None", "n/a", "nan", "null",
)  # fmt: skip
"""Cells that stand for a missing value: the list of pandas.read_csv."""

_INTEGER = r" *[+-]?(?:0|[1-9][0-9]{0,17}|[1-8][0-9]{18}) *"  # no zero in front: 01234 is a code; below 2^63
_DECIMAL = r" *[+-]?(?:(?:0|[1-9][0-9]*)\.[0-9]*|\.[0-9]+|(?:0|[1-9][0-9]*)(?=[eE]))(?:[eE][+-]?[0-9]+)? *"
_INFINITE = r"[+-]?(?:inf|Inf|INF|infinity|Infinity)"
_DAY = r"[0-9]{4}-[01][0-9]-[0-3][0-9]"
_TIME = r"[0-2][0-9]:[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
_ZONE = r"Z|[+-][01][0-9]:[0-5][0-9]"
_PATTERNS = {
    "boolean": r"True|TRUE|true|False|FALSE|false",
    "integer": _INTEGER,
    "number": f"{_INTEGER}|{_DECIMAL}|{_INFINITE}",
    "date": f"{_DAY}(?:[ T]{_TIME}(?:{_ZONE})?)?",
}
_BETWEEN = "\x1f"  # ASCII's separator of units, which stands in no cell
_FOREIGN = {holds: re.compile(f"{_BETWEEN}(?!(?:{pattern}){_BETWEEN}|\\Z)") for holds, pattern in _PATTERNS.items()}
"""Patterns that find the first of the joined cells that is something else, in one pass without a stack."""
_DATE_PARTS = re.compile(f"({_DAY}(?:([ T])({_TIME}))?)({_ZONE})?")
_TRUTHS = {"True": True, "TRUE": True, "true": True, "False": False, "FALSE": False, "false": False}
_UNITS = ("D", "m", "s", "ms", "us", "ns")

Unit = Literal["D", "m", "s", "ms", "us", "ns"]


@dataclass(frozen=True)
class DateFormat:
    """Format of the ISO dates of a column.

    Attributes:
        unit: the finest part written, from "D" for days to "ns".
        separator: between date and time, "T" or a space.
        zone: "Z" or an offset from UTC such as "+01:00"; empty for none.
    """

    unit: Unit
    separator: str = "T"
    zone: str = ""

    def write(self, dates: pd.Series) -> pd.Series:
        """Format dates ``(N,)`` as text, None where they are missing."""
        if getattr(dates.dtype, "tz", None) is not None:
            dates = dates.dt.tz_convert("UTC").dt.tz_localize(None)
        values = dates.to_numpy() + _offset(self.zone)
        plain = np.datetime_as_string(values.astype(f"M8[{self.unit}]"), unit=self.unit).astype(object)
        texts = pd.Series(plain, index=dates.index, dtype=object).str.replace("T", self.separator, regex=False)
        return (texts + self.zone).mask(dates.isna(), None)

    def __str__(self) -> str:
        """Return a pattern such as ``YYYY-MM-DD``."""
        times = {"D": "", "m": "hh:mm", "s": "hh:mm:ss", "ms": "hh:mm:ss.fff", "us": "hh:mm:ss.ffffff"}
        time = times.get(self.unit, "hh:mm:ss.fffffffff")
        return "YYYY-MM-DD" + (self.separator + time if time else "") + self.zone


@dataclass
class Evidence:
    """Possible dtypes of one column of text, gathered from any number of chunks.

    Attributes:
        fits: those of "boolean", "integer", "number" and "date" that all cells so far can be read as.
        present: True if some cell has a value.
        missing: True if some cell has none.
        units: finest parts that the dates are written with.
        separators: characters between their dates and times.
        zones: their offsets from UTC, "" for none.
    """

    fits: set[str] = field(default_factory=lambda: set(_PATTERNS))
    present: bool = False
    missing: bool = False
    units: set[str] = field(default_factory=set)
    separators: set[str] = field(default_factory=set)
    zones: set[str] = field(default_factory=set)

    def add(self, cells: pd.Series) -> None:
        """Take more cells ``(N,)`` of text into account."""
        self.missing = self.missing or bool(cells.isna().any())
        self.present = self.present or bool(cells.notna().any())
        distinct = list(cells.dropna().unique()) if self.fits else []
        if not distinct:
            return
        joined = _BETWEEN.join(["", *distinct, ""])
        self.fits = {holds for holds in self.fits if not _FOREIGN[holds].search(joined)}
        if "date" in self.fits:
            self._add_dates(distinct)

    def _add_dates(self, distinct: Iterable[str]) -> None:
        parts = [part for part in map(_DATE_PARTS.fullmatch, distinct) if part]
        try:
            np.array([part[1] for part in parts], dtype="M8[s]")
        except ValueError:  # the calendar has no 30 February, although it looks like a date
            self.fits.discard("date")
            return
        self.units |= {_unit(part[3]) for part in parts}
        self.separators |= {part[2] for part in parts if part[2]}
        self.zones |= {part[4] or "" for part in parts}

    @property
    def dates(self) -> DateFormat | None:
        """The format of the dates, None if the column holds others; several offsets become that of UTC."""
        if not self.units or "date" not in self.fits or ("" in self.zones and len(self.zones) > 1):
            return None
        unit: Any = max(self.units, key=_UNITS.index)
        zone = next(iter(self.zones)) if len(self.zones) == 1 else "+00:00"
        return DateFormat(unit, min(self.separators, default="T"), zone)

    @property
    def dtype(self) -> str | None:
        """The dtype for pandas.read_csv, None for text and dates; nullable if there are gaps, so that 3 stays 3."""
        if not self.present:
            return "float64"
        if "boolean" in self.fits:
            return "boolean" if self.missing else "bool"
        if "integer" in self.fits:
            return "Int64" if self.missing else "int64"
        return "float64" if "number" in self.fits else None


def cast(cells: pd.Series, dtype: Any) -> pd.Series:  # noqa: ANN401 - numpy's or pandas' own dtypes
    """Convert cells of text to a dtype, or to a nullable one if cells are missing that the dtype cannot hold.

    Raises:
        ValueError: if a cell cannot be converted; the message continues after the column's name and counts rows from 1.
    """
    if isinstance(dtype, pd.CategoricalDtype):
        levels = {str(level): level for level in dtype.categories}
        return _replaced(cells, levels, "one of its categories").astype(dtype)
    if isinstance(dtype, pd.StringDtype) or pd.api.types.is_object_dtype(dtype):
        return cells.astype(dtype)
    if dtype.kind == "b":
        truths = _replaced(cells, _TRUTHS, "True or False").astype("boolean")
        return truths if truths.isna().any() else truths.astype(dtype)
    if dtype.kind == "M":
        return _dates(cells, dtype)
    if dtype.kind == "m":
        return _durations(cells, dtype)
    return _numbers(cells, dtype)


def parse_dates(cells: pd.Series, written: DateFormat) -> pd.Series:
    """Convert ISO dates to datetime64: in UTC if they have an offset, else without zone.

    Raises:
        ValueError: if a cell is no date; the message counts rows from 1.
    """
    stored = "s" if written.unit in ("D", "m", "s") else written.unit
    zone = ", UTC" if written.zone else ""
    return _dates(cells, pd.api.types.pandas_dtype(f"datetime64[{stored}{zone}]"))


def _dates(cells: pd.Series, dtype: Any) -> pd.Series:  # noqa: ANN401
    unit = getattr(dtype, "unit", None) or np.datetime_data(dtype)[0]
    parts = [_DATE_PARTS.fullmatch(cell) if isinstance(cell, str) else None for cell in cells]
    good = pd.Series([part is not None for part in parts], index=cells.index) | cells.isna()
    _require(cells, good, "a date such as 2024-12-31 or 2024-12-31T23:59:59")
    try:
        values = np.array([part[1] if part else "NaT" for part in parts], dtype=f"M8[{unit}]")
    except ValueError as error:
        raise ValueError(f"holds a day that the calendar does not have: {error}") from error
    zones = pd.Series([part[4] or "" if part else "" for part in parts], index=cells.index, dtype=object)
    offsets = np.array([_offset(zone) for zone in zones], dtype="m8[m]")
    moments = pd.Series(values - offsets.astype(f"m8[{unit}]"), index=cells.index)
    return _in_zone(moments, zones != "", cells, dtype)


def _in_zone(moments: pd.Series, has_zone: pd.Series, cells: pd.Series, dtype: Any) -> pd.Series:  # noqa: ANN401
    """Set the time zone: dates without offset are local ones; a column has an offset in all cells or in none."""
    zone = getattr(dtype, "tz", None)
    if zone is None:
        _require(cells, ~has_zone, "a date without an offset from UTC")
        return moments
    if not has_zone.any():
        return moments.dt.tz_localize(zone, ambiguous="NaT", nonexistent="shift_forward")
    _require(cells, has_zone | cells.isna(), "a date with an offset from UTC, as others have")
    return moments.dt.tz_localize("UTC").dt.tz_convert(zone)


def _durations(cells: pd.Series, dtype: Any) -> pd.Series:  # noqa: ANN401
    values = pd.to_timedelta(cells.astype(object), errors="coerce")
    _require(cells, values.notna() | cells.isna(), "a duration such as 2 days 03:00:00")
    return values.astype(dtype)


def _numbers(cells: pd.Series, dtype: Any) -> pd.Series:  # noqa: ANN401
    whole = dtype.kind in "iu"
    precision = np.dtype(getattr(dtype, "numpy_dtype", dtype))
    present = cells.dropna().astype(object)
    values = pd.to_numeric(present, errors="coerce")
    good = values.notna() & ((values == values.round()) | (not whole))
    _require(present, good, "a whole number" if whole else "a number")
    if len(present) == len(cells):
        return values.astype(dtype)
    nullable: Any = {"i": "Int64", "u": "UInt64"}.get(precision.kind, dtype) if dtype == precision else dtype
    return values.astype(nullable).reindex(cells.index)


def _replaced(cells: pd.Series, known: Mapping[str, Any], expected: str) -> pd.Series:
    _require(cells, cells.isna() | cells.isin(list(known)), expected)
    return cells.astype(object).map(known)


def _require(cells: pd.Series, good: pd.Series, expected: str) -> None:
    """Raise a ValueError that names the first cell that is not good."""
    if not good.all():
        row: Any = good.index[~good.to_numpy(dtype=bool)][0]
        raise ValueError(f"holds {cells[row]!r} in row {row + 1:,}, expected {expected}")


def _unit(time: str | None) -> str:
    """Return the finest part of a time of day such as 23:59:59.5."""
    if time is None:
        return "D"
    _, _, fraction = time.partition(".")
    if fraction:
        return ("ms", "us", "ns")[(len(fraction) - 1) // 3]
    return "s" if time.count(":") == 2 else "m"


def _offset(zone: str) -> np.timedelta64:
    if zone in ("", "Z"):
        return np.timedelta64(0, "m")
    minutes = 60 * int(zone[1:3]) + int(zone[4:6])
    return np.timedelta64(-minutes if zone[0] == "-" else minutes, "m")
