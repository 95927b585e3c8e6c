"""The tables of a report: three DataFrames with the same columns as three float matrices."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
import pandas as pd

Kind = Literal["number", "datetime", "duration", "boolean", "category", "empty"]

MISSING = "(missing)"
OTHER = "(other)"

_INFERRED: dict[str, Kind] = {
    "boolean": "boolean",
    "integer": "number",
    "floating": "number",
    "mixed-integer-float": "number",
    "decimal": "number",
    "datetime": "datetime",
    "datetime64": "datetime",
    "date": "datetime",
    "timedelta": "duration",
    "empty": "empty",
}


@dataclass(frozen=True, slots=True)
class Column:
    """A column of the three tables.

    Attributes:
        name: its name as text.
        kind: of its values; ``boolean`` and ``category`` have levels, the others an order.
        levels: the levels found in any table as text; code k of a matrix is ``levels[k]``.
    """

    name: str
    kind: Kind
    levels: tuple[str, ...] = ()

    @property
    def has_levels(self) -> bool:
        """True if the matrix holds codes of levels instead of numbers."""
        return self.kind in ("boolean", "category", "empty")

    def text(self, value: float) -> str:
        """Format a value of the matrix for a reader."""
        if np.isnan(value):
            return MISSING
        if self.has_levels:
            return self.levels[int(value)]
        if self.kind == "datetime":
            minute = np.datetime64(int(value // 60), "m")  # pandas counts fractions in nanoseconds, up to 2262
            return str(minute).replace("T", " ").removesuffix(" 00:00")
        return short(value)


def short(value: float) -> str:
    """Format a number with four significant digits; whole ones below 1e9 in full, no exponent from 1e-3 to 1e6."""
    if value == round(value) and abs(value) < 1e9:
        return f"{value:.0f}"
    if 1e-3 <= abs(value) < 1e6:
        return f"{value:.{max(3 - int(np.floor(np.log10(abs(value)))), 0)}f}"
    return f"{value:.4g}"


MOST_COLUMNS = 1_000  # half a million pairs; their number grows with the square


@dataclass(frozen=True, slots=True)
class Tables:
    """The tables as float64 ``(N, D)``: numbers, seconds for dates, codes for levels, NaN for what is missing."""

    columns: tuple[Column, ...]
    train: np.ndarray
    synthetic: np.ndarray
    holdout: np.ndarray | None

    @property
    def reference(self) -> np.ndarray:
        """The real rows that synthetic ones are compared with: the holdout, or the training rows without one."""
        return self.train if self.holdout is None else self.holdout

    def sampled(self, rows: int, rng: np.random.Generator) -> Tables:
        """Draw at most ``rows`` rows of each; as many training as synthetic rows, so that both compare alike."""
        both = min(len(self.train), len(self.synthetic), rows)
        train = subsample(self.train, both, rng)
        synthetic = subsample(self.synthetic, both, rng)
        holdout = None if self.holdout is None else subsample(self.holdout, rows, rng)
        return replace(self, train=train, synthetic=synthetic, holdout=holdout)


def subsample(values: np.ndarray, rows: int, rng: np.random.Generator) -> np.ndarray:
    """Draw ``rows`` of the rows of ``(N, D)`` without repetition, in their order; all if there are no more."""
    if len(values) <= rows:
        return values
    return values[np.sort(rng.choice(len(values), rows, replace=False))]


def read_tables(train: pd.DataFrame, synthetic: pd.DataFrame, holdout: pd.DataFrame | None, fewest: int) -> Tables:
    """Check three tables against each other and encode them with the same levels.

    Raises:
        ValueError: if a table has fewer than ``fewest`` rows, repeats a column name, lacks a column, has one too
            many or one of another kind, or holds an infinite number or a value that cannot be compared.
    """
    frames = {"real_train": train, "synthetic": synthetic} | ({} if holdout is None else {"holdout": holdout})
    for name, frame in frames.items():
        _check_frame(name, frame, train, fewest)
    columns = []
    encoded = {name: np.empty(frame.shape) for name, frame in frames.items()}
    for position, name in enumerate(train.columns):
        series = {table: frame[name] for table, frame in frames.items()}
        column, values = _encode(name, _kind(name, series), series)
        columns.append(column)
        for table, found in values.items():
            encoded[table][:, position] = found
    return Tables(tuple(columns), encoded["real_train"], encoded["synthetic"], encoded.get("holdout"))


def _check_frame(name: str, frame: pd.DataFrame, train: pd.DataFrame, fewest: int) -> None:
    if not isinstance(frame, pd.DataFrame):
        raise ValueError(f"{name} is a {type(frame).__name__}, expected a pandas DataFrame")
    if not frame.columns.is_unique:
        raise ValueError(f"{name} has the column {_repeated(frame)!r} more than once, expected unique column names")
    if frame.shape[1] == 0 or len(frame) < fewest:
        raise ValueError(
            f"{name} has {len(frame)} rows and {frame.shape[1]} columns, expected at least {fewest} rows and a column"
        )
    if frame.shape[1] > MOST_COLUMNS:
        raise ValueError(
            f"{name} has {frame.shape[1]:,} columns, expected at most {MOST_COLUMNS:,}, of which all pairs are compared"
        )
    for column in train.columns.difference(frame.columns, sort=False):
        raise ValueError(f"{name} lacks the column {column!r}, expected the columns of real_train")
    for column in frame.columns.difference(train.columns, sort=False):
        raise ValueError(f"{name} has a column {column!r}, expected only the columns of real_train")


def _repeated(frame: pd.DataFrame) -> Hashable:
    return frame.columns[frame.columns.duplicated()][0]


def _kind(name: Hashable, series: Mapping[str, pd.Series]) -> Kind:
    """Return the kind that all tables agree on; a column with no value at all agrees with any."""
    kinds = {table: _kind_of(column) for table, column in series.items()}
    present = {table: kind for table, kind in kinds.items() if kind != "empty"}
    if not present:
        return "empty"
    first, kind = next(iter(present.items()))
    for table, other in present.items():
        if other != kind:
            raise ValueError(
                f"column {name!r} is a {other} in {table} ({series[table].dtype}) "
                f"but a {kind} in {first} ({series[first].dtype}), expected the same kind"
            )
    return kind


def _kind_of(series: pd.Series) -> Kind:
    dtype = series.dtype
    if series.isna().all():
        return "empty"
    if isinstance(dtype, pd.CategoricalDtype):
        return "boolean" if dtype.categories.inferred_type == "boolean" else "category"
    if pd.api.types.is_bool_dtype(dtype):
        return "boolean"
    if pd.api.types.is_object_dtype(dtype):
        return _INFERRED.get(pd.api.types.infer_dtype(series, skipna=True), "category")
    if pd.api.types.is_numeric_dtype(dtype) and not pd.api.types.is_complex_dtype(dtype):
        return "number"
    if pd.api.types.is_datetime64_any_dtype(dtype):
        return "datetime"
    return "duration" if dtype.kind == "m" else "category"  # pandas' own test leaves Arrow's durations out


def _encode(name: Hashable, kind: Kind, series: Mapping[str, pd.Series]) -> tuple[Column, dict[str, np.ndarray]]:
    if kind in ("boolean", "category", "empty"):
        return _encode_levels(name, kind, series)
    values = {table: _numbers(column, kind) for table, column in series.items()}
    for table, found in values.items():
        if np.isinf(found).any():
            raise ValueError(f"column {name!r} of {table} holds an infinite number, expected finite or missing")
    return Column(str(name), kind), values


def _numbers(series: pd.Series, kind: Kind) -> np.ndarray:
    """Convert to numbers, seconds since 1970 (UTC) or seconds, as float64 with NaN for what is missing."""
    if kind == "number":
        return pd.to_numeric(series).to_numpy(np.float64, na_value=np.nan)
    ticks = _ticks(series, kind)
    if kind == "datetime":
        ticks = ticks - np.datetime64(0, "s")
    return ticks / np.timedelta64(1, "s")


def _ticks(series: pd.Series, kind: Kind) -> np.ndarray:
    """Convert to datetime64 (UTC) or timedelta64 in the unit of the series: nanoseconds end in 2262."""
    dtype = series.dtype
    if isinstance(dtype, pd.ArrowDtype) and not str(dtype).startswith("date"):  # Arrow's dates go through objects
        return series.to_numpy(dtype=dtype.numpy_dtype)
    if kind == "datetime":
        return pd.to_datetime(series, utc=True).dt.tz_localize(None).to_numpy()
    return pd.to_timedelta(series).to_numpy()


def _encode_levels(name: Hashable, kind: Kind, series: Mapping[str, pd.Series]) -> tuple[Column, dict[str, np.ndarray]]:
    """Number the levels of all tables together in the order they first occur, training rows first."""
    joined = pd.concat([column.astype(object) for column in series.values()], ignore_index=True)
    try:
        codes, levels = pd.factorize(joined)
    except TypeError as error:
        raise ValueError(f"column {name!r} holds values that cannot be compared: {error}") from error
    values = np.where(codes < 0, np.nan, codes)
    ends = np.cumsum([len(column) for column in series.values()])[:-1]
    return Column(str(name), kind, tuple(map(str, levels))), dict(zip(series, np.split(values, ends), strict=True))
