"""``cfdg-diffusion inspect``: what a model is, or what a table would be taken for."""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import safe_open

from cfdg_diffusion.cli import console, options
from cfdg_diffusion.cli.csv_cells import DateFormat
from cfdg_diffusion.cli.model_files import Place, labels_of
from cfdg_diffusion.cli.preview import date_lines, label_lines, outlook
from cfdg_diffusion.cli.table_files import read_table
from cfdg_diffusion.tabular.model import TabularDiffusion

EXAMPLES = """examples:
  cfdg-diffusion inspect model/                       columns, labels, training, settings
  cfdg-diffusion inspect adult.csv                    what fit would take each column for
  cfdg-diffusion inspect adult.csv --label income     ... and how many rows each label has"""

_TABLES = {".csv", ".tsv", ".parquet"}
_ENDED = {
    "steps": "after all its steps",
    "early": "where held-out rows stopped improving",
    "time": "when its time was up",
    "callback": "when it was told to",
}


def add(commands: Any) -> None:  # noqa: ANN401 - argparse has no public type for it
    """Add the command."""
    parser = commands.add_parser(
        "inspect",
        help="say what a model is, or what fit would make of a table",
        description="Say what a model has learnt, or what fit would take the columns of a table for.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    option = parser.add_argument
    option("what", type=Path, metavar="MODEL_OR_TABLE", help="what fit wrote, or a .csv, .tsv or .parquet file")
    option("--label", action="append", default=[], metavar="COLUMN", help="of a table: count its values")
    option("--kinds", action="append", default=[], type=options.kind, metavar="COLUMN=KIND", help="of a table: see fit")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> None:
    """Say it."""
    path: Path = arguments.what
    if path.suffix.lower() in _TABLES and not path.is_dir():
        read = read_table(path, dict(arguments.kinds))
        labels = options.names(arguments.label, [str(name) for name in read.table], "--label")
        kinds = {name: own for name, own in arguments.kinds if own != "text"}
        console.result(f"{path}: {outlook(read, labels, kinds)}")
        return
    if arguments.label or arguments.kinds:
        raise ValueError("--label and --kinds are for a table, a model has them already")
    place = Place.of(path)
    model, dates = place.load("cpu")
    console.result("\n".join(_lines(place, model, dates)))


def _lines(place: Place, model: TabularDiffusion, dates: dict[str, DateFormat]) -> list[str]:
    with safe_open(place.model, framework="pt") as file:
        version = file.metadata()["version"]
    lines = [f"{place.model}: {console.size(place.model)}, format version {version}", "", model.describe(), ""]
    lines += [*label_lines(labels_of(model)), *date_lines(dates)]
    lines += [f"constraint {constraint.name}" for constraint in model.get_params()["constraints"]]
    return [*lines, "", *_training(model), *_settings(model)]


def _training(model: TabularDiffusion) -> list[str]:
    history = model.history
    if not history.steps:
        return ["training: none was needed, all columns are constant"]
    lines = [f"training ended {_ENDED[history.stopped]}: {history.steps[-1]:,} steps in {history.seconds:.0f} s"]
    lines.append(f"weights of step {history.best_step:,}, loss at the end {history.losses[-1]:.4f}")
    if history.held_out:
        lines[-1] += f", least loss of held-out rows {min(history.held_out):.4f}"
    return lines


def _settings(model: TabularDiffusion) -> list[str]:
    own = asdict(model.get_params()["settings"])
    flat = {name: value for group in own.values() if isinstance(group, dict) for name, value in group.items()}
    flat |= {name: value for name, value in own.items() if not isinstance(value, dict)}
    text = ", ".join(f"{name} {value}" for name, value in flat.items())
    return textwrap.wrap(f"settings: {text}", 110, subsequent_indent="  ", break_long_words=False)
