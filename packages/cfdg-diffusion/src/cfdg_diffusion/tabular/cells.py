"""Copies of the user's cells in generated tables, unchanged."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
import pandas as pd


def keep_columns(made: pd.DataFrame, cells: pd.DataFrame) -> pd.DataFrame:
    """Replace columns of a generated table of n rows by the user's n cells.

    A replaced column has the generated dtype if no cell changes by that, else the user's.
    """
    made = made.copy()
    for name in cells.columns:
        given = cells[name].set_axis(made.index)
        _put(made, name, _as(given, made[name].dtype))
    return made


def fill_missing(
    table: pd.DataFrame, made: pd.DataFrame, columns: Sequence[Hashable], places: np.ndarray
) -> pd.DataFrame:
    """Fill the missing cells of some columns from generated rows.

    Args:
        table: N rows; the index and all other cells stay.
        made: n generated rows, one for each of ``places``.
        columns: names of the columns to fill.
        places: ``(n,)`` ascending positions of the rows of ``table`` that miss a cell.
    """
    filled = table.copy()
    for name in columns:
        missing = table[name].isna().to_numpy()
        if missing.any():
            values = made[name][missing[places]]
            _put(filled, name, _filled(table[name], values, missing).set_axis(table.index))
    return filled


def _filled(given: pd.Series, values: pd.Series, missing: np.ndarray) -> pd.Series:
    """Join N cells with the k generated ones; in the generated dtype unless a given cell would change."""
    there = _as(given[~missing], values.dtype)
    if there.dtype == values.dtype:
        order = np.argsort(np.append(np.flatnonzero(~missing), np.flatnonzero(missing)))
        return pd.concat([there, values], ignore_index=True).take(order)
    filled = given.reset_index(drop=True)
    try:
        filled[missing] = values.to_numpy()
    except (TypeError, ValueError, OverflowError, NotImplementedError):  # the given cells' dtype holds no such value
        filled = filled.astype(object)
        filled[missing] = values.astype(object).to_numpy()
    return filled


def _as(series: pd.Series, dtype: object) -> pd.Series:
    """Convert a series to another dtype if no cell changes, else return it as it is."""
    if series.dtype == dtype:
        return series
    try:
        cast = series.astype(dtype)  # pyrefly: ignore[no-matching-overload]
    except (TypeError, ValueError, OverflowError, NotImplementedError):
        return series
    there = series.notna().to_numpy()
    before, after = (part[there].astype(object).to_numpy() for part in (series, cast))
    kept = bool((cast.notna().to_numpy() == there).all()) and bool((before == after).all())
    return cast if kept else series


def _put(table: pd.DataFrame, name: Hashable, values: pd.Series) -> None:
    """Replace a column; as a series, since pandas would infer another dtype for an array of objects."""
    place = int(np.flatnonzero(table.columns == name)[0])
    table.isetitem(place, values)  # pyrefly: ignore[bad-argument-type]
