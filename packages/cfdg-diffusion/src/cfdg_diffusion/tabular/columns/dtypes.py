"""Dtypes: series of numbers, booleans, dates and durations <-> int64 or float64 arrays, and dtypes as JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

Dtype = Any  # numpy's or pandas' own; type checkers do not know their attributes
Bounds = tuple[float, float]
Arrays = list[np.ndarray]

NO_BOUNDS: Bounds = (-math.inf, math.inf)
_DAY = 86_400
_PER_SECOND = {"s": 1, "ms": 10**3, "us": 10**6, "ns": 10**9}
_YEARS = (-719_162, 2_932_896)
"""Days from 1970 to 0001-01-01 and to 9999-12-31, the limits of Python's datetime."""


@dataclass(frozen=True)
class Numbers:
    """Numbers or booleans of one column, read as one int64 or float64 array.

    Attributes:
        dtype: numpy's, or pandas' masked one.
    """

    dtype: Dtype

    @property
    def precision(self) -> np.dtype:
        """The numpy type that the numbers are stored with."""
        return np.dtype(getattr(self.dtype, "numpy_dtype", self.dtype))

    def read(self, series: pd.Series) -> Arrays:
        """Read a series of N rows without missing values as one array ``(N,)``; lossless conversions are allowed.

        Raises:
            ValueError: if a value cannot be converted; the caller puts the column's name before the message.
        """
        if not pd.api.types.is_numeric_dtype(series.dtype) or series.dtype.kind == "c":
            raise ValueError(f"has dtype {series.dtype}, expected {self.dtype} or other numbers")
        values = series.to_numpy()
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError("holds an infinite number, expected finite ones")
        if self.precision.kind == "f":
            with np.errstate(over="ignore"):
                values = values.astype(self.precision).astype(np.float64)
            return [np.clip(values, *_limits(self.precision))]
        outside = values >= 2.0**63 if values.dtype.kind != "b" else np.zeros(1, dtype=bool)
        if values.dtype.kind == "f":
            outside = outside | (values < -(2.0**63)) | (values != np.rint(values))
        if outside.any():
            raise ValueError(f"holds {values[outside][0]}, expected integers below 2^63")
        return [values.astype(np.int64)]

    def write(self, arrays: Arrays, missing: np.ndarray) -> pd.Series:
        """Write an array ``(N,)``, clipped to the range of the dtype, as a series; missing where ``missing (N,)``."""
        values = np.clip(arrays[0], *_limits(self.precision)).astype(self.precision)
        series = pd.Series(values).astype(self.dtype)
        return series.mask(missing) if missing.any() else series

    def bounds(self, arrays: Arrays) -> list[Bounds]:
        """Find bounds that training suggests: 0 below or above, and 1 for shares or 100 for percentages above."""
        low = float(arrays[0].min())
        high = float(arrays[0].max())
        upper = next((top for top in (1.0, 100.0) if 0.95 * top < high <= top and low >= 0), math.inf)
        return [(0.0 if low >= 0 else -math.inf, 0.0 if high <= 0 else upper)]


