"""``cfdg-diffusion sample``: any number of rows from a model."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from cfdg_diffusion.cli import console, options, values
from cfdg_diffusion.cli.model_files import ModelFiles
from cfdg_diffusion.cli.table_files import CHUNK, output_path, read_chunks, written
from cfdg_diffusion.tabular.model import TabularDiffusion
from cfdg_diffusion.tabular.request import Balance


def run(arguments: argparse.Namespace) -> None:
    """Generate chunk after chunk and write each before the next."""
    output = output_path(arguments.output, arguments.force)
    if bool(arguments.fix) != (arguments.like is not None):
        raise ValueError("--like TABLE keeps the columns of --fix COLUMN: give both or none")
    model, dates = ModelFiles.of(arguments.model).load(arguments.device)
    rows = 0
    rejected = Counter[str]()
    with (
        written(output, dates) as write,
        console.row_bar("sample", output, arguments.quiet, arguments.rows) as bar,
    ):
        for table in _chunks(model, arguments, rejected):
            write(table)
            rows += len(table)
            bar.update(len(table))
    for name, count in rejected.items():
        if count:
            console.note(f"{count:,} draws broke {name!r} and were replaced", arguments.quiet)
    console.note(f"wrote {rows:,} rows to {console.destination(output)}", arguments.quiet)


def _chunks(model: TabularDiffusion, arguments: argparse.Namespace, rejected: Counter[str]) -> Iterator[pd.DataFrame]:
    """Generate tables and count rejections; sizes do not depend on the machine, so that a seed gives the same rows."""
    dtypes = {str(name): dtype for name, dtype in model.dtypes.items()}
    labels = {str(name): dtypes[str(name)] for name in model.schema.labels.columns}
    asked: dict[str, Any] = {
        "label": values.label_values(arguments.label, labels),
        "balance": Balance() if arguments.balance else False,
        "guidance_weight": values.weights(arguments.guidance, labels),
        "guidance_interval": arguments.interval,
        "steps": arguments.steps,
    }
    if arguments.rows is not None:
        yield from model.stream(arguments.rows, chunk=CHUNK, seed=arguments.seed, **asked)
        rejected.update(model.rejected)
        return
    for table in _for_rows_of_a_file(model, arguments, dtypes, asked):
        rejected.update(model.rejected)
        yield table


def _for_rows_of_a_file(
    model: TabularDiffusion,
    arguments: argparse.Namespace,
    dtypes: Mapping[str, Any],
    asked: dict[str, Any],
) -> Iterator[pd.DataFrame]:
    if arguments.labels is not None:
        labels = {str(name): dtypes[str(name)] for name in model.schema.labels.columns}
        if not labels:
            raise ValueError("--labels gives labels, but the model was fitted without one: fit again with --label")
        for chunk, seed in _with_seed(arguments.labels, labels, arguments.seed):
            yield model.sample(labels=chunk, seed=seed, **asked)
        return
    fix = options.names(arguments.fix, list(dtypes), "--fix")
    for chunk, seed in _with_seed(arguments.like, {name: dtypes[name] for name in fix}, arguments.seed):
        yield model.sample(like=chunk, fix=fix, seed=seed, **asked)


def _with_seed(path: Path, needed: Mapping[str, Any], seed: int) -> Iterator[tuple[pd.DataFrame, int | None]]:
    """Read columns of a file in chunks, the first with the seed: the others continue its random stream."""
    for place, chunk in enumerate(read_chunks(path, needed, CHUNK)):
        absent = [name for name in needed if name not in chunk]
        if absent:
            raise ValueError(f"{path} has no column {absent[0]!r}, expected {', '.join(map(repr, needed))}")
        yield chunk[list(needed)].reset_index(drop=True), seed if place == 0 else None
