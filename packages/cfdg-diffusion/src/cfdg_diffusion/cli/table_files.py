"""Tables as CSV and Parquet files: read whole or in chunks, written so that a file appears complete or not at all."""

from __future__ import annotations

import csv
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np
import pandas as pd

from cfdg_diffusion.cli import parquet
from cfdg_diffusion.cli.csv_cells import MISSING, DateFormat, Evidence, cast, parse_dates
from cfdg_diffusion.storage import atomic_write

CHUNK = 50_000
"""Rows that are read, generated and written at a time: some tens of MB."""
_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_NEW_PANDAS = tuple(int(part) for part in pd.__version__.split(".")[:2]) >= (3, 1)
_EXACT: Any = {} if _NEW_PANDAS else {"float_precision": "round_trip"}
"""Every decimal is read as the nearest float: the default from pandas 3.1 on."""
_NUMBERS = {"number": "float64", "integer": "int64"}
"""Kinds that are read as numbers even with zeros in front."""

Write = Callable[[pd.DataFrame], None]


@dataclass(frozen=True)
class TableFile:
    """A table and what its file says beyond it.

    Attributes:
        table: the rows.
        dates: how the columns of dates were written, by column.
    """

    table: pd.DataFrame
    dates: dict[str, DateFormat] = field(default_factory=dict)


def read_table(path: Path, kinds: Mapping[str, str] | None = None) -> TableFile:
    """Read a whole table; what each column of a CSV file holds is found out from all of its cells.

    Numbers with gaps become nullable, so that 3 stays 3; ISO dates become datetime64; numbers with a zero in front,
    such as 01234, stay text.

    Args:
        path: .csv, .tsv or .parquet.
        kinds: "text" leaves a column as it is, "category" leaves dates as they are, "number" and "integer" read
            zeros in front as numbers.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a table; the message names the file and what is wrong.
        ImportError: if Parquet cannot be read here.
    """
    kinds = kinds or {}
    suffix = check_input(path)
    names = parquet.column_names(path) if suffix == ".parquet" else check_csv(path)
    unknown = [name for name in kinds if name not in names]
    if unknown:
        raise ValueError(f"{path} has no column {unknown[0]!r}, expected one of {', '.join(map(repr, names))}")
    if suffix == ".parquet":
        return TableFile(*parquet.read(path))
    return _read_csv(path, names, kinds)


def read_chunks(path: Path, dtypes: Mapping[Any, Any], rows: int = CHUNK) -> Iterator[pd.DataFrame]:
    """Read a table in chunks of some rows; columns with a dtype are cast to it, the others of a CSV file stay text.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a table, or a cell cannot be cast; the message names file, column and row.
        ImportError: if Parquet cannot be read here.
    """
    if check_input(path) == ".parquet":
        parquet.column_names(path)
        yield from parquet.chunks(path, rows)
        return
    names = check_csv(path)
    typed = _missing(name for name in names if name in dtypes)
    for chunk in _text_chunks(path, names, rows, typed):
        for name in typed:
            chunk[name] = _with_place(path, name, chunk[name], dtypes[name])
        yield chunk


def check_input(path: Path) -> str:
    """The suffix of a table that can be read.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a folder, or its name does not end as a table's.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a table: a .csv, .tsv or .parquet file")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    return _suffix(path)


def check_output(path: Path, overwrite: bool) -> None:
    """Refuse early what could not be written late.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if the name does not end as a table's, or the file exists and may not be overwritten.
        PermissionError: if the folder cannot be written to.
        ImportError: if Parquet cannot be written here.
    """
    if _suffix(path) == ".parquet":
        parquet.require_pyarrow()
    check_free(path, overwrite)


def check_free(path: Path, overwrite: bool) -> None:
    """Refuse a file of any kind that cannot be made, or may not be replaced; see :func:`check_output`."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected the name of a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}, expected it to be made first")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists already, expected another name, or --force to replace it")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"the folder {path.parent} cannot be written to")


def check_csv(path: Path) -> list[str]:
    """The column names of a CSV file that is whole: text in UTF-8, names once, and as many cells in every row.

    Raises:
        ValueError: if it is not; the message names the file and the line.
    """
    separator = _SEPARATORS[_suffix(path)]
    with path.open("rb") as raw:
        if b"\0" in raw.read(1 << 16):
            raise ValueError(f"{path} holds NUL bytes, expected text in UTF-8: it is a binary file or UTF-16")
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.reader(file, delimiter=separator)
        try:
            names = next((row for row in reader if row), [])
            _check_names(path, names, separator)
            _check_widths(path, reader, len(names))
        except csv.Error as error:
            raise ValueError(f"{path} cannot be read in line {reader.line_num}: {error}") from error
        except UnicodeDecodeError as error:
            where = _foreign_byte(path)
            raise ValueError(f"{path} holds {where}, expected text in UTF-8: convert it") from error
    return names


