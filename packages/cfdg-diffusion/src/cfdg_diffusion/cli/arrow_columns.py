"""Columns of pandas <-> columns of Arrow with a given type, without a value that changes."""

from __future__ import annotations

import json
import re
from collections.abc import Hashable
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.cli.formats import ColumnFormat

_UNNAMED = re.compile("__index_level_[0-9]+__")
_SURE_DIGITS = 15
"""Digits that every float64 keeps."""


def to_series(column: Any, exact: bool = False) -> pd.Series:  # noqa: ANN401 - a ChunkedArray
    """Convert an Arrow column to pandas' plain dtypes; whole numbers and booleans with gaps get the nullable ones.

    Args:
        column: of any type.
        exact: refuse decimals that a float does not hold.

    Raises:
        ValueError: if so; the message continues after the column's name.
    """
    import pyarrow

    types = pyarrow.types
    own = column.type
    if types.is_decimal(own):
        if exact:
            _check_digits(column)
        return column.cast(pyarrow.string()).cast(pyarrow.float64()).to_pandas()
    if types.is_date(own):
        return column.cast(pyarrow.timestamp("s" if types.is_date32(own) else "ms")).to_pandas()
    if types.is_timestamp(own) and own.tz is not None and re.match("[+-]", own.tz):
        return column.cast(pyarrow.timestamp(own.unit, "UTC")).to_pandas()
    if column.null_count and (types.is_integer(own) or types.is_boolean(own)):
        name = str(own)  # "bool", "int8" to "uint64"
        dtype = "boolean" if name == "bool" else name.capitalize().replace("Uint", "UInt")
        return column.to_pandas(types_mapper={own: pd.api.types.pandas_dtype(dtype)}.get)
    return column.to_pandas()


def to_texts(column: Any) -> pd.Series:  # noqa: ANN401
    """Write the values of a column as text, as Arrow does; None where they are missing."""
    import pyarrow

    own = column.type.value_type if pyarrow.types.is_dictionary(column.type) else column.type
    return pd.Series(column.cast(own).cast(pyarrow.string()).to_pylist(), dtype=object)


def is_textual(type_: Any) -> bool:  # noqa: ANN401 - Arrow's
    """Test for a type of text, perhaps as a dictionary."""
    import pyarrow

    types = pyarrow.types
    own = type_.value_type if types.is_dictionary(type_) else type_
    return types.is_string(own) or types.is_large_string(own) or str(own) == "string_view"


def is_nested(type_: Any) -> bool:  # noqa: ANN401
    """Test for lists, structures and bytes, which are no cells of a table."""
    import pyarrow

    return pyarrow.types.is_nested(type_) or "binary" in str(type_)


def _check_digits(column: Any) -> None:  # noqa: ANN401
    if column.type.precision <= _SURE_DIGITS:
        return
    for value in column.drop_null().to_pylist():
        if type(value)(repr(float(value))) != value:
            raise ValueError(
                f"holds {value}, which a float cannot hold, expected at most {_SURE_DIGITS} digits: "
                f"take it as text with --kinds COLUMN=text, or leave it out with --drop"
            )


def from_series(series: pd.Series, type_: Any, form: ColumnFormat) -> Any:  # noqa: ANN401
    """Convert a column of pandas to an Arrow array.

    Args:
        series: ``(N,)``.
        type_: of the result; None takes Arrow's choice.
        form: format of dates that are stored as text or whole numbers.

    Raises:
        ValueError: if Arrow has no such type, or a value does not fit; the message continues after the column's name.
    """
    import pyarrow

    try:
        return _converted(series, type_, form)
    except (pyarrow.ArrowException, TypeError, ValueError, OverflowError) as error:
        wanted = "no type of Parquet" if type_ is None else f"no {type_}"
        raise ValueError(f"holds {_types(series)} that are {wanted}, write .csv: {_first_line(error)}") from error


def _converted(series: pd.Series, type_: Any, form: ColumnFormat) -> Any:  # noqa: ANN401
    import pyarrow

    types = pyarrow.types
    if type_ is None:
        return _plain(series)
    if form.date is not None and form.date.pattern and not types.is_temporal(type_):
        return pyarrow.array(form.date.write(series).tolist(), pyarrow.string()).cast(type_)
    if series.dtype.kind == "b" and is_textual(type_):
        words = {True: form.truths[0], False: form.truths[1]}
        return pyarrow.array([None if pd.isna(value) else words[bool(value)] for value in series], type_)
    if types.is_decimal(type_):
        return _decimals(series, type_)
    array = _plain(series)
    if types.is_dictionary(type_):
        return _dictionary(array, type_)
    if types.is_dictionary(array.type):
        array = array.dictionary_decode()
    if types.is_timestamp(type_) and types.is_timestamp(array.type) and type_.tz and not array.type.tz:
        raise ValueError("dates without a time zone")
    return array.cast(type_)


