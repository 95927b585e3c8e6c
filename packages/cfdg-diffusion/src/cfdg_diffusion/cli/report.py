"""``cfdg-diffusion report``: quality, utility and privacy of a synthetic table."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cfdg_diffusion.cli import console, options
from cfdg_diffusion.cli.table_files import check_free, check_input, read_chunks, read_table, write_text
from cfdg_diffusion.quality import report
from cfdg_diffusion.quality.as_html import require_jinja


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the report, write its files."""
    for path, suffix in ((arguments.output, ".html"), (arguments.json, ".json")):
        _check(path, suffix)
    if arguments.output is not None:
        require_jinja()
    train = read_table(arguments.train).table
    dtypes = _comparable(train)
    train = train.astype(dtypes)
    if arguments.label is not None:
        options.names([arguments.label], [str(name) for name in train], "--label")
    synthetic = _read(arguments.synthetic, dtypes)
    holdout = None if arguments.holdout is None else _read(arguments.holdout, dtypes)
    found = report(
        train,
        synthetic,
        holdout,
        label=arguments.label,
        seed=arguments.seed,
        rows=arguments.rows,
        progress=console.shows_progress(arguments.quiet),
    )
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
    """Choose the dtypes of all tables: a generator may write 3.0 where the training table has 3, which is the same."""
    return {name: "float64" if own.kind in "iu" else own for name, own in train.dtypes.items()}


def _read(path: Path, dtypes: Mapping[Any, Any]) -> pd.DataFrame:
    """Read a table with the dtypes of the training table."""
    if check_input(path) == ".parquet":
        return read_table(path).table
    named = {name: pd.api.types.pandas_dtype(own) for name, own in dtypes.items()}
    return pd.concat(list(read_chunks(path, named)), ignore_index=True)
