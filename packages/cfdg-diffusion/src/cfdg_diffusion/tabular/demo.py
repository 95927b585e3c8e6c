"""Demo table: 2,000 invented people, shipped with the package."""

from __future__ import annotations

from importlib.resources import files
from typing import Any

import pandas as pd

_LEVELS = {
    "education": ("primary", "secondary", "college", "university"),
    "region": ("north", "east", "south", "west", "islands"),
    "income": ("low", "middle", "high"),
}
_ORDERED = ("education", "income")


def load_demo() -> pd.DataFrame:
    """Load a small table to try the library with: 2,000 members of a sports club that does not exist.

    All cells were drawn from a made-up law by ``benchmarks/demo_table.py``; no data of real people was used.

    Returns:
        A new table of 2,000 rows and seven columns: ``age`` (int64, 18 to 90 years), ``education`` (four ordered
        categories, 4 % missing), ``region`` (five categories), ``hours`` of paid work a week (float64 in steps of a
        half, 6 % missing), ``visits`` a week (Int64, about 3 % missing, more often beyond 70 years), ``joined`` (dates
        of 2010 to 2025) and ``income`` ("low", "middle" or "high", ordered; 7 % are "high").
    """
    types: dict[str, Any] = {"visits": "Int64"}
    for name, levels in _LEVELS.items():
        types[name] = pd.CategoricalDtype(levels, ordered=name in _ORDERED)
    with files("cfdg_diffusion.tabular").joinpath("demo.csv").open("rb") as file:
        return pd.read_csv(file, dtype=types, parse_dates=["joined"])
