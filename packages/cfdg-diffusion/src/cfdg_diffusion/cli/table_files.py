"""Tables as CSV and Parquet files: read whole or in chunks, written so that a file appears complete or not at all."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from cfdg_diffusion.cli import csv_files, parquet
from cfdg_diffusion.cli.csv_cells import DateFormat
from cfdg_diffusion.storage import atomic_write

CHUNK = 50_000
"""Rows that are read, generated and written at a time: some tens of MB."""

Write = Callable[[pd.DataFrame], None]


@dataclass(frozen=True)
class TableFile:
    """A table and the formats of its file.

    Attributes:
        table: the rows.
        dates: formats of the columns of dates, by column.
    """

    table: pd.DataFrame
    dates: dict[str, DateFormat] = field(default_factory=dict)


def read_table(path: Path, kinds: Mapping[str, str] | None = None) -> TableFile:
    """Read a whole table; the dtype of each column of a CSV file follows from all of its cells.

    Numbers with gaps become nullable, so that 3 stays 3; ISO dates become datetime64; numbers with a zero in front,
    such as 01234, stay text.

    Args:
        path: .csv, .tsv or .parquet.
        kinds: "text" leaves a column as it is, "category" leaves dates as they are, "number" and "integer" read
            zeros in front as numbers.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a table; the message names the file and the fault.
        ImportError: if pyarrow is missing for Parquet.
    """
    kinds = kinds or {}
    suffix = check_input(path)
    names = _column_names(path, suffix)
    unknown = [name for name in kinds if name not in names]
    if unknown:
        raise ValueError(f"{path} has no column {unknown[0]!r}, expected one of {', '.join(map(repr, names))}")
    if suffix == ".parquet":
        return TableFile(*parquet.read(path))
    return TableFile(*csv_files.read(path, names, kinds, CHUNK))


def read_chunks(path: Path, dtypes: Mapping[Any, Any], rows: int = CHUNK) -> Iterator[pd.DataFrame]:
    """Read a table in chunks of some rows; columns with a dtype are cast to it, the others of a CSV file stay text.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a table, or a cell cannot be cast; the message names file, column and row.
        ImportError: if pyarrow is missing for Parquet.
    """
    suffix = check_input(path)
    names = _column_names(path, suffix)
    if suffix == ".parquet":
        yield from parquet.chunks(path, rows)
    else:
        yield from csv_files.chunks(path, names, dtypes, rows)


def _column_names(path: Path, suffix: str) -> list[str]:
    """Read the column names of a file with whole rows, each name once."""
    kind = parquet if suffix == ".parquet" else csv_files
    names = kind.column_names(path)
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise ValueError(f"{path} has two columns named {twice[0]!r}, expected every name once")
    kind.check_rows(path)
    return names


def check_input(path: Path) -> str:
    """Return the suffix of a table that can be read.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is a folder, or its name does not end as a table's.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected a table: a .csv, .tsv or .parquet file")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {path}")
    return _suffix(path)


def output_path(text: str, overwrite: bool) -> Path | None:
    """Return the path of a table to be written, None for ``-``, which is standard output; see :func:`check_output`."""
    if text == "-":
        return None
    check_output(Path(text), overwrite)
    return Path(text)


def check_output(path: Path, overwrite: bool) -> None:
    """Check before the work that a table can be written after it.

    Raises:
        FileNotFoundError: if the folder does not exist.
        ValueError: if the name does not end as a table's, or the file exists and may not be overwritten.
        PermissionError: if the folder cannot be written to.
        ImportError: if pyarrow is missing for Parquet.
    """
    if _suffix(path) == ".parquet":
        parquet.require_pyarrow()
    check_free(path, overwrite)


def check_free(path: Path, overwrite: bool) -> None:
    """Check that a file of any kind can be made, and replaced if it exists; see :func:`check_output`."""
    if path.is_dir():
        raise ValueError(f"{path} is a folder, expected the name of a file")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.parent}, expected it to be made first")
    if path.exists() and not overwrite:
        raise ValueError(f"{path} exists already, expected another name, or --force to replace it")
    if not os.access(path.parent, os.W_OK):
        raise PermissionError(f"the folder {path.parent} cannot be written to")


@contextmanager
def written(path: Path | None, dates: Mapping[str, DateFormat] | None = None) -> Iterator[Write]:
    """Open a file for tables: the result appends a table; the file gets its name at the end unless something is raised.

    Args:
        path: .csv, .tsv or .parquet; None writes CSV to standard output.
        dates: formats of the columns of dates; days alone become Parquet's date32.

    Raises:
        OSError: if the file cannot be written; nothing of it is left.
    """
    dates = dates or {}
    if path is None:
        yield csv_files.writer(sys.stdout.buffer, dates)
        sys.stdout.buffer.flush()
        return
    with atomic_write(path) as partial:
        if _suffix(path) == ".parquet":
            with parquet.writer(partial, dates) as write:
                yield write
        else:
            with partial.open("wb") as file:
                yield csv_files.writer(file, dates, csv_files.SEPARATORS[_suffix(path)])


def write_text(path: Path, text: str) -> None:
    """Write a file of text, complete or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix != ".parquet" and suffix not in csv_files.SEPARATORS:
        raise ValueError(f"{path} ends in {suffix or 'nothing'!r}, expected a table: .csv, .tsv or .parquet")
    return suffix
