"""``cfdg-diffusion impute``: a table's missing cells filled."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cfdg_diffusion.cli import console, options
from cfdg_diffusion.cli.model_files import Place
from cfdg_diffusion.cli.table_files import read_chunks, written
from cfdg_diffusion.tabular.model import TabularDiffusion

EXAMPLES = """examples:
  cfdg-diffusion impute model/ holes.csv              CSV to standard output
  cfdg-diffusion impute model/ holes.csv -o full.csv
  cfdg-diffusion impute model/ holes.parquet -o full.parquet --seed 1     another filling that is as likely

Empty cells, and NA or null, are filled with values that go with the rest of their row; all other cells stay. The table
has the columns of training, and may have more, which are copied. Fill several times with different seeds to see how
certain the filling is. Generated cells obey the model's constraints."""


def add(commands: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    """Add the command."""
    parser = commands.add_parser(
        "impute",
        help="fill the missing cells of a table",
        description="Fill the missing cells of a table. A file appears under its name when all rows are written.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("model", type=Path, metavar="MODEL", help="the folder or file that fit wrote")
    option("table", type=Path, metavar="TABLE", help="a .csv, .tsv or .parquet file with missing cells")
    option("-o", "--output", default="-", metavar="TABLE", help=options.OUTPUT)
    option("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    option("--seed", type=int, default=0, help="same seed, same filling (default: 0)")
    option("--force", action="store_true", help="replace a table that is there already")
    option("--quiet", action="store_true", help="say nothing unless something is wrong")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Fill chunk after chunk."""
    output = options.output(arguments.output, arguments.force)
    model, dates = Place.of(arguments.model).load(arguments.device)
    dtypes, seed = model.sample(0).dtypes.to_dict(), arguments.seed
    rows, cells, unmet = 0, 0, 0
    with written(output, dates) as write:
        for chunk in read_chunks(arguments.table, dtypes):
            filled = _filled(model, chunk, dtypes, arguments.table, seed)
            write(filled)
            seed = None  # the chunks after the first go on with its stream
            cells += int(chunk.isna().sum().sum() - filled.isna().sum().sum())
            rows += len(filled)
            unmet += model.unmet
    console.note(f"filled {cells:,} cells, wrote {rows:,} rows to {console.place(output)}", arguments.quiet)
    if unmet:
        console.note(f"{unmet:,} rows break a constraint all the same: their given cells leave no other way", False)


def _filled(
    model: TabularDiffusion, chunk: pd.DataFrame, dtypes: Mapping[Any, Any], path: Path, seed: int | None
) -> pd.DataFrame:
    """The chunk without holes, in the dtypes of training so that all chunks have the same."""
    absent = [name for name in dtypes if name not in chunk]
    if absent:
        raise ValueError(f"{path} has no column {absent[0]!r}, expected it as in training")
    try:
        return model.impute(chunk, seed=seed).astype(dict(dtypes))
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
