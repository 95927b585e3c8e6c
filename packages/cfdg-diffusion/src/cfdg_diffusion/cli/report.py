"""``cfdg-diffusion report``: how good, how useful and how private a synthetic table is."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cfdg_diffusion.cli import console, options
from cfdg_diffusion.cli.table_files import check_free, check_input, read_chunks, read_table, write_text

EXAMPLES = """examples:
  cfdg-diffusion report train.csv synthetic.csv
  cfdg-diffusion report train.csv synthetic.csv --holdout holdout.csv --label income -o report.html
  cfdg-diffusion report train.csv synthetic.csv --holdout holdout.csv --json report.json --quiet

The holdout is real rows that trained nothing, best as many as the training rows: only against them can one see whether
a table was copied, so that privacy and utility need it. The headline is detection: how well boosted trees tell
synthetic from real rows, where 0.5 is guessing. --label is the column that a model trained on synthetic rows has to
predict. Needs scikit-learn: pip install 'cfdg-diffusion[report]'."""


def add(commands: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    """Add the command."""
    parser = commands.add_parser(
        "report",
        help="judge a synthetic table beside the real one",
        description="Measure quality, utility and privacy of a synthetic table, of this package or any other.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("train", type=Path, metavar="TRAIN", help="the real table that the generator was fitted on")
    option("synthetic", type=Path, metavar="SYNTHETIC", help="the generated table")
    option("--holdout", type=Path, metavar="TABLE", help="real rows that trained nothing")
    option("--label", metavar="COLUMN", help="the column to predict, for utility")
    option("-o", "--output", type=Path, metavar="HTML", help="write one self-contained page with plots")
    option("--json", type=Path, metavar="JSON", help="write every number")
    option("--rows", type=options.count, default=20_000, metavar="N", help="rows compared at most (default: 20_000)")
    option("--seed", type=int, default=0, help="same seed, same report (default: 0)")
    option("--quiet", action="store_true", help="print no report, only write files")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Measure, print, write."""
    from cfdg_diffusion.quality import report

    for path, suffix in ((arguments.output, ".html"), (arguments.json, ".json")):
        _check(path, suffix)
    train = read_table(arguments.train).table
    dtypes = _comparable(train)
    train = train.astype(dtypes)
    if arguments.label is not None:
        options.names([arguments.label], [str(name) for name in train], "--label")
    synthetic = _read(arguments.synthetic, dtypes)
    holdout = None if arguments.holdout is None else _read(arguments.holdout, dtypes)
    found = report(train, synthetic, holdout, label=arguments.label, seed=arguments.seed, rows=arguments.rows)
    if not arguments.quiet:
        console.result(str(found))
    if arguments.output is not None:
        found.to_html(arguments.output)
        console.note(f"wrote {arguments.output}", arguments.quiet)
    if arguments.json is not None:
        write_text(arguments.json, json.dumps(found.to_dict(), indent=1) + "\n")
        console.note(f"wrote {arguments.json}", arguments.quiet)


def _check(path: Path | None, suffix: str) -> None:
    if path is None:
        return
    if path.suffix.lower() != suffix:
        raise ValueError(f"{path} ends in {path.suffix or 'nothing'!r}, expected {suffix}")
    check_free(path, overwrite=True)


def _comparable(train: pd.DataFrame) -> dict[Any, Any]:
    """Dtypes for all tables: a generator may write 3.0 where the training table has 3, which is no difference."""
    return {name: "float64" if own.kind in "iu" else own for name, own in train.dtypes.items()}


def _read(path: Path, dtypes: Mapping[Any, Any]) -> pd.DataFrame:
    """A table whose columns are taken for what the training table's are."""
    if check_input(path) == ".parquet":
        return read_table(path).table
    named = {name: pd.api.types.pandas_dtype(own) for name, own in dtypes.items()}
    return pd.concat(list(read_chunks(path, named)), ignore_index=True)
