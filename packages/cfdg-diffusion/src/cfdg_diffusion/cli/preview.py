"""What is known of a table before a model is fitted to it: kinds, labels, memory."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.cli.csv_cells import DateFormat
from cfdg_diffusion.cli.table_files import TableFile
from cfdg_diffusion.tabular.columns import CodecSettings
from cfdg_diffusion.tabular.labels import LabelCodec
from cfdg_diffusion.tabular.schema import TableSchema

_SHOWN = 20
"""Labels that are listed."""
_BASE = 600e6
"""Bytes of Python, PyTorch, pandas and the default network in training, by measurement."""
_COPIES = 2
"""float32 copies of the encoded rows while they are encoded, see :meth:`TabularDiffusion.fit`."""


def outlook(read: TableFile, labels: Sequence[str], kinds: Mapping[Any, Any]) -> str:
    """What each column would be taken for, the labels with their counts, and the memory that a fit would take.

    Raises:
        ValueError: if the table cannot be learnt; the message names the column.
    """
    table = read.table
    schema = TableSchema.learn(table, list(labels), kinds, CodecSettings())
    lines = [f"{len(table):,} rows, {table.shape[1]} columns", ""]
    lines += [schema.codec.describe(), ""] if schema.codec else []
    held = table.memory_usage(deep=True).sum() + _COPIES * 4.0 * len(table) * schema.width
    memory = f"memory of fit: about {(_BASE + held) / 2**30:.1f} GiB"
    return "\n".join([*lines, *label_lines(schema.labels), *date_lines(read.dates), memory])


def label_lines(labels: LabelCodec) -> list[str]:
    """The label columns, and the rows that each label has in training."""
    if not labels.columns:
        return ["no label"]
    name = ", ".join(map(str, labels.columns))
    total, some = labels.counts.sum(), np.argsort(-labels.counts, kind="stable")[:_SHOWN]
    texts = _bins(labels) if labels.is_binned else _texts(labels.decode(np.arange(len(labels))))
    width = max(len(texts[place]) for place in some)
    lines = [
        f"  {texts[place].ljust(width)}  {labels.counts[place]:,} rows ({labels.counts[place] / total:.1%})"
        for place in some
    ]
    more = [f"  and {len(labels) - _SHOWN:,} more"] if len(labels) > _SHOWN else []
    bins = ", a number told by its bin" if labels.is_binned else ""
    return [f"label {name}: {len(labels)} values{bins}", *lines, *more]


def date_lines(dates: Mapping[str, DateFormat]) -> list[str]:
    """Columns of text that are read as dates."""
    return [f"dates in {name!r} are written {written}" for name, written in dates.items()]


def _bins(labels: LabelCodec) -> list[str]:
    texts = [f"below {labels.edges[0]:g}"] + [f"{edge:g} and more" for edge in labels.edges]
    return [*texts, "missing"][: len(labels)]


def _texts(labels: pd.DataFrame) -> list[str]:
    return [", ".join(map(str, row)) for row in labels.itertuples(index=False)]
