"""Parquet files <-> DataFrames with pyarrow, which is imported only when it is needed."""

from __future__ import annotations

import base64
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from cfdg_diffusion.cli import arrow_columns
from cfdg_diffusion.cli.csv_cells import TEXT, ColumnReading, cast
from cfdg_diffusion.cli.dates import DateFormat
from cfdg_diffusion.cli.formats import ColumnFormat, TableFormat
from cfdg_diffusion.cli.given import ArrowCells, Chunk, Given
from cfdg_diffusion.cli.readings import converted

_DAYS = DateFormat("D")
_NULLABLE = (
    pd.BooleanDtype,
    *(pd.Float32Dtype, pd.Float64Dtype),
    *(pd.Int8Dtype, pd.Int16Dtype, pd.Int32Dtype, pd.Int64Dtype),
    *(pd.UInt8Dtype, pd.UInt16Dtype, pd.UInt32Dtype, pd.UInt64Dtype),
)


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
    """Read the column names as text, without an index that has no name.

    Raises:
        ValueError: if it is no whole Parquet file.
    """
    with _opened(path) as file:
        schema = file.schema_arrow
    unnamed = arrow_columns.unnamed_index(schema)
    return [name for name in schema.names if name not in unnamed]


def check_rows(path: Path) -> None:
    """Check that there are rows.

    Raises:
        ValueError: if not.
    """
    with _opened(path) as file:
        rows = file.metadata.num_rows
    if not rows:
        raise ValueError(f"{path} has no rows, expected at least one")


def read(path: Path, wanted: Sequence[str], kinds: Mapping[str, str]) -> tuple[pd.DataFrame, TableFormat]:
    """Read the table with the names that pandas gave to its columns, and its schema.

    A named index becomes columns, one without a name is left out.

    Args:
        path: of the file.
        wanted: names as text of the columns to read.
        kinds: "text", "boolean" and "datetime" read columns of another type; "category" decimals.

    Raises:
        ValueError: if a column cannot be read as its kind, or is none of a table.
    """
    with _opened(path) as file:
        table = file.read(columns=list(wanted))
    schema = table.schema
    names = arrow_columns.names_in_memory(schema)
    series: dict[Hashable, pd.Series] = {}
    columns: dict[str, ColumnFormat] = {}
    for text in wanted:
        with _about(path, text):
            series[names[text]], columns[text] = _column(table.column(text), kinds.get(text))
    frame = pd.DataFrame(dict(enumerate(series.values()))).set_axis(pd.Index(list(series)), axis=1)
    return frame, TableFormat(columns=columns, arrow=base64.b64encode(schema.serialize()).decode())


def _column(column: Any, kind: str | None) -> tuple[pd.Series, ColumnFormat]:  # noqa: ANN401
    """Read a column, and what of its format a CSV file can have."""
    types = require_pyarrow().types
    own = column.type
    if arrow_columns.is_nested(own):
        raise ValueError(f"holds {own}, expected numbers, booleans, text, categories, dates or durations: --drop it")
    if kind == "text" or (kind == "category" and types.is_decimal(own)):
        return arrow_columns.to_texts(column).astype(TEXT), ColumnFormat(missing=("",))
    late = (kind == "boolean" and not types.is_boolean(own)) or (
        kind is not None and kind.startswith("datetime") and not types.is_temporal(own)
    )
    if late and kind is not None:
        return converted(arrow_columns.to_texts(column), kind)
    form = ColumnFormat(date=_DAYS) if types.is_date(own) else ColumnFormat()
    if types.is_decimal(own):
        form = ColumnFormat(decimals=max(own.scale, 0) or None)
    return arrow_columns.to_series(column, exact=True), form


def chunks(path: Path, readings: Mapping[Hashable, ColumnReading], rows: int) -> Iterator[Chunk]:
    """Read the table in chunks of at most some rows; text is cast to the dtypes of training.

    Raises:
        ValueError: if a cell cannot be cast; the message names file, column and row.
    """
    arrow = require_pyarrow()
    names: dict[str, Hashable] = {str(name): name for name in readings}
    start = 0
    with _opened(path) as file:
        for batch in file.iter_batches(batch_size=rows):
            table = arrow.Table.from_batches([batch])
            series = {}
            for text in table.column_names:
                with _about(path, text):
                    reading = readings.get(names.get(text, text))
                    series[names.get(text, text)] = _typed(table.column(text), reading, start)
            frame = pd.DataFrame(dict(enumerate(series.values()))).set_axis(pd.Index(list(series)), axis=1)
            yield Chunk(frame, ArrowCells(table))
            start += len(frame)


def _typed(column: Any, reading: ColumnReading | None, start: int) -> pd.Series:  # noqa: ANN401
    """Read a column as training had it: text of dates and numbers, and numbers that were dates, are converted."""
    index = pd.RangeIndex(start, start + len(column))
    if reading is not None and arrow_columns.is_nested(column.type):
        raise ValueError(f"holds {column.type}, expected {reading.dtype} as in training")
    if reading is None:
        return arrow_columns.to_series(column).set_axis(index)
    types = require_pyarrow().types
    dtype = reading.dtype
    wants_text = isinstance(dtype, pd.StringDtype | pd.CategoricalDtype) or pd.api.types.is_object_dtype(dtype)
    if isinstance(dtype, pd.StringDtype) and not arrow_columns.is_textual(column.type):
        return arrow_columns.to_texts(column).astype(dtype).set_axis(index)
    by_pattern = (
        reading.form.date is not None and bool(reading.form.date.pattern) and not types.is_temporal(column.type)
    )
    if (arrow_columns.is_textual(column.type) and not wants_text) or by_pattern:
        return cast(arrow_columns.to_texts(column).set_axis(index), reading)
    return arrow_columns.to_series(column).set_axis(index)


