"""``cfdg-diffusion inspect``: description of a model, or preview of a fit to a table."""

from __future__ import annotations

import argparse
import textwrap
from dataclasses import asdict
from pathlib import Path

from cfdg_diffusion import storage
from cfdg_diffusion.cli import console, options
from cfdg_diffusion.cli.dates import DateFormat
from cfdg_diffusion.cli.model_files import ModelFiles
from cfdg_diffusion.cli.preview import date_lines, label_lines, preview
from cfdg_diffusion.cli.table_files import read_table
from cfdg_diffusion.tabular.model import TabularDiffusion

_TABLES = {".csv", ".tsv", ".parquet"}
_ENDED = {
    "steps": "after all its steps",
    "early": "where held-out rows stopped improving",
    "time": "when its time was up",
    "callback": "when it was told to",
}


def run(arguments: argparse.Namespace) -> None:
    """Describe the model or the table."""
    path: Path = arguments.what
    if path.suffix.lower() in _TABLES and not path.is_dir():
        choices = options.choices(arguments)
        read = read_table(path, choices)
        labels = options.names(arguments.label, list(read.table.columns), "--label")
        kinds = options.kinds_to_learn(choices.kinds, read.table.columns)
        console.result(f"{path}: {preview(read, labels, kinds)}")
        return
    if arguments.label or arguments.kinds:
        raise ValueError("--label and --kinds are for a table, a model has them already")
    files = ModelFiles.of(path)
    model, form = files.load("cpu")
    console.result("\n".join(_lines(files.model, model, form.dates)))


def _lines(path: Path, model: TabularDiffusion, dates: dict[str, DateFormat]) -> list[str]:
    version = storage.read_header(path)["version"]
    lines = [f"{path}: {console.size(path)}, format version {version}", "", model.describe(), ""]
    lines += [*label_lines(model.schema.labels), *date_lines(dates)]
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
