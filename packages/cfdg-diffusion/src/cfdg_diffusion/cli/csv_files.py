"""CSV files <-> rows of text: UTF-8, a line of column names, one separator, quotes where they are needed."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import IO

import numpy as np
import pandas as pd

from cfdg_diffusion.cli.cell_texts import texts_of
from cfdg_diffusion.cli.formats import MISSING, CsvFormat, TableFormat
from cfdg_diffusion.cli.given import Given

SEPARATORS = {".csv": ",", ".tsv": "\t"}
"""Separator of cells by suffix, in lower case."""
_USUAL = (",", ";", "\t", "|")
_END = "\x1fend\x1e"
"""A row after the last, which becomes part of a cell if its quote is not closed."""
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def column_names(path: Path, separator: str) -> list[str]:
    """Read the column names.

    Raises:
        ValueError: if the file is empty, binary or not UTF-8, or its cells have another separator.
    """
    with path.open("rb") as raw:
        start = raw.read(1 << 16)
    if b"\0" in start:
        raise ValueError(f"{path} holds NUL bytes, expected text in UTF-8: it is a binary file or UTF-16")
    with _rows(path, separator) as rows:
        names = next(rows, [])
    if not names:
        raise ValueError(f"{path} is empty, expected a line of column names and rows")
    foreign = [other for other in _USUAL if other != separator and other in names[0]]
    if len(names) == 1 and foreign and not start.lstrip(b"\xef\xbb\xbf\r\n").startswith(b'"'):
        raise ValueError(
            f"{path} has one column, {names[0][:60]!r}: its cells are separated by {foreign[0]!r}, "
            f"expected {separator!r}: give --separator {foreign[0]!r}"
        )
    return names


def check_rows(path: Path, separator: str) -> None:
    """Check that there are rows, and as many cells in each as there are column names.

    Raises:
        ValueError: if not, or if the file is not UTF-8; the message names the line.
    """
    with _rows(path, separator) as rows:
        width = len(next(rows, []))
        count = 0
        for row in rows:
            if len(row) != width:
                raise ValueError(f"{path} has {len(row)} cells in line {rows.line:,}, expected {width} as named")
            count += 1
    if not count:
        raise ValueError(f"{path} has column names but no rows, expected at least one row")


def text_chunks(path: Path, names: Sequence[str], separator: str, rows: int) -> Iterator[pd.DataFrame]:
    """Read chunks of some rows as text, exactly as the cells are; their index counts over all chunks."""
    with _rows(path, separator) as found:
        next(found)
        start = 0
        while block := list(islice(found, rows)):
            index = pd.RangeIndex(start, start + len(block))
            yield pd.DataFrame(np.array(block, dtype=object), columns=np.array(names, dtype=object), index=index)
            start += len(block)


class _Rows:
    """Rows of a reader without the empty ones; each knows the line in which it ends."""

    def __init__(self, path: Path, file: IO[str], separator: str) -> None:
        self.path = path
        self.line = 0
        self._reader = csv.reader(_lines(path, file), delimiter=separator)

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        for row in self._reader:
            first = self.line + 1
            self.line = self._reader.line_num
            if row and row[-1].endswith(_END):
                if row == [_END]:
                    break
                raise ValueError(f"{self.path} has a quote in line {first:,} that is never closed")
            if row:
                return row
        raise StopIteration


def _lines(path: Path, file: IO[str]) -> Iterator[str]:
    """Yield the lines and a last row that tells if a quote is open; a NUL byte, as of a binary file, is refused."""
    for number, line in enumerate(file, start=1):
        if "\0" in line:
            raise ValueError(f"{path} holds a NUL byte in line {number:,}, expected text: it is damaged or binary")
        yield line
    yield _END


@contextmanager
def _rows(path: Path, separator: str) -> Iterator[_Rows]:
    """Open a reader of rows, and name the line of what cannot be read."""
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = _Rows(path, file, separator)
        try:
            yield rows
        except csv.Error as error:
            raise ValueError(
                f"{path} cannot be read from line {rows.line + 1:,} on, where a quote may be open: {error}"
            ) from error
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


def writer(
    file: IO[bytes], layout: CsvFormat, form: TableFormat, escape_formulas: bool = False
) -> Callable[[pd.DataFrame, Given | None], None]:
    """Return a function that appends tables to an open file, with the column names before the first."""
    begun = False

    def write(table: pd.DataFrame, given: Given | None = None) -> None:
        nonlocal begun
        columns = [_column(table, name, layout, form=form, given=given, escape=escape_formulas) for name in table]
        lines = [layout.separator.join(cells) for cells in zip(*columns, strict=True)]
        if not begun:
            lines.insert(0, layout.separator.join(_header(table.columns, layout, escape_formulas)))
        if table.shape[1] == 1:
            lines = [line or '""' for line in lines]
        file.write("".join(f"{line}\n" for line in lines).encode("utf-8"))
        begun = True

    return write


def _column(
    table: pd.DataFrame, name: Hashable, layout: CsvFormat, *, form: TableFormat, given: Given | None, escape: bool
) -> list[str]:
    """Write one column; what it may not change comes from the user's file."""
    words = form.missing_words(name)
    kept = None if given is None else given.texts(name)
    if given is None or kept is None:
        texts = texts_of(table[name], form.column(name), layout)
    else:
        texts, generated = kept
        made = iter(texts_of(given.made(name, table), form.column(name), layout))
        texts = [next(made) if new else text for text, new in zip(texts, generated, strict=True)]
    dtype = table[name].dtype
    is_text = isinstance(dtype, pd.CategoricalDtype | pd.StringDtype) or pd.api.types.is_object_dtype(dtype)
    if escape and is_text:
        texts = [escaped(text) for text in texts]
    _check_text(texts, name)
    return _quoted(texts, words, layout)


