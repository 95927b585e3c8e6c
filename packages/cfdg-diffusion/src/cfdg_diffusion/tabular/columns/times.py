"""Times: series of dates and durations <-> int64 arrays of days, seconds of the day and fractions of a second."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from datetime import date, timedelta

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.columns.dtypes import NO_BOUNDS, Arrays, Bounds, Dtype, dtype_unit

_DAY = 86_400
_QUARTER = 900
_MORE_OFTEN = 1.04
"""Ratio of coincidences that is no accident of rows all round the clock; opening for twelve hours has it."""
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_YEARS = (-719_160, 2_932_894)
"""Days from 1970 to 0001-01-03 and to 9999-12-29: two days within the limits of Python's datetime, for any zone."""
_LAST = 2**63 - 1


@dataclass(frozen=True)
class Times:
    """Timestamps of one column, read as days, seconds of the day and fractions of a second; durations as one integer.

    A day starts at midnight of the column's usual offset from UTC, so no hour repeats or is left out, or at midnight of
    the zone's clocks, so that nine o'clock is the same second in summer and in winter.

    Attributes:
        dtype: datetime64 with or without a zone, or timedelta64.
        offset: seconds by which midnight of the usual offset is earlier than UTC's.
        limits: earliest and latest value that is written, in the dtype's unit since 1970; None for no other limits than
            years that every library reads.
        by_clocks: days and seconds are those of the zone's clocks. Of an hour that they show twice the first one is
            written; a time that they leave out becomes the first one after the gap.
    """

    dtype: Dtype
    offset: int = 0
    limits: tuple[int, int] | None = None
    by_clocks: bool = False

    @property
    def precision(self) -> np.dtype:
        """The numpy type of all arrays."""
        return np.dtype(np.int64)

    def check(self, series: pd.Series) -> None:
        """Refuse a series without missing values that holds no dates, or no durations.

        Raises:
            ValueError: with both dtypes; the caller puts the column's name before the message.
        """
        if series.dtype.kind != self.dtype.kind and not _are_times(series, self.dtype.kind):
            call = "pandas.to_datetime" if self.dtype.kind == "M" else "pandas.to_timedelta"
            raise ValueError(f"has dtype {series.dtype}, expected {self.dtype}: convert it with {call}")
        zone = getattr(self.dtype, "tz", None)
        if self.dtype.kind == "M" and not _have_zones(series, zone is not None):
            call = "tz_localize(None)" if zone is None else f"tz_localize({str(zone)!r})"
            raise ValueError(f"has dtype {series.dtype}, expected {self.dtype}: convert it with Series.dt.{call}")

    def read(self, series: pd.Series) -> Arrays:
        """Read a series of N rows without missing values as three int64 arrays ``(N,)``, or one of durations.

        Raises:
            ValueError: if the dtype cannot be converted; the caller puts the column's name before the message.
        """
        self.check(series)
        try:
            series = series if series.dtype == self.dtype else series.astype(self.dtype)
        except (TypeError, ValueError) as error:
            raise ValueError(f"has dtype {series.dtype}, expected {self.dtype}: {error}") from error
        values = _since_1970(series)
        if self.dtype.kind == "m":
            return [values]
        return self._parts(values)

    def _parts(self, values: np.ndarray) -> Arrays:
        """Split int64 units since 1970 ``(N,)`` into days, seconds of the day and fractions."""
        offset = 0 if self.by_clocks else self.offset
        values = _clock_times(values, self.dtype) if self.by_clocks else values
        seconds, fraction = np.divmod(values, _PER_SECOND[dtype_unit(self.dtype)])
        days, second = np.divmod(seconds + offset, _DAY)
        return [days, second, fraction]

    def write(self, arrays: Arrays, missing: np.ndarray) -> pd.Series:
        """Write arrays ``(N,)``, clipped to the limits, as a series; missing where ``missing (N,)``."""
        unit = dtype_unit(self.dtype)
        none = np.iinfo(np.int64).min
        low, high = self.limits or usual_limits(self.dtype, self.offset)
        if self.dtype.kind == "m":
            return pd.Series(np.where(missing, none, np.clip(arrays[0], low, high)).view(f"m8[{unit}]"))
        days, second, fraction = _between(arrays, *(self._parts(np.array([limit])) for limit in (low, high)))
        offset = 0 if self.by_clocks else self.offset
        values = (days * _DAY + second - offset) * _PER_SECOND[unit] + fraction
        series = pd.Series(pd.DatetimeIndex(np.where(missing, none, values).view(f"M8[{unit}]")))
        zone = getattr(self.dtype, "tz", None)
        if self.by_clocks:
            first = np.ones(len(series), dtype=bool)
            return series.dt.tz_localize(zone, ambiguous=first, nonexistent="shift_forward")
        return series if zone is None else series.dt.tz_localize("UTC").dt.tz_convert(zone)

    def bounds(self, arrays: Arrays) -> list[Bounds]:
        """Bound durations by their sign, and seconds and fractions by their range."""
        if self.dtype.kind == "m":
            return [(0.0 if arrays[0].min() >= 0 else -math.inf, 0.0 if arrays[0].max() <= 0 else math.inf)]
        return [NO_BOUNDS, (0.0, _DAY - 1.0), (0.0, _PER_SECOND[dtype_unit(self.dtype)] - 1.0)]


