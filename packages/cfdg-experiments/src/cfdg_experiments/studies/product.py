"""Product of a study: what is kept of its cells besides their curves, and what is made of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cfdg_experiments.cells.cell import Cell, Workspace
from cfdg_experiments.cells.results import CellKey
from cfdg_experiments.reports.header import ReportHeader
from cfdg_experiments.studies.workers import Task


@dataclass(frozen=True)
class Written:
    """Files that were written, and Markdown for the report."""

    files: list[Path]
    sections: list[str]


@dataclass(frozen=True)
class Product:
    """The steps that a study adds to a table.

    Attributes:
        check: refuses cells that have no such product, or a missing library, before anything is run.
        is_done: tells if a cell's product is a file already.
        task: runs a cell in a worker process and leaves its product and its result behind.
        write: makes pictures and tables, in a folder, of the products of the cells in their places of the table.
        seconds: estimates what the products of some cells take, beside the cells, on one core.
    """

    check: Callable[[list[Cell]], None]
    is_done: Callable[[Cell, Workspace], bool]
    task: Task
    write: Callable[[Mapping[CellKey, Cell], ReportHeader, Workspace, Path], Written]
    seconds: Callable[[Sequence[Cell]], float]