def escaped(text: str | None) -> str | None:
    """Put an apostrophe before a cell that a spreadsheet would take for a formula."""
    return f"'{text}" if text is not None and text.startswith(_FORMULA) else text


def _check_text(texts: Sequence[str | None], name: Hashable) -> None:
    bad = next((text for text in texts if text is not None and "\0" in text), None)
    if bad is not None:
        raise ValueError(f"column {name!r} holds {bad!r} with a NUL character, which CSV cannot hold: write .parquet")


def _quoted(texts: Sequence[str | None], missing: Sequence[str], layout: CsvFormat) -> list[str]:
    """Quote what would be read otherwise, and a word for missing values that is none here."""
    special = _special(layout)
    words = set(MISSING) - set(missing)
    if not missing and any(text is None for text in texts):
        raise ValueError("a column has every word for a missing value as a level and missing values, write .parquet")
    return [
        missing[0] if text is None else _quote(text) if text in words or special.search(text) else text
        for text in texts
    ]


def _special(layout: CsvFormat, more: str = "") -> re.Pattern[str]:
    """Compile a pattern of characters that need quotes: also a carriage return, which Python's own writer forgets."""
    return re.compile(f'["\r\n\ufeff{re.escape(layout.separator)}{re.escape(more)}]')


def _quote(text: str) -> str:
    return '"' + text.replace('"', '""') + '"'


def _header(names: pd.Index, layout: CsvFormat, escape: bool) -> list[str]:
    texts = [str(name) for name in names]
    _check_text(texts, "of the names")
    texts = [escaped(text) or "" for text in texts] if escape else texts
    special = _special(layout, "".join(_USUAL) if len(texts) == 1 else "")
    return [_quote(text) if special.search(text) else text for text in texts]


def header_fits(path: Path, separator: str, names: Iterable[Hashable]) -> bool:
    """Test whether the column names, cut at a separator, have one of some names."""
    with _rows(path, separator) as rows:
        return bool(set(map(str, names)) & set(next(rows, [])))
