"""``cfdg-diffusion fit``: a table in, a model out."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from cfdg_diffusion.cli import console, options, rules
from cfdg_diffusion.cli.model_files import Place
from cfdg_diffusion.cli.preview import outlook
from cfdg_diffusion.cli.table_files import TableFile, check_free, read_table, written
from cfdg_diffusion.tabular.constraints import Constraint, broken
from cfdg_diffusion.tabular.model import TabularDiffusion

EXAMPLES = """examples:
  cfdg-diffusion fit adult.csv --dry-run                     what each column will be taken for; trains nothing
  cfdg-diffusion fit adult.csv -o model/                     learn the table
  cfdg-diffusion fit adult.csv --label income -o model/      ... so that rows of one income can be asked for
  cfdg-diffusion fit adult.csv --label income,sex -o model/  ... of one combination of income and sex
  cfdg-diffusion fit adult.csv --drop name,id --kinds zip=category -o model/
  cfdg-diffusion fit stays.csv --constraint 'age: 0..120' --constraint 'arrival <= departure' \\
                     --constraint 'fixed: city, country' -o model/
  cfdg-diffusion fit big.parquet --time-budget 5m --history loss.csv -o model/
  cfdg-diffusion fit big.parquet --checkpoint half.safetensors -o model/     may be stopped, and goes on from there

Training looks after itself: rows set aside judge it, it ends when they stop improving, and the best weights are kept.
In a CSV file ISO dates become dates, 01234 stays text, empty cells and NA are missing. --kinds corrects what was
guessed: --kinds code=text leaves a column of dates as text, --kinds zip=number reads 01234 as a number.
--label makes a model that can be asked for a class, and gives rare classes as much of the training as frequent ones.
Set rows aside for 'cfdg-diffusion report' before you fit."""


def add(commands: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    """Add the command."""
    parser = commands.add_parser(
        "fit",
        help="learn a table: CSV or Parquet in, a model out",
        description="Learn a table. The model is written when training has ended, complete or not at all.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("table", type=Path, metavar="TABLE", help="a .csv, .tsv or .parquet file with column names")
    option("-o", "--output", type=Path, metavar="MODEL", help="a folder, or a name that ends in .safetensors")
    option("--label", action="append", default=[], metavar="COLUMN", help="condition on it; several: a,b or repeat")
    option("--kinds", action="append", default=[], type=options.kind, metavar="COLUMN=KIND",
           help=f"take a column for {', '.join(options.KINDS)}; repeat for more")  # fmt: skip
    option("--drop", action="append", default=[], metavar="COLUMN", help="leave out; several: a,b or repeat")
    option("--constraint", action="append", default=[], metavar="RULE",
           help=f"what every generated row has to fulfil: {rules.FORMS}; repeat for more")  # fmt: skip
    option("--steps", type=options.count, metavar="N", help="gradient steps at most (default: the model's)")
    option("--time-budget", type=options.duration, metavar="TIME", help="end training after 90s, 5m or 1h30m")
    option("--device", default="auto", help="auto, cpu, cuda or mps (default: auto)")
    option("--seed", type=int, default=0, help="same seed, same model on a CPU (default: 0)")
    option("--history", type=Path, metavar="CSV", help="write the losses of training to this file")
    option("--checkpoint", type=Path, metavar="FILE",
           help="write the training here every minute, and go on from it when run again")  # fmt: skip
    option("--dry-run", action="store_true", help="say what each column will be taken for, and stop")
    option("--force", action="store_true", help="replace a model that is there already")
    option("--quiet", action="store_true", help="say nothing unless something is wrong")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Read, train, write."""
    if arguments.output is None and not arguments.dry_run:
        raise ValueError("fit needs -o MODEL, the folder for the model, or --dry-run to train nothing")
    if not arguments.dry_run:
        Place.of(arguments.output).check(arguments.force)
    if arguments.history is not None:
        check_free(arguments.history, overwrite=True)
    model = TabularDiffusion(seed=arguments.seed, device=arguments.device)
    read, labels = _read(arguments)
    kinds: dict[Any, Any] = {name: own for name, own in arguments.kinds if own != "text" and name in read.table}
    with _about(arguments.table):
        constraints = [rules.parse(text, read.table) for text in arguments.constraint]
        _check_constraints(constraints, read.table, arguments.quiet)
        if arguments.dry_run:
            console.result(f"{arguments.table}: {outlook(read, labels, kinds)}")
            return
        console.note(f"learning {len(read.table):,} rows of {read.table.shape[1]} columns", arguments.quiet)
        model.set_params(constraints=constraints).fit(
            read.table,
            label=labels or None,
            kinds=kinds,
            steps=arguments.steps,
            time_budget=arguments.time_budget,
            progress=console.shows_progress(arguments.quiet),
            checkpoint=arguments.checkpoint,
        )
    _write(arguments, model, read, labels)


def _read(arguments: argparse.Namespace) -> tuple[TableFile, list[str]]:
    """The table without what is dropped, and the label columns."""
    read = read_table(arguments.table, dict(arguments.kinds))
    columns = [str(name) for name in read.table.columns]
    dropped = options.names(arguments.drop, columns, "--drop")
    labels = options.names(arguments.label, [name for name in columns if name not in dropped], "--label")
    if len(dropped) == len(columns):
        raise ValueError(f"--drop leaves no column of {arguments.table}, expected at least one")
    dates = {name: own for name, own in read.dates.items() if name not in dropped}
    return TableFile(read.table.drop(columns=dropped), dates), labels


def _check_constraints(constraints: Sequence[Constraint], table: pd.DataFrame, quiet: bool) -> None:
    """A rule that the table itself breaks may be a slip of the hand."""
    _, counts = broken(table, constraints)
    for name, count in counts.items():
        if count == len(table):
            raise ValueError(f"constraint {name!r} holds in no row of the table, expected it in most")
        if count:
            console.note(f"{count:,} of {len(table):,} rows of the table break {name!r} themselves", quiet)


def _write(arguments: argparse.Namespace, model: TabularDiffusion, read: TableFile, labels: Sequence[str]) -> None:
    place, history = Place.of(arguments.output), model.history
    place.save(model, read.dates)
    if arguments.history is not None:
        _write_history(arguments.history, model)
    why = {"early": ", where held-out rows stopped improving", "time": ", when time was up"}
    took = f"{history.steps[-1] if history.steps else 0:,} steps in {history.seconds:.0f} s"
    console.note(f"learnt in {took}{why.get(history.stopped, '')}", arguments.quiet)
    asked = " --balance" if labels else ""
    following = f"cfdg-diffusion sample {arguments.output} -n {len(read.table)}{asked} -o synthetic.csv"
    console.note(f"wrote {place.model} ({console.size(place.model)}); now try: {following}", arguments.quiet)


def _write_history(path: Path, model: TabularDiffusion) -> None:
    history = model.history
    held_out = history.held_out or [None] * len(history.steps)
    table = pd.DataFrame({"step": history.steps, "loss": history.losses, "held_out_loss": held_out})
    with written(path) as write:
        write(table)


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Name the file in what is wrong with its rows."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
