"""Constraints as JSON, in model files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, timedelta
from decimal import Decimal
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.tabular.constraints import Constraint, FixedCombinations, Inequality, Range


def constraint_state(constraint: Constraint) -> dict[str, Any]:
    """Describe a constraint as JSON; a predicate or a class of your own is code and keeps only its name."""
    if isinstance(constraint, Range):
        bounds = {"low": _state(constraint.low), "high": _state(constraint.high)}
        return {"type": "range", "column": constraint.column, **bounds}
    if isinstance(constraint, Inequality):
        return {"type": "inequality", "low": constraint.low, "high": constraint.high, "strict": constraint.strict}
    if isinstance(constraint, FixedCombinations):
        rows = [[_state(cell) for cell in row] for row in constraint.known.itertuples(index=False, name=None)]
        return {"type": "combinations", "columns": list(constraint.columns), "rows": rows}
    return {"type": "code", "name": constraint.name}


def restore_constraint(state: Mapping[str, Any]) -> Constraint:
    """Make a constraint from its JSON, the inverse of :func:`constraint_state`.

    Raises:
        ValueError: if it was code, or is of a type that this version does not know.
    """
    if state["type"] == "range":
        return Range(state["column"], _restore(state["low"]), _restore(state["high"]))
    if state["type"] == "inequality":
        return Inequality(state["low"], state["high"], state["strict"])
    if state["type"] == "combinations":
        rows = [[_restore(cell) for cell in row] for row in state["rows"]]
        return FixedCombinations(tuple(state["columns"]), pd.DataFrame(rows, columns=state["columns"], dtype=object))
    if state["type"] == "code":
        raise ValueError(f"constraint {state['name']!r} is code, which is never stored, expected it to be given again")
    raise ValueError(f"constraint has type {state['type']!r}, expected range, inequality, combinations or code")


def _state(value: Any) -> Any:  # noqa: ANN401 - a cell of any kind
    """Describe a bound or a cell as JSON."""
    if value is None or pd.isna(value):
        return None
    if isinstance(value, pd.Interval):
        return {"Interval": [_state(value.left), _state(value.right)], "closed": value.closed}
    if isinstance(value, datetime | np.datetime64):
        return _date_state(pd.Timestamp(value))
    if isinstance(value, timedelta | np.timedelta64):
        return _duration_state(pd.Timedelta(value))
    if isinstance(value, Decimal):
        return {"Decimal": str(value)}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, str | int | float):
        return value
    raise ValueError(f"constraint holds {value!r} of type {type(value).__name__}, expected text, numbers or dates")


def _date_state(stamp: pd.Timestamp) -> dict[str, Any]:
    zone = str(stamp.tz or "")
    state = {"Timestamp": stamp.isoformat(), "zone": zone}
    if _comes_back(state, stamp):
        return state
    return {"datetime64": int(stamp.asm8.astype(np.int64)), "unit": stamp.unit, "zone": zone and "UTC"}


def _duration_state(duration: pd.Timedelta) -> dict[str, Any]:
    state = {"Timedelta": duration.isoformat(), "zone": ""}
    if _comes_back(state, duration):
        return state
    return {"timedelta64": int(duration.asm8.astype(np.int64)), "unit": duration.unit}


def _comes_back(state: Mapping[str, Any], value: pd.Timestamp | pd.Timedelta) -> bool:
    """Test whether pandas reads the text that it wrote; it does not beyond the year 9999, nor zones without a name."""
    try:
        return bool(_restore(state) == value)
    except (ValueError, OverflowError, KeyError):
        return False


def _restore(state: Any) -> Any:  # noqa: ANN401 - a cell of any kind
    if not isinstance(state, Mapping):
        return state
    if "Interval" in state:
        left, right = map(_restore, state["Interval"])
        return pd.Interval(left, right, state["closed"])
    if "Decimal" in state:
        return Decimal(state["Decimal"])
    if "date" in state:
        return _restore_date(state["date"])
    if "Timedelta" in state:
        return pd.Timedelta(state["Timedelta"])
    if "timedelta64" in state:
        return pd.Timedelta(np.timedelta64(state["timedelta64"], state["unit"]))
    if "datetime64" in state:
        stamp = pd.Timestamp(np.datetime64(state["datetime64"], state["unit"]))
        return stamp.tz_localize("UTC") if state["zone"] else stamp
    stamp = pd.Timestamp(state["Timestamp"])
    return stamp.tz_convert(state["zone"]) if state["zone"] else stamp


def _restore_date(text: str) -> date:
    """Read a date; in older files it may have a time."""
    return pd.Timestamp(text) if "T" in text else date.fromisoformat(text)
