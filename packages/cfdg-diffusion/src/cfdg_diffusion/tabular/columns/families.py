"""Families and kinds: the dtypes that can be learnt, and the kinds that their columns can be read as."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, cast

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.checks import shown
from cfdg_diffusion.tabular.columns.categories import Levels, learn_levels
from cfdg_diffusion.tabular.columns.dtypes import Numbers, dtype_state, dtype_unit, known_by_name, restore_dtype
from cfdg_diffusion.tabular.columns.plain import refusal
from cfdg_diffusion.tabular.columns.times import Times, learn_times

Family = Numbers | Times | Levels
Kind = Literal["number", "integer", "category", "text", "boolean", "datetime", "timedelta", "constant"]

_MASKED = {"boolean", "Float32", "Float64", *(f"{sign}Int{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64))}
_UNITS = ("s", "ms", "us", "ns")
OF_LEVELS = ("category", "text", "boolean")
"""Kinds of levels alone."""


def learn_family(series: pd.Series, keep_range: bool) -> Family:
    """Learn how to read and write a column of plain dtype, without its missing values.

    Raises:
        ValueError: if its dtype or a value is not supported; the caller puts the column's name before the message.
    """
    dtype = series.dtype
    if isinstance(dtype, pd.CategoricalDtype | pd.StringDtype) or pd.api.types.is_object_dtype(dtype):
        return learn_levels(series)
    if str(dtype) in _MASKED or (isinstance(dtype, np.dtype) and dtype.kind in "biuf" and dtype.itemsize <= 8):
        return Numbers(dtype)
    if isinstance(dtype, np.dtype | pd.DatetimeTZDtype) and dtype.kind in "mM" and dtype_unit(dtype) in _UNITS:
        if not known_by_name(dtype):
            raise ValueError(f"has dtype {dtype}, expected a time zone known by its name such as Europe/Paris")
        return learn_times(series, keep_range)
    raise ValueError(refusal(dtype))


def kind_of(family: Family, series: pd.Series) -> Kind:
    """Decide the kind by the dtype; floats without decimals are integers."""
    if isinstance(family, Levels):
        return "category"
    if isinstance(family, Times):
        return "datetime" if family.dtype.kind == "M" else "timedelta"
    if family.precision.kind == "b":
        return "boolean"
    values = series[~missing_rows(series)].to_numpy(dtype=np.float64)
    return "integer" if family.precision.kind in "iu" or (values == np.rint(values)).all() else "number"


def asked_kind(kind: Any, own: Kind, series: pd.Series) -> Kind:  # noqa: ANN401 - whatever the user gave
    """Return the kind that a column of kind ``own`` is read as.

    Raises:
        ValueError: if it cannot be read so.
    """
    choices: dict[str, tuple[Kind, ...]] = {
        "number": ("number", "category"),
        "integer": ("integer", "number", "category"),
        "category": ("category", "text"),
        "boolean": ("boolean", "category"),
    }
    known: tuple[Kind, ...] = choices.get(own, (own,))
    name = kind if isinstance(kind, str) else ""
    if name == "boolean" and own in ("integer", "category") and len(set(series.dropna())) <= 2:
        known = (*known, "boolean")
    if kind is None or (own == "datetime" and name.startswith("datetime")):
        return own
    if name not in known:
        raise ValueError(f"cannot be read as {shown(kind)}, expected {' or '.join(known)} for {series.dtype}")
    return cast("Kind", name)


def missing_rows(series: pd.Series) -> np.ndarray:
    """Find missing rows, bool ``(N,)``, including NaN inside a nullable float column."""
    missing = series.isna().to_numpy()
    if str(series.dtype) in _MASKED and series.dtype.kind == "f":
        missing = missing | np.isnan(series.to_numpy(dtype=np.float64, na_value=np.nan))
    return missing


def family_state(family: Family) -> dict[str, Any]:
    """Return JSON, as :func:`restore_family` takes it."""
    if isinstance(family, Levels):
        return {"type": "levels", **family.state()}
    if isinstance(family, Times):
        limits = {} if family.limits is None else {"limits": list(family.limits)}
        clocks = {"by_clocks": True} if family.by_clocks else {}
        return {"type": "times", "dtype": dtype_state(family.dtype), "offset": family.offset, **limits, **clocks}
    return {"type": "numbers", "dtype": dtype_state(family.dtype)}


def restore_family(state: Mapping[str, Any]) -> Family:
    """Rebuild what :func:`family_state` was taken of."""
    if state["type"] == "levels":
        return Levels.restore(state)
    dtype = restore_dtype(state["dtype"])
    if state["type"] == "numbers":
        return Numbers(dtype)
    limits = state.get("limits")  # which older files lack, as the next one
    return Times(dtype, state["offset"], limits and tuple(limits), state.get("by_clocks", False))
