"""Tables as CSV and Parquet files: read whole or in chunks, written so that a file appears complete or not at all."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import pandas as pd

from cfdg_diffusion.cli import csv_files, csv_tables, parquet
from cfdg_diffusion.cli.csv_cells import ColumnReading
from cfdg_diffusion.cli.dates import DateFormat
from cfdg_diffusion.cli.formats import Choices, CsvFormat, TableFormat
from cfdg_diffusion.cli.given import Chunk, Given
from cfdg_diffusion.storage import atomic_write

CHUNK = 50_000
"""Rows that are read, generated and written at a time: some tens of MB."""

Write = Callable[[pd.DataFrame, Given | None], None]
_NOTHING_SAID = Choices()
_PLAIN = TableFormat()


@dataclass(frozen=True)
class TableFile:
    """A table and the format of its file.

    Attributes:
        table: the rows.
        format: of the file.
    """

    table: pd.DataFrame
    format: TableFormat = field(default_factory=TableFormat)

    @property
    def dates(self) -> dict[str, DateFormat]:
        """Formats of the columns of dates, by column."""
        return self.format.dates


def read_table(path: Path, choices: Choices = _NOTHING_SAID, dropped: Sequence[str] = ()) -> TableFile:
    """Read a whole table; the dtype of each column of a CSV file follows from all of its cells.

    Numbers with gaps become nullable, so that 3 stays 3; ISO dates become datetime64; codes stay text: numbers with a
    zero in front (01234), or with a plus (+49) or a bare exponent (1E5) in all cells.

    Args:
        path: .csv, .tsv or .parquet.
        choices: layout of a CSV file, and kinds: "text" leaves a column as it is, also words such as NA; "category"
            keeps its text; "number" and "integer" read codes as numbers; "boolean" reads two words such as yes and no;
            "datetime" and "datetime:FORMAT" read dates that are not ISO.
        dropped: names as text of columns that are not read.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a table; the message names the file and the fault.
        ImportError: if pyarrow is missing for Parquet.
    """
    suffix = check_input(path)
    layout = layout_said(path, choices)
    names = column_names(path, layout)
    unknown = [name for name in choices.kinds if name not in names]
    if unknown:
        raise ValueError(f"{path} has no column {unknown[0]!r}, expected one of {', '.join(map(repr, names))}")
    wanted = [name for name in names if name not in dropped]
    kinds = {name: kind for name, kind in choices.kinds.items() if name in wanted}
    if suffix == ".parquet":
        return TableFile(*parquet.read(path, wanted, kinds))
    table, form = csv_tables.read(path, names, wanted, layout, kinds=kinds, rows=CHUNK)
    if suffix == ".tsv" and choices.separator is None:  # its tabs are those of its name, not of other files
        form = replace(form, csv=replace(layout, separator=","))
    return TableFile(table, form)


def read_chunks(
    path: Path, readings: Mapping[Hashable, ColumnReading], layout: CsvFormat, rows: int = CHUNK
) -> Iterator[Chunk]:
    """Read a table in chunks of some rows; columns with a reading become its dtype, the others of a CSV file stay text.

    Raises:
        FileNotFoundError: if there is no such file.
        ValueError: if it is not such a table, or a cell cannot be cast; the message names file, column and row.
        ImportError: if pyarrow is missing for Parquet.
    """
    suffix = check_input(path)
    names = column_names(path, layout)
    if suffix == ".parquet":
        yield from parquet.chunks(path, readings, rows)
    else:
        yield from csv_tables.chunks(path, names, readings, layout, rows)


def layout_said(path: Path, choices: Choices) -> CsvFormat:
    """Return the usual layout of a file by its suffix, changed to what was said."""
    return choices.layout(CsvFormat(csv_files.SEPARATORS.get(path.suffix.lower(), ",")))


def layout_like(path: Path, choices: Choices, trained: TableFormat, names: Iterable[Hashable]) -> CsvFormat:
    """Return the layout of a file for a model: that of its training if the file has column names of the model then.

    Args:
        path: of the file.
        choices: what was said; it is stronger.
        trained: format of the training file.
        names: of the columns that the file should have.
    """
    usual = layout_said(path, choices)
    if trained.csv is None or check_input(path) == ".parquet":
        return usual
    layout = choices.layout(trained.csv)
    if choices.separator is None and path.suffix.lower() == ".tsv":
        layout = replace(layout, separator="\t")
    if csv_files.header_fits(path, layout.separator, names):
        return layout
    return replace(usual, missing=layout.missing)


def layout_for(
    path: Path | None, trained: TableFormat, source: Path | None = None, given: CsvFormat | None = None
) -> CsvFormat:
    """Return the layout of a CSV file to be written: of the given cells, else of training; .tsv files have tabs.

    Args:
        path: of the file; None is standard output.
        trained: format of the training file.
        source: the file of the given cells; None if there are none.
        given: its layout.
    """
    usual = trained.csv or CsvFormat()
    suffix = ".csv" if path is None else path.suffix.lower()
    separator = "\t" if suffix == ".tsv" else usual.separator
    if source is None or given is None or source.suffix.lower() == ".parquet":
        return replace(usual, separator=separator)
    return given if source.suffix.lower() == suffix else replace(given, separator=separator)


def column_names(path: Path, layout: CsvFormat) -> list[str]:
    """Read the column names of a file as text, and check that each comes once and all rows are whole.

    Raises:
        ValueError: if not; the message names the file and the fault.
    """
    is_parquet = path.suffix.lower() == ".parquet"
    names = parquet.column_names(path) if is_parquet else csv_files.column_names(path, layout.separator)
    twice = [name for place, name in enumerate(names) if name in names[:place]]
    if twice:
        raise ValueError(f"{path} has two columns named {twice[0]!r}, expected every name once")
    if is_parquet:
        parquet.check_rows(path)
    else:
        csv_files.check_rows(path, layout.separator)
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
    check_folder(path.parent)


def check_folder(folder: Path) -> None:
    """Check that a file can be made in a folder, by one without a name: permissions do not tell it of all folders.

    Raises:
        PermissionError: if it cannot.
    """
    try:
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise PermissionError(f"the folder {folder} cannot be written to") from error


@contextmanager
def written(
    path: Path | None, form: TableFormat = _PLAIN, layout: CsvFormat | None = None, escape_formulas: bool = False
) -> Iterator[Write]:
    """Open a file for tables: the result appends a table; the file gets its name at the end unless something is raised.

    Args:
        path: .csv, .tsv or .parquet; None writes CSV to standard output.
        form: of the training file: dates, decimals, words for missing values, types of Parquet.
        layout: of a CSV file, see :func:`layout_for`.
        escape_formulas: put an apostrophe before text that a spreadsheet would take for a formula.

    Raises:
        OSError: if the file cannot be written; nothing of it is left.
        ValueError: if the file cannot hold a value; the message names the column.
    """
    layout = layout_for(path, form) if layout is None else layout
    if path is None:
        yield _checked(csv_files.writer(sys.stdout.buffer, layout, form, escape_formulas))
        sys.stdout.buffer.flush()
        return
    if escape_formulas and _suffix(path) == ".parquet":
        raise ValueError(f"{path} is no file for spreadsheets, expected .csv or .tsv with --escape-formulas")
    with atomic_write(path) as partial:
        if _suffix(path) == ".parquet":
            with parquet.writer(partial, form) as write:
                yield _checked(write)
        else:
            with partial.open("wb") as file:
                yield _checked(csv_files.writer(file, layout, form, escape_formulas))


def _checked(write: Write) -> Write:
    """Refuse columns that would have the same name in a file."""

    def checked(table: pd.DataFrame, given: Given | None = None) -> None:
        names = [str(name) for name in table.columns]
        twice = [name for place, name in enumerate(names) if name in names[:place]]
        if twice:
            raise ValueError(f"two columns are named {twice[0]!r} as text, expected names that differ in a file")
        write(table, given)

    return checked


def write_text(path: Path, text: str) -> None:
    """Write a file of text, complete or not at all."""
    with atomic_write(path) as partial:
        partial.write_text(text, encoding="utf-8")


def _suffix(path: Path) -> str:
    suffix = path.suffix.lower()
    if suffix != ".parquet" and suffix not in csv_files.SEPARATORS:
        raise ValueError(f"{path} ends in {suffix or 'nothing'!r}, expected a table: .csv, .tsv or .parquet")
    return suffix
