"""Dtypes: series of numbers and booleans <-> int64 or float64 arrays, and dtypes as JSON."""

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
_LAST = 2**63 - 1


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

    def check(self, series: pd.Series) -> None:
        """Refuse a series without missing values that holds no numbers.

        Raises:
            ValueError: with both dtypes; the caller puts the column's name before the message.
        """
        if not pd.api.types.is_numeric_dtype(series.dtype) or series.dtype.kind == "c":
            raise ValueError(f"has dtype {series.dtype}, expected {self.dtype} or other numbers")

    def read(self, series: pd.Series) -> Arrays:
        """Read a series of N rows without missing values as one array ``(N,)``; lossless conversions are allowed.

        Raises:
            ValueError: if a value cannot be converted; the caller puts the column's name before the message.
        """
        self.check(series)
        values = series.to_numpy()
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError("holds an infinite number, expected finite ones")
        if self.precision.kind == "f":
            with np.errstate(over="ignore"):
                values = values.astype(self.precision).astype(np.float64)
            return [np.clip(values, *_limits(self.precision))]
        if values.dtype.kind == "f" and (values != np.rint(values)).any():
            raise ValueError(f"holds {values[values != np.rint(values)][0]}, expected integers")
        outside = _beyond_int64(values)
        if outside.any():
            most = "at least -2^63" if values[outside][0] < 0 else "below 2^63"
            raise ValueError(f"holds {values[outside][0]}, expected integers {most}")
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


def _beyond_int64(values: np.ndarray) -> np.ndarray:
    """Find numbers ``(N,)`` that int64 does not hold; no int64 is compared with a float, which would round it."""
    if values.dtype.kind == "f":
        return (values >= 2.0**63) | (values < -(2.0**63))
    return values > np.uint64(_LAST) if values.dtype.kind == "u" else np.zeros(len(values), dtype=bool)


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
