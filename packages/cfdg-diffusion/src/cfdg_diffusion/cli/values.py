"""Values of columns as the command line gives them: labels and guidance weights."""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping, Sequence

import numpy as np
import pandas as pd

from cfdg_diffusion.cli.csv_cells import ColumnReading, cast


def label_values(texts: Sequence[str], labels: Mapping[Hashable, ColumnReading]) -> dict[Hashable, object] | None:
    """Read the ``label`` of :meth:`TabularDiffusion.sample`: a dictionary of values by column, or None.

    Args:
        texts: values, or ``column=value``; without a value it is the missing one.
        labels: readings of the label columns.

    Raises:
        ValueError: if a text is no value of its column, or one of several columns is not named.
    """
    if not texts:
        return None
    if not labels:
        raise ValueError("--label asks for a label, but the model was fitted without one: fit again with --label")
    values: dict[Hashable, object] = {}
    for text in texts:
        column, value = _label(text, list(labels))
        if column in values:
            raise ValueError(
                f"--label gives {column!r} twice, expected one value; --labels FILE takes one for each row"
            )
        is_value = value or "" in (labels[column].levels or ())
        values[column] = value_of(value, column, labels[column]) if is_value else None
    return values


def _label(text: str, columns: Sequence[Hashable]) -> tuple[Hashable, str]:
    """Split ``column=value``; the column may be left out if there is one only."""
    fits = [name for name in columns if text.startswith(f"{name}=")]
    if fits:
        name = max(fits, key=lambda own: len(str(own)))
        return name, text[len(str(name)) + 1 :]
    if len(columns) > 1:
        raise ValueError(f"--label is {text!r}, expected COLUMN=VALUE with one of {', '.join(map(str, columns))}")
    return columns[0], text


def value_of(text: str, column: Hashable, reading: ColumnReading) -> object:
    """Read a value of a column.

    Raises:
        ValueError: if the text is no value of the dtype.
    """
    try:
        found = cast(pd.Series([text], dtype=object), reading).iloc[0]
    except ValueError as error:
        raise ValueError(f"{text!r} is no value of column {column!r}, which holds {reading.dtype}") from error
    return found.item() if isinstance(found, np.generic) else found


def weights(texts: Sequence[str], labels: Mapping[Hashable, ColumnReading]) -> float | Mapping[object, float] | None:
    """Read one guidance weight, or weights by label such as ``rare=0.5,common=0``.

    Args:
        texts: as given.
        labels: readings of the label columns.

    Raises:
        ValueError: if it is neither, or names labels of a model that has not just one label column.
    """
    if not texts:
        return None
    if len(texts) == 1 and (single := _number(texts[0])) is not None:
        return single
    if len(labels) != 1:
        raise ValueError(f"--guidance is {texts[0]!r}, expected a number: the model has not exactly one label column")
    pairs = [part.rpartition("=") for text in texts for part in _split(text)]
    found = {value.strip(): _number(weight) for value, _, weight in pairs}
    if len(found) < len(pairs):
        raise ValueError(f"--guidance is {', '.join(texts)!r}, expected every label once")
    bad = [value for value, weight in found.items() if weight is None or not value]
    if bad:
        raise ValueError(f"--guidance is {', '.join(texts)!r}, expected a number, or LABEL=NUMBER,LABEL=NUMBER")
    ((column, reading),) = labels.items()
    return {value_of(value, column, reading): float(weight or 0) for value, weight in found.items()}


def _split(text: str) -> list[str]:
    """Split at the commas, unless they belong to a label."""
    parts = text.split(",")
    return parts if all("=" in part for part in parts) else [text]


def _number(text: str) -> float | None:
    try:
        number = float(text)
    except ValueError:
        return None
    return number if math.isfinite(number) else None
