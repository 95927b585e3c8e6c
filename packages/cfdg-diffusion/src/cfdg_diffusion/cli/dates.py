"""Dates as text: ISO 8601, or a pattern of strptime such as %d.%m.%Y."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timezone
from itertools import product
from typing import Any, Literal

import numpy as np
import pandas as pd

DAY = r"[0-9]{4}-[01][0-9]-[0-3][0-9]"
_TIME = r"[0-2][0-9]:[0-5][0-9](?::[0-5][0-9](?:\.[0-9]{1,9})?)?"
_ZONE = r"Z|[+-][01][0-9]:[0-5][0-9](?::[0-5][0-9])?"  # seconds: local mean time, as pandas writes it
ISO = f"{DAY}(?:[ T]{_TIME}(?:{_ZONE})?)?"
"""Pattern of a date that is found without being told."""
ISO_PARTS = re.compile(f"({DAY}(?:([ T])({_TIME}))?)({_ZONE})?")
"""The moment, the character before its time, the time, and the offset of such a date."""
_WIDE_PARTS = re.compile(f"([+-]?[0-9]{{0,8}}{DAY}(?:([ T])({_TIME}))?)({_ZONE})?")  # years that datetime64[s] holds
UNITS = ("D", "m", "s", "ms", "us", "ns")
"""Units from the coarsest to the finest."""
_COMMON = (
    "%Y%m%d", "%d.%m.%Y", "%d/%m/%Y", "%m/%d/%Y", "%d-%m-%Y", "%m-%d-%Y", "%Y/%m/%d", "%Y.%m.%d", "%d.%m.%y",
    "%d/%m/%y", "%m/%d/%y", "%d %b %Y", "%d %B %Y", "%b %d, %Y", "%B %d, %Y",
)  # fmt: skip
"""Patterns that are tried when only ``datetime`` is said; each may be followed by a time."""
_DIRECTIVE = re.compile("%(-?)(.)")
_MAY_BE_SHORT = re.compile("(?<!%[A-Za-z])%(?=[dmH](?!%))")  # digits side by side need their zeros
_TIMES = ("", " %H:%M", " %H:%M:%S", " %H:%M:%S.%f", "T%H:%M:%S", "%H%M%S")

_NANOSECOND_ERA = 9_223_372_000
"""Seconds around 1970 that nanoseconds in 64 bits reach."""

Unit = Literal["D", "m", "s", "ms", "us", "ns"]


@dataclass(frozen=True)
class DateFormat:
    """Format of the dates of a column.

    Attributes:
        unit: the finest part written, from "D" for days to "ns".
        separator: between date and time, "T" or a space.
        zone: "Z" or an offset from UTC such as "+01:00"; empty for none.
        pattern: of strptime such as ``%d.%m.%Y``, in place of ISO 8601 if it is not empty; ``%-d`` is written without
            leading zeros.
    """

    unit: Unit
    separator: str = "T"
    zone: str = ""
    pattern: str = ""

    @classmethod
    def of_pattern(cls, pattern: str) -> DateFormat:
        """Make the format of a pattern of strptime."""
        zone = "+00:00" if "%z" in pattern else ""
        return cls("us" if "%f" in pattern else "s", zone=zone, pattern=pattern)

    def write(self, dates: pd.Series) -> pd.Series:
        """Format dates ``(N,)`` as text, None where they are missing."""
        if getattr(dates.dtype, "tz", None) is not None:
            dates = dates.dt.tz_convert("UTC").dt.tz_localize(None)
        values = dates.to_numpy() + offset(self.zone)
        if self.pattern:
            return pd.Series(_by_pattern(values, self.pattern), index=dates.index, dtype=object)
        plain = np.datetime_as_string(values.astype(f"M8[{self.unit}]"), unit=self.unit).astype(object)
        texts = pd.Series(plain, index=dates.index, dtype=object).str.replace("T", self.separator, regex=False)
        return (texts + self.zone).mask(dates.isna(), None)

    def parse(self, cells: pd.Series) -> pd.Series:
        """Read text ``(N,)`` as datetime64: in UTC if it has an offset, else without zone.

        Raises:
            ValueError: if a cell is no such date; the message counts rows from 1.
        """
        stored = "s" if self.unit in ("D", "m", "s") else self.unit
        return self.parse_as(cells, pd.api.types.pandas_dtype(f"datetime64[{stored}{', UTC' if self.zone else ''}]"))

    def parse_as(self, cells: pd.Series, dtype: Any) -> pd.Series:  # noqa: ANN401 - numpy's or pandas' own dtypes
        """Read text ``(N,)`` as a dtype of dates, in a finer unit if some cell needs one; see :meth:`parse`."""
        return _of_pattern(cells, self.pattern, dtype) if self.pattern else parse_iso(cells, dtype)

    def __str__(self) -> str:
        """Return a pattern such as ``YYYY-MM-DD``."""
        if self.pattern:
            return self.pattern
        times = {"D": "", "m": "hh:mm", "s": "hh:mm:ss", "ms": "hh:mm:ss.fff", "us": "hh:mm:ss.ffffff"}
        time = times.get(self.unit, "hh:mm:ss.fffffffff")
        return "YYYY-MM-DD" + (self.separator + time if time else "") + self.zone


def guess(cells: Iterable[str]) -> DateFormat:
    """Find the one common pattern that reads all cells, with ``%-d`` and the like where they have no leading zeros.

    Raises:
        ValueError: if none does, or several that differ; the message continues after the column's name.
    """
    distinct = list(dict.fromkeys(cells))
    fits = [day + time for day in _COMMON for time in _TIMES if _reads_all(distinct, day + time)]
    if len(fits) == 1:
        return DateFormat.of_pattern(_as_written(fits[0], distinct))
    help_ = "give the format, such as COLUMN=datetime:%d.%m.%Y"
    if fits:
        raise ValueError(f"can be read as {' and as '.join(fits)}: {help_}")
    raise ValueError(f"holds {distinct[0] if distinct else ''!r}, which is no date of a common format: {help_}")


def _reads_all(cells: Iterable[str], pattern: str) -> bool:
    try:
        return all(len(cell.strip()) >= len(pattern) - 2 and datetime.strptime(cell.strip(), pattern) for cell in cells)
    except ValueError:
        return False


def _as_written(pattern: str, cells: Iterable[str]) -> str:
    """Leave out leading zeros where that gives the cells as they are, of as many parts as possible."""
    moments = {cell.strip(): datetime.strptime(cell.strip(), pattern) for cell in cells}
    count = len(_MAY_BE_SHORT.findall(pattern))
    choices = sorted(product(("%-", "%"), repeat=count), key=lambda own: (own.count("%") < count, own.count("%")))
    for choice in choices:
        parts = iter(choice)
        own = _MAY_BE_SHORT.sub(lambda _, parts=parts: next(parts), pattern)
        if all(_formatted(moment, own) == cell for cell, moment in moments.items()):
            return own
    return pattern


def _of_pattern(cells: pd.Series, pattern: str, dtype: Any) -> pd.Series:  # noqa: ANN401
    known: dict[str, np.datetime64] = {}
    readable = _DIRECTIVE.sub(r"%\2", pattern)  # strptime reads 8 as %d too, and knows no %-d
    for row, cell in zip(cells.index.tolist(), cells, strict=True):
        if isinstance(cell, str) and cell not in known:
            try:
                known[cell] = _instant(datetime.strptime(cell.strip(), readable))
            except ValueError as error:
                raise ValueError(f"holds {cell!r} in row {row + 1:,}, expected a date as {pattern}") from error
    unit = _finer(dtype, "us" if "%f" in pattern else "s")
    none = np.datetime64("NaT", "us")
    values = np.array([known.get(cell, none) for cell in cells], dtype="M8[us]").astype(f"M8[{unit}]")
    zone = getattr(dtype, "tz", None)
    found = pd.DatetimeIndex(values)
    return pd.Series(found if zone is None else found.tz_localize("UTC").tz_convert(zone), index=cells.index)


def _instant(moment: datetime) -> np.datetime64:
    if moment.tzinfo is not None:
        moment = moment.astimezone(timezone.utc).replace(tzinfo=None)
    return np.datetime64(moment, "us")


def _by_pattern(values: np.ndarray, pattern: str) -> list[str | None]:
    distinct, places = np.unique(values.astype("M8[us]"), return_inverse=True)
    texts = [None if pd.isna(moment) else _formatted(moment, pattern) for moment in distinct.tolist()]
    return [texts[place] for place in places.reshape(-1)]


def _formatted(moment: datetime, pattern: str) -> str:
    """Format as strftime does, with four digits of the year and with ``%-d`` on every system."""
    own: dict[str, Callable[[], str]] = {"%Y": lambda: f"{moment.year:04d}", "%z": lambda: "+0000"}

    def part(found: re.Match[str]) -> str:
        directive = f"%{found[2]}"
        text = own.get(directive, lambda: moment.strftime(directive))()
        return (text.lstrip("0") or "0") if found[1] else text

    return _DIRECTIVE.sub(part, pattern)


def parse_iso(cells: pd.Series, dtype: Any) -> pd.Series:  # noqa: ANN401
    """Read ISO dates ``(N,)`` as a dtype of dates, in a finer unit if some cell needs one.

    Raises:
        ValueError: if a cell is no such date; the message counts rows from 1.
    """
    parts = [_WIDE_PARTS.fullmatch(cell.strip()) if isinstance(cell, str) else None for cell in cells]
    good = pd.Series([part is not None for part in parts], index=cells.index) | cells.isna()
    require(cells, good, "a date such as 2024-12-31 or 2024-12-31T23:59:59")
    try:
        unit = _finer(dtype, max((unit_of(part[3]) for part in parts if part), key=UNITS.index, default="s"))
        seconds = np.array([part[1].partition(".")[0] if part else "NaT" for part in parts], dtype="M8[s]")
        if unit == "ns" and (np.abs(seconds.astype(np.int64)) > _NANOSECOND_ERA)[~np.isnat(seconds)].any():
            unit = "us"  # in nanoseconds the year 9999 would silently become another
        digits = {"us": 7, "ns": 10}.get(unit, 4)
        values = np.array([_cut(part[1], digits) if part else "NaT" for part in parts], dtype=f"M8[{unit}]")
    except ValueError as error:
        raise ValueError(f"holds a day that the calendar does not have: {error}") from error
    zones = pd.Series([part[4] or "" if part else "" for part in parts], index=cells.index, dtype=object)
    offsets = np.array([offset(zone) for zone in zones], dtype="m8[s]")
    moments = pd.Series(values - offsets.astype(f"m8[{unit}]"), index=cells.index)
    return _in_zone(moments, zones != "", cells, dtype)


def _cut(moment: str, digits: int) -> str:
    """Shorten the fraction of a second, its point counted, to what a unit holds."""
    whole, point, fraction = moment.partition(".")
    return whole + (point + fraction)[:digits]


def _finer(dtype: Any, unit: str) -> str:  # noqa: ANN401
    """Return the unit of a dtype, or a finer one."""
    own = getattr(dtype, "unit", None) or np.datetime_data(dtype)[0]
    return max(own, unit, key=UNITS.index)


def _in_zone(moments: pd.Series, has_zone: pd.Series, cells: pd.Series, dtype: Any) -> pd.Series:  # noqa: ANN401
    """Set the time zone: dates without offset are local ones; a column has an offset in all cells or in none."""
    zone = getattr(dtype, "tz", None)
    if zone is None:
        require(cells, ~has_zone, "a date without an offset from UTC")
        return moments
    if not has_zone.any():
        return _local(moments, zone)
    require(cells, has_zone | cells.isna(), "a date with an offset from UTC, as others have")
    return moments.dt.tz_localize("UTC").dt.tz_convert(zone)


def _local(moments: pd.Series, zone: Any) -> pd.Series:  # noqa: ANN401 - a tzinfo
    """Set the zone of local times; those that a change of clocks repeats or leaves out have the offset before it.

    As in PEP 495: 02:30 is the first of two, and 03:30 where clocks go from 02:00 to 03:00.
    """
    first = np.ones(len(moments), dtype=bool)
    found = moments.dt.tz_localize(zone, ambiguous=first, nonexistent="shift_forward")
    skipped = moments.notna() & (found.dt.tz_localize(None) != moments)
    if not skipped.any():
        return found
    before = moments.dt.tz_localize(zone, ambiguous=first, nonexistent="shift_backward")
    ahead = before.dt.tz_localize(None) - before.dt.tz_convert("UTC").dt.tz_localize(None)
    return found.mask(skipped, (moments - ahead).dt.tz_localize("UTC").dt.tz_convert(zone))


def require(cells: pd.Series, good: pd.Series, expected: str) -> None:
    """Raise a ValueError that names the first cell that is not good, and its row counted from 1."""
    if not good.all():
        row: Any = good.index[~good.to_numpy(dtype=bool)][0]
        raise ValueError(f"holds {cells[row]!r} in row {row + 1:,}, expected {expected}")


def unit_of(time: str | None) -> Unit:
    """Return the finest part of a time of day such as 23:59:59.5."""
    if time is None:
        return "D"
    _, _, fraction = time.partition(".")
    if fraction:
        finest: tuple[Unit, ...] = ("ms", "us", "ns")
        return finest[(len(fraction) - 1) // 3]
    return "s" if time.count(":") == 2 else "m"


def offset(zone: str) -> np.timedelta64:
    """Return what a zone such as +01:00 is ahead of UTC, in seconds."""
    if zone in ("", "Z"):
        return np.timedelta64(0, "s")
    seconds = 3600 * int(zone[1:3]) + 60 * int(zone[4:6]) + int(zone[7:9] or 0)
    return np.timedelta64(-seconds if zone[0] == "-" else seconds, "s")
