"""``cfdg-diffusion impute``: a table with its missing cells filled."""

from __future__ import annotations

import argparse
from collections.abc import Hashable, Mapping
from pathlib import Path

import numpy as np
import pandas as pd

from cfdg_diffusion.cli import console, options
from cfdg_diffusion.cli.csv_cells import ColumnReading
from cfdg_diffusion.cli.given import Chunk, Given
from cfdg_diffusion.cli.model_files import ModelFiles
from cfdg_diffusion.cli.readings import model_readings
from cfdg_diffusion.cli.table_files import layout_for, layout_like, output_path, read_chunks, written
from cfdg_diffusion.tabular.model import TabularDiffusion


def run(arguments: argparse.Namespace) -> None:
    """Fill chunk after chunk and write each before the next; the other cells are copied from the file."""
    output = output_path(arguments.output, arguments.force)
    model, form = ModelFiles.of(arguments.model).load(arguments.device)
    layout = layout_like(arguments.table, options.choices(arguments), form, model.dtypes.index)
    readings = model_readings(model, form, layout)
    seed = arguments.seed
    rows = 0
    cells = 0
    unmet = 0
    with (
        written(output, form, layout_for(output, form, arguments.table, layout)) as write,
        console.row_bar("impute", output, arguments.quiet) as bar,
    ):
        for chunk in read_chunks(arguments.table, readings, layout):
            filled, given = _filled(model, chunk, readings, arguments.table, seed)
            write(filled, given)
            bar.update(len(filled))
            seed = None  # later chunks continue the random stream of the first
            cells += sum(int(generated.sum()) for generated in given.generated.values())
            rows += len(filled)
            unmet += model.unmet
    console.note(f"filled {cells:,} cells, wrote {rows:,} rows to {console.destination(output)}", arguments.quiet)
    if unmet:
        console.note(f"{unmet:,} rows break a constraint all the same: their given cells leave no other way", False)


def _filled(
    model: TabularDiffusion,
    chunk: Chunk,
    readings: Mapping[Hashable, ColumnReading],
    path: Path,
    seed: int | None,
) -> tuple[pd.DataFrame, Given]:
    """Fill a chunk, and say which of its cells were given."""
    absent = [name for name in readings if name not in chunk.table]
    if absent:
        raise ValueError(f"{path} has no column {str(absent[0])!r}, expected it as in training")
    try:
        filled = model.impute(chunk.table, seed=seed)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    generated = {name: _generated(chunk.table[name], filled[name], name in readings) for name in filled}
    return filled, Given(chunk.cells, generated, {name: own.dtype for name, own in readings.items()})


def _generated(before: pd.Series, after: pd.Series, is_known: bool) -> np.ndarray:
    """Find the cells ``(N,)`` of a column that were missing and are not any more."""
    if not is_known:
        return np.zeros(len(before), dtype=bool)
    return before.isna().to_numpy() & after.notna().to_numpy()