def _plain(series: pd.Series) -> Any:  # noqa: ANN401
    import pyarrow

    zone = getattr(series.dtype, "tz", None)
    if zone is not None:
        instants = pyarrow.array(series.dt.tz_convert("UTC").dt.tz_localize(None), from_pandas=True)
        return instants.cast(pyarrow.timestamp(instants.type.unit, str(zone)))
    array = pyarrow.array(series, from_pandas=True)
    own = array.type.value_type if pyarrow.types.is_dictionary(array.type) else array.type
    if isinstance(own, pyarrow.BaseExtensionType):
        raise ValueError(f"Parquet has no {own}")
    return array.combine_chunks() if isinstance(array, pyarrow.ChunkedArray) else array


def _decimals(series: pd.Series, type_: Any) -> Any:  # noqa: ANN401
    """Round numbers to the digits of a type of decimals; those beyond its range become its largest."""
    import pyarrow

    if series.dtype.kind not in "iuf":
        cells = [None if pd.isna(cell) else cell for cell in series]
        return pyarrow.array(cells, pyarrow.string()).cast(type_)
    most = 10.0 ** (type_.precision - type_.scale) - 10.0**-type_.scale
    values = np.clip(series.to_numpy(dtype=np.float64, na_value=np.nan), -most, most).tolist()
    scale = max(type_.scale, 0)
    return pyarrow.array([None if value != value else f"{value:.{scale}f}" for value in values]).cast(type_)


def _dictionary(array: Any, type_: Any) -> Any:  # noqa: ANN401
    """Set the types of index and values, and keep the order of the levels."""
    import pyarrow

    if not pyarrow.types.is_dictionary(array.type):
        array = array.cast(type_.value_type).dictionary_encode()
    levels = array.dictionary.cast(type_.value_type)
    return pyarrow.DictionaryArray.from_arrays(array.indices.cast(type_.index_type), levels, ordered=type_.ordered)


def _types(series: pd.Series) -> str:
    """Name the types of the values of a column."""
    if isinstance(series.dtype, pd.CategoricalDtype):
        return f"categories of {series.dtype.categories.dtype}"
    if series.dtype != object:
        return f"values of {series.dtype}"
    return "values of " + " and ".join(sorted({type(value).__name__ for value in series.dropna()}))


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def joined(given: Any, made: Any, generated: np.ndarray) -> Any:  # noqa: ANN401
    """Join the given cells of a column with k generated ones, in the type of the generated ones.

    Args:
        given: a column of N cells.
        made: an array of k cells.
        generated: bool ``(N,)``, True in k places.

    Raises:
        ValueError: if a given cell does not fit the type.
    """
    import pyarrow

    kept = given.filter(pyarrow.array(~generated)).cast(made.type)
    both = pyarrow.chunked_array([*kept.chunks, made], type=made.type).unify_dictionaries()
    order = np.argsort(np.append(np.flatnonzero(~generated), np.flatnonzero(generated)), kind="stable")
    return both.take(pyarrow.array(order))


def pandas_metadata(schema: Any) -> dict[str, Any]:  # noqa: ANN401
    """Read what pandas noted in a schema; empty if it did not write the file."""
    raw = (schema.metadata or {}).get(b"pandas")
    try:
        found = json.loads(raw) if raw else {}
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}


def names_in_memory(schema: Any) -> dict[str, Hashable]:  # noqa: ANN401
    """Return the name of each column of a file as pandas had it: whole numbers and floats become text in a file."""
    noted = pandas_metadata(schema)
    levels = noted.get("column_indexes") or [{}]
    kinds: dict[str, Any] = {"int": int, "uint": int, "float": float}
    kind = kinds.get(re.sub("[0-9]+$", "", str(levels[0].get("pandas_type"))), str)
    index = set(index_names(schema))
    try:
        return {name: name if name in index else kind(name) for name in schema.names}
    except ValueError:
        return {name: name for name in schema.names}


def index_names(schema: Any) -> list[str]:  # noqa: ANN401
    """List the columns of a file that were the index of a DataFrame."""
    return [name for name in pandas_metadata(schema).get("index_columns", []) if isinstance(name, str)]


def unnamed_index(schema: Any) -> list[str]:  # noqa: ANN401
    """List the columns of a file that number the rows of a DataFrame and have no name."""
    return [name for name in index_names(schema) if _UNNAMED.fullmatch(name)]


def with_metadata_of(schema: Any, source: Any) -> Any:  # noqa: ANN401
    """Copy pandas' notes to a schema of the same columns or fewer, without the numbering of rows."""
    noted = pandas_metadata(source)
    if not noted:
        return schema.with_metadata(source.metadata)
    names = {own.name for own in schema if own.type == source.field(own.name).type}
    noted["index_columns"] = [name for name in index_names(source) if name in names]
    noted["columns"] = [own for own in noted.get("columns", []) if own.get("field_name") in names]
    return schema.with_metadata({**(source.metadata or {}), b"pandas": json.dumps(noted).encode()})
