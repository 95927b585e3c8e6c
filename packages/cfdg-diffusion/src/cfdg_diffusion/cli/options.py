"""What the values of options mean: row counts, durations, names, kinds, labels, weights."""

from __future__ import annotations

import argparse
import math
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from cfdg_diffusion.cli.csv_cells import cast
from cfdg_diffusion.cli.table_files import check_output

KINDS = ("number", "integer", "category", "boolean", "datetime", "text")
OUTPUT = ".csv, .tsv or .parquet (default: CSV to standard output, as - is)"
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0}


def output(text: str, overwrite: bool) -> Path | None:
    """Where a table is to be written; None is standard output.

    Raises:
        OSError: if a file could not be written there.
        ValueError: if the name is no table's, or the file exists and may not be overwritten.
        ImportError: if Parquet cannot be written here.
    """
    if text == "-":
        return None
    check_output(Path(text), overwrite)
    return Path(text)


def count(text: str) -> int:
    """A whole number from 1 on such as ``1_000_000``."""
    try:
        number = int(text)
    except ValueError:
        number = 0
    if number < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number from 1 on, such as 1_000_000")
    return number


def duration(text: str) -> float:
    """Seconds of ``90``, ``90s``, ``5m`` or ``1h30m``."""
    parts = re.findall(r"([0-9.]+)([smh])", text)
    try:
        whole = "".join(amount + unit for amount, unit in parts) == text
        seconds = sum(float(amount) * _SECONDS[unit] for amount, unit in parts) if whole and text else float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is no duration such as 90s, 5m or 1h30m")
    return seconds


def interval(text: str) -> tuple[float, float]:
    """Two noise levels such as ``0.2,5``; either may be left out."""
    low, comma, high = text.partition(",")
    try:
        bounds = (float(low or 0), float(high or math.inf))
    except ValueError:
        bounds = (0.0, 0.0)
    if not comma or not 0 <= bounds[0] < bounds[1]:
        raise argparse.ArgumentTypeError(f"{text!r} are no two noise levels LOW,HIGH such as 0.2,5")
    return bounds


def kind(text: str) -> tuple[str, str]:
    """A column and what it holds, such as ``zip=category``."""
    column, equals, name = text.rpartition("=")
    if not equals or name not in KINDS:
        raise argparse.ArgumentTypeError(f"{text!r} is not COLUMN=KIND with one of {', '.join(KINDS)}")
    return column, name


def names(texts: Sequence[str], columns: Sequence[str], option: str) -> list[str]:
    """Columns of an option that was given several times or with commas between them.

    Raises:
        ValueError: if one is not among the columns.
    """
    found: list[str] = []
    for text in texts:
        found += [text] if text in columns else [part.strip() for part in text.split(",")]
    unknown = [name for name in found if name not in columns]
    if unknown:
        raise ValueError(f"{option} names column {unknown[0]!r}, expected one of {', '.join(map(repr, columns))}")
    return list(dict.fromkeys(found))


def label_values(texts: Sequence[str], labels: pd.DataFrame) -> object:
    """What :meth:`TabularDiffusion.sample` takes as ``label``: a value, or a dictionary of values by column.

    Args:
        texts: values, or ``column=value``; without a value it is the missing one.
        labels: a table of the label columns; only its dtypes are read.

    Raises:
        ValueError: if a text is no value of its column, or one of several columns is not named.
    """
    if not texts:
        return None
    columns, values = [str(name) for name in labels.columns], {}
    if not columns:
        raise ValueError("--label asks for a label, but the model was fitted without one: fit again with --label")
    for text in texts:
        column, equals, value = text.partition("=")
        if not equals or column not in columns:
            if len(columns) > 1:
                raise ValueError(f"--label is {text!r}, expected COLUMN=VALUE with one of {', '.join(columns)}")
            column, value = columns[0], text
        if column in values:
            raise ValueError(
                f"--label gives {column!r} twice, expected one value; --labels FILE takes one for each row"
            )
        values[column] = value_of(value, column, labels) if value else None
    return values


def value_of(text: str, column: str, table: pd.DataFrame) -> object:
    """A value of a column as its dtype has it.

    Raises:
        ValueError: if the text is none.
    """
    try:
        found = cast(pd.Series([text], dtype=object), table[column].dtype)
        return found.iloc[0]
    except ValueError as error:
        raise ValueError(f"{text!r} is no value of column {column!r}, which holds {table[column].dtype}") from error


def weights(texts: Sequence[str], labels: pd.DataFrame) -> float | Mapping[object, float] | None:
    """One guidance weight, or weights by label such as ``rare=0.5,common=0``.

    Raises:
        ValueError: if it is neither, or names labels of a model that has not just one label column.
    """
    if not texts:
        return None
    if len(texts) == 1 and (single := _number(texts[0])) is not None:
        return single
    if len(labels.columns) != 1:
        raise ValueError(f"--guidance is {texts[0]!r}, expected a number: the model has not exactly one label column")
    parts = [part for text in texts for part in _split(text)]
    found = {value.strip(): _number(weight) for value, _, weight in (part.rpartition("=") for part in parts)}
    bad = [value for value, weight in found.items() if weight is None or not value]
    if bad:
        raise ValueError(f"--guidance is {', '.join(texts)!r}, expected a number, or LABEL=NUMBER,LABEL=NUMBER")
    column = str(labels.columns[0])
    return {value_of(value, column, labels): float(weight or 0) for value, weight in found.items()}


def _split(text: str) -> list[str]:
    """At the commas, unless they belong to a label."""
    parts = text.split(",")
    return parts if all("=" in part for part in parts) else [text]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
