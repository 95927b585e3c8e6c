"""``cfdg-diffusion fit``: a model from a table."""

from __future__ import annotations

import argparse
import warnings
from collections.abc import Hashable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from cfdg_diffusion.cli import console, options, rules
from cfdg_diffusion.cli.model_files import ModelFiles
from cfdg_diffusion.cli.preview import identifier_line, preview
from cfdg_diffusion.cli.table_files import (
    TableFile,
    check_free,
    check_input,
    check_output,
    column_names,
    layout_said,
    read_table,
    written,
)
from cfdg_diffusion.tabular.constraints import Constraint, broken
from cfdg_diffusion.tabular.early_stopping import CheckpointFile
from cfdg_diffusion.tabular.identifiers import IdentifierWarning
from cfdg_diffusion.tabular.model import TabularDiffusion


def run(arguments: argparse.Namespace) -> None:
    """Read the table, train, write the model."""
    if arguments.output is None and not arguments.dry_run:
        raise ValueError("fit needs -o MODEL, the folder for the model, or --dry-run to train nothing")
    _check_outputs(arguments)
    _check_apart(arguments)
    model = TabularDiffusion(seed=arguments.seed, device=arguments.device)
    read, labels = _read(arguments)
    kinds: dict[Any, Any] = options.kinds_to_learn(dict(arguments.kinds), read.table.columns)
    with _about(arguments.table), _notes(arguments.quiet):
        constraints = [rules.parse(text, read.table, read.format) for text in arguments.constraint]
        constraints += rules.training_ranges(arguments.keep_range, read.table)
        _check_constraints(constraints, read.table, arguments.quiet)
        if arguments.dry_run:
            console.result(f"{arguments.table}: {preview(read, labels, kinds)}")
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
            checkpoint_every=arguments.checkpoint_every,
            keep_checkpoint=True,
        )
    if arguments.checkpoint is not None and not arguments.force:
        ModelFiles.of(arguments.output).check_is(model, arguments.checkpoint)
    _write(arguments, model, read, labels)
    if arguments.checkpoint is not None and model.history.steps:  # a table of constants is learnt without any
        _remove(arguments.checkpoint)


def _check_outputs(arguments: argparse.Namespace) -> None:
    """Refuse what cannot be written, before any work.

    The model of an earlier run may be there that was killed before it removed its checkpoint.
    """
    if arguments.checkpoint is not None:
        check_free(arguments.checkpoint, overwrite=True)
    if not arguments.dry_run:
        ended = arguments.checkpoint is not None and CheckpointFile(arguments.checkpoint).is_finished()
        ModelFiles.of(arguments.output).check(arguments.force or ended)
    if arguments.history is not None:
        check_output(arguments.history, overwrite=True)


def _check_apart(arguments: argparse.Namespace) -> None:
    """Refuse one file for two purposes: the later one would replace the earlier."""
    model = None if arguments.output is None else ModelFiles.of(arguments.output).model
    others = {"--history": arguments.history, "--checkpoint": arguments.checkpoint, "-o": model}
    found: dict[Path, str] = {}
    for option, path in {"TABLE": arguments.table, **others}.items():
        if path is not None and (other := found.setdefault(path.resolve(), option)) != option:
            raise ValueError(f"{path} is given for {other} and for {option}, expected a file for each")


def _read(arguments: argparse.Namespace) -> tuple[TableFile, list[Hashable]]:
    """Read the table without the dropped columns, and the names of the label columns."""
    choices = options.choices(arguments)
    check_input(arguments.table)
    columns = column_names(arguments.table, layout_said(arguments.table, choices))
    dropped = [str(name) for name in options.names(arguments.drop, columns, "--drop")]
    options.left(arguments.table, columns, dropped)
    read = read_table(arguments.table, choices, dropped)
    return read, options.names(arguments.label, list(read.table.columns), "--label")


def _check_constraints(constraints: Sequence[Constraint], table: pd.DataFrame, quiet: bool) -> None:
    """Report constraints that the table itself breaks: they may be typing errors."""
    _, counts = broken(table, constraints)
    for name, count in counts.items():
        if count == len(table):
            raise ValueError(f"constraint {name!r} holds in no row of the table, expected it in most")
        if count:
            console.note(f"{count:,} of {len(table):,} rows of the table break {name!r} themselves", quiet)


def _write(arguments: argparse.Namespace, model: TabularDiffusion, read: TableFile, labels: Sequence[Hashable]) -> None:
    files = ModelFiles.of(arguments.output)
    history = model.history
    files.save(model, read.format)
    if arguments.history is not None:
        _write_history(arguments.history, model)
    why = {"early": ", where held-out rows stopped improving", "time": ", when time was up"}
    took = f"{history.steps[-1] if history.steps else 0:,} steps in {history.seconds:.0f} s"
    console.note(f"learnt in {took}{why.get(history.stopped, '')}", arguments.quiet)
    asked = " --balance" if labels else ""
    following = f"cfdg-diffusion sample {arguments.output} -n {len(read.table)}{asked} -o synthetic.csv"
    console.note(f"wrote {files.model} ({console.size(files.model)}); now try: {following}", arguments.quiet)


def _remove(checkpoint: Path) -> None:
    checkpoint.unlink(missing_ok=True)


def _write_history(path: Path, model: TabularDiffusion) -> None:
    history = model.history
    held_out = history.held_out or [None] * len(history.steps)
    table = pd.DataFrame({"step": history.steps, "loss": history.losses, "held_out_loss": held_out})
    with written(path) as write:
        write(table, None)


@contextmanager
def _notes(quiet: bool) -> Iterator[None]:
    """Write warnings of identifiers as notes, with the option that leaves the column out."""
    others = warnings.showwarning

    def show(message: Warning | str, *where: Any, **more: Any) -> None:  # noqa: ANN401 - of the warnings module
        if isinstance(message, IdentifierWarning):
            console.note(identifier_line(message.identifier), quiet)
        else:
            others(message, *where, **more)

    with warnings.catch_warnings():
        warnings.simplefilter("always", IdentifierWarning)
        warnings.showwarning = show
        yield


@contextmanager
def _about(path: Path) -> Iterator[None]:
    """Put the name of the file before the message of an error in its rows."""
    try:
        yield
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
