"""Preview of a fit: column kinds, label counts and memory."""

from __future__ import annotations

import shlex
from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.cli.dates import DateFormat
from cfdg_diffusion.cli.table_files import TableFile
from cfdg_diffusion.quality.text_table import aligned
from cfdg_diffusion.tabular.columns import CodecSettings
from cfdg_diffusion.tabular.identifiers import Identifier, identifiers
from cfdg_diffusion.tabular.labels import LabelCodec
from cfdg_diffusion.tabular.schema import TableSchema

_SHOWN = 20
"""Labels that are listed."""
_BASE = 600e6
"""Bytes of Python, PyTorch, pandas and the default network in training, by measurement."""
_COPIES = 2
"""float32 copies of the encoded rows while they are encoded, see :meth:`TabularDiffusion.fit`."""


def preview(read: TableFile, labels: Sequence[Hashable], kinds: Mapping[Any, Any]) -> str:
    """Describe a fit before it: a line for each column, labels with counts, date formats, identifiers, memory.

    Args:
        read: the training table.
        labels: names of the label columns.
        kinds: kind by column, for columns whose kind is not to be detected.

    Raises:
        ValueError: if the table cannot be learnt; the message names the column.
    """
    table = read.table
    schema = TableSchema.learn(table, list(labels), kinds, CodecSettings())
    lines = [f"{len(table):,} rows, {table.shape[1]} columns", ""]
    lines += [schema.codec.describe(), ""] if schema.codec else []
    held = table.memory_usage(deep=True).sum() + _COPIES * 4.0 * len(table) * schema.width
    memory = f"memory of fit: about {(_BASE + held) / 2**30:.1f} GiB"
    notes = [identifier_line(found) for found in identifiers(schema)]
    return "\n".join([*lines, *label_lines(schema.labels), *date_lines(read.dates), *notes, memory])


def label_lines(labels: LabelCodec) -> list[str]:
    """List the label columns, and the training rows of each label, most frequent first."""
    if not labels.columns:
        return ["no label"]
    name = ", ".join(map(str, labels.columns))
    total = labels.counts.sum()
    some = np.argsort(-labels.counts, kind="stable")[:_SHOWN]
    texts = _bins(labels) if labels.is_binned else _texts(labels.decode(np.arange(len(labels))))
    rows = [
        (f"  {texts[place]}", f"{labels.counts[place]:,} rows ({labels.counts[place] / total:.1%})") for place in some
    ]
    more = [f"  and {len(labels) - _SHOWN:,} more"] if len(labels) > _SHOWN else []
    bins = ", a number told by its bin" if labels.is_binned else ""
    return [f"label {name}: {len(labels)} values{bins}", *aligned(rows), *more]


def date_lines(dates: Mapping[str, DateFormat]) -> list[str]:
    """List the columns of text that are read as dates, with their formats."""
    return [f"dates in {name!r} are written {written}" for name, written in dates.items()]


def identifier_line(found: Identifier) -> str:
    """Return the note on a column that may identify its rows, with the option that leaves it out."""
    return f"{found.column}: {found.finding}: --drop {shlex.quote(str(found.column))}"


def _bins(labels: LabelCodec) -> list[str]:
    texts = [f"below {labels.edges[0]:g}"] + [f"{edge:g} and more" for edge in labels.edges]
    return [*texts, "missing"][: len(labels)]


def _texts(labels: pd.DataFrame) -> list[str]:
    return [", ".join(map(str, row)) for row in labels.itertuples(index=False)]
