"""``cfdg-diffusion impute``: a table with its missing cells filled."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cfdg_diffusion.cli import console
from cfdg_diffusion.cli.model_files import ModelFiles
from cfdg_diffusion.cli.table_files import output_path, read_chunks, written
from cfdg_diffusion.tabular.model import TabularDiffusion


def run(arguments: argparse.Namespace) -> None:
    """Fill chunk after chunk and write each before the next."""
    output = output_path(arguments.output, arguments.force)
    model, dates = ModelFiles.of(arguments.model).load(arguments.device)
    dtypes = dict(model.dtypes.items())
    seed = arguments.seed
    rows = 0
    cells = 0
    unmet = 0
    with written(output, dates) as write, console.row_bar("impute", output, arguments.quiet) as bar:
        for chunk in read_chunks(arguments.table, dtypes):
            filled = _filled(model, chunk, dtypes, arguments.table, seed)
            write(filled)
            bar.update(len(filled))
            seed = None  # later chunks continue the random stream of the first
            cells += int(chunk.isna().sum().sum() - filled.isna().sum().sum())
            rows += len(filled)
            unmet += model.unmet
    console.note(f"filled {cells:,} cells, wrote {rows:,} rows to {console.destination(output)}", arguments.quiet)
    if unmet:
        console.note(f"{unmet:,} rows break a constraint all the same: their given cells leave no other way", False)


def _filled(
    model: TabularDiffusion, chunk: pd.DataFrame, dtypes: Mapping[Any, Any], path: Path, seed: int | None
) -> pd.DataFrame:
    """Fill a chunk, in the dtypes of training so that all chunks have the same."""
    absent = [name for name in dtypes if name not in chunk]
    if absent:
        raise ValueError(f"{path} has no column {absent[0]!r}, expected it as in training")
    try:
        return model.impute(chunk, seed=seed).astype(dict(dtypes))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
