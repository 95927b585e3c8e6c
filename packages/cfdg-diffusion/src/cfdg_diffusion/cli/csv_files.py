"""CSV files <-> DataFrames: text in UTF-8, a line of column names, cells separated by a comma or a tab."""

from __future__ import annotations

import csv
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from cfdg_diffusion.cli.csv_cells import MISSING, DateFormat, Evidence, cast, parse_dates

SEPARATORS = {".csv": ",", ".tsv": "\t"}
"""Separator of cells by suffix, in lower case."""
_NEW_PANDAS = tuple(int(part) for part in pd.__version__.split(".")[:2]) >= (3, 1)
_EXACT: Any = {} if _NEW_PANDAS else {"float_precision": "round_trip"}
"""Every decimal is read as the nearest float: the default from pandas 3.1 on."""
_NUMBERS = {"number": "float64", "integer": "int64"}
"""Kinds that are read as numbers even with zeros in front."""


def column_names(path: Path) -> list[str]:
    """Read the column names.

    Raises:
        ValueError: if the file is empty, binary or not UTF-8, or its cells have another separator.
    """
    separator = _separator(path)
    with path.open("rb") as raw:
        if b"\0" in raw.read(1 << 16):
            raise ValueError(f"{path} holds NUL bytes, expected text in UTF-8: it is a binary file or UTF-16")
    with _rows(path) as reader:
        names = next((row for row in reader if row), [])
    if not names:
        raise ValueError(f"{path} is empty, expected a line of column names and rows")
    foreign = [other for other in (";", "\t", "|", ",") if other != separator and other in names[0]]
    if len(names) == 1 and foreign:
        raise ValueError(
            f"{path} has one column, {names[0][:60]!r}: its cells are separated by {foreign[0]!r}, "
            f"expected {separator!r} in a {path.suffix} file"
        )
    return names


def check_rows(path: Path) -> None:
    """Check that there are rows, and as many cells in each as there are column names.

    Raises:
        ValueError: if not, or if the file is not UTF-8; the message names the line.
    """
    with _rows(path) as reader:
        filled = (row for row in reader if row)
        width = len(next(filled, []))
        rows = 0
        for row in filled:
            if len(row) != width:
                raise ValueError(f"{path} has {len(row)} cells in line {reader.line_num:,}, expected {width} as named")
            rows += 1
    if not rows:
        raise ValueError(f"{path} has column names but no rows, expected at least one row")


def read(
    path: Path, names: Sequence[str], kinds: Mapping[str, str], rows: int
) -> tuple[pd.DataFrame, dict[str, DateFormat]]:
    """Read the table, and the formats of its columns of dates.

    Args:
        path: of the file.
        names: its column names.
        kinds: see :func:`cfdg_diffusion.cli.table_files.read_table`.
        rows: that are read at a time to find the dtypes.

    Raises:
        ValueError: if a cell is not of the kind that its column was given.
    """
    evidence = _evidence(path, names, kinds, rows)
    dtypes: dict[Any, Any] = {
        name: "str" if kinds.get(name) in _NUMBERS else own.dtype or "str" for name, own in evidence.items()
    }
    layout = _layout(path, names, _missing(names))
    table: pd.DataFrame = pd.read_csv(path, **layout, **_EXACT, dtype=dtypes)
    dates = {name: own.dates for name, own in evidence.items() if dtypes[name] == "str" and own.dates is not None}
    for name, written in dates.items():
        table[name] = parse_dates(table[name], written)
    for name, kind in kinds.items():
        if kind in _NUMBERS:
            table[name] = _cast(path, name, table[name], np.dtype(_NUMBERS[kind]))
    return table, dates


def chunks(path: Path, names: Sequence[str], dtypes: Mapping[Any, Any], rows: int) -> Iterator[pd.DataFrame]:
    """Read the table in chunks of some rows; columns with a dtype are cast to it, the others stay text.

    Raises:
        ValueError: if a cell cannot be cast; the message names file, column and row.
    """
    typed = _missing(name for name in names if name in dtypes)
    for chunk in _text_chunks(path, names, rows, typed):
        for name in typed:
            chunk[name] = _cast(path, name, chunk[name], dtypes[name])
        yield chunk


def writer(file: IO[bytes], dates: Mapping[str, DateFormat], separator: str = ",") -> Callable[[pd.DataFrame], None]:
    """Return a function that appends tables to an open file, with the column names before the first."""
    begun = False

    def write(table: pd.DataFrame) -> None:
        nonlocal begun
        texts: dict[str, Any] = {name: own.write(table[name]) for name, own in dates.items() if name in table}
        text = table.assign(**texts).to_csv(sep=separator, index=False, header=not begun, lineterminator="\n")
        file.write(text.encode("utf-8"))
        begun = True

    return write


def _separator(path: Path) -> str:
    return SEPARATORS[path.suffix.lower()]


@contextmanager
def _rows(path: Path) -> Iterator[Any]:
    """Open a reader of rows, and name the line of what cannot be read."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=_separator(path))
        try:
            yield reader
        except csv.Error as error:
            raise ValueError(f"{path} cannot be read in line {reader.line_num}: {error}") from error
        except UnicodeDecodeError as error:
            raise ValueError(f"{path} holds {_foreign_byte(path)}, expected text in UTF-8: convert it") from error


def _foreign_byte(path: Path) -> str:
    """Name the first byte that is not UTF-8, and its line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f"byte 0x{line[error.start]:02x} in line {number:,}"
    return "bytes"


def _text_chunks(
    path: Path, names: Sequence[str], rows: int, missing: Mapping[str, list[str]]
) -> Iterator[pd.DataFrame]:
    """Read chunks of text; cells are missing only in the columns with words for it."""
    reader = pd.read_csv(path, **_layout(path, names, missing), dtype=str, chunksize=rows)
    with reader:
        yield from reader


def _layout(path: Path, names: Sequence[str], missing: Mapping[str, list[str]]) -> dict[str, Any]:
    """Return the options of pandas.read_csv for a file whose names have been read already."""
    known = {"sep": _separator(path), "names": list(names), "header": 0, "index_col": False}
    return {**known, "encoding": "utf-8-sig", "keep_default_na": False, "na_values": missing}


def _missing(names: Iterable[str]) -> dict[str, list[str]]:
    """Return the words for a missing value by column, as pandas takes them."""
    return {name: list(MISSING) for name in names}


def _evidence(path: Path, names: Sequence[str], kinds: Mapping[str, str], rows: int) -> dict[str, Evidence]:
    evidence = {name: Evidence() for name in names}
    for name, kind in kinds.items():
        evidence[name].fits -= {"text": set(evidence[name].fits), "category": {"date"}}.get(kind, set())
    for chunk in _text_chunks(path, names, rows, _missing(names)):
        for name in names:
            evidence[name].add(chunk[name])
    return evidence


def _cast(path: Path, name: str, cells: pd.Series, dtype: Any) -> pd.Series:  # noqa: ANN401
    try:
        return cast(cells, dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path}: column {name!r} {error}") from error