@contextmanager
def writer(path: Path, form: TableFormat) -> Iterator[Callable[[pd.DataFrame, Given | None], None]]:
    """Open a file for tables: the result appends tables; the types are those of the given cells, else of training."""
    arrow = require_pyarrow()
    file = None
    schema = None

    def write(table: pd.DataFrame, given: Given | None = None) -> None:
        nonlocal file, schema
        if schema is None:
            schema = _schema(table, form, given)
        rows = _rows(table, schema, form, given)
        if file is None:
            file = arrow.parquet.ParquetWriter(path, schema, write_page_checksum=True)
        file.write_table(rows)

    try:
        yield write
    finally:
        if file is not None:
            file.close()


def training_schema(form: TableFormat) -> Any:  # noqa: ANN401
    """Return the schema of the training file, None if it was no Parquet file."""
    if form.arrow is None:
        return None
    arrow = require_pyarrow()
    try:
        return arrow.ipc.read_schema(arrow.py_buffer(base64.b64decode(form.arrow)))
    except (arrow.ArrowException, ValueError, OSError) as error:
        raise ValueError(f"the schema of the training table cannot be read: {error}") from error


def _schema(table: pd.DataFrame, form: TableFormat, given: Given | None) -> Any:  # noqa: ANN401
    """Choose the schema of all chunks from the first: a column without values there may hold text later."""
    arrow = require_pyarrow()
    trained = training_schema(form)
    theirs = given.cells.table.schema if given is not None and isinstance(given.cells, ArrowCells) else None
    fields = []
    for name in table.columns:
        own = _field(str(name), trained)
        if theirs is not None and given is not None and name in given.generated:
            own = _widened(theirs.field(str(name)), own, given.dtypes.get(name))
        elif own is not None and arrow.types.is_floating(own.type) and given is not None and name in given.generated:
            own = own.with_type(arrow.float64())
        if own is None:
            with _about(None, name):
                own = arrow.field(str(name), _usual_type(table[name], form.column(name)))
        fields.append(own)
    schema = arrow.schema(fields)
    for source in (theirs, trained):
        if source is not None and set(schema.names) <= set(source.names):
            return arrow_columns.with_metadata_of(schema, source)
    return arrow_columns.with_metadata_of(schema, arrow.Schema.from_pandas(_noted(table), preserve_index=False))


def _noted(table: pd.DataFrame) -> pd.DataFrame:
    """Make the table of which pandas notes names, and the types that Arrow's do not tell: nullable numbers."""
    dtypes = [dtype if isinstance(dtype, _NULLABLE) else "float64" for dtype in table.dtypes]
    empty = {place: pd.Series(dtype=dtype) for place, dtype in enumerate(dtypes)}
    return pd.DataFrame(empty).set_axis(table.columns, axis=1)


def _field(name: str, schema: Any) -> Any:  # noqa: ANN401
    return None if schema is None or name not in schema.names else schema.field(name)


def _usual_type(series: pd.Series, form: ColumnFormat) -> Any:  # noqa: ANN401
    arrow = require_pyarrow()
    if form.date is not None and form.date.unit == "D" and not form.date.pattern:
        return arrow.date32()
    own = arrow_columns.from_series(series, None, form).type
    return arrow.string() if arrow.types.is_null(own) else own


def _widened(given: Any, trained: Any, dtype: Any) -> Any:  # noqa: ANN401
    """Return the field of a column with given cells: theirs, unless it is none or one of integers without decimals."""
    arrow = require_pyarrow()
    types = arrow.types
    if types.is_null(given.type):
        return trained
    if types.is_integer(given.type) and getattr(dtype, "kind", "") == "f":
        return arrow.field(given.name, arrow.float64())
    return given.with_nullable(True)


def _rows(table: pd.DataFrame, schema: Any, form: TableFormat, given: Given | None) -> Any:  # noqa: ANN401
    """Convert a table to rows of a schema."""
    arrow = require_pyarrow()
    columns = []
    for name, field in zip(table.columns, schema, strict=True):
        with _about(None, name):
            kept = None if given is None else given.arrow(name)
            numbers = given.decimals(name, table) if given is not None and arrow.types.is_decimal(field.type) else None
            if numbers is not None:
                columns.append(arrow.array(numbers, arrow.string()).cast(field.type))
            elif given is None or kept is None:
                columns.append(arrow_columns.from_series(table[name], field.type, form.column(name)))
            elif not kept[1].any() and kept[0].type == field.type:
                columns.append(kept[0])
            else:
                made = arrow_columns.from_series(given.made(name, table), field.type, form.column(name))
                columns.append(arrow_columns.joined(kept[0], made, kept[1]))
    return arrow.Table.from_arrays(columns, schema=schema)


@contextmanager
def _about(path: Path | None, name: Hashable) -> Iterator[None]:
    """Put the file and the column before the message of an error."""
    arrow = require_pyarrow()
    try:
        yield
    except (arrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{'' if path is None else f'{path}: '}column {name!r} {reason}") from error


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    arrow = require_pyarrow()
    try:
        with arrow.parquet.ParquetFile(path, page_checksum_verification=True) as file:  # where there are any
            yield file
    except (arrow.ArrowException, OSError, UnicodeDecodeError) as error:
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise ValueError(f"{path} is no Parquet file, damaged or cut short: {reason}") from error