def _between(arrays: Arrays, low: Arrays, high: Arrays) -> Arrays:
    """Clip days ``(N,)`` to those of ``low (1,)`` and ``high (1,)`` so that seconds stay, then all to the limits."""
    clipped = [np.clip(arrays[0], low[0], high[0]), *arrays[1:]]
    early = _is_before(clipped, low)
    late = _is_before(high, clipped)
    parts = zip(clipped, low, high, strict=True)
    return [np.where(early, first, np.where(late, last, part)) for part, first, last in parts]


def _is_before(one: Arrays, other: Arrays) -> np.ndarray:
    """Compare days, then seconds, then fractions."""
    before = one[2] < other[2]
    for part in (1, 0):
        before = (one[part] < other[part]) | ((one[part] == other[part]) & before)
    return before


def usual_limits(dtype: Dtype, offset: int) -> tuple[int, int]:
    """Find the limits of new dates, or durations: whole days, two days within the years 1 to 9999 and within int64."""
    if dtype.kind == "m":
        return -_LAST, _LAST
    per_second = _PER_SECOND[dtype_unit(dtype)]
    per_day = _DAY * per_second
    most = _LAST // per_day - 2
    low = max(_YEARS[0], -most) * per_day
    high = (min(_YEARS[1], most) + 1) * per_day - 1
    return low - offset * per_second, high - offset * per_second


def learn_times(series: pd.Series, keep_range: bool = False) -> Times:
    """Learn a column of dates or durations; its offset from UTC is the median of its rows.

    Training rows are within the limits, whatever their year; with ``keep_range`` they are the limits. Days are those of
    the zone's clocks if every row comes back so, and rows agree more often in their time of the day.
    """
    present = series.dropna()
    if not len(present):
        return Times(series.dtype)
    values = _since_1970(present)
    offset = 0
    if getattr(series.dtype, "tz", None) is not None:
        local = present.dt.tz_localize(None).to_numpy().view(np.int64)
        offset = round(float(np.median(local - values) / _PER_SECOND[dtype_unit(series.dtype)]))
    low = int(values.min())
    high = int(values.max())
    usual = usual_limits(series.dtype, offset)
    limits = (low, high) if keep_range else (min(low, usual[0]), max(high, usual[1]))
    times = Times(series.dtype, offset, limits)
    by_clocks = replace(times, by_clocks=True)
    return by_clocks if _clocks_change(series.dtype) and _go_by_clocks(present, by_clocks, times) else times


def _clocks_change(dtype: Dtype) -> bool:
    """Test for a zone whose offset from UTC may depend on the date."""
    zone = getattr(dtype, "tz", None)
    return zone is not None and zone.utcoffset(None) is None


def _go_by_clocks(present: pd.Series, by_clocks: Times, by_offset: Times) -> bool:
    """Test whether rows come back exactly by the clocks, and agree more often in their time of the day.

    Where all rows have one offset, both readings agree, and the clocks are right for other days.
    """
    try:
        clocks = by_clocks.read(present)
        back = by_clocks.write(clocks, np.zeros(len(present), dtype=bool))
    except (ValueError, OverflowError, NotImplementedError):  # pandas knows no clocks beyond the year 9999
        return False
    if (_since_1970(back) != _since_1970(present)).any():
        return False
    offset = by_offset.read(present)
    alike = all((one == other).all() for one, other in zip(clocks, offset, strict=True))
    return alike or _coincidences(clocks[1]) >= _MORE_OFTEN * _coincidences(offset[1])


def _coincidences(second: np.ndarray) -> float:
    """Count pairs of rows in one quarter hour of the day, of seconds of the day ``(N,)``."""
    counts = np.unique(second // _QUARTER, return_counts=True)[1]
    return float(np.square(counts, dtype=np.float64).sum())


def _clock_times(values: np.ndarray, dtype: Dtype) -> np.ndarray:
    """Convert int64 units since 1970 ``(N,)`` to what the clocks of the dtype's zone show."""
    moments = pd.DatetimeIndex(values.view(f"M8[{dtype_unit(dtype)}]")).tz_localize("UTC")
    return moments.tz_convert(dtype.tz).tz_localize(None).to_numpy().view(np.int64)


def _are_times(series: pd.Series, kind: str) -> bool:
    """Test for objects that are all dates (M) or all durations (m)."""
    types = (date, np.datetime64) if kind == "M" else (timedelta, np.timedelta64)
    return series.dtype == object and all(isinstance(value, types) for value in series)


def _have_zones(series: pd.Series, expected: bool) -> bool:
    """Test whether all dates have a time zone, or none has."""
    if series.dtype == object:
        return all((getattr(value, "tzinfo", None) is not None) == expected for value in series)
    return (getattr(series.dtype, "tz", None) is not None) == expected


def _since_1970(series: pd.Series) -> np.ndarray:
    """Count int64 units of the dtype since 1970, ``(N,)``."""
    if getattr(series.dtype, "tz", None) is not None:
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    return series.to_numpy().view(np.int64)
