"""``cfdg-diffusion sample``: any number of rows from a model."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cfdg_diffusion.cli import console, options, values
from cfdg_diffusion.cli.csv_cells import ColumnReading
from cfdg_diffusion.cli.formats import CsvFormat, TableFormat
from cfdg_diffusion.cli.given import Chunk, Given
from cfdg_diffusion.cli.model_files import ModelFiles
from cfdg_diffusion.cli.readings import model_readings
from cfdg_diffusion.cli.table_files import CHUNK, layout_for, layout_like, output_path, read_chunks, written
from cfdg_diffusion.tabular.model import TabularDiffusion
from cfdg_diffusion.tabular.request import Balance


@dataclass(frozen=True)
class _Wanted:
    """A table whose rows are continued.

    Attributes:
        path: of its file.
        layout: of its file.
        readings: of the columns that are kept.
    """

    path: Path
    layout: CsvFormat
    readings: Mapping[Hashable, ColumnReading]

    def chunks(self, seed: int) -> Iterator[tuple[Chunk, int | None]]:
        """Read chunks, the first with the seed: the others continue its random stream."""
        for place, chunk in enumerate(read_chunks(self.path, self.readings, self.layout, CHUNK)):
            absent = [name for name in self.readings if name not in chunk.table]
            if absent:
                known = ", ".join(repr(str(name)) for name in self.readings)
                raise ValueError(f"{self.path} has no column {str(absent[0])!r}, expected {known}")
            table = chunk.table[list(self.readings)].reset_index(drop=True)
            yield Chunk(table, chunk.cells), seed if place == 0 else None

    def given(self, chunk: Chunk) -> Given:
        """Return the kept cells of a chunk."""
        dtypes = {name: own.dtype for name, own in self.readings.items()}
        return Given(chunk.cells, {name: np.zeros(len(chunk.table), dtype=bool) for name in dtypes}, dtypes)


def run(arguments: argparse.Namespace) -> None:
    """Generate chunk after chunk and write each before the next."""
    output = output_path(arguments.output, arguments.force)
    if bool(arguments.fix) != (arguments.like is not None):
        raise ValueError("--like TABLE keeps the columns of --fix COLUMN: give both or none")
    model, form = ModelFiles.of(arguments.model).load(arguments.device)
    readings = model_readings(model, form, layout_for(None, form))
    labels = {name: readings[name] for name in model.schema.labels.columns}
    if arguments.balance and not labels:
        raise ValueError("--balance makes as many rows of every label, but the model was fitted without --label")
    asked: dict[str, Any] = {
        "label": values.label_values(arguments.label, labels),
        "balance": Balance() if arguments.balance else False,
        "guidance_weight": values.weights(arguments.guidance, labels),
        "guidance_interval": arguments.interval,
        "steps": arguments.steps,
    }
    wanted = _wanted(model, arguments, form)
    layout = layout_for(output, form) if wanted is None else layout_for(output, form, wanted.path, wanted.layout)
    rows = 0
    rejected = Counter[str]()
    with (
        written(output, form, layout, arguments.escape_formulas) as write,
        console.row_bar("sample", output, arguments.quiet, arguments.rows) as bar,
    ):
        for table, given in _chunks(model, arguments, wanted, asked, rejected):
            write(table, given)
            rows += len(table)
            bar.update(len(table))
    for name, count in rejected.items():
        if count:
            console.note(f"{count:,} draws broke {name!r} and were replaced", arguments.quiet)
    console.note(f"wrote {rows:,} rows to {console.destination(output)}", arguments.quiet)


def _wanted(model: TabularDiffusion, arguments: argparse.Namespace, form: TableFormat) -> _Wanted | None:
    """Find the table whose rows are continued, and the columns of it that are kept."""
    path = arguments.labels or arguments.like
    if path is None:
        return None
    kept = list(model.schema.labels.columns)
    if arguments.labels is not None and not kept:
        raise ValueError("--labels gives labels, but the model was fitted without one: fit again with --label")
    if arguments.like is not None:
        kept = options.names(arguments.fix, list(model.dtypes.index), "--fix")
    layout = layout_like(path, options.choices(arguments), form, kept)
    readings = model_readings(model, form, layout)
    return _Wanted(path, layout, {name: readings[name] for name in kept})


def _chunks(
    model: TabularDiffusion,
    arguments: argparse.Namespace,
    wanted: _Wanted | None,
    asked: dict[str, Any],
    rejected: Counter[str],
) -> Iterator[tuple[pd.DataFrame, Given | None]]:
    """Generate tables and count rejections; sizes do not depend on the machine, so that a seed gives the same rows."""
    if wanted is None:
        for table in model.stream(arguments.rows, chunk=CHUNK, seed=arguments.seed, **asked):
            yield table, None
        rejected.update(model.rejected)
        return
    for chunk, seed in wanted.chunks(arguments.seed):
        rows: dict[str, Any] = {"labels": chunk.table}
        if arguments.like is not None:
            rows = {"like": chunk.table, "fix": list(wanted.readings)}
        try:
            table = model.sample(seed=seed, **rows, **asked)
        except ValueError as error:
            raise ValueError(f"{wanted.path}: {error}") from error
        rejected.update(model.rejected)
        yield table, wanted.given(chunk)
