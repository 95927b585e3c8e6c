"""Constraints as JSON, in model files."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
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
    if isinstance(value, pd.Timestamp | pd.Timedelta | np.datetime64 | np.timedelta64) and not pd.isna(value):
        stamp = pd.Timestamp(value) if isinstance(value, pd.Timestamp | np.datetime64) else pd.Timedelta(value)
        return {type(stamp).__name__: stamp.isoformat(), "zone": str(getattr(stamp, "tz", None) or "")}
    if value is None or pd.isna(value):
        return None
    if isinstance(value, Decimal):
        return {"Decimal": str(value)}
    if isinstance(value, date):
        return {"date": value.isoformat()}
    value = value.item() if isinstance(value, np.generic) else value
    if isinstance(value, str | int | float):
        return value
    raise ValueError(f"constraint holds {value!r} of type {type(value).__name__}, expected text, numbers or dates")


def _restore(state: Any) -> Any:  # noqa: ANN401 - a cell of any kind
    if not isinstance(state, Mapping):
        return state
    if "Decimal" in state:
        return Decimal(state["Decimal"])
    if "date" in state:
        return date.fromisoformat(state["date"])
    if "Timedelta" in state:
        return pd.Timedelta(state["Timedelta"])
    stamp = pd.Timestamp(state["Timestamp"])
    return stamp.tz_convert(state["zone"]) if state["zone"] else stamp
