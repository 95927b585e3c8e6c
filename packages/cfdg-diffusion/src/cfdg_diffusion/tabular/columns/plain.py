"""Plain dtypes: columns of Arrow's dtypes and of decimals as those of NumPy and pandas."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.columns.dtypes import Dtype


def plain(series: pd.Series) -> pd.Series:
    """Convert Arrow's dtypes and decimals to dtypes of NumPy and pandas; other series stay as they are.

    Raises:
        ValueError: if the Arrow type is not supported or float64 does not hold a decimal.
    """
    series = without_arrow(series)
    if not holds_decimals(series):
        return series
    missing = series.isna().to_numpy()
    present = series[~missing].tolist()
    infinite = [value for value in present if not value.is_finite()]
    if infinite:
        raise ValueError("holds an infinite number, expected finite ones")
    if all(value == value.to_integral_value() for value in present):
        return _integers(series, present, missing)
    numbers = np.full(len(series), np.nan)
    numbers[~missing] = [_as_float(value) for value in present]
    return pd.Series(numbers, index=series.index)


def _integers(series: pd.Series, present: list[Decimal], missing: np.ndarray) -> pd.Series:
    values = [int(value) for value in present]
    outside = [value for value in values if not -(2**63) <= value < 2**63]
    if outside:
        raise ValueError(f"holds {outside[0]}, expected integers below 2^63 and digits that float64 holds")
    found = np.zeros(len(series), dtype=np.int64)
    found[~missing] = values
    return pd.Series(pd.arrays.IntegerArray(found, missing), index=series.index)


def _as_float(value: Decimal) -> float:
    number = float(value)
    if Decimal(repr(number)) != value:
        raise ValueError(f"holds {value}, expected at most the 15 digits that float64 holds")
    return number


def holds_decimals(series: pd.Series) -> bool:
    """Test for objects that are all decimals, or missing."""
    if series.dtype != object:
        return False
    first = series.first_valid_index()
    present = series.dropna() if first is not None else series
    return bool(len(present)) and all(isinstance(value, Decimal) for value in present)


def without_arrow(series: pd.Series) -> pd.Series:
    """Convert a column of an Arrow dtype; decimals become objects.

    Raises:
        ValueError: if the Arrow type is not supported.
    """
    if not isinstance(series.dtype, pd.ArrowDtype):
        return series
    dtype = _without_arrow(series.dtype)
    if series.dtype.kind in "iu":  # astype goes through float64 where values are missing
        import pyarrow as pa

        found = pa.array(series.array).to_pandas(types_mapper=lambda _: pd.api.types.pandas_dtype(dtype))
        return found.set_axis(series.index)
    if dtype is object:
        return series.astype(object)
    return series.astype(dtype)


def _without_arrow(dtype: Dtype) -> Dtype:
    """Find the dtype of NumPy or pandas that holds what an Arrow dtype holds."""
    import pyarrow as pa

    stored: Any = dtype.pyarrow_dtype
    unit = getattr(stored, "unit", "")
    zone = getattr(stored, "tz", None)
    found: tuple[tuple[Any, Any], ...] = (
        (pa.types.is_decimal, object),
        (pa.types.is_null, object),
        (pa.types.is_integer, str(dtype.numpy_dtype).capitalize().replace("Uint", "UInt")),
        (pa.types.is_boolean, "boolean"),
        (pa.types.is_string, pd.StringDtype("python")),
        (pa.types.is_large_string, pd.StringDtype("python")),
        (_is_dictionary_of_text, pd.StringDtype("python")),
        (pa.types.is_date32, "datetime64[s]"),
        (pa.types.is_date64, "datetime64[ms]"),
        (pa.types.is_timestamp, f"datetime64[{unit}, {zone}]" if zone else f"datetime64[{unit}]"),
        (pa.types.is_floating, dtype.numpy_dtype),
        (pa.types.is_duration, dtype.numpy_dtype),
    )
    for holds, plainly in found:
        if holds(stored):
            return plainly
    raise ValueError(f"{refusal(dtype)}: convert it with series.astype(str)")


def _is_dictionary_of_text(stored: Any) -> bool:  # noqa: ANN401 - pyarrow has no stubs
    import pyarrow as pa

    return pa.types.is_dictionary(stored) and str(stored.value_type) in ("string", "large_string")


_LEARNT = "numbers, booleans, text, categories, dates or durations"


def refusal(dtype: Dtype) -> str:
    """Say that a dtype is not supported, and which call helps."""
    calls = {"Sparse": "series.sparse.to_dense()", "period": "series.dt.to_timestamp()"}
    help_by = next((f": convert it with {call}" for name, call in calls.items() if str(dtype).startswith(name)), "")
    return f"has dtype {dtype}, expected {_LEARNT}{help_by}"