def _foreign_byte(path: Path) -> str:
    """The first byte that is not UTF-8, and its line."""
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            try:
                line.decode("utf-8")
            except UnicodeDecodeError as error:
                return f"byte 0x{line[error.start]:02x} in line {number:,}"
    return "bytes"


def _check_names(path: Path, names: Sequence[str], separator: str) -> None:
    if not names:
        raise ValueError(f"{path} is empty, expected a line of column names and rows")
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise ValueError(f"{path} has two columns named {twice[0]!r}, expected every name once")
    foreign = [other for other in (";", "\t", "|", ",") if other != separator and other in names[0]]
    if len(names) == 1 and foreign:
        raise ValueError(
            f"{path} has one column, {names[0][:60]!r}: its cells are separated by {foreign[0]!r}, "
            f"expected {separator!r} in a {path.suffix} file"
        )


def _check_widths(path: Path, reader: Any, width: int) -> None:  # noqa: ANN401 - csv's reader has no public type
    rows = 0
    for row in reader:
        if len(row) != width:
            if not row:
                continue
            raise ValueError(f"{path} has {len(row)} cells in line {reader.line_num:,}, expected {width} as named")
        rows += 1
    if not rows:
        raise ValueError(f"{path} has column names but no rows, expected at least one row")


def _text_chunks(
    path: Path, names: Sequence[str], rows: int, missing: Mapping[str, list[str]]
) -> Iterator[pd.DataFrame]:
    """Chunks of text; cells are missing only in the columns with words for it."""
    reader = pd.read_csv(path, **_layout(path, names, missing), dtype=str, chunksize=rows)
    with reader:
        yield from reader


def _read_csv(path: Path, names: Sequence[str], kinds: Mapping[str, str]) -> TableFile:
    evidence = _evidence(path, names, kinds)
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
            table[name] = _with_place(path, name, table[name], np.dtype(_NUMBERS[kind]))
    return TableFile(table, dates)


def _layout(path: Path, names: Sequence[str], missing: Mapping[str, list[str]]) -> dict[str, Any]:
    """What pandas has to know of the file, whose names have been read already."""
    known = {"sep": _SEPARATORS[_suffix(path)], "names": list(names), "header": 0, "index_col": False}
    return {**known, "encoding": "utf-8-sig", "keep_default_na": False, "na_values": missing}


def _missing(names: Iterable[str]) -> dict[str, list[str]]:
    """Words for nothing, by column, as pandas takes them."""
    return {name: list(MISSING) for name in names}


def _evidence(path: Path, names: Sequence[str], kinds: Mapping[str, str]) -> dict[str, Evidence]:
    evidence = {name: Evidence() for name in names}
    for name, kind in kinds.items():
        evidence[name].fits -= {"text": set(evidence[name].fits), "category": {"date"}}.get(kind, set())
    for chunk in _text_chunks(path, names, CHUNK, _missing(names)):
        for name in names:
            evidence[name].add(chunk[name])
    return evidence


def _with_place(path: Path, name: str, cells: pd.Series, dtype: Any) -> pd.Series:  # noqa: ANN401
    try:
        return cast(cells, dtype)
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path}: column {name!r} {error}") from error


@contextmanager
def written(path: Path | None, dates: Mapping[str, DateFormat] | None = None) -> Iterator[Write]:
    """Give a function that appends a table to a file, which gets its name when all has gone well.

    Args:
        path: .csv, .tsv or .parquet; None writes CSV to standard output.
        dates: how columns of dates are to be written; days alone become Parquet's date32.

    Raises:
        OSError: if the file cannot be written; nothing of it is left.
    """
    dates = dates or {}
    if path is None:
        yield _csv_writer(sys.stdout.buffer, dates, ",")
        sys.stdout.buffer.flush()
        return
    with atomic_write(path) as partial:
        if _suffix(path) == ".parquet":
            with parquet.writer(partial, dates) as write:
                yield write
        else:
            with partial.open("wb") as file:
                yield _csv_writer(file, dates, _SEPARATORS[_suffix(path)])


def write_text(path: Path, text: str) -> None:
    """Write a file of text, complete or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _csv_writer(file: IO[bytes], dates: Mapping[str, DateFormat], separator: str) -> Write:
    begun = False

    def write(table: pd.DataFrame) -> None:
        nonlocal begun
        texts: dict[str, Any] = {name: own.write(table[name]) for name, own in dates.items() if name in table}
        text = table.assign(**texts).to_csv(sep=separator, index=False, header=not begun, lineterminator="\n")
        file.write(text.encode("utf-8"))
        begun = True

    return write


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix != ".parquet" and suffix not in _SEPARATORS:
        raise ValueError(f"{path} ends in {suffix or 'nothing'!r}, expected a table: .csv, .tsv or .parquet")
    return suffix
