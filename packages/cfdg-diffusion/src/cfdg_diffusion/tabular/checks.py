"""Checks of tables and arguments; each error is one sentence that names the column or the argument."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Mapping

import numpy as np
import pandas as pd
import torch


def check_table(table: pd.DataFrame) -> None:
    """Refuse anything but a DataFrame with rows, columns and unique column names.

    Raises:
        ValueError: if the table is another type, is empty, or repeats a column name.
    """
    check_frame("the table", table)
    check_unique(table.columns)
    if table.shape[1] == 0:
        raise ValueError("the table has no columns, expected at least one")
    if len(table) == 0:
        raise ValueError("the table has no rows, expected at least one")


def check_unique(names: Iterable[Hashable]) -> None:
    """Refuse column names that come twice.

    Raises:
        ValueError: with the first of these names.
    """
    twice = repeated(names)
    if twice:
        raise ValueError(f"column {twice[0]!r} comes twice, expected every name once")


def repeated(names: Iterable[Hashable]) -> list[Hashable]:
    """List each name that comes more than once, in the order of its second occurrence."""
    index = pd.Index(list(names), dtype=object, tupleize_cols=False)
    return index[index.duplicated()].unique().tolist()


def shown(value: object) -> str:
    """Return a repr in one line, without the names of NumPy's types; tables and arrays are told by their type."""
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{shown(key)}: {shown(own)}" for key, own in value.items()) + "}"
    if isinstance(value, list | tuple):
        inside = ", ".join(map(shown, value))
        return f"[{inside}]" if isinstance(value, list) else f"({inside})"
    if isinstance(value, np.ndarray | pd.Series | pd.DataFrame | pd.Index):
        return f"a {type(value).__name__}"
    return " ".join(repr(value.item() if isinstance(value, np.generic) else value).split())


def check_frame(name: str, table: object) -> None:
    """Refuse an argument that is not a DataFrame.

    Raises:
        ValueError: with its type.
    """
    if not isinstance(table, pd.DataFrame):
        raise ValueError(f"{name} is a {type(table).__name__}, expected a pandas DataFrame")


def check_at_least(name: str, value: float | None, least: float) -> None:
    """Refuse an argument below its least value; None stands for no value and passes.

    Raises:
        ValueError: if the value is smaller, or not a number.
    """
    if value is not None and not (isinstance(value, int | float | np.number) and value >= least):
        raise ValueError(f"{name} is {shown(value)}, expected at least {least}")


def check_rows(name: str, value: object, least: int) -> None:
    """Refuse an argument that is not a number of rows.

    Raises:
        ValueError: if the value is not an integer of at least ``least``.
    """
    if not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} is {shown(value)}, expected a number of rows, at least {least}")


def check_parameters(names: Iterable[str], known: Collection[str]) -> None:
    """Refuse names of arguments that a constructor does not have.

    Raises:
        ValueError: with the first of these names.
    """
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ValueError(f"there is no parameter {unknown[0]!r}, expected one of {', '.join(known)}")


def checked_seed(seed: int) -> int:
    """Return the seed as a Python integer.

    Raises:
        ValueError: if it is not an integer of 0 or more.
    """
    if not isinstance(seed, int | np.integer) or seed < 0:
        raise ValueError(f"seed is {shown(seed)}, expected an integer of 0 or more")
    return int(seed)


def resolved_device(device: str) -> str:
    """Return the name of an available device; "auto" becomes "cuda" if there is a GPU, else "cpu".

    Raises:
        ValueError: if this machine has no such device.
    """
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        if torch.empty(0, device=device).is_meta:
            raise TypeError("it holds no numbers")
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        raise ValueError(
            f"device is {device!r}, which is not available on this machine, expected auto, cpu or cuda"
        ) from error
    return device