@dataclass(frozen=True)
class Times:
    """Timestamps of one column, read as days, seconds of the day and fractions of a second; durations as one integer.

    A day starts at midnight of the column's usual offset from UTC, so no hour repeats or is left out.

    Attributes:
        dtype: datetime64 with or without a zone, or timedelta64.
        offset: seconds by which that midnight is earlier than UTC's.
    """

    dtype: Dtype
    offset: int = 0

    @property
    def precision(self) -> np.dtype:
        """The numpy type of all arrays."""
        return np.dtype(np.int64)

    def read(self, series: pd.Series) -> Arrays:
        """Read a series of N rows without missing values as three int64 arrays ``(N,)``, or one of durations.

        Raises:
            ValueError: if the dtype cannot be converted; the caller puts the column's name before the message.
        """
        if series.dtype.kind not in (self.dtype.kind, "O"):
            raise ValueError(f"has dtype {series.dtype}, expected {self.dtype}")
        try:
            series = series if series.dtype == self.dtype else series.astype(self.dtype)
        except (TypeError, ValueError) as error:
            raise ValueError(f"has dtype {series.dtype}, expected {self.dtype}: {error}") from error
        values = _since_1970(series)
        if self.dtype.kind == "m":
            return [values]
        per_second = _PER_SECOND[dtype_unit(self.dtype)]
        seconds, fraction = np.divmod(values, per_second)
        days, second = np.divmod(seconds + self.offset, _DAY)
        return [days, second, fraction]

    def write(self, arrays: Arrays, missing: np.ndarray) -> pd.Series:
        """Write arrays ``(N,)``, clipped to the years 1 to 9999, as a series; missing where ``missing (N,)``."""
        unit = dtype_unit(self.dtype)
        none = np.iinfo(np.int64).min
        if self.dtype.kind == "m":
            return pd.Series(np.where(missing, none, arrays[0]).view(f"m8[{unit}]"))
        per_second = _PER_SECOND[unit]
        most = (2**63 - 1) // per_second // _DAY - 2
        days = np.clip(arrays[0], max(_YEARS[0] + 2, -most), min(_YEARS[1] - 2, most))
        values = (days * _DAY + arrays[1] - self.offset) * per_second + arrays[2]
        series = pd.Series(pd.DatetimeIndex(np.where(missing, none, values).view(f"M8[{unit}]")))
        zone = getattr(self.dtype, "tz", None)
        return series if zone is None else series.dt.tz_localize("UTC").dt.tz_convert(zone)

    def bounds(self, arrays: Arrays) -> list[Bounds]:
        """Bound durations by their sign, and seconds and fractions by their range."""
        if self.dtype.kind == "m":
            return [(0.0 if arrays[0].min() >= 0 else -math.inf, 0.0 if arrays[0].max() <= 0 else math.inf)]
        return [NO_BOUNDS, (0.0, _DAY - 1.0), (0.0, _PER_SECOND[dtype_unit(self.dtype)] - 1.0)]


def learn_times(series: pd.Series) -> Times:
    """Learn a column of dates or durations; its offset from UTC is the median of its rows."""
    present = series.dropna()
    if getattr(series.dtype, "tz", None) is None or not len(present):
        return Times(series.dtype)
    local = present.dt.tz_localize(None).to_numpy().view(np.int64)
    offset = np.median(local - _since_1970(present)) / _PER_SECOND[dtype_unit(series.dtype)]
    return Times(series.dtype, round(float(offset)))


def _since_1970(series: pd.Series) -> np.ndarray:
    """Count int64 units of the dtype since 1970, ``(N,)``."""
    if getattr(series.dtype, "tz", None) is not None:
        series = series.dt.tz_convert("UTC").dt.tz_localize(None)
    return series.to_numpy().view(np.int64)


def _limits(precision: np.dtype) -> tuple[float, float]:
    """Return the smallest and the largest finite number of a numpy type that int64 or float64 can hold."""
    if precision.kind == "f":
        return -float(np.finfo(precision).max), float(np.finfo(precision).max)
    if precision.kind == "b":
        return 0, 1
    return int(np.iinfo(precision).min), min(int(np.iinfo(precision).max), 2**63 - 1)


def dtype_unit(dtype: Dtype) -> str:
    """Return the unit of a datetime64 or timedelta64, for example "ns"."""
    return getattr(dtype, "unit", None) or np.datetime_data(dtype)[0]


def dtype_state(dtype: Dtype) -> dict[str, Any]:
    """Describe a dtype as JSON; the categories of a categorical are left out."""
    if str(dtype) in ("string", "str"):
        return {"name": "string", "storage": dtype.storage, "nan": dtype.na_value is not pd.NA}
    return {"name": str(dtype)}


def known_by_name(dtype: Dtype) -> bool:
    """Test whether a dtype can be restored from its name; a custom time zone cannot."""
    try:
        return restore_dtype(dtype_state(dtype)) == dtype
    except TypeError:
        return False


def restore_dtype(state: Mapping[str, Any]) -> Dtype:
    """Make a dtype from its JSON, the inverse of :func:`dtype_state`; without pyarrow, text is stored by Python."""
    if "storage" not in state:
        return pd.api.types.pandas_dtype(state["name"])
    missing = {"na_value": math.nan} if state["nan"] else {}
    try:
        return pd.StringDtype(state["storage"], **missing)
    except ImportError:
        return pd.StringDtype("python", **missing)
