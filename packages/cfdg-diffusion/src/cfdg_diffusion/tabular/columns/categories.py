"""Categories: series of text, objects and categoricals <-> positions among their levels."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.checks import shown
from cfdg_diffusion.tabular.columns.dtypes import NO_BOUNDS, Arrays, Bounds, Dtype, dtype_state, restore_dtype

MISSING = {"None": None, "nan": math.nan, "NA": pd.NA}
"""Missing values of object columns by their names in files."""


@dataclass(frozen=True)
class Levels:
    """Levels of one column, read as one int64 array: the position of each value among the levels.

    Attributes:
        dtype: categorical, string or object.
        levels: values in training, the most frequent first; of a categorical, all its categories in their order.
        missing: the missing value of an object column, "None", "nan" or "NA".
    """

    dtype: Dtype
    levels: pd.Index
    missing: str

    @property
    def precision(self) -> np.dtype:
        """The numpy type of the positions."""
        return np.dtype(np.int64)

    def check(self, series: pd.Series) -> None:
        """Accept any values; only those that are read have to be known levels."""

    def read(self, series: pd.Series) -> Arrays:
        """Read a series of N rows without missing values as one array ``(N,)``.

        Raises:
            ValueError: if it holds an unknown level; the caller puts the column's name before the message.
        """
        try:
            codes, found = pd.factorize(series)
        except TypeError as error:
            foreign = next((value for value in series if not isinstance(value, Hashable)), None)
            raise ValueError(f"holds {shown(foreign)}, expected one of its {len(self.levels)} levels") from error
        found = pd.Index(found).astype(object)
        positions = self.levels.astype(object).get_indexer(found)
        if (positions < 0).any():
            raise ValueError(f"holds {shown(found[positions < 0][0])}, expected one of its {len(self.levels)} levels")
        return [positions.astype(np.int64)[codes]]

    def write(self, arrays: Arrays, missing: np.ndarray) -> pd.Series:
        """Write positions ``(N,)`` as a series, with the missing value of its dtype where ``missing (N,)``."""
        if isinstance(self.dtype, pd.CategoricalDtype):
            codes: Any = np.where(missing, -1, arrays[0])
            return pd.Series(pd.Categorical.from_codes(codes, dtype=self.dtype))
        values = np.empty(len(self.levels) + 1, dtype=object)
        values[:-1] = self.levels
        values[-1] = MISSING[self.missing]
        return pd.Series(values[np.where(missing, len(self.levels), arrays[0])], dtype=self.dtype)

    def bounds(self, arrays: Arrays) -> list[Bounds]:
        """Return no bounds, since positions are not quantities."""
        return [NO_BOUNDS]

    def state(self) -> dict[str, Any]:
        """Return JSON, as :meth:`restore` takes it."""
        if isinstance(self.dtype, pd.CategoricalDtype):
            return {"ordered": bool(self.dtype.ordered), "index": _index_state(self.levels)}
        return {"dtype": dtype_state(self.dtype), "missing": self.missing, "levels": self.levels.tolist()}

    @classmethod
    def restore(cls, state: Mapping[str, Any]) -> Levels:
        """Rebuild what :meth:`state` was taken of."""
        if "index" in state:
            levels = _restore_index(state["index"])
            return cls(pd.CategoricalDtype(levels, state["ordered"]), levels, "nan")
        return cls(restore_dtype(state["dtype"]), pd.Index(state["levels"], dtype=object), state["missing"])


def learn_levels(series: pd.Series) -> Levels:
    """Learn the levels of a column.

    Raises:
        ValueError: if it holds other objects than text; the caller puts the column's name before the message.
    """
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        _check_categories(dtype.categories)
        return Levels(dtype, dtype.categories, "nan")
    present = series.dropna()
    if pd.api.types.is_object_dtype(dtype):
        _check_objects(present)
    levels = [level.item() if isinstance(level, np.generic) else level for level in present.value_counts().index]
    return Levels(dtype, pd.Index(levels, dtype=object), missing_name(series))


def missing_name(series: pd.Series) -> str:
    """Name the first missing value of a column, as :data:`MISSING` does; "nan" if there is none."""
    lost = series[series.isna()]
    return next((name for name, none in MISSING.items() if len(lost) and lost.iloc[0] is none), "nan")


def _check_categories(categories: pd.Index) -> None:
    ends = categories.left if isinstance(categories, pd.IntervalIndex) else categories
    if pd.api.types.is_object_dtype(ends.dtype):
        _check_objects(ends)
    elif not isinstance(ends.dtype, pd.StringDtype) and ends.dtype.kind not in "biufmM":
        raise ValueError(f"has categories of dtype {ends.dtype}, expected text, numbers, booleans, dates or intervals")


def _check_objects(values: pd.Series | pd.Index) -> None:
    """Refuse objects other than text, or text mixed with numbers or with booleans, which JSON keeps apart."""
    kinds = {type(value) for value in values}
    foreign = [kind.__name__ for kind in kinds if not issubclass(kind, str | bool | np.bool_ | _NUMBERS)]
    if foreign:
        raise ValueError(f"holds objects of type {min(foreign)}, expected text: convert them first")
    numbers = {kind for kind in kinds if issubclass(kind, _NUMBERS) and not issubclass(kind, bool)}
    if numbers and kinds == numbers:
        raise ValueError("holds numbers as objects, expected a dtype of numbers: convert it with pandas.to_numeric")
    if numbers and any(issubclass(kind, bool | np.bool_) for kind in kinds):
        raise ValueError("mixes booleans with numbers, expected text or one of the two")
    if numbers and any(value in (math.inf, -math.inf) for value in values if type(value) in numbers):
        raise ValueError("holds an infinite number, expected finite ones")


_NUMBERS = int | float | np.integer | np.floating


def _index_state(index: pd.Index) -> dict[str, Any]:
    if isinstance(index, pd.IntervalIndex):
        return {"left": _index_state(index.left), "right": _index_state(index.right), "closed": index.closed}
    if index.dtype.kind in "mM":
        return {"dtype": dtype_state(index.dtype), "values": index.astype(np.int64).tolist()}
    return {"dtype": dtype_state(index.dtype), "values": index.tolist()}


def _restore_index(state: Mapping[str, Any]) -> pd.Index:
    if "closed" in state:
        left = _restore_index(state["left"])
        right = _restore_index(state["right"])
        return pd.IntervalIndex.from_arrays(left, right, state["closed"])
    return pd.Index(pd.Series(state["values"], dtype=None).astype(restore_dtype(state["dtype"])))
