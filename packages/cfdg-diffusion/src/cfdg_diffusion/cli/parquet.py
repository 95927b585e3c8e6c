"""Parquet files <-> DataFrames with pyarrow, which is imported only when it is needed."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from cfdg_diffusion.cli.csv_cells import DateFormat

_DAYS = DateFormat("D")


def require_pyarrow() -> Any:  # noqa: ANN401 - a module
    """Import pyarrow.

    Raises:
        ImportError: with the command that helps.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ImportError("Parquet needs pyarrow: pip install 'cfdg-diffusion[parquet]'") from error
    return pyarrow


def column_names(path: Path) -> list[str]:
    """Read the column names.

    Raises:
        ValueError: if it is no whole Parquet file.
    """
    with _opened(path) as file:
        return file.schema_arrow.names


def check_rows(path: Path) -> None:
    """Check that there are rows.

    Raises:
        ValueError: if not.
    """
    with _opened(path) as file:
        rows = file.metadata.num_rows
    if not rows:
        raise ValueError(f"{path} has no rows, expected at least one")


def read(path: Path) -> tuple[pd.DataFrame, dict[str, DateFormat]]:
    """Read the table, and the format of its columns of days without a time."""
    with _opened(path) as file:
        table = file.read()
    types = require_pyarrow().types
    days = {field.name: _DAYS for field in table.schema if types.is_date(field.type)}
    return _frame(table), days


def chunks(path: Path, rows: int) -> Iterator[pd.DataFrame]:
    """Read the table in chunks of at most some rows; their index counts over all chunks."""
    arrow = require_pyarrow()
    start = 0
    with _opened(path) as file:
        for batch in file.iter_batches(batch_size=rows):
            frame = _frame(arrow.Table.from_batches([batch]))
            yield frame.set_axis(pd.RangeIndex(start, start + len(frame)))
            start += len(frame)


@contextmanager
def writer(path: Path, dates: Mapping[str, DateFormat]) -> Iterator[Callable[[pd.DataFrame], None]]:
    """Open a file for tables: the result appends tables of equal dtypes; days without a time become date32."""
    arrow = require_pyarrow()
    file = None
    schema = None
    days = {name for name, own in dates.items() if own.unit == "D"}

    def write(table: pd.DataFrame) -> None:
        nonlocal file, schema
        rows = arrow.Table.from_pandas(table, preserve_index=False)
        if file is None:
            schema = _schema(rows.schema, days)
            file = arrow.parquet.ParquetWriter(path, schema)
        file.write_table(rows.cast(schema, safe=False))

    try:
        yield write
    finally:
        if file is not None:
            file.close()


def _schema(schema: Any, days: set[str]) -> Any:  # noqa: ANN401 - pyarrow's
    """Choose the schema of all chunks from the first: a column without values there may hold text later."""
    arrow = require_pyarrow()
    for place, field in enumerate(schema):
        if field.name in days:
            schema = schema.set(place, field.with_type(arrow.date32()))
        elif arrow.types.is_null(field.type):
            schema = schema.set(place, field.with_type(arrow.string()))
    return schema


def _frame(table: Any) -> pd.DataFrame:  # noqa: ANN401
    """Convert to pandas' plain dtypes; whole numbers and booleans with gaps get the nullable ones."""
    arrow = require_pyarrow()
    types = arrow.types
    for place, field in enumerate(table.schema):
        if types.is_date(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(arrow.timestamp("s")))
        elif types.is_decimal(field.type):
            table = table.set_column(place, field.name, table.column(place).cast(arrow.float64()))
    frame = table.to_pandas()
    for place, field in enumerate(table.schema):
        gaps = table.column(place).null_count > 0
        if gaps and field.name in frame and (types.is_integer(field.type) or types.is_boolean(field.type)):
            frame[field.name] = _nullable(table.column(place), frame.index)
    return frame


def _nullable(column: Any, index: pd.Index) -> pd.Series:  # noqa: ANN401
    name = str(column.type)  # "bool", "int8" to "uint64"
    dtype = "boolean" if name == "bool" else name.capitalize().replace("Uint", "UInt")
    kinds = {column.type: pd.api.types.pandas_dtype(dtype)}
    return column.to_pandas(types_mapper=kinds.get).set_axis(index)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    arrow = require_pyarrow()
    try:
        with arrow.parquet.ParquetFile(path) as file:
            yield file
    except arrow.ArrowInvalid as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is no Parquet file or is cut short: {reason}") from error
