"""CSV files -> DataFrames: the kind of each column is found from its cells, or given by a model."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from cfdg_diffusion.cli.csv_cells import ColumnReading, cast
from cfdg_diffusion.cli.csv_files import text_chunks
from cfdg_diffusion.cli.evidence import Evidence
from cfdg_diffusion.cli.formats import PLAIN, CsvFormat, TableFormat
from cfdg_diffusion.cli.given import Chunk, CsvCells
from cfdg_diffusion.cli.readings import converted, kind_words, needs_all_cells, reading_of


def read(
    path: Path, names: Sequence[str], wanted: Sequence[str], layout: CsvFormat, *, kinds: Mapping[str, str], rows: int
) -> tuple[pd.DataFrame, TableFormat]:
    """Read the table, and its format.

    Args:
        path: of the file.
        names: its column names.
        wanted: those to read.
        layout: of the file.
        kinds: see :func:`cfdg_diffusion.cli.table_files.read_table`.
        rows: that are read at a time.

    Raises:
        ValueError: if a cell is not of the kind that its column was given.
    """
    evidence = _evidence(path, names, kinds, layout, rows)
    readings: dict[Hashable, ColumnReading] = {name: reading_of(kinds.get(name), own) for name, own in evidence.items()}
    parts = [chunk.table[list(wanted)] for chunk in chunks(path, names, readings, layout, rows)]
    table = pd.concat(_with_gaps(parts, evidence), ignore_index=True)
    columns = {name: readings[name].form for name in wanted}
    for name, kind in kinds.items():
        if needs_all_cells(kind, evidence[name].holds):
            with about(path, name):
                table[name], columns[name] = converted(table[name], kind)
    own = {name: form for name, form in columns.items() if form != PLAIN}
    return table, TableFormat(layout, own)


def _with_gaps(parts: Sequence[pd.DataFrame], evidence: Mapping[str, Evidence]) -> list[pd.DataFrame]:
    """Give all parts nullable dtypes where one of them has gaps."""
    nullable = {"int64": "Int64", "bool": "boolean"}
    changed = []
    for part in parts:
        own = {
            name: nullable[str(dtype)]
            for name, dtype in part.dtypes.items()
            if str(dtype) in nullable and evidence[str(name)].missing
        }
        changed.append(part.astype(own))
    return changed


def chunks(
    path: Path, names: Sequence[str], readings: Mapping[Hashable, ColumnReading], layout: CsvFormat, rows: int
) -> Iterator[Chunk]:
    """Read the table in chunks of some rows; columns with a reading become its dtype, the others stay text.

    Raises:
        ValueError: if a cell cannot be cast; the message names file, column and row.
    """
    known: dict[str, Hashable] = {str(name): name for name in readings}
    for texts in text_chunks(path, names, layout.separator, rows):
        series = {}
        for text in names:
            reading = readings.get(known.get(text, text))
            with about(path, text):
                series[known.get(text, text)] = _typed(texts[text], reading)
        table = pd.DataFrame(dict(enumerate(series.values()))).set_axis(pd.Index(list(series)), axis=1)
        yield Chunk(table, CsvCells(texts, layout))


def _typed(cells: pd.Series, reading: ColumnReading | None) -> pd.Series:
    return cells if reading is None else cast(reading.without_missing(cells), reading)


def _evidence(
    path: Path, names: Sequence[str], kinds: Mapping[str, str], layout: CsvFormat, rows: int
) -> dict[str, Evidence]:
    evidence = {name: Evidence(layout) for name in names}
    readings = {name: ColumnReading(object, layout, missing=kind_words(kinds.get(name), layout)) for name in names}
    for texts in text_chunks(path, names, layout.separator, rows):
        for name in names:
            evidence[name].add(readings[name].without_missing(texts[name]))
    return evidence


@contextmanager
def about(path: Path, name: Hashable) -> Iterator[None]:
    """Put the file and the column before the message of an error."""
    try:
        yield
    except (ValueError, TypeError, OverflowError) as error:
        raise ValueError(f"{path}: column {name!r} {error}") from error
