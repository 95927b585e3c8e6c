"""``cfdg-diffusion sample``: rows from a model, as many as wanted."""

from __future__ import annotations

import argparse
import math
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from cfdg_diffusion.cli import console, options
from cfdg_diffusion.cli.model_files import Place, labels_of
from cfdg_diffusion.cli.table_files import CHUNK, read_chunks, written
from cfdg_diffusion.tabular.model import TabularDiffusion
from cfdg_diffusion.tabular.request import Balance

EXAMPLES = """examples:
  cfdg-diffusion sample model/ -n 5                               CSV to standard output
  cfdg-diffusion sample model/ -n 1_000_000 -o synthetic.csv      any number of rows in bounded memory
  cfdg-diffusion sample model/ -n 1_000_000 -o synthetic.parquet
  cfdg-diffusion sample model/ -n 500 --label '>50K' -o rich.csv  rows of one class, exactly
  cfdg-diffusion sample model/ -n 500 --label income='>50K' --label sex=Female -o some.csv
  cfdg-diffusion sample model/ -n 1000 --balance -o balanced.csv  as many of each class
  cfdg-diffusion sample model/ --labels wanted.csv -o rows.csv    one row for each row of a table of labels
  cfdg-diffusion sample model/ --like adult.csv --fix age,sex -o alike.csv    these columns kept, the others generated

guidance, for models with a label: --guidance 0.5 makes rows more typical of their class and less varied,
--guidance rare=0.5 those of one class; 0 is the plain model. --interval 0.2,5 lets it act between two noise levels.
The same seed gives the same file; another --seed gives other rows."""


def add(commands: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    """Add the command."""
    parser = commands.add_parser(
        "sample",
        help="generate rows from a model",
        description="Generate rows, as CSV to standard output or to a file, which appears when all rows are written.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("model", type=Path, metavar="MODEL", help="the folder or file that fit wrote")
    wanted = parser.add_mutually_exclusive_group(required=True)
    wanted.add_argument("-n", "--rows", type=options.count, metavar="N", help="number of rows, such as 1_000_000")
    wanted.add_argument("--labels", type=Path, metavar="TABLE", help="one row for each row of this table of labels")
    wanted.add_argument("--like", type=Path, metavar="TABLE", help="one row for each row, which keeps columns --fix")
    option("-o", "--output", default="-", metavar="TABLE", help=options.OUTPUT)
    option("--label", action="append", default=[], metavar="VALUE",
           help="only this label, '' for a missing one; COLUMN=VALUE of several")  # fmt: skip
    option("--balance", action="store_true", help="as many rows of every label")
    option("--fix", action="append", default=[], metavar="COLUMN", help="columns kept by --like; a,b or repeat")
    option("--guidance", action="append", default=[], metavar="W", help="guidance weight, or LABEL=W,LABEL=W")
    option("--interval", type=options.interval, default=(0.0, math.inf), metavar="LOW,HIGH",
           help="noise levels between which guidance acts (default: all)")  # fmt: skip
    option("--steps", type=options.count, metavar="N", help="sampler steps (default: the model's)")
    option("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    option("--seed", type=int, default=0, help="same seed, same rows (default: 0)")
    option("--force", action="store_true", help="replace a table that is there already")
    option("--quiet", action="store_true", help="say nothing unless something is wrong")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Generate chunk after chunk."""
    output = options.output(arguments.output, arguments.force)
    if bool(arguments.fix) != (arguments.like is not None):
        raise ValueError("--like TABLE keeps the columns of --fix COLUMN: give both or none")
    model, dates = Place.of(arguments.model).load(arguments.device)
    rows, rejected = 0, Counter[str]()
    shown = console.shows_progress(arguments.quiet) and (output is not None or not sys.stdout.isatty())
    with (
        written(output, dates) as write,
        tqdm(total=arguments.rows, unit=" rows", unit_scale=True, desc="sample", disable=not shown) as bar,
    ):
        for table in _chunks(model, arguments, rejected):
            write(table)
            rows += len(table)
            bar.update(len(table))
    for name, count in rejected.items():
        if count:
            console.note(f"{count:,} draws broke {name!r} and were replaced", arguments.quiet)
    console.note(f"wrote {rows:,} rows to {console.place(output)}", arguments.quiet)


def _chunks(model: TabularDiffusion, arguments: argparse.Namespace, rejected: Counter[str]) -> Iterator[pd.DataFrame]:
    """Tables whose sizes do not depend on the machine, so that the same seed gives the same rows; counts rejections."""
    empty = model.sample(0)
    labels = empty[list(labels_of(model).columns)]
    asked: dict[str, Any] = {
        "label": options.label_values(arguments.label, labels),
        "balance": Balance() if arguments.balance else False,
        "guidance_weight": options.weights(arguments.guidance, labels),
        "guidance_interval": arguments.interval,
        "steps": arguments.steps,
    }
    if arguments.rows is not None:
        yield from model.stream(arguments.rows, chunk=CHUNK, seed=arguments.seed, **asked)
        rejected.update(model.rejected)
        return
    for table in _for_rows_of_a_file(model, arguments, empty, labels, asked):
        rejected.update(model.rejected)
        yield table


def _for_rows_of_a_file(
    model: TabularDiffusion,
    arguments: argparse.Namespace,
    empty: pd.DataFrame,
    labels: pd.DataFrame,
    asked: dict[str, Any],
) -> Iterator[pd.DataFrame]:
    if arguments.labels is not None:
        if not len(labels.columns):
            raise ValueError("--labels gives labels, but the model was fitted without one: fit again with --label")
        for chunk, seed in _with_seed(arguments.labels, labels, arguments.seed):
            yield model.sample(labels=chunk, seed=seed, **asked)
        return
    fix = options.names(arguments.fix, [str(name) for name in empty.columns], "--fix")
    for chunk, seed in _with_seed(arguments.like, empty[fix], arguments.seed):
        yield model.sample(like=chunk, fix=fix, seed=seed, **asked)


def _with_seed(path: Path, needed: pd.DataFrame, seed: int) -> Iterator[tuple[pd.DataFrame, int | None]]:
    """The needed columns of a file in chunks, the first with the seed: the others go on with its stream."""
    for place, chunk in enumerate(read_chunks(path, needed.dtypes.to_dict(), CHUNK)):
        absent = [name for name in needed if name not in chunk]
        if absent:
            raise ValueError(f"{path} has no column {absent[0]!r}, expected {', '.join(map(repr, needed))}")
        yield chunk[list(needed)].reset_index(drop=True), seed if place == 0 else None
