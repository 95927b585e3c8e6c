"""``cfdg-diffusion report``: quality, utility and privacy of a synthetic table."""

from __future__ import annotations

import argparse
import json
import shlex
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pandas as pd

from cfdg_diffusion.cli import console, options
from cfdg_diffusion.cli.formats import Choices
from cfdg_diffusion.cli.readings import table_readings
from cfdg_diffusion.cli.table_files import (
    TableFile,
    check_free,
    check_input,
    column_names,
    layout_said,
    read_chunks,
    read_table,
    write_text,
)
from cfdg_diffusion.quality import report
from cfdg_diffusion.quality.as_html import require_jinja
from cfdg_diffusion.tabular.checks import checked_seed


def run(arguments: argparse.Namespace) -> None:
    """Measure, print the report, write its files."""
    for path, suffix in ((arguments.output, ".html"), (arguments.json, ".json")):
        _check(path, suffix)
    if arguments.output is not None:
        require_jinja()
    seed = checked_seed(arguments.seed)
    choices = options.choices(arguments)
    train = read_table(arguments.train, choices, _dropped(arguments, choices))
    label = None
    if arguments.label is not None:
        label = options.names([arguments.label], list(train.table.columns), "--label")[0]
    synthetic = _read(arguments.synthetic, train, choices)
    holdout = None if arguments.holdout is None else _read(arguments.holdout, train, choices)
    levels = _columns_of_levels(train.table, choices)
    with _about(arguments):
        found = report(
            train.table.astype(levels),
            synthetic.astype(levels),
            None if holdout is None else holdout.astype(levels),
            label=label,
            seed=seed,
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


def _columns_of_levels(train: pd.DataFrame, choices: Choices) -> dict[Hashable, str]:
    """Find the columns whose values are levels, also where they are numbers or other files have more of them."""
    return {
        name: "category"
        for name, dtype in train.dtypes.items()
        if choices.kinds.get(str(name)) == "category" or isinstance(dtype, pd.CategoricalDtype)
    }


def _dropped(arguments: argparse.Namespace, choices: Choices) -> list[str]:
    """Read the names of the dropped columns, and check that the tables have the same others.

    Raises:
        ValueError: if a column is in none of the tables or only in some, or none is left.
    """
    for path in _tables(arguments):
        check_input(path)
    columns = {path: column_names(path, layout_said(path, choices)) for path in _tables(arguments)}
    known = dict.fromkeys(name for names in columns.values() for name in names)
    dropped = [str(name) for name in options.names(arguments.drop, list(known), "--drop")]
    own = options.left(arguments.train, columns[arguments.train], dropped)
    for path, names in columns.items():
        _check_columns(path, [name for name in names if name not in dropped], arguments.train, own)
    return dropped


def _check_columns(path: Path, names: Sequence[str], train: Path, expected: Sequence[str]) -> None:
    remedy = "expected the same columns (or --drop {})"
    for name in expected:
        if name not in names:
            raise ValueError(f"{path} lacks the column {name!r} of {train}, {remedy.format(shlex.quote(name))}")
    for name in names:
        if name not in expected:
            fault = f"{path} has the column {name!r}, which {train} lacks"
            raise ValueError(f"{fault}, {remedy.format(shlex.quote(name))}")


def _tables(arguments: argparse.Namespace) -> list[Path]:
    """List the files of tables."""
    return [path for path in (arguments.train, arguments.synthetic, arguments.holdout) if path is not None]


@contextmanager
def _about(arguments: argparse.Namespace) -> Iterator[None]:
    """Put the names of the files before the message of an error about what is in them."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{', '.join(map(str, _tables(arguments)))}: {error}") from error


def _check(path: Path | None, suffix: str) -> None:
    if path is None:
        return
    if path.suffix.lower() != suffix:
        raise ValueError(f"{path} ends in {path.suffix or 'nothing'!r}, expected {suffix}")
    check_free(path, overwrite=True)


def _read(path: Path, train: TableFile, choices: Choices) -> pd.DataFrame:
    """Read a table with the dtypes and the names of the training table."""
    layout = layout_said(path, choices)
    readings = table_readings(train.table, train.format, layout)
    tables = (chunk.table for chunk in read_chunks(path, readings, layout))
    table = pd.concat([table[list(train.table.columns)] for table in tables], ignore_index=True)
    rounded = {name: dtype for name, dtype in train.table.dtypes.items() if str(dtype) in ("float16", "float32")}
    return table.astype(
        {name: dtype for name, dtype in rounded.items() if name in table and table[name].dtype.kind == "f"}
    )
